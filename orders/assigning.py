"""Ops give an order to a rider by hand, whatever the engine thinks of it.

Some rules hold for everybody (``_impossible``: what nobody can carry out, or what would break an
invariant).  What else speaks against the rider is told, and done with ``force``: whoever has a city
in view knows more than the engine.  The rider is not asked, as with auto-accept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point, distance_m
from geo.travel import DETOUR
from kit.clock import database_now
from kit.errors import NotFound
from kit.sql import load
from orders import controlling, dispatch_controls, offers, reassigning
from orders.dispatching import pay_minor
from orders.errors import CannotAssign, StaleAssignment, WouldOverride
from orders.model import DeliveryState, OrderState
from orders.paying import cash_due_minor
from orders.rows import OrderRow, lock_order
from orders.territory import Territory
from riders import shifts, trips
from riders.model import PlannedStop, StopKind, Trip, TripStatus
from riders.settings import RiderSettings

_FACTS = load("orders", "assign_facts")

# The epoch of a trip that no dispatcher planned: leases count from 1.
BY_HAND = 0

_OPEN = frozenset({OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED})
_TO_BE_FETCHED = frozenset(
    {
        DeliveryState.UNASSIGNED,
        DeliveryState.OFFERED,
        DeliveryState.ASSIGNED,
        DeliveryState.AT_STORE,
    }
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the rider was seen last; ``silent``: too long ago to rely on, or never."""

    point: Point | None
    silent: bool


@dataclass(frozen=True, slots=True)
class Assigned:
    """``overridden``: what spoke against it."""

    trip: Trip
    overridden: tuple[str, ...]


async def assign(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    order_id: str,
    rider_id: str,
    actor: str,
    reason: str,
    seen: Seen,
    *,
    force: bool,
) -> Assigned:
    """Give an order to a rider.  To the rider who has accepted it already: nothing changes.

    Raises NotFound (rider), CannotAssign, WouldOverride (without ``force``), StaleAssignment.
    """
    order, current = await _lock(conn, order_id)
    rider = await shifts.rider(conn, rider_id)
    if rider.city_id != order.city_id:
        raise NotFound("There is no such rider in the order's city.")
    if current is not None and current.rider_id == rider_id:
        if current.status is TripStatus.OFFERED:
            await trips.mark_auto(conn, current)
            current = await offers.take(conn, current, actor, reason)
        return Assigned(current, ())
    now = await database_now(conn)
    facts = await _FACTS.one(conn, order_id, rider_id)
    if because := _impossible(order, facts, now):
        raise CannotAssign(
            f"This rider cannot take the order: {', '.join(because)}.", extra={"because": because}
        )
    pickup_at, door_at = _times(territory, order, seen, now)
    against = await _against(conn, territory, settings, order, rider_id, facts, seen, pickup_at)
    if current is not None:
        against.append("takes_it_from_another_rider")
    if against and not force:
        raise WouldOverride(
            f"Against this rider speaks: {', '.join(against)}. Send force to do it anyway.",
            extra={"overrides": against},
        )
    if current is not None:
        await reassigning.take_off(conn, current, [order_id], actor, reason)
    if "pinned_to_another_rider" in against:
        await controlling.release_pins(conn, order_id, actor, "assigned by hand")
    planned = (pickup_at, door_at)
    trip = await _make_trip(conn, territory, settings, order, rider_id, seen, now, planned)
    await offers.announce(conn, trip, auto_accept=True)
    await trips.mark_auto(conn, trip)
    return Assigned(await offers.take(conn, trip, actor, reason), tuple(against))


async def _lock(conn: AsyncConnection, order_id: str) -> tuple[OrderRow, Trip | None]:
    """The order and the trip that has it, locked in the order of locks."""
    found = await trips.active_of_order(conn, order_id)
    if found is None:
        order, current = await lock_order(conn, order_id), None
    else:
        locked, current = await offers.lock_trip(conn, found)
        order = locked[order_id]
    now_found = await trips.active_of_order(conn, order_id)
    if (now_found and now_found.id) != (current and current.id):
        raise StaleAssignment("The order has just changed hands; look again.")
    return order, current


def _impossible(order: OrderRow, facts: Any, now: datetime) -> list[str]:
    """What no force overrides."""
    found = []
    if order.status not in _OPEN or order.delivery_status not in _TO_BE_FETCHED:
        found.append("order_not_open")
    if order.pick_from is not None and not facts.has_pick_task:
        found.append("order_not_due")
    if facts.shift_ends_at is None or facts.shift_ends_at <= now:
        found.append("rider_off_shift")
    if facts.on_trip:
        found.append("rider_on_trip")
    if facts.weight_g > facts.capacity_g or facts.capacity_orders < 1:
        found.append("over_capacity")
    return found


async def _against(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    order: OrderRow,
    rider_id: str,
    facts: Any,
    seen: Seen,
    pickup_at: datetime,
) -> list[str]:
    """What an engine would not do, and ops may."""
    controls = await dispatch_controls.read_controls(conn, order.city_id)
    zone_ids = territory.zones.zones_at(Point(order.lat, order.lon))
    pinned = controls.pins().get(order.id)
    said = {
        "rider_paused": facts.paused,
        "rider_silent": seen.silent,
        "rider_declined_it": facts.declined,
        "rider_excluded": rider_id in controls.riders_out()
        or rider_id in controls.excluded(order.id, order.store_id),
        "pinned_to_another_rider": pinned is not None and pinned != rider_id,
        "dispatch_held": controls.held(order.store_id, zone_ids) is not None,
        "shift_ends_before_pickup": facts.shift_ends_at < pickup_at,
        "cash_limit": facts.cash_minor + cash_due_minor(order) > settings.cash_limit_minor
        and cash_due_minor(order) > 0,
    }
    return [name for name, speaks in said.items() if speaks]


def _times(
    territory: Territory, order: OrderRow, seen: Seen, now: datetime
) -> tuple[datetime, datetime]:
    """(at the store, at the door), as well as anybody knows."""
    store = territory.stores[order.store_id].point
    approach_s = 0.0
    if seen.point is not None:
        approach_s = territory.travel_s(order.city_id, seen.point, store)
    pickup_at = now + timedelta(seconds=approach_s)
    ready_at = max(pickup_at, order.packed_at or now)
    return pickup_at, ready_at + timedelta(seconds=order.travel_s)


async def _make_trip(
    conn: AsyncConnection,
    territory: Territory,
    settings: RiderSettings,
    order: OrderRow,
    rider_id: str,
    seen: Seen,
    now: datetime,
    planned: tuple[datetime, datetime],
) -> Trip:
    store = territory.stores[order.store_id].point
    ridden_m = DETOUR * distance_m(store, Point(order.lat, order.lon))
    empty_m = 0.0 if seen.point is None else DETOUR * distance_m(seen.point, store)
    stops = [
        PlannedStop(StopKind.PICKUP, order.id, store.lat, store.lon, planned[0]),
        PlannedStop(
            StopKind.DROPOFF, order.id, order.lat, order.lon, planned[1], cash_due_minor(order)
        ),
    ]
    return await trips.offer(
        conn,
        rider_id=rider_id,
        city_id=order.city_id,
        store_id=order.store_id,
        stops=stops,
        pay_minor=pay_minor(settings, ridden_m, 1),
        currency=order.currency,
        distance_m=round(ridden_m),
        now=now,
        expires_at=now + timedelta(seconds=settings.offer_life_s),
        lease_epoch=BY_HAND,
        empty_m=round(empty_m),
    )
