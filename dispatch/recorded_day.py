"""A day, put together again from its recorded decisions, so that another policy can live it.

What the world did by itself is kept: orders with the moments at which dispatch heard of them, what
it was told about their readiness and when they really were ready, riders with their shifts and
first places, riding times.  What the recorded policy did is left out: who carried what, and where
riders were because of it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dispatch.decision import Decision
from dispatch.snapshot import Order, Rider, Snapshot, Store
from dispatch.travel_blocks import NO_STORE, TravelBlocks

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

# Metres a degree of latitude; riders' pace where nothing was recorded to measure it by.
_DEGREE_M = 111_195.0
_PACE_S_PER_M = 0.25


@dataclass
class DayOrder:
    """An order as the world made it.

    order: with its place in the day, as dispatch first heard of it at ``known_at_s``.
    told: (moment, ready_at_s, ready_spread_s), in sequence of time.
    """

    order: Order
    known_at_s: float
    told: list[tuple[float, float, float]]

    @property
    def ready_at_s(self) -> float:
        """When the goods were ready, as far as the record knows: what was said last."""
        return self.told[-1][1]

    def as_of(self, now_s: float) -> Order:
        """What dispatch would know at a moment."""
        at = bisect.bisect_right(self.told, (now_s, math.inf, math.inf)) - 1
        _, ready_at_s, spread_s = self.told[max(0, at)]
        return replace(self.order, ready_at_s=ready_at_s, ready_spread_s=spread_s)


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """Everything that a simulation needs; every place is a place of ``travel``.

    moments_s: when decisions were made. first: a snapshot of the day, for what is the same in all.
    """

    city_id: str
    moments_s: tuple[float, ...]
    orders: tuple[DayOrder, ...]
    riders: tuple[Rider, ...]
    stores: tuple[Store, ...]
    travel: TravelBlocks
    first: Snapshot


def rebuild(decisions: Iterable[Decision]) -> list[Day]:
    """One day for each city of the decisions (a stretch of any length is called a day).

    They come in sequence of time and are not kept.  Raises ValueError when there is no order in
    them.
    """
    records: dict[str, _Record] = {}
    for decision in decisions:
        records.setdefault(decision.city_id, _Record(decision)).add(decision)
    days = [record.day() for record in records.values() if record.orders]
    if not days:
        raise ValueError("no decision of the log has an order")
    return days


@dataclass
class _Seen:
    """A rider: as first seen, and when last."""

    rider: Rider
    first_s: float
    last_s: float


@dataclass
class _Record:
    """What has been read of one city so far.

    way_s: seconds between named places; a name is a kind and an id.
    """

    opening: Decision
    moments_s: list[float] = field(default_factory=list)
    orders: dict[str, DayOrder] = field(default_factory=dict)
    riders: dict[str, _Seen] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)
    point: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    way_s: dict[tuple[str, str, str, str], float] = field(default_factory=dict)

    def add(self, decision: Decision) -> None:
        snapshot = decision.snapshot
        now_s = snapshot.now_s
        if not self.moments_s or now_s > self.moments_s[-1]:
            self.moments_s.append(now_s)
        new: list[tuple[str, str, int]] = []
        for store in snapshot.stores:
            if store.store_id not in self.stores:
                self.stores[store.store_id] = replace(store, queue=())
                new.append(("store", store.store_id, store.place))
        for order in (*snapshot.orders, *snapshot.trip_orders):
            known = self.orders.get(order.order_id)
            if known is None:
                # Whom it was refused or pinned to belongs to the course that the day took.
                fresh = replace(order, declined_by=frozenset(), pinned_rider=None)
                known = self.orders[order.order_id] = DayOrder(fresh, now_s, [])
                new.append(("order", order.order_id, order.place))
            told = (order.ready_at_s, order.ready_spread_s)
            if not known.told or known.told[-1][1:] != told:
                known.told.append((now_s, *told))
        for one in snapshot.recent:
            recent = self.orders.get(one.order_id)
            if recent is not None and recent.told[-1][1] != one.ready_at_s <= now_s:
                recent.told.append((now_s, one.ready_at_s, 0.0))
        for rider in snapshot.riders:
            seen = self.riders.get(rider.rider_id)
            if seen is None:
                free = replace(rider, trip=None, declined=frozenset())
                self.riders[rider.rider_id] = _Seen(free, now_s, now_s)
                new.append(("rider", rider.rider_id, rider.place))
            else:
                seen.last_s = now_s
        self._measure(decision, new)

    def _measure(self, decision: Decision, new: list[tuple[str, str, int]]) -> None:
        """Riding times from the new places to the stores, and among the orders of one store."""
        snapshot = decision.snapshot
        if decision.points is not None:
            for kind, one, place in new:
                lat, lon = decision.points[place]
                self.point[kind, one] = float(lat), float(lon)
        for kind, one, place in new:
            doors = [store.place for store in snapshot.stores]
            seconds = snapshot.travel.seconds_between(place, np.array(doors))
            for store, way_s in zip(snapshot.stores, seconds.tolist(), strict=True):
                self.way_s[kind, one, "store", store.store_id] = way_s
        fresh = {one for kind, one, _ in new if kind == "order"}
        fresh_stores = {one for kind, one, _ in new if kind == "store"}
        by_store: dict[str, list[Order]] = {}
        for order in (*snapshot.orders, *snapshot.trip_orders):
            by_store.setdefault(order.store_id, []).append(order)
        for store in snapshot.stores:
            orders = by_store.get(store.store_id, [])
            if store.store_id in fresh_stores or any(one.order_id in fresh for one in orders):
                self._measure_store(snapshot, store, orders)

    def _measure_store(self, snapshot: Snapshot, store: Store, orders: list[Order]) -> None:
        names = [("store", store.store_id), *(("order", one.order_id) for one in orders)]
        places = np.array([store.place, *(one.place for one in orders)])
        seconds = snapshot.travel.seconds_between(places[:, None], places[None, :])
        for start, row in zip(names, seconds.tolist(), strict=True):
            for end, way_s in zip(names, row, strict=True):
                self.way_s[(*start, *end)] = way_s

    def day(self) -> Day:
        """The places numbered anew: stores, then drop-offs, then where riders were first."""
        stores, orders, riders = (
            sorted(self.stores),
            sorted(self.orders, key=lambda one: (self.orders[one].known_at_s, one)),
            sorted(self.riders),
        )
        names = [
            *(("store", one) for one in stores),
            *(("order", one) for one in orders),
            *(("rider", one) for one in riders),
        ]
        store_row = {one: row for row, one in enumerate(stores)}
        place = {name: at for at, name in enumerate(names)}
        owner = [
            *range(len(stores)),
            *(store_row[self.orders[one].order.store_id] for one in orders),
            *([NO_STORE] * len(riders)),
        ]
        snapshot = self.opening.snapshot
        return Day(
            city_id=self.opening.city_id,
            moments_s=tuple(self.moments_s),
            orders=tuple(
                replace(
                    self.orders[one],
                    order=replace(self.orders[one].order, place=place["order", one]),
                )
                for one in orders
            ),
            riders=tuple(self._rider(self.riders[one], place["rider", one]) for one in riders),
            stores=tuple(replace(self.stores[one], place=store_row[one]) for one in stores),
            travel=TravelBlocks.gather(owner, list(range(len(stores))), self._ways(names)),
            first=snapshot,
        )

    def _rider(self, seen: _Seen, place: int) -> Rider:
        """From the first time seen until the end of the shift, or the last time seen."""
        tick_s = self.opening.snapshot.epoch_s
        gone = seen.last_s + 12 * tick_s < self.moments_s[-1]
        end_s = min(seen.rider.shift_end_s, seen.last_s) if gone else seen.rider.shift_end_s
        return replace(
            seen.rider,
            place=place,
            shift_start_s=seen.first_s,
            shift_end_s=max(end_s, seen.first_s),
            free_at_s=max(seen.first_s, min(seen.rider.free_at_s, seen.first_s + 3600.0)),
        )

    def _ways(self, names: list[tuple[str, str]]) -> _Ways:
        return _Ways(names, self.way_s, self.point, self._pace())

    def _pace(self) -> float:
        """Seconds a metre of straight line, over all ways that were recorded."""
        seconds = metres = 0.0
        for (kind, one, to_kind, other), way_s in self.way_s.items():
            start, end = self.point.get((kind, one)), self.point.get((to_kind, other))
            if start is not None and end is not None and math.isfinite(way_s):
                seconds += way_s
                metres += _metres(start, end)
        return seconds / metres if metres > 0 else _PACE_S_PER_M


@dataclass(frozen=True, slots=True)
class _Ways:
    """Seconds between places by number: as recorded, else by pace, else over a store."""

    names: list[tuple[str, str]]
    way_s: Mapping[tuple[str, str, str, str], float]
    point: Mapping[tuple[str, str], tuple[float, float]]
    pace: float

    def __call__(self, start: IntArray, end: IntArray) -> FloatArray:
        one, other = np.broadcast_arrays(start, end)
        flat = [self._way(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True)]
        return np.array(flat, dtype=np.float64).reshape(one.shape)

    def _way(self, start: int, end: int) -> float:
        if start == end:
            return 0.0
        a, b = self.names[start], self.names[end]
        known = self.way_s.get((*a, *b), self.way_s.get((*b, *a)))
        if known is not None:
            return known
        here, there = self.point.get(a), self.point.get(b)
        if here is not None and there is not None:
            return self.pace * _metres(here, there)
        # The two were never in one decision: by way of the store at which both are known.
        over = [
            self.way_s[*a, "store", name] + self.way_s[*b, "store", name]
            for kind, name in self.names
            if kind == "store"
            and (*a, "store", name) in self.way_s
            and (*b, "store", name) in self.way_s
        ]
        return min(over, default=math.inf)


def _metres(start: tuple[float, float], end: tuple[float, float]) -> float:
    east = (end[1] - start[1]) * math.cos(math.radians((start[0] + end[0]) / 2))
    return _DEGREE_M * math.hypot(east, end[0] - start[0])
