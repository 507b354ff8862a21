"""The map of one decision: store, customers, riders, the chosen trip, the second choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dispatch.decision import Decision
from dispatch.drawing import Box, Drawing, Labels, Point, clock, short
from dispatch.explain import Candidate, Moment, Outcome, runner_up
from dispatch.result import StopKind, Trip
from dispatch.snapshot import Store

FloatArray = NDArray[np.float64]

# Metres a degree of latitude.
_DEGREE_M = 111_195.0
PADDING = 46.0


@dataclass
class Map:
    """One panel: what is drawn in it, and where its labels may go."""

    drawing: Drawing
    frame: Box
    moment: Moment
    order_id: str
    candidates: Sequence[Candidate]
    pixels: FloatArray = field(init=False)
    pixels_per_m: float | None = field(init=False)
    labels: Labels = field(init=False)
    # Written when everything is drawn, so that nothing covers them.
    wanted: list[tuple[Point, str, str, float]] = field(default_factory=list)

    def draw(self) -> None:
        decision = self.moment.decision
        self.pixels, self.pixels_per_m = _project(decision, self._shown(), self.frame)
        self.labels = Labels(self.frame)
        self.drawing.rect(
            (self.frame.left, self.frame.top), self.frame.right - self.frame.left,
            self.frame.bottom - self.frame.top, "panel", 10,
        )  # fmt: skip
        self._grid()
        self._others()
        trip, second = self.moment.trip, runner_up(self.moment, self.candidates)
        if second is not None:
            self._second_way(second)
        if trip is not None:
            self._trip(trip)
        else:
            self._lonely_order()
        for at, text, classes, size in sorted(self.wanted, key=lambda one: -one[3]):
            where, anchor = self.labels.place(at, text, size, 16)
            self.drawing.halo_text(where, text, classes, size, anchor)
        self._scale()

    def _at(self, place: int) -> Point:
        x, y = self.pixels[place]
        return float(x), float(y)

    def _shown(self) -> list[int]:
        """The places that the map has to hold; others may lie outside it."""
        snapshot = self.moment.decision.snapshot
        places = [one.place for one in snapshot.orders if one.order_id == self.order_id]
        places += [self._store().place]
        places += [one.place for one in self.candidates[:3]]
        riders = {rider.rider_id: rider.place for rider in snapshot.riders}
        trip = self.moment.trip
        if trip is not None:
            places += [stop.place for stop in trip.stops]
            places += [riders[trip.rider_id]] if trip.rider_id in riders else []
        return places

    def _store(self) -> Store:
        snapshot = self.moment.decision.snapshot
        orders = (*snapshot.orders, *snapshot.trip_orders)
        of = next(one.store_id for one in orders if one.order_id == self.order_id)
        return next(store for store in snapshot.stores if store.store_id == of)

    def _beside_store(self, at: Point, aside: Point = (-25, 12)) -> Point:
        """Where to draw a rider: one who stands in the store's door is put next to it."""
        door = self._at(self._store().place)
        return (door[0] + aside[0], door[1] + aside[1]) if math.dist(at, door) < 20 else at

    def _inside(self, at: Point) -> bool:
        return (
            self.frame.left + 8 < at[0] < self.frame.right - 8
            and self.frame.top + 8 < at[1] < self.frame.bottom - 8
        )

    def _grid(self) -> None:
        for share in (0.25, 0.5, 0.75):
            x = self.frame.left + share * (self.frame.right - self.frame.left)
            y = self.frame.top + share * (self.frame.bottom - self.frame.top)
            self.drawing.polyline([(x, self.frame.top), (x, self.frame.bottom)], "grid")
            self.drawing.polyline([(self.frame.left, y), (self.frame.right, y)], "grid")

    def _others(self) -> None:
        """Everybody and everything else, faint."""
        snapshot = self.moment.decision.snapshot
        known = {one.rider_id for one in self.candidates}
        for order in (*snapshot.orders, *snapshot.trip_orders):
            if self._inside(self._at(order.place)) and order.order_id != self.order_id:
                self.drawing.circle(self._at(order.place), 3, "faint")
        for store in snapshot.stores:
            at = self._at(store.place)
            if self._inside(at) and store.place != self._store().place:
                self.drawing.rect((at[0] - 5, at[1] - 5), 10, 10, "faint", 2)
        for rider in snapshot.riders:
            at = self._at(rider.place)
            if not self._inside(at):
                continue
            if rider.rider_id in known:
                self.drawing.circle(at, 5.5, "muted")
                self.labels.mark(at, 7)
            else:
                _ring(self.drawing, at, 4.5, "rule")

    def _second_way(self, second: Candidate) -> None:
        door = self._at(self._store().place)
        here = self._beside_store(self._at(second.place), (8, 29))
        self.labels.lines.append((here, door))
        self.drawing.polyline([here, door], "second-line", stroke_width=2.5, stroke_dasharray="2 7")
        self.drawing.arrow(here, door, "second", 5)
        self.drawing.circle(here, 9, "paper")
        self.drawing.circle(here, 9, "line second-line", stroke_width=2.5, stroke_dasharray="4 3")
        self.drawing.circle(here, 4.5, "second")
        self.labels.mark(here, 11)
        self._label(here, f"Runner-up {short(second.rider_id)}", "second b", 13)

    def _trip(self, trip: Trip) -> None:
        riders = {one.rider_id: one for one in self.moment.decision.snapshot.riders}
        rider = riders.get(trip.rider_id)
        way = [self._at(stop.place) for stop in trip.stops]
        meant = self.moment.outcome is not Outcome.ASSIGNED
        dashes = {"stroke_dasharray": "10 6"} if meant else {}
        if rider is not None:
            way = [self._beside_store(self._at(rider.place)), *way]
        self.labels.lines += list(pairwise(way))
        self.drawing.polyline(way, "halo", stroke_width=8, opacity=0.9)
        self.drawing.polyline(way, "chosen-line", stroke_width=3.5, **dashes)
        for start, end in pairwise(way):
            self.drawing.arrow(start, end, "chosen", 6)
        for at in way:
            self.labels.mark(at, 12)
        number = 0
        for stop in trip.stops:
            if stop.kind is StopKind.PICKUP:
                self._store_mark(self._at(stop.place), clock(stop.planned_arrival_s))
                continue
            number += 1
            this = self.order_id in stop.order_ids
            text = clock(stop.planned_arrival_s)
            self._customer(
                self._at(stop.place), number, this, f"This order {text}" if this else text
            )
        if rider is not None:
            here = way[0]
            self.drawing.circle(here, 10, "paper")
            self.drawing.circle(here, 10, "line chosen-line", stroke_width=3)
            self.drawing.circle(here, 5.5, "chosen")
            self._label(here, f"Rider {short(trip.rider_id)}", "chosen b", 14)

    def _lonely_order(self) -> None:
        snapshot = self.moment.decision.snapshot
        orders = (*snapshot.orders, *snapshot.trip_orders)
        place = next(one.place for one in orders if one.order_id == self.order_id)
        door, there = self._at(self._store().place), self._at(place)
        self.labels.lines.append((door, there))
        self.drawing.polyline([door, there], "rule", stroke_width=2, stroke_dasharray="3 6")
        for at in (door, there):
            self.labels.mark(at, 12)
        self._store_mark(door, "")
        self._customer(there, None, True, "This order")

    def _store_mark(self, at: Point, time: str) -> None:
        self.drawing.rect((at[0] - 11, at[1] - 11), 22, 22, "ink", 5)
        self.drawing.text((at[0], at[1] + 5), "S", "paper b", 14, "middle")
        self._label(at, f"Store {time}".strip(), "ink b", 13)

    def _customer(self, at: Point, number: int | None, this: bool, text: str) -> None:
        if this:
            self.drawing.circle(at, 12, "chosen")
        else:
            self.drawing.circle(at, 11, "paper")
            self.drawing.circle(at, 11, "line chosen-line", stroke_width=2.5)
        if number is not None:
            inside = "paper b" if this else "chosen b"
            self.drawing.text((at[0], at[1] + 4.5), str(number), inside, 13, "middle")
        self._label(at, text, "ink b" if this else "muted", 14 if this else 12)

    def _label(self, at: Point, text: str, classes: str, size: float) -> None:
        self.wanted.append((at, text, classes, size))

    def _scale(self) -> None:
        at = (self.frame.left + 16, self.frame.bottom - 16)
        if self.pixels_per_m is None:
            self.drawing.text(
                at, "Places are drawn by riding time: how they lie in the city is not recorded.",
                "muted", 11,
            )  # fmt: skip
            return
        metres = _round_down(110 / self.pixels_per_m)
        wide = metres * self.pixels_per_m
        self.drawing.polyline([at, (at[0] + wide, at[1])], "ink-line", stroke_width=2)
        text = f"{metres:g} m" if metres < 1000 else f"{metres / 1000:g} km"
        self.drawing.text((at[0] + wide + 8, at[1] + 4), text, "muted", 11)


def _ring(drawing: Drawing, at: Point, radius: float, classes: str) -> None:
    drawing.circle(at, radius, f"line {classes}", stroke_width=1.5)


def _project(
    decision: Decision, shown: Sequence[int], frame: Box
) -> tuple[FloatArray, float | None]:
    """Pixels of every place, shape (places, 2), so that the shown ones fill the frame.

    Also pixels a metre, None where only riding times are known.
    """
    plane = _plane(decision)
    some = plane[list(shown)]
    middle = (some.min(axis=0) + some.max(axis=0)) / 2
    extent = np.maximum(np.ptp(some, axis=0), 1e-9)
    room = np.array([frame.right - frame.left, frame.bottom - frame.top]) - 2 * PADDING
    # Labels stand to the side of a point.
    room[0] -= 70
    scale = float(np.min(room / extent))
    if decision.points is not None:
        scale = min(scale, 0.6)
    centre = np.array([(frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2])
    pixels = centre + (plane - middle) * scale
    return pixels, scale if decision.points is not None else None


def _plane(decision: Decision) -> FloatArray:
    """Places in metres east and south; or, without points, so that distances are riding times."""
    points = decision.points
    if points is not None:
        middle = points.mean(axis=0)
        east = (points[:, 1] - middle[1]) * _DEGREE_M * math.cos(math.radians(middle[0]))
        return np.column_stack([east, (middle[0] - points[:, 0]) * _DEGREE_M])
    return _by_riding_time(decision)


def _by_riding_time(decision: Decision) -> FloatArray:
    """Classical scaling (Torgerson 1952) of the times to the stores, which are always known.

    A place lies among the stores by its times to them; with fewer than three stores what remains
    is put on circles around them.
    """
    snapshot = decision.snapshot
    places = np.arange(snapshot.travel.places)
    doors = np.array([store.place for store in snapshot.stores])
    times = snapshot.travel.seconds_between(places[:, None], doors[None, :])
    times = np.where(np.isfinite(times), times, np.nanmax(np.where(np.isfinite(times), times, 0)))
    own = np.argmin(times, axis=1)
    # Around its nearest store each place gets a direction of its own: the golden angle spreads
    # neighbours, and the riding time is what the picture is about.
    angle = places * 2.399963
    around = times[places, own][:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    placed: FloatArray = _store_plane(times[doors])[own] + around
    return placed


def _store_plane(times: FloatArray) -> FloatArray:
    count = times.shape[0]
    squared: NDArray[Any] = ((times + times.T) / 2) ** 2
    centred = -0.5 * (
        squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    )
    values, vectors = np.linalg.eigh(centred)
    plane = np.zeros((count, 2))
    for axis, at in enumerate(np.argsort(values)[::-1][:2]):
        plane[:, axis] = vectors[:, at] * math.sqrt(max(0.0, float(values[at])))
    return plane


def _round_down(value: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(step * power for step in (5, 2, 1) if step * power <= value)
