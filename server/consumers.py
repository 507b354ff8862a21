"""Who hears which event: the one place where features are joined by events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.relay import Consumer, OutboxEvent
from kit.sql import load
from kit.wire import rfc3339
from orders.model import Machine, OrderState
from orders.picking import queue_for_picking

_CITY_ORDER = load("server", "city_order")


async def queue_confirmed_order(conn: AsyncConnection, event: OutboxEvent) -> None:
    """A confirmed order joins its store's pick queue."""
    if event.data["machine"] == Machine.ORDER and event.data["to"] == OrderState.CONFIRMED:
        await queue_for_picking(conn, _order_id(event))


async def tell_city(conn: AsyncConnection, event: OutboxEvent) -> None:
    """City ops see every order move.

    Written here and not in the order's own transaction: a city's stream is shared by all of its
    orders, and its row lock must not hold them up.
    """
    row = await _CITY_ORDER.one(conn, _order_id(event))
    await outbox.append(
        conn,
        f"city:{row.city_id}",
        "order.changed",
        {
            "order_id": _order_id(event),
            "status": event.data["status"],
            "delivery_status": event.data["delivery_status"],
            "payment_status": event.data["payment_status"],
            "version": event.data["version"],
            "store_id": row.store_id,
            "rider_id": row.rider_id,
            "promised_at": {
                "low": rfc3339(row.promised_low_at),
                "high": rfc3339(row.promised_high_at),
            },
        },
    )


def _order_id(event: OutboxEvent) -> str:
    kind, _, order_id = event.stream.partition(":")
    assert kind == "order", f"{event.type} came on {event.stream}"
    return order_id


CONSUMERS: Mapping[str, Sequence[Consumer]] = {
    "order.status": (queue_confirmed_order, tell_city),
}
