"""Bringing an order to another door, as long as no rider has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point
from kit.clock import database_now
from kit.errors import IllegalTransition
from kit.wire import rfc3339
from orders import slots
from orders.errors import PromiseLater
from orders.model import OrderState
from orders.quotes import serving_store
from orders.rescheduling import announce_promise
from orders.rows import OrderRow, lock_order
from orders.settings import OrderSettings
from orders.tables import order_past_addresses, orders
from orders.territory import Territory
from riders import stops, trips
from stores import picking

_IN_THE_STORE = frozenset(
    {OrderState.PLACED, OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED}
)


@dataclass(frozen=True, slots=True)
class Door:
    """Where an order goes, and what its rider should know about finding it."""

    point: Point
    address: str
    note: str | None


async def change_address(
    conn: AsyncConnection,
    territory: Territory,
    settings: OrderSettings,
    order_id: str,
    actor: str,
    door: Door,
    *,
    accept_promise: bool,
) -> int:
    """Send an order to another door; returns by how many seconds the promise moved.

    It moves later by the longer way and never earlier; the fee stays as it was.  The old address
    is kept for audits.  Raises IllegalTransition once the rider has collected the order,
    NotServiceable for a door that its store does not serve, and PromiseLater when the customer
    has to accept the later promise first.
    """
    order = await lock_order(conn, order_id)
    if order.status not in _IN_THE_STORE:
        raise IllegalTransition(
            f"The order is {order.status}: its address can be changed until a rider has it.",
            extra={"machine": "order", "state": order.status, "wanted": "readdressed"},
        )
    if door == Door(Point(order.lat, order.lon), order.address, order.address_note):
        return 0
    _store, seconds = serving_store(territory, settings, order.store_id, door.point)
    travel_s, now = round(seconds), await database_now(conn)
    task = await picking.of_order(conn, order_id)
    pick_from: datetime | None = order.pick_from
    later_s: int = max(0, travel_s - order.travel_s)
    if order.slot_start is not None and task is None:
        # There is time yet: picking begins sooner or later, and the slot stands.
        pick_from = slots.pick_from(settings.slots, order.slot_start, travel_s)
        later_s = min(later_s, max(0, round((now - pick_from).total_seconds())))
    _ask_first(order, later_s, settings, accepted=accept_promise)
    later = timedelta(seconds=later_s)
    version = await _move(conn, order, door, travel_s, pick_from, later)
    await conn.execute(
        insert(order_past_addresses).values(
            order_id=order_id, version=version, lat=order.lat, lon=order.lon,
            address=order.address, note=order.address_note, travel_s=order.travel_s,
            promised_high_at=order.promised_high_at, actor=actor, at=now,
        )
    )  # fmt: skip
    await announce_promise(conn, order_id, "address_changed")
    await _tell_rider(conn, order_id, door.point, later)
    if task is not None:
        await picking.announced(conn, task["id"])
    return later_s


async def _move(
    conn: AsyncConnection,
    order: OrderRow,
    door: Door,
    travel_s: int,
    pick_from: datetime | None,
    later: timedelta,
) -> int:
    """Write the new door down; returns the order's new version."""
    version = await conn.scalar(
        update(orders)
        .where(orders.c.id == order.id)
        .values(
            lat=door.point.lat,
            lon=door.point.lon,
            address=door.address,
            address_note=door.note,
            travel_s=travel_s,
            pick_from=pick_from,
            promised_low_at=orders.c.promised_low_at + later,
            promised_high_at=orders.c.promised_high_at + later,
            version=orders.c.version + 1,
        )
        .returning(orders.c.version)
    )
    assert isinstance(version, int), "the row is locked"
    return version


def _ask_first(order: OrderRow, later_s: int, settings: OrderSettings, *, accepted: bool) -> None:
    if accepted or later_s <= settings.accept_later_from_s:
        return
    later = timedelta(seconds=later_s)
    raise PromiseLater(
        "The way there is longer: accept the later delivery, or keep the address.",
        extra={
            "later_s": later_s,
            "promised_at": {
                "low": rfc3339(order.promised_low_at + later),
                "high": rfc3339(order.promised_high_at + later),
            },
        },
    )


async def _tell_rider(conn: AsyncConnection, order_id: str, point: Point, later: timedelta) -> None:
    trip = await trips.active_of_order(conn, order_id)
    if trip is None:
        return
    await trips.lock(conn, trip.id)
    await stops.move_dropoff(conn, trip.id, order_id, point.lat, point.lon, later)
    await trips.announce(conn, trip.id)
