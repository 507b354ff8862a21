"""One decision about one order as a picture (SVG, for light and dark pages)."""

from __future__ import annotations

from collections.abc import Sequence

from dispatch.drawing import Box, Drawing, clock, short
from dispatch.explain import (
    CANDIDATE_PRICE,
    Candidate,
    Moment,
    Outcome,
    candidates,
    decided_price,
    runner_up,
    turning_points,
    why_later,
    why_not,
)
from dispatch.explain_charts import (
    ROW_HEIGHT,
    ROWS,
    draw_candidates,
    draw_timeline,
    hue,
    term_name,
)
from dispatch.explain_map import Map
from dispatch.result import HeldReason, UnassignedReason

WIDTH = 1000.0
EDGE = 28.0
MAP = Box(EDGE, 112, 600, 560)
BARS = Box(630, 116, WIDTH - EDGE, 560)
TIME = Box(EDGE, 614, WIDTH - EDGE, 764)
HISTORY_LINES = 6
LINE = 20.0


def draw(order_id: str, history: Sequence[Moment], moment: Moment) -> str:
    """The picture of ``moment``, one of the order's ``history``.

    Raises ValueError when the decision does not describe the order.
    """
    snapshot = moment.decision.snapshot
    orders = {one.order_id: one for one in (*snapshot.orders, *snapshot.trip_orders)}
    if order_id not in orders:
        raise ValueError(f"the decision does not describe order {order_id}")
    order = orders[order_id]
    lines = _history(history)
    height = TIME.bottom + 34 + LINE * (len(lines) + 1 + len(_price_notes(moment))) + EDGE
    others = candidates(snapshot, order_id)
    headline, sentence = headline_of(order_id, moment), verdict(moment, others)
    drawing = Drawing(WIDTH, height, headline, f"{sentence} {_alternative(moment)}".strip())
    drawing.rect((0, 0), WIDTH, height, "bg")
    drawing.text((EDGE, 44), headline, "ink b", 23)
    drawing.text((EDGE, 69), sentence, "ink", 14.5)
    drawing.text((EDGE, 91), _circumstances(moment), "muted", 12)
    Map(drawing, MAP, moment, order_id, others).draw()
    _legend(drawing, moment, others)
    draw_candidates(drawing, BARS, moment, others)
    _terms(drawing, moment, len(others))
    draw_timeline(drawing, TIME, history, moment, order)
    y = _write_history(drawing, lines) + LINE / 2
    for note in _price_notes(moment):
        y += LINE
        drawing.text((EDGE, y), note, "muted", 12)
    return drawing.render()


def headline_of(order_id: str, moment: Moment) -> str:
    """What was decided."""
    name = short(order_id)
    match moment.outcome:
        case Outcome.ASSIGNED:
            assert moment.trip is not None
            rider = short(moment.trip.rider_id)
            if not moment.new(order_id):
                return f"Order {name} stays with rider {rider}, whose trip changes"
            if moment.trip.extends:
                return f"Order {name} joins the trip of rider {rider}"
            return f"Order {name} goes to rider {rider}"
        case Outcome.HELD:
            until = "" if moment.until_s is None else f" until {clock(moment.until_s)}"
            return f"Order {name} is held{until}"
        case Outcome.UNASSIGNED:
            return f"Order {name} has nobody"


def verdict(moment: Moment, others: Sequence[Candidate] = ()) -> str:
    """Why, in one sentence; with ``others`` also for an order that shares its trip."""
    if isinstance(moment.reason, HeldReason):
        return why_later(moment.reason)
    if isinstance(moment.reason, UnassignedReason):
        return why_not(moment.reason)[0]
    assert moment.trip is not None
    why, shared = moment.trip.explanation, len(moment.trip.order_ids) - 1
    cost = f"The trip costs {why.cost:,.0f} s"
    if shared:
        cost += f" with {shared} other order{'s' * (shared > 1)}"
        second = runner_up(moment, others)
        own = [one.cost for one in others if one.rider_id == moment.trip.rider_id]
        if second is None or not own:
            return f"{cost}."
        name = short(second.rider_id)
        return (
            f"{cost}; alone this one costs {own[0]:,.0f} s, with rider {name} {second.cost:,.0f} s."
        )
    if why.runner_up_rider_id is None or why.runner_up_cost is None or moment.margin is None:
        return f"{cost}; no other rider could have had it."
    second_s = f"the runner-up, rider {short(why.runner_up_rider_id)}, {why.runner_up_cost:,.0f} s"
    if moment.margin >= 0:
        return f"{cost}, {moment.margin:,.0f} s less than {second_s}."
    return f"{cost}; {second_s}, but another order needed that rider more."


def _alternative(moment: Moment) -> str:
    if isinstance(moment.reason, UnassignedReason):
        return f"What would help: {why_not(moment.reason)[1]}"
    return ""


def _circumstances(moment: Moment) -> str:
    decision = moment.decision
    snapshot = decision.snapshot
    return " · ".join(
        (
            f"decided {clock(moment.at_s)} UTC",
            f"{len(snapshot.orders)} open orders, {len(snapshot.riders)} riders",
            f"parameters “{decision.parameter_set}”",
            f"engine {decision.engine or 'unknown'}, {decision.seconds * 1000:,.0f} ms",
            decision.decision_id,
        )
    )


def _legend(drawing: Drawing, moment: Moment, others: Sequence[Candidate]) -> None:
    x, y = MAP.left + 4, MAP.bottom + 24
    second = runner_up(moment, others)
    entries = [("S", "store"), ("1", "stop in sequence"), ("chosen", "chosen rider")]
    if second is not None:
        entries.append(("second", "runner-up"))
    entries += [("muted", "could have had it"), ("ring", "busy or could not"), ("faint", "orders")]
    for kind, name in entries:
        at = (x + 7, y - 4)
        if kind == "S":
            drawing.rect((at[0] - 7, at[1] - 7), 14, 14, "ink", 3)
        elif kind == "1":
            drawing.circle(at, 7, "line chosen-line", stroke_width=2)
        elif kind == "ring":
            drawing.circle(at, 4.5, "line rule", stroke_width=1.5)
        elif kind == "faint":
            drawing.circle(at, 3, "faint")
        else:
            dashes = "3 3" if kind == "second" else "none"
            if kind != "muted":
                drawing.circle(at, 7, f"line {kind}-line", stroke_width=2, stroke_dasharray=dashes)
            drawing.circle(at, 4 if kind != "muted" else 5.5, kind)
        drawing.text((x + 19, y), name, "muted", 11.5)
        x += 19 + len(name) * 6.1 + 13


def _terms(drawing: Drawing, moment: Moment, count: int) -> None:
    """What the engine itself said of the trip, term by term."""
    trip = moment.trip
    if trip is None or not trip.explanation.cost_terms:
        return
    y = BARS.top + 50 + ROW_HEIGHT * min(count, ROWS) + 98
    drawing.text((BARS.left, y), "As decided, for the whole trip", "ink b", 13)
    drawing.text((BARS.right, y), f"{trip.explanation.cost:,.0f}", "ink b", 13, "end")
    terms = sorted(trip.explanation.cost_terms.items(), key=lambda one: -one[1])
    for name, seconds in terms[:3]:
        y += 18
        drawing.rect((BARS.left, y - 9), 10, 10, hue(name), 2)
        drawing.text((BARS.left + 15, y), term_name(name), "muted", 12)
        drawing.text((BARS.right, y), f"{seconds:,.0f}", "ink", 12, "end")


def _history(history: Sequence[Moment]) -> list[str]:
    lines = [
        f"{clock(one.at_s)}  {_line(one)}" for one in turning_points(history)
    ]  # fmt: skip
    if len(lines) > HISTORY_LINES:
        left_out = len(lines) - HISTORY_LINES
        lines = [*lines[:2], f"… {left_out} more …", *lines[-(HISTORY_LINES - 2) :]]
    return lines


def _line(moment: Moment) -> str:
    if moment.outcome is Outcome.ASSIGNED:
        assert moment.trip is not None
        return f"given to rider {short(moment.trip.rider_id)}. {verdict(moment)}"
    if moment.outcome is Outcome.HELD:
        until = "" if moment.until_s is None else f" until {clock(moment.until_s)}"
        return f"held{until}. {verdict(moment)}"
    return f"nobody. {verdict(moment)}"


def _write_history(drawing: Drawing, lines: Sequence[str]) -> float:
    """Returns where its last line is."""
    y = TIME.bottom + 30
    drawing.text((EDGE, y), "Decisions about it", "ink b", 15)
    for line in lines:
        y += LINE
        drawing.text((EDGE, y), line, "muted", 12.5)
    return y


def _price_notes(moment: Moment) -> list[str]:
    """What the prices in the picture are of: those of the bars, and those that were decided by."""
    return [CANDIDATE_PRICE, decided_price(moment.decision.plan)]
