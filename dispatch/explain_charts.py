"""Beside the map of a decision: what each rider would cost, and how the order's time passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatch.cost import TERMS
from dispatch.drawing import HUES, Box, Drawing, Point, clock, short, text_width
from dispatch.explain import Candidate, Moment, Outcome, runner_up
from dispatch.result import StopKind, Trip
from dispatch.snapshot import Order

ROWS = 7
ROW_HEIGHT = 32.0

TERM_NAMES: Mapping[str, str] = {
    "delay": "customer waits",
    "lateness": "past the promise",
    "rider_time": "riding",
    "store_wait": "rider waits",
    "tie_break": "fairness, ties",
}


def term_name(term: str) -> str:
    return TERM_NAMES.get(term, term.replace("_", " "))


def hue(term: str) -> str:
    """The colour of a term, the same in every picture."""
    rank = TERMS.index(term) if term in TERMS else len(TERMS) + sum(map(ord, term))
    return f"hue-{rank % HUES}"


def draw_candidates(
    drawing: Drawing, box: Box, moment: Moment, candidates: Sequence[Candidate]
) -> None:
    """A bar for each of the cheapest riders, by term; the chosen and the second one are marked."""
    chosen = None if moment.trip is None else moment.trip.rider_id
    other = runner_up(moment, candidates)
    second = None if other is None else other.rider_id
    drawing.text((box.left, box.top + 14), "What each rider would cost", "ink b", 15)
    drawing.text(
        (box.left, box.top + 33), "seconds of customer delay, for this order alone", "muted", 12
    )
    rows = _rows(candidates, {chosen, second})
    if not rows:
        text = "Nobody who is free could have it as a trip of its own."
        drawing.text((box.left, box.top + 62), text, "muted", 13)
    longest = max((one.cost for one in rows), default=1.0) or 1.0
    y = box.top + 50
    for one in rows:
        _bar(drawing, Box(box.left, y, box.right, y + ROW_HEIGHT), one, longest, chosen, second)
        y += ROW_HEIGHT
    more = len(candidates) - len(rows)
    if more > 0:
        most = max(one.cost for one in candidates)
        text = f"and {more} more, up to {most:,.0f}"
        drawing.text((box.left, y + 14), text, "muted", 12)
        y += 20
    terms = list(dict.fromkeys(term for one in rows for term in one.terms))
    _hues(drawing, (box.left, y + 22), terms, box.right)


def _rows(candidates: Sequence[Candidate], wanted: set[str | None]) -> list[Candidate]:
    """The cheapest, and those that must be shown."""
    rows = list(candidates[:ROWS])
    for one in candidates[ROWS:]:
        if one.rider_id in wanted:
            rows = [*rows[: ROWS - 1], one]
    return sorted(rows, key=lambda one: one.cost)


def _bar(
    drawing: Drawing, box: Box, one: Candidate, longest: float, chosen: str | None,
    second: str | None,
) -> None:  # fmt: skip
    marked = one.rider_id in (chosen, second)
    ink = "chosen b" if one.rider_id == chosen else "second b" if marked else "muted"
    left, wide, high = box.left + 74, box.right - box.left - 74 - 52, 16.0
    top = box.top + (ROW_HEIGHT - high) / 2
    middle = top + high - 3.5
    drawing.text((box.left, middle), short(one.rider_id), ink, 13)
    drawing.rect((left, top), wide, high, "track", 3)
    x = left
    for term, seconds in one.terms.items():
        part = wide * max(0.0, seconds) / longest
        if part >= 0.3:
            drawing.rect((x, top), part, high, hue(term))
        x += part
    if marked:
        line, dashes = ("chosen-line", "none") if one.rider_id == chosen else ("second-line", "4 3")
        drawing.rect(
            (left - 3, top - 3), wide + 6, high + 6, f"line {line}", 5, stroke_width=2,
            stroke_dasharray=dashes,
        )  # fmt: skip
    drawing.text((box.right, middle), f"{one.cost:,.0f}", "ink b" if marked else "ink", 13, "end")


def _hues(drawing: Drawing, at: Point, terms: Sequence[str], right: float) -> None:
    x, y = at
    for term in terms:
        name = term_name(term)
        wide = 16 + text_width(name, 12) + 12
        if x + wide > right and x > at[0]:
            x, y = at[0], y + 19
        drawing.rect((x, y - 9), 10, 10, hue(term), 2)
        drawing.text((x + 15, y), name, "muted", 12)
        x += wide


@dataclass(frozen=True, slots=True)
class Axis:
    """Seconds to pixels."""

    start_s: float
    end_s: float
    left: float
    right: float

    def x(self, at_s: float) -> float:
        share = (at_s - self.start_s) / max(1e-9, self.end_s - self.start_s)
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)


def draw_timeline(
    drawing: Drawing, box: Box, history: Sequence[Moment], moment: Moment, order: Order
) -> None:
    """Above the order, below the rider; the decision and the promise cut through both."""
    trip = moment.trip
    axis = _axis(box, moment, order)
    drawing.text((box.left, box.top + 14), "How its time passes", "ink b", 15)
    if any(one.at_s < moment.at_s for one in history):
        text = "a dot: a decision before this one, which gave it to nobody"
        drawing.text((box.left + 200, box.top + 14), text, "muted", 12)
    top, low = box.top + 48, box.bottom - 26
    _ticks(drawing, axis, top, low)
    lane = (low - top) / 2
    drawing.text((box.left, top + lane / 2 + 4), "Order", "muted", 13)
    drawing.text((box.left, top + lane * 1.5 + 4), "Rider", "muted", 13)
    _order_lane(drawing, axis, top + lane / 2, history, moment, order)
    if trip is not None:
        _rider_lane(drawing, axis, top + lane * 1.5, moment, trip, order.order_id)
    marks = [
        (moment.at_s, "decided", "ink-line", "ink"),
        (order.promised_by_s, "promised by", "promise-line", "promise"),
    ]
    ends = float("-inf")
    for at_s, name, line, ink in sorted(marks):
        if not axis.start_s <= at_s <= axis.end_s:
            continue
        x = axis.x(at_s)
        drawing.polyline([(x, top - 8), (x, low)], line, stroke_width=1.8, stroke_dasharray="5 4")
        text = f"{name} {clock(at_s)}"
        left = min(
            max(x - text_width(text, 12) / 2, axis.left, ends + 10),
            box.right - text_width(text, 12),
        )
        drawing.text((left, top - 14), text, f"{ink} b", 12)
        ends = left + text_width(text, 12)


def _axis(box: Box, moment: Moment, order: Order) -> Axis:
    times = [order.placed_at_s, moment.at_s, order.ready_at_s]
    if moment.trip is not None:
        times += [stop.planned_departure_s for stop in moment.trip.stops]
    last = max(times)
    # A promise far ahead would press everything else together.
    if order.promised_by_s - last < 2 * (last - order.placed_at_s) + 600:
        times.append(order.promised_by_s)
    start, end = min(times), max(times)
    margin = max(20.0, 0.03 * (end - start))
    return Axis(start - margin, end + margin, box.left + 62, box.right)


def _ticks(drawing: Drawing, axis: Axis, top: float, low: float) -> None:
    span = axis.end_s - axis.start_s
    step = next((s for s in (30, 60, 120, 300, 600, 1800, 3600) if span / s <= 9), 7200)
    at_s = axis.start_s // step * step + step
    while at_s < axis.end_s:
        x = axis.x(at_s)
        drawing.polyline([(x, top), (x, low)], "grid")
        drawing.text((x, low + 17), clock(at_s)[:5], "muted", 11, "middle")
        at_s += step


def _order_lane(
    drawing: Drawing, axis: Axis, y: float, history: Sequence[Moment], moment: Moment, order: Order
) -> None:
    """Placed, held by earlier decisions, packed, on the way, at the door."""
    trip = moment.trip
    picked = delivered = None
    for stop in () if trip is None else trip.stops:
        if order.order_id in stop.order_ids:
            if stop.kind is StopKind.PICKUP:
                picked = stop.planned_departure_s
            else:
                delivered = stop.planned_arrival_s
    packed_x, placed_x = axis.x(order.ready_at_s), axis.x(order.placed_at_s)
    _segment(drawing, placed_x, packed_x, y, "track", "picked and packed")
    if picked is not None and picked > order.ready_at_s:
        _segment(drawing, packed_x, axis.x(picked), y, "faint", "waits")
    if picked is not None and delivered is not None:
        _segment(drawing, axis.x(picked), axis.x(delivered), y, "chosen", "on the way")
        drawing.circle((axis.x(delivered), y), 8, "chosen")
    drawing.circle((placed_x, y), 6, "muted")
    for earlier in history:
        if earlier.at_s < moment.at_s and earlier.outcome is not Outcome.ASSIGNED:
            drawing.circle((axis.x(earlier.at_s), y - 17), 3, "second")


def _rider_lane(
    drawing: Drawing, axis: Axis, y: float, moment: Moment, trip: Trip, order_id: str
) -> None:
    x = axis.x(trip.leave_at_s)
    for number, stop in enumerate(trip.stops):
        arrives, leaves = axis.x(stop.planned_arrival_s), axis.x(stop.planned_departure_s)
        name = "to the store" if number == 0 else "rides"
        _segment(drawing, x, arrives, y, "hue-2", name)
        _segment(drawing, arrives, leaves, y, "faint", "store" if number == 0 else "")
        x = leaves
    number = 0
    for stop in trip.stops:
        at = (axis.x(stop.planned_arrival_s), y)
        if stop.kind is StopKind.PICKUP:
            drawing.rect((at[0] - 9, y - 9), 18, 18, "ink", 4)
            drawing.text((at[0], y + 4.5), "S", "paper b", 12, "middle")
            continue
        number += 1
        this = order_id in stop.order_ids
        drawing.circle(at, 9, "chosen" if this else "paper")
        drawing.circle(at, 9, "line chosen-line", stroke_width=2)
        ink = "paper b" if this else "chosen b"
        drawing.text((at[0], y + 4.5), str(number), ink, 12, "middle")


def _segment(
    drawing: Drawing, left: float, right: float, y: float, classes: str, text: str
) -> None:
    drawing.rect((left, y - 9), right - left, 18, classes, 3)
    if text and right - left > text_width(text, 11) + 26:
        ink = "ink" if classes in ("track", "faint") else "paper"
        drawing.text(((left + right) / 2, y + 4), text, ink, 11, "middle")
