"""Moving an order to another delivery slot, until somebody picks for it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import IllegalTransition
from kit.wire import rfc3339
from orders import slots
from orders.model import DeliveryState, OrderState
from orders.rows import OrderRow, lock_order, read_row
from orders.settings import SlotSettings
from orders.tables import order_reschedules, orders
from orders.transitions import move
from orders.withdrawal import take_off_trip
from stores import picking

_UNPICKED = frozenset({OrderState.PLACED, OrderState.CONFIRMED})


async def reschedule(
    conn: AsyncConnection, settings: SlotSettings, order_id: str, actor: str, start: datetime
) -> None:
    """Move an order to the slot that begins at ``start``; one without a slot gets one.

    Price and stock stay as they are.  The place in the new slot is taken before the old one is
    given back, in one transaction, so whoever is refused keeps what they had.  Asking for the
    slot that the order has does nothing.  Raises IllegalTransition once picking has begun,
    SlotUnavailable, SlotFull.
    """
    order = await lock_order(conn, order_id)
    if order.status not in _UNPICKED:
        raise IllegalTransition(
            f"The order is {order.status}: it can be moved until picking begins.",
            extra={"machine": "order", "state": order.status, "wanted": "rescheduled"},
        )
    if order.slot_start == start:
        return
    now = await database_now(conn)
    await slots.check_bookable(conn, settings, now, order.store_id, start, order.travel_s)
    if not await slots.swap(conn, order.store_id, order.slot_start, start):
        raise await slots.full(conn, settings, now, order.store_id, start, order.travel_s)
    version = await conn.scalar(
        update(orders)
        .where(orders.c.id == order_id)
        .values(
            slot_start=start,
            slot_held=True,
            pick_from=slots.pick_from(settings, start, order.travel_s),
            promised_low_at=start,
            promised_high_at=start + slots.SLOT,
            version=orders.c.version + 1,
        )
        .returning(orders.c.version)
    )
    await conn.execute(
        insert(order_reschedules).values(
            order_id=order_id, version=version, from_slot=order.slot_start, to_slot=start,
            actor=actor, at=now,
        )
    )  # fmt: skip
    await announce_promise(conn, order_id, "rescheduled")
    await _off_the_floor(conn, order, actor)


async def _off_the_floor(conn: AsyncConnection, order: OrderRow, actor: str) -> None:
    """Nobody picks it or comes for it now: both begin again when its time comes."""
    task = await picking.of_order(conn, order.id)
    if await take_off_trip(conn, order.id, "order_rescheduled"):
        await conn.execute(update(orders).where(orders.c.id == order.id).values(rider_id=None))
        await outbox.append(conn, f"order:{order.id}", "order.rider", {"rider": None})
    if order.delivery_status != DeliveryState.UNASSIGNED:
        await move(conn, order.id, DeliveryState.UNASSIGNED, actor, "order_rescheduled")
    if task is not None:
        await picking.withdraw(conn, task)


async def announce_promise(conn: AsyncConnection, order_id: str, reason: str) -> None:
    """Tell those who watch the order what it promises now; never where it goes."""
    order = await read_row(conn, order_id)
    await outbox.append(
        conn,
        f"order:{order_id}",
        "order.promise",
        {
            "reason": reason,
            "promised_at": {
                "low": rfc3339(order.promised_low_at),
                "high": rfc3339(order.promised_high_at),
            },
            "scheduled": slots.window(order.slot_start) if order.slot_start else None,
            "status": order.status,
            "delivery_status": order.delivery_status,
            "payment_status": order.payment_status,
            "version": order.version,
        },
    )
