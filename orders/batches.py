"""Several orders on one trip: they are added until the pickup, and the store is reached once.

Every function runs in the caller's transaction, which holds the locks of the trip's orders and
then of the trip.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.sql import load
from orders import offers
from orders.model import DeliveryState
from orders.rows import OrderRow
from orders.tables import orders
from orders.transitions import SYSTEM, move
from riders import stops, trips
from riders.model import Trip
from riders.tables import riders

_LATE = load("orders", "left_behind")

LEFT_BEHIND = "left_behind"
ADDED = "added_to_trip"


async def join(conn: AsyncConnection, trip: Trip, order_ids: Collection[str]) -> None:
    """Orders that were just put on an accepted trip are its rider's from now on."""
    for order_id in order_ids:
        await offers.assign_order(conn, order_id, trip.rider_id, SYSTEM, ADDED)
        if trip.is_at_store:
            await move(conn, order_id, DeliveryState.AT_STORE, SYSTEM, ADDED)
    await trips.announce(conn, trip.id)
    if trip.is_at_store:
        name = await conn.scalar(select(riders.c.name).where(riders.c.id == trip.rider_id))
        await _tell_store(conn, trip.store_id, str(name), order_ids)


async def arrive_at_store(
    conn: AsyncConnection, trip: Trip, actor: str, at: datetime, locked: Mapping[str, OrderRow]
) -> None:
    """The rider stands at the counter for every order of the trip that waits there."""
    order_ids = await stops.arrive_at_pickups(conn, trip.id, at)
    for order_id in order_ids:
        if locked[order_id].delivery_status == DeliveryState.ASSIGNED:
            await move(conn, order_id, DeliveryState.AT_STORE, actor)
    await trips.announce(conn, trip.id)
    name = await conn.scalar(select(riders.c.name).where(riders.c.id == trip.rider_id))
    await _tell_store(conn, trip.store_id, str(name), order_ids)


async def _tell_store(
    conn: AsyncConnection, store_id: str, rider_name: str, order_ids: Collection[str]
) -> None:
    for order_id in order_ids:
        data = {"order_id": order_id, "rider_name": rider_name}
        await outbox.append(conn, f"store:{store_id}", "rider.at_store", data)


async def leave_behind(
    conn: AsyncConnection, trip: Trip, order_ids: Collection[str], actor: str, reason: str
) -> None:
    """Take orders off a trip that goes on without them (or ends); they are planned anew.

    Raises IllegalTransition for an order that was collected.
    """
    for order_id in sorted(order_ids):
        await trips.drop_order(conn, trip.id, order_id)
        await conn.execute(update(orders).where(orders.c.id == order_id).values(rider_id=None))
        await move(conn, order_id, DeliveryState.UNASSIGNED, actor, reason)
        await outbox.append(conn, f"order:{order_id}", "order.rider", {"rider": None})
    left = await trips.read(conn, trip.id)
    if left.kept_order_ids:
        await trips.touch_rider(conn, trip.rider_id)
    else:
        await trips.cancel(conn, left, await database_now(conn))
    await trips.announce(conn, trip.id)


async def leave_late_behind(conn: AsyncConnection, trip_id: str, wait_s: float) -> int:
    """Leave behind what a rider has waited for long enough; how many orders that were.

    Takes the locks itself, and looks again under them: the store may have packed meanwhile.
    """
    _locked, trip = await offers.lock_trip(conn, await trips.read(conn, trip_id))
    late = [row.order_id for row in await _LATE.all(conn, trip.city_id, [trip.store_id], wait_s)
            if row.trip_id == trip_id]  # fmt: skip
    if late:
        await leave_behind(conn, trip, late, SYSTEM, LEFT_BEHIND)
    return len(late)


async def late_for_their_trips(
    conn: AsyncConnection, city_id: str, store_ids: Collection[str], wait_s: float
) -> list[str]:
    """Trips whose rider has some orders in the bag and has waited long enough for the others."""
    rows = await _LATE.all(conn, city_id, list(store_ids), wait_s)
    return sorted({row.trip_id for row in rows})
