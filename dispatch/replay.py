"""Recorded decisions made again: one by one, and as a day that takes its own course.

*Open loop*: each recorded question is answered anew.  It shows where two policies differ, on the
very situations that arose, but not what would have come of it.

*Closed loop*: the day is lived again (`dispatch.recorded_day`); the policy's own decisions move the
riders, and orders are compared by what became of them.  Offers are accepted after the recorded
response time, and riders stay where they delivered last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np

from dispatch.compare import Difference, blocks, paired_difference
from dispatch.decision import Decision
from dispatch.parameters import Parameters
from dispatch.plan import plan
from dispatch.recorded_day import Day, DayOrder
from dispatch.result import Plan, StopKind, Trip
from dispatch.snapshot import CurrentTrip, Demand, Rider, Snapshot, Store

Engine = Callable[[Snapshot], Plan]

# How long after the record's end its last orders may still be delivered.
TAIL_S: Final = 5400.0
# Orders placed within this long of each other count as one observation.
BLOCK_S: Final = 900.0
# Fewer blocks than this are said to be too few.
LEAST_BLOCKS: Final = 8
DEMAND_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Answers:
    """One recorded decision, as it was and as each policy answers it now."""

    decision: Decision
    plans: Mapping[str, Plan]


def replan(
    decisions: Iterable[Decision],
    policies: Mapping[str, Parameters | None],
    deadline_s: float = math.inf,
    engine: Engine = plan,
) -> Iterator[Answers]:
    """Open loop.  None: the parameters with which the decision was made."""
    for decision in decisions:
        question = replace(decision.snapshot, deadline_s=deadline_s)
        yield Answers(
            decision,
            {
                name: engine(question if one is None else replace(question, parameters=one))
                for name, one in policies.items()
            },
        )


def given(answer: Plan) -> dict[str, str]:
    """Rider by order, of what a plan commits."""
    return {order: trip.rider_id for trip in answer.trips for order in trip.order_ids}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an order.

    delivered_at_s: None if it was not, by the end. rider_s: its share of the rider's time from
    setting out to being free; trip_share: one over the orders of its trip.
    """

    order_id: str
    placed_at_s: float
    promised_by_s: float
    delivered_at_s: float | None
    rider_s: float = 0.0
    trip_share: float = 0.0


@dataclass
class _Riding:
    """A rider in the course of the day. trip: given and not collected."""

    rider: Rider
    place: int
    free_at_s: float
    idle_since_s: float
    trip: CurrentTrip | None = None
    leave_s: float = 0.0


@dataclass
class _Course:
    """A day under one policy."""

    day: Day
    parameters: Parameters
    response_s: float
    orders: Mapping[str, DayOrder]
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    waiting: dict[str, DayOrder] = field(default_factory=dict)
    riding: dict[str, _Riding] = field(default_factory=dict)
    refused: int = 0

    def collect(self, now_s: float) -> None:
        """Riders at whose stores everything is ready by now pick up; their way is then fixed."""
        for one in self.riding.values():
            if one.trip is not None and self._handover_s(one.trip) <= now_s:
                self._deliver(one, one.trip)

    def _store(self, store_id: str) -> Store:
        return next(one for one in self.day.stores if one.store_id == store_id)

    def _store_half_s(self, store_id: str) -> float:
        return self._store(store_id).pickup_service_s / 2

    def _handover_s(self, trip: CurrentTrip) -> float:
        ready = [self.orders[order_id].ready_at_s for order_id in trip.order_ids]
        return max(trip.arrives_at_s + self._store_half_s(trip.store_id), *ready)

    def _deliver(self, one: _Riding, trip: CurrentTrip) -> None:
        service_s = self.day.first.dropoff_service_s
        at_s = self._handover_s(trip) + self._store_half_s(trip.store_id)
        place = self._store(trip.store_id).place
        delivered: dict[str, float] = {}
        for order_id in trip.order_ids:
            door = self.orders[order_id].order.place
            ride_s = float(self.day.travel.seconds_between(place, door))
            at_s += ride_s * one.rider.travel_factor
            delivered[order_id] = at_s + service_s / 2
            at_s, place = at_s + service_s, door
        share = 1 / len(trip.order_ids)
        for order_id, delivered_s in delivered.items():
            order = self.orders[order_id].order
            self.deliveries[order_id] = Delivery(
                order_id, order.placed_at_s, order.promised_by_s, delivered_s,
                (at_s - one.leave_s) * share, share,
            )  # fmt: skip
        one.place, one.free_at_s, one.idle_since_s, one.trip = place, at_s, at_s, None

    def question(self, now_s: float, epoch_s: float, previous: Plan | None) -> Snapshot:
        on_trips = [
            self.orders[order_id].as_of(now_s)
            for one in self.riding.values()
            if one.trip is not None
            for order_id in one.trip.order_ids
        ]
        first = self.day.first
        return Snapshot(
            now_s=now_s,
            epoch_s=epoch_s,
            dropoff_service_s=first.dropoff_service_s,
            orders=tuple(one.as_of(now_s) for one in self.waiting.values()),
            trip_orders=tuple(on_trips),
            riders=tuple(
                replace(
                    one.rider,
                    place=one.place,
                    free_at_s=one.free_at_s,
                    trip=one.trip,
                    idle_since_s=one.idle_since_s,
                )
                for one in self.riding.values()
                if one.rider.shift_start_s <= now_s
                and (one.trip is not None or one.rider.shift_end_s >= now_s)
            ),
            stores=self.day.stores,
            travel=self.day.travel,
            recent=tuple(
                Demand(
                    order_id=one.order.order_id,
                    store_id=one.order.store_id,
                    place=one.order.place,
                    placed_at_s=one.order.placed_at_s,
                    ready_at_s=one.as_of(now_s).ready_at_s,
                )
                for one in self.day.orders
                if one.known_at_s <= now_s < one.order.placed_at_s + DEMAND_S
            ),
            parameters=self.parameters,
            previous=previous,
            seed=first.seed,
        )

    def commit(self, now_s: float, trip: Trip) -> None:
        """What the plan says, unless it cannot be; that is counted, and left for the next one."""
        one = self.riding[trip.rider_id]
        had = () if one.trip is None else one.trip.order_ids
        new = [order_id for order_id in trip.order_ids if order_id not in had]
        fits = set(had) <= set(trip.order_ids) and all(order in self.waiting for order in new)
        same_store = one.trip is None or one.trip.store_id == trip.store_id
        if not (fits and same_store and new):
            self.refused += 1
            return
        if one.trip is None:
            start_s = max(now_s + self.response_s, one.free_at_s, one.rider.shift_start_s)
            door = self._store(trip.store_id).place
            ride_s = float(self.day.travel.seconds_between(one.place, door))
            arrives_s = start_s + ride_s * one.rider.travel_factor
            one.leave_s = start_s
        else:
            arrives_s = one.trip.arrives_at_s
        one.trip = CurrentTrip(
            store_id=trip.store_id, order_ids=tuple(trip.order_ids), arrives_at_s=arrives_s
        )
        for order_id in new:
            del self.waiting[order_id]


def live(
    day: Day,
    parameters: Parameters,
    every_s: float | None = None,
    engine: Engine = plan,
) -> list[Delivery]:
    """Closed loop: what becomes of each order of the day under a policy.

    every_s: seconds between decisions; None: as recorded.
    """
    orders = {one.order.order_id: one for one in day.orders}
    response_s = day.first.parameters.offers.response_s
    course = _Course(day, parameters, response_s, orders)
    for rider in day.riders:
        course.riding[rider.rider_id] = _Riding(
            rider, rider.place, rider.free_at_s, rider.free_at_s
        )
    moments = _moments(day, every_s)
    epoch_s = float(np.median(np.diff(moments[:-1]))) if len(moments) > 2 else day.first.epoch_s
    coming = list(reversed(day.orders))
    previous: Plan | None = None
    for now_s in chain(moments, _tail(moments[-1], max(epoch_s, 30.0))):
        while coming and coming[-1].known_at_s <= now_s:
            order = coming.pop()
            course.waiting[order.order.order_id] = order
        course.collect(now_s)
        if course.waiting:
            previous = engine(course.question(now_s, epoch_s, previous))
            for trip in previous.trips:
                course.commit(now_s, trip)
            course.collect(now_s)
        elif not coming and all(one.trip is None for one in course.riding.values()):
            break
    return [
        course.deliveries.get(
            one.order.order_id,
            Delivery(one.order.order_id, one.order.placed_at_s, one.order.promised_by_s, None),
        )
        for one in day.orders
    ]


def _moments(day: Day, every_s: float | None) -> list[float]:
    if every_s is None:
        return list(day.moments_s)
    kept = [day.moments_s[0]]
    for moment_s in day.moments_s[1:]:
        if moment_s >= kept[-1] + every_s:
            kept.append(moment_s)
    return kept


def _tail(end_s: float, step_s: float) -> Iterator[float]:
    """Moments after the record, until everything can have been delivered."""
    return (end_s + step_s * n for n in range(1, int(TAIL_S / step_s) + 1))


MEASURES: Final = (
    "click_to_door_s", "late", "undelivered", "rider_s_per_order", "trips_per_order",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two policies over the same orders; differences are the second's minus the first's."""

    orders: int
    measures: Mapping[str, Difference]


def compare(first: Sequence[Delivery], second: Sequence[Delivery]) -> Comparison:
    """Order by order.  An order that was never delivered counts as ``TAIL_S`` after its promise."""
    if [one.order_id for one in first] != [one.order_id for one in second]:
        raise ValueError("only the same orders can be compared")
    placed = [one.placed_at_s for one in first]
    measures = {
        name: paired_difference(
            blocks(placed, _values(first, name), _values(second, name), BLOCK_S), LEAST_BLOCKS
        )
        for name in MEASURES
    }
    return Comparison(len(first), measures)


def _values(deliveries: Sequence[Delivery], measure: str) -> list[float]:
    return [_value(one, measure) for one in deliveries]


def _value(one: Delivery, measure: str) -> float:
    at_s = one.promised_by_s + TAIL_S if one.delivered_at_s is None else one.delivered_at_s
    match measure:
        case "click_to_door_s":
            return at_s - one.placed_at_s
        case "late":
            return float(at_s > one.promised_by_s)
        case "undelivered":
            return float(one.delivered_at_s is None)
        case "rider_s_per_order":
            return one.rider_s
        case _:
            return one.trip_share


def planned_click_to_door_s(answers: Plan, question: Snapshot) -> list[float]:
    """Of each order that a plan commits: from its placement to the middle of its handover."""
    placed = {one.order_id: one.placed_at_s for one in question.orders}
    half_s = question.dropoff_service_s / 2
    return [
        stop.planned_arrival_s + half_s - placed[order_id]
        for trip in answers.trips
        for stop in trip.stops
        if stop.kind is StopKind.DROPOFF
        for order_id in stop.order_ids
        if order_id in placed
    ]
