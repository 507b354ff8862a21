"""From the database to a dispatch snapshot, and from a plan back to offers.

``read_world`` reads what the engine may know; ``commit_trip`` offers one trip of its plan, in a
transaction that checks the dispatcher's lease and that order and rider are as the plan saw them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.parameters import ExtensionParameters, Parameters, Vehicle
from dispatch.result import StopKind as PlanStopKind
from dispatch.result import Trip as PlannedTrip
from dispatch.snapshot import Order, Rider, Snapshot, Store
from dispatch.travel import TravelTimes
from geo.distances import Point, distance_m
from geo.travel import DETOUR, StraightLine
from kit import outbox
from kit.clock import Clock
from kit.sql import load
from kit.wire import rfc3339
from orders.errors import LeaseLost, StaleAssignment
from orders.model import DeliveryState, OrderState
from orders.paying import CASH, cash_due_minor
from orders.rows import lock_orders
from orders.territory import Territory
from orders.transitions import SYSTEM, move
from riders import leases, shifts, trips
from riders.locations import RiderFix
from riders.model import PlannedStop, StopKind
from riders.settings import RiderSettings
from riders.tables import riders

log = structlog.get_logger(__name__)

_ORDERS = load("orders", "dispatch_orders")
_RIDERS = load("orders", "dispatch_riders")
_EXPIRED = load("orders", "expired_offers")

# How long picking takes, as in dispatch.promise: a walk, each line, each unit, packing.
PICK_BASE_S, PICK_LINE_S, PICK_UNIT_S = 60.0, 10.0, 2.0
# Until a picker takes a queued order.
CLAIM_S = 30.0
# A claimed order is not done sooner than this, however long it has taken already.
LEAST_LEFT_S = 15.0
READY_SPREAD = 0.3
DROPOFF_SERVICE_S = 60.0

# Trips carry one order until batches are measured on the simulated city.
ONE_ORDER_A_TRIP = Parameters(extension=ExtensionParameters(enabled=False))

_VEHICLES = frozenset(vehicle.value for vehicle in Vehicle)
_DISPATCHABLE = frozenset({OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED})


@dataclass(frozen=True, slots=True)
class World:
    """What was read: rows by id, and the points of the snapshot's places."""

    city_id: str
    orders: Mapping[str, Any]
    riders: Mapping[str, Any]
    fixes: Mapping[str, RiderFix]


async def read_world(
    conn: AsyncConnection, city_id: str
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(orders without a rider, riders without a trip) of a city, by id."""
    order_rows = {row.id: row for row in await _ORDERS.all(conn, city_id)}
    rider_rows = {row.id: row for row in await _RIDERS.all(conn, city_id)}
    return order_rows, rider_rows


def snapshot(
    world: World,
    territory: Territory,
    settings: RiderSettings,
    now: datetime,
    epoch_s: float,
    deadline_s: float,
) -> Snapshot:
    """The engine's view of a city.  Riders whose phone is silent are left out."""
    now_s = now.timestamp()
    heard_since_ms = (now_s - settings.silent_after_s) * 1000
    reachable = {
        rider_id: fix
        for rider_id, fix in world.fixes.items()
        if fix.t_ms >= heard_since_ms and _rides_known_vehicle(world.riders[rider_id])
    }
    store_ids = sorted({row.store_id for row in world.orders.values()})
    points: list[Point] = [territory.stores[store_id].point for store_id in store_ids]
    order_place = _places(
        points, {row.id: Point(row.lat, row.lon) for row in world.orders.values()}
    )
    rider_place = _places(points, {r: Point(fix.lat, fix.lon) for r, fix in reachable.items()})
    return Snapshot(
        now_s=now_s,
        epoch_s=epoch_s,
        dropoff_service_s=DROPOFF_SERVICE_S,
        orders=tuple(_order(row, order_place[row.id], now_s) for row in world.orders.values()),
        riders=tuple(
            _rider(world.riders[rider_id], place, settings, now_s)
            for rider_id, place in rider_place.items()
        ),
        stores=tuple(Store(store_id=s, place=i) for i, s in enumerate(store_ids)),
        travel=_travel(territory, world.city_id, points),
        parameters=ONE_ORDER_A_TRIP,
        deadline_s=deadline_s,
    )


def _rides_known_vehicle(row: Any) -> bool:
    """A rider whose vehicle nobody knows gets no offers, but must not stop a city."""
    if row.vehicle in _VEHICLES:
        return True
    log.warning("rider_with_unknown_vehicle", rider_id=row.id, vehicle=row.vehicle)
    return False


def _places(points: list[Point], new: Mapping[str, Point]) -> dict[str, int]:
    places = {key: len(points) + i for i, key in enumerate(new)}
    points.extend(new.values())
    return places


def _travel(territory: Territory, city_id: str, points: Sequence[Point]) -> TravelTimes:
    times = territory.travel.get(city_id) or StraightLine()
    lat = np.array([point.lat for point in points])
    lon = np.array([point.lon for point in points])
    seconds = times.between(lat[:, None], lon[:, None], lat[None, :], lon[None, :])
    return TravelTimes(
        np.asarray(seconds, dtype=np.float64), np.arange(len(points), dtype=np.int32)
    )


def _order(row: Any, place: int, now_s: float) -> Order:
    pick_s = PICK_BASE_S + PICK_LINE_S * row.lines + PICK_UNIT_S * row.units
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
        place=place,
        placed_at_s=row.placed_at.timestamp(),
        ready_at_s=ready_at_s,
        ready_spread_s=spread_s,
        promised_by_s=row.promised_high_at.timestamp(),
        weight_g=int(row.weight_g),
        cash_due_minor=row.owed_minor if row.gateway == CASH else 0,
        declined_by=frozenset(row.declined_by),
        version=row.version,
    )


def _rider(row: Any, place: int, settings: RiderSettings, now_s: float) -> Rider:
    return Rider(
        rider_id=row.id,
        place=place,
        free_at_s=now_s,
        shift_start_s=row.started_at.timestamp(),
        shift_end_s=row.ends_at.timestamp(),
        vehicle=Vehicle(row.vehicle),
        capacity_g=row.capacity_g,
        capacity_orders=row.capacity_orders,
        cash_headroom_minor=max(0, settings.cash_limit_minor - row.cash_minor),
        idle_since_s=(row.idle_since or row.started_at).timestamp(),
        version=row.version,
    )


async def commit_trip(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    clock: Clock,
    city_id: str,
    lease_epoch: int,
    planned: PlannedTrip,
) -> str:
    """Offer a planned trip to its rider; returns the trip's id.

    Raises LeaseLost when another dispatcher has the city, StaleAssignment when the order or the
    rider has changed since the snapshot; nothing is written then.
    """
    if not await leases.holds(conn, city_id, lease_epoch):
        raise LeaseLost("Another dispatcher holds this city.")
    locked = await lock_orders(conn, planned.order_ids)
    for order_id, version in zip(planned.order_ids, planned.order_versions, strict=True):
        order = locked[order_id]
        if (
            order.version != version
            or order.delivery_status != DeliveryState.UNASSIGNED
            or order.status not in _DISPATCHABLE
        ):
            raise StaleAssignment("The order has changed since the plan was made.")
    await shifts.rider(conn, planned.rider_id)
    rider_version = await conn.scalar(
        select(riders.c.version).where(riders.c.id == planned.rider_id)
    )
    if rider_version != planned.rider_version:
        raise StaleAssignment("The rider has changed since the plan was made.")
    stops = _stops(territory, planned, locked)
    ridden_m = _distance_m(stops)
    trip = await trips.offer(
        conn,
        rider_id=planned.rider_id,
        city_id=city_id,
        store_id=planned.store_id,
        stops=stops,
        pay_minor=settings.pay_base_minor + round(settings.pay_per_km_minor * ridden_m / 1000),
        currency=locked[planned.order_ids[0]].currency,
        distance_m=round(ridden_m),
        now=clock.now(),
        expires_at=clock.now() + timedelta(seconds=settings.offer_life_s),
        lease_epoch=lease_epoch,
    )
    for order_id in planned.order_ids:
        await move(conn, order_id, DeliveryState.OFFERED, SYSTEM)
    assert trip.expires_at is not None
    await outbox.append(
        conn,
        f"rider:{trip.rider_id}",
        "offer.made",
        {
            "id": trip.offer_id,
            "trip": trips.shape_work(trip),
            "expires_at": rfc3339(trip.expires_at),
        },
    )
    return trip.id


def _stops(
    territory: Territory, planned: PlannedTrip, locked: Mapping[str, Any]
) -> list[PlannedStop]:
    store = territory.stores[planned.store_id].point
    stops = []
    for stop in planned.stops:
        at = datetime.fromtimestamp(stop.planned_arrival_s, tz=UTC)
        for order_id in stop.order_ids:
            order = locked[order_id]
            if stop.kind is PlanStopKind.PICKUP:
                stops.append(PlannedStop(StopKind.PICKUP, order_id, store.lat, store.lon, at))
            else:
                due = cash_due_minor(order)
                stops.append(PlannedStop(StopKind.DROPOFF, order_id, order.lat, order.lon, at, due))
    return stops


def _distance_m(stops: Sequence[PlannedStop]) -> float:
    """From the first pickup to the last drop-off; straight lines with the usual detour."""
    return DETOUR * sum(
        distance_m(Point(a.lat, a.lon), Point(b.lat, b.lon)) for a, b in pairwise(stops)
    )


async def expired_offers(conn: AsyncConnection, city_id: str) -> list[str]:
    """Trips whose offer nobody answered in time."""
    return [row.id for row in await _EXPIRED.all(conn, city_id)]
