"""From a plan to offers: one trip of it a transaction, under the dispatcher's lease.

Each transaction checks the lease's epoch first, and then that orders, rider and trip are as the
plan saw them; whatever is not is left to the next plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.result import StopKind as PlanStopKind
from dispatch.result import Trip as PlannedTrip
from geo.distances import Point, distance_m
from geo.travel import DETOUR
from kit import crash_points
from kit.clock import Clock
from kit.sql import load
from orders import batches, offers
from orders.dispatch_world import Partition
from orders.errors import LeaseLost, StaleAssignment
from orders.model import DeliveryState, OrderState
from orders.paying import cash_due_minor
from orders.rows import OrderRow, lock_orders
from orders.territory import Territory
from riders import leases, shifts, trips
from riders.model import PlannedStop, StopKind, TripStatus
from riders.settings import RiderSettings
from riders.tables import riders

_EXPIRED = load("orders", "expired_offers")
_WEIGHT = load("orders", "weight_of_orders")

_DISPATCHABLE = frozenset({OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED})
_NOT_COLLECTED = frozenset({DeliveryState.ASSIGNED, DeliveryState.AT_STORE})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a trip comes from: the rider's place, the decision's id and its set of parameters."""

    point: Point | None = None
    decision_id: str | None = None
    parameter_set: str = "default"


_UNKNOWN = Origin()


async def fence(conn: AsyncConnection, partition_id: str, lease_epoch: int) -> None:
    """The first statement of everything that a dispatcher writes.

    Raises LeaseLost when another dispatcher has the partition; it cannot take over before the
    caller's transaction has ended.
    """
    if not await leases.holds(conn, partition_id, lease_epoch):
        raise LeaseLost("Another dispatcher holds this partition.")


async def commit_trip(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    clock: Clock,
    partition_id: str,
    lease_epoch: int,
    planned: PlannedTrip,
    origin: Origin = _UNKNOWN,
) -> str:
    """Offer a planned trip to its rider, or put its new orders on the trip that the rider is on.

    Returns the trip's id.  Raises LeaseLost, or StaleAssignment when an order, the rider or the
    trip has changed since the snapshot; nothing is written then.
    """
    await fence(conn, partition_id, lease_epoch)
    crash_points.reached("assignment_open")
    if planned.extends:
        return await _extend(conn, territory, settings, clock, planned)
    return await _offer(conn, territory, settings, clock, lease_epoch, planned, origin)


async def _offer(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    clock: Clock,
    lease_epoch: int,
    planned: PlannedTrip,
    origin: Origin,
) -> str:
    locked = await lock_orders(conn, planned.order_ids)
    _check_new(locked, planned, planned.order_ids)
    await _check_rider(conn, planned)
    if await shifts.on_trip(conn, planned.rider_id):
        raise _stale("The rider is on a trip.", "rider_busy")
    stops = _stops(territory, planned, locked, planned.order_ids)
    ridden_m = _distance_m(stops)
    store = territory.stores[planned.store_id]
    empty_m = 0.0 if origin.point is None else DETOUR * distance_m(origin.point, store.point)
    now = clock.now()
    trip = await trips.offer(
        conn,
        rider_id=planned.rider_id,
        city_id=store.city_id,
        store_id=planned.store_id,
        stops=stops,
        pay_minor=pay_minor(settings, ridden_m, len(planned.order_ids)),
        currency=locked[planned.order_ids[0]].currency,
        distance_m=round(ridden_m),
        now=now,
        expires_at=now + timedelta(seconds=settings.offer_life_s),
        lease_epoch=lease_epoch,
        empty_m=round(empty_m),
        parameter_set=origin.parameter_set,
        decision_id=origin.decision_id,
    )
    return (await offers.put_to_rider(conn, trip)).id


async def _extend(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    clock: Clock,
    planned: PlannedTrip,
) -> str:
    """Put the plan's new orders on the trip that its rider has accepted and not collected.

    It needs no second offer: the rider took a trip, the vehicle has room for more, and the pay
    grows with the way and the doors.
    """
    locked = await lock_orders(conn, planned.order_ids)
    held = await trips.active_of_rider(conn, planned.rider_id)
    if held is None:
        raise _stale("The rider's trip is over.", "trip_changed")
    trip = await trips.lock(conn, held)
    known = trip.kept_order_ids
    if (
        trip.status is not TripStatus.ACTIVE
        or trip.store_id != planned.store_id
        or not set(known) <= set(planned.order_ids)
        or any(locked[one].delivery_status not in _NOT_COLLECTED for one in known)
    ):
        raise _stale("The trip has changed since the plan was made.", "trip_changed")
    added = [order_id for order_id in planned.order_ids if order_id not in known]
    if not added:
        raise _stale("The trip has these orders already.", "trip_changed")
    _check_new(locked, planned, added)
    await _check_rider(conn, planned)
    new = _stops(territory, planned, locked, added)
    ridden_m = _way_m(territory, planned, locked)
    pay = pay_minor(settings, ridden_m, len(planned.order_ids))
    grown = await trips.extend(
        conn,
        trip,
        added=new,
        sequence=planned.order_ids,
        planned_at=_arrivals(planned),
        # What was agreed is never taken back.
        pay_minor=max(pay, trip.pay_minor),
        distance_m=round(ridden_m),
        now=clock.now(),
    )
    await batches.join(conn, grown, added)
    return trip.id


def pay_minor(settings: RiderSettings, ridden_m: float, doors: int) -> int:
    """What a trip pays: a base, the way from the store to the last door, each door but one."""
    way = round(settings.pay_per_km_minor * ridden_m / 1000)
    return settings.pay_base_minor + way + settings.pay_per_stop_minor * (doors - 1)


def _stale(detail: str, reason: str) -> StaleAssignment:
    return StaleAssignment(detail, extra={"reason": reason})


def _check_new(
    locked: Mapping[str, OrderRow], planned: PlannedTrip, order_ids: Sequence[str]
) -> None:
    """Raises StaleAssignment unless these orders are as the plan saw them."""
    versions = dict(zip(planned.order_ids, planned.order_versions, strict=True))
    for order_id in order_ids:
        order = locked.get(order_id)
        if (
            order is None
            or order.version != versions[order_id]
            or order.delivery_status != DeliveryState.UNASSIGNED
            or order.status not in _DISPATCHABLE
            or order.store_id != planned.store_id
        ):
            raise _stale("The order has changed since the plan was made.", "order_changed")


async def _check_rider(conn: AsyncConnection, planned: PlannedTrip) -> None:
    """Lock the rider.  Raises StaleAssignment when they changed, or cannot carry all of it."""
    await shifts.rider(conn, planned.rider_id)
    rider = (await conn.execute(select(riders).where(riders.c.id == planned.rider_id))).one()
    if rider.version != planned.rider_version:
        raise _stale("The rider has changed since the plan was made.", "rider_changed")
    weight_g = (await _WEIGHT.one(conn, list(planned.order_ids))).weight_g
    if len(planned.order_ids) > rider.capacity_orders or weight_g > rider.capacity_g:
        raise _stale("That is more than the vehicle takes.", "capacity")


def _arrivals(planned: PlannedTrip) -> dict[str, datetime]:
    """When each order is at its door, by the plan."""
    return {
        order_id: datetime.fromtimestamp(stop.planned_arrival_s, tz=UTC)
        for stop in planned.stops
        if stop.kind is PlanStopKind.DROPOFF
        for order_id in stop.order_ids
    }


def _stops(
    territory: Territory,
    planned: PlannedTrip,
    locked: Mapping[str, OrderRow],
    order_ids: Sequence[str],
) -> list[PlannedStop]:
    """A pickup and a drop-off for each of ``order_ids``, in the order of the plan."""
    store = territory.stores[planned.store_id].point
    stops = []
    for stop in planned.stops:
        at = datetime.fromtimestamp(stop.planned_arrival_s, tz=UTC)
        for order_id in stop.order_ids:
            if order_id not in order_ids:
                continue
            order = locked[order_id]
            if stop.kind is PlanStopKind.PICKUP:
                stops.append(PlannedStop(StopKind.PICKUP, order_id, store.lat, store.lon, at))
            else:
                due = cash_due_minor(order)
                stops.append(PlannedStop(StopKind.DROPOFF, order_id, order.lat, order.lon, at, due))
    return stops


def _way_m(territory: Territory, planned: PlannedTrip, locked: Mapping[str, OrderRow]) -> float:
    return _distance_m(_stops(territory, planned, locked, planned.order_ids))


def _distance_m(stops: Sequence[PlannedStop]) -> float:
    """From the first pickup to the last drop-off; straight lines with the usual detour."""
    return DETOUR * sum(
        distance_m(Point(a.lat, a.lon), Point(b.lat, b.lon)) for a, b in pairwise(stops)
    )


async def expired_offers(conn: AsyncConnection, partition: Partition) -> list[str]:
    """Trips whose offer nobody answered in time."""
    rows = await _EXPIRED.all(conn, partition.city_id, sorted(partition.store_ids))
    return [row.id for row in rows]
