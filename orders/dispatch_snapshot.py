"""From what was read to a dispatch snapshot: the question that the engine answers.  No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import structlog

from dispatch.parameters import Parameters, Vehicle
from dispatch.snapshot import CurrentTrip, Demand, Order, Rider, Snapshot, Store
from dispatch.travel import FloatArray
from dispatch.travel_blocks import NO_STORE, IntArray, TravelBlocks
from geo.distances import Point
from geo.travel import StraightLine, TravelTimes
from orders.dispatch_world import World
from orders.paying import CASH
from orders.territory import Territory
from riders.locations import RiderFix
from riders.model import DONE_STOPS, StopKind, StopStatus, TripStatus
from riders.settings import RiderSettings

log = structlog.get_logger(__name__)

# How long picking takes, as in dispatch.promise: a walk, each line, each unit, packing.
PICK_BASE_S, PICK_LINE_S, PICK_UNIT_S = 60.0, 10.0, 2.0
# Until a picker takes a queued order.
CLAIM_S = 30.0
# A claimed order is not done sooner than this, however long it has taken already.
LEAST_LEFT_S = 15.0
# A first trip does not make a shift of some minutes one of nothing but work.
LEAST_SHIFT_S = 600.0
READY_SPREAD = 0.3
DROPOFF_SERVICE_S = 60.0

_VEHICLES = frozenset(vehicle.value for vehicle in Vehicle)


@dataclass(frozen=True, slots=True)
class Question:
    """A snapshot, and what its places are: ``points[place]``."""

    snapshot: Snapshot
    points: tuple[Point, ...]


class _Places:
    """Numbers for points and the store whose trips lead there; what comes again has the same."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Point, str | None], int] = {}

    def add(self, point: Point, store_id: str | None = None) -> int:
        """store_id: None for where a rider is, to which no trip leads."""
        return self._numbers.setdefault((point, store_id), len(self._numbers))

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(point for point, _ in self._numbers)

    @property
    def store_ids(self) -> tuple[str | None, ...]:
        return tuple(store_id for _, store_id in self._numbers)


def ask(
    world: World,
    territory: Territory,
    settings: RiderSettings,
    now: datetime,
    epoch_s: float,
    deadline_s: float,
    parameters: Parameters | None = None,
) -> Question:
    """The engine's view of a partition.  Riders whose phone is silent are left out.

    Trips that were accepted and not collected may still grow; riders who deliver count as free
    where and when they will be done.
    """
    now_s = now.timestamp()
    places = _Places()
    riders = _Riders(world, territory, settings, now_s).all(places)
    used = [row.store_id for row in (*world.orders.values(), *world.demand)]
    used += [rider.trip.store_id for rider in riders if rider.trip is not None]
    stores = tuple(
        Store(
            store_id=store_id,
            place=places.add(territory.stores[store_id].point, store_id),
            queue=tuple(world.queues.get(store_id, ())),
        )
        for store_id in sorted(set(used))
    )
    on_trips = {
        order_id for one in riders if one.trip is not None for order_id in one.trip.order_ids
    }
    snapshot = Snapshot(
        now_s=now_s,
        epoch_s=epoch_s,
        dropoff_service_s=DROPOFF_SERVICE_S,
        orders=tuple(_order(row, places, world, now_s) for row in world.orders.values()),
        trip_orders=tuple(
            _order(world.trip_orders[order_id], places, world, now_s)
            for order_id in sorted(on_trips)
        ),
        riders=riders,
        stores=stores,
        recent=tuple(_demand(row, places) for row in world.demand),
        travel=_travel(territory.travel.get(world.city_id) or StraightLine(), places, stores),
        parameters=parameters or Parameters(),
        deadline_s=deadline_s,
    )
    return Question(snapshot, places.points)


def _travel(
    times: TravelTimes | StraightLine, places: _Places, stores: Sequence[Store]
) -> TravelBlocks:
    """Whole seconds, which the log of decisions keeps in two bytes each."""
    lat = np.array([point.lat for point in places.points])
    lon = np.array([point.lon for point in places.points])
    row_of: dict[str | None, int] = {None: NO_STORE}
    row_of.update({store.store_id: row for row, store in enumerate(stores)})
    store_of = [row_of[store_id] for store_id in places.store_ids]

    def between(start: IntArray, end: IntArray) -> FloatArray:
        return np.rint(times.between(lat[start], lon[start], lat[end], lon[end]))

    return TravelBlocks.gather(store_of, [store.place for store in stores], between)


def _pick_s(row: Any) -> float:
    return float(PICK_BASE_S + PICK_LINE_S * row.lines + PICK_UNIT_S * row.units)


def _demand(row: Any, places: _Places) -> Demand:
    placed_at_s = row.placed_at.timestamp()
    expected_s = placed_at_s + CLAIM_S + _pick_s(row)
    return Demand(
        order_id=row.id,
        store_id=row.store_id,
        place=places.add(Point(row.lat, row.lon), row.store_id),
        placed_at_s=placed_at_s,
        ready_at_s=expected_s if row.packed_at is None else row.packed_at.timestamp(),
    )


def _order(row: Any, places: _Places, world: World, now_s: float) -> Order:
    pick_s = _pick_s(row)
    if row.packed_at is not None:
        ready_at_s, spread_s = row.packed_at.timestamp(), 0.0
    elif row.claimed_at is not None and row.pick_status == "claimed":
        ready_at_s = max(row.claimed_at.timestamp() + pick_s, now_s + LEAST_LEFT_S)
        spread_s = READY_SPREAD * pick_s
    else:
        ready_at_s = now_s + CLAIM_S + pick_s
        spread_s = READY_SPREAD * (CLAIM_S + pick_s)
    if row.slot_start is not None:
        # Nobody is at home yet: the bags stay in the store until the slot is near.
        ready_at_s = max(ready_at_s, row.slot_start.timestamp() - row.travel_s)
    return Order(
        order_id=row.id,
        store_id=row.store_id,
        place=places.add(Point(row.lat, row.lon), row.store_id),
        placed_at_s=row.placed_at.timestamp(),
        ready_at_s=ready_at_s,
        ready_spread_s=spread_s,
        promised_by_s=row.promised_high_at.timestamp(),
        weight_g=int(row.weight_g),
        cash_due_minor=row.owed_minor if row.gateway == CASH else 0,
        declined_by=frozenset(row.declined_by) | world.excluded.get(row.id, frozenset()),
        pinned_rider=world.pins.get(row.id),
        version=row.version,
    )


class _Riders:
    """Riders as the engine sees them: free, on the way to the store, or delivering."""

    def __init__(
        self, world: World, territory: Territory, settings: RiderSettings, now_s: float
    ) -> None:
        self._world = world
        self._territory = territory
        self._settings = settings
        self._now_s = now_s

    def all(self, places: _Places) -> tuple[Rider, ...]:
        heard_since_ms = (self._now_s - self._settings.silent_after_s) * 1000
        found = []
        for rider_id, row in self._world.riders.items():
            fix = self._world.fixes.get(rider_id)
            if fix is None or fix.t_ms < heard_since_ms or not _rides_known_vehicle(row):
                continue
            rider = self._rider(row, fix, places)
            if rider is not None:
                found.append(rider)
        return tuple(found)

    def _rider(self, row: Any, fix: RiderFix, places: _Places) -> Rider | None:
        here = Point(fix.lat, fix.lon)
        if row.trip is None:
            return rider_of(row, places.add(here), self._settings, self._now_s)
        stops = [stop for stop in row.trip["stops"] if stop["status"] != StopStatus.CANCELLED]
        waiting = [stop for stop in stops if stop["status"] not in DONE_STOPS]
        pickups = [stop for stop in stops if stop["kind"] == StopKind.PICKUP]
        if all(stop["status"] != StopStatus.COMPLETED for stop in pickups):
            trip = self._uncollected(row, here, pickups, stops)
            if trip is None:
                return None
            due = sum(stop["cash_due_minor"] for stop in stops)
            return rider_of(
                row, places.add(here), self._settings, self._now_s, trip=trip, cash_due_minor=due
            )
        if not waiting:
            return None
        place = places.add(Point(waiting[-1]["lat"], waiting[-1]["lon"]))
        due = sum(stop["cash_due_minor"] for stop in waiting)
        free_at_s = self._now_s + self._left_s(here, waiting)
        return rider_of(row, place, self._settings, free_at_s, cash_due_minor=due)

    def _uncollected(
        self,
        row: Any,
        here: Point,
        pickups: Sequence[Mapping[str, Any]],
        stops: Sequence[Mapping[str, Any]],
    ) -> CurrentTrip | None:
        """The trip; None when one of its orders has just moved on."""
        trip = row.trip
        order_ids = tuple(stop["order_id"] for stop in stops if stop["kind"] == StopKind.DROPOFF)
        if not order_ids or any(one not in self._world.trip_orders for one in order_ids):
            return None
        there = any(stop["status"] == StopStatus.ARRIVED for stop in pickups)
        store = self._territory.stores[trip["store_id"]].point
        way_s = 0.0 if there else self._territory.travel_s(self._world.city_id, here, store)
        return CurrentTrip(
            store_id=trip["store_id"],
            order_ids=order_ids,
            arrives_at_s=self._now_s + way_s,
            # Nobody is asked to take an offer that changes while it is read.
            may_add=trip["status"] == TripStatus.ACTIVE,
        )

    def _left_s(self, here: Point, waiting: Sequence[Mapping[str, Any]]) -> float:
        """Until the last of these stops is done, from where the rider is."""
        left_s = 0.0
        for stop in waiting:
            there = Point(stop["lat"], stop["lon"])
            if stop["status"] != StopStatus.ARRIVED:
                left_s += self._territory.travel_s(self._world.city_id, here, there)
            left_s += DROPOFF_SERVICE_S
            here = there
        return left_s


def _rides_known_vehicle(row: Any) -> bool:
    """A rider whose vehicle nobody knows gets no offers, but must not stop a city."""
    if row.vehicle in _VEHICLES:
        return True
    log.warning("rider_with_unknown_vehicle", rider_id=row.id, vehicle=row.vehicle)
    return False


def rider_of(
    row: Any,
    place: int,
    settings: RiderSettings,
    free_at_s: float,
    *,
    trip: CurrentTrip | None = None,
    cash_due_minor: int = 0,
) -> Rider:
    """A rider's row; ``cash_due_minor`` is what the trip that they ride will bring."""
    return Rider(
        rider_id=row.id,
        place=place,
        free_at_s=free_at_s,
        shift_start_s=row.started_at.timestamp(),
        shift_end_s=row.ends_at.timestamp(),
        vehicle=Vehicle(row.vehicle),
        capacity_g=row.capacity_g,
        capacity_orders=row.capacity_orders,
        cash_headroom_minor=max(0, settings.cash_limit_minor - row.cash_minor - cash_due_minor),
        trip=trip,
        idle_since_s=(row.idle_since or row.started_at).timestamp(),
        work_share=row.busy_s / max(LEAST_SHIFT_S, row.busy_s, row.on_shift_s),
        version=row.version,
    )
