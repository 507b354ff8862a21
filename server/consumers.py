"""Who hears which event: the one place where features are joined by events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.relay import Consumer, OutboxEvent, Together
from kit.sql import Query, json_parameter
from notify import repository as webhook_deliveries
from notify.webhooks import event_body, patterns_of
from orders.model import Machine, OrderState
from orders.picking import queue_for_picking
from orders.views import order_view

_TELL_CITIES = Query(
    "server.tell_cities", "SELECT n, endpoint_ids FROM tell_cities($1::text::jsonb)"
)


async def queue_confirmed_orders(conn: AsyncConnection, events: Sequence[OutboxEvent]) -> None:
    """Confirmed orders join the pick queues of their stores."""
    confirmed = [
        _order_id(event)
        for event in events
        if event.data["machine"] == Machine.ORDER and event.data["to"] == OrderState.CONFIRMED
    ]
    if confirmed:
        await queue_for_picking(conn, confirmed)


async def tell_others(conn: AsyncConnection, events: Sequence[OutboxEvent]) -> None:
    """City ops see every order change, and subscribed webhook endpoints get a delivery queued.

    Written here and not in the order's own transaction: a city's stream is shared by all of its
    orders, and its row lock must not hold them up.
    """
    told = [
        {
            "n": n,
            "order_id": _order_id(event),
            "topics": patterns_of(_event_type(event)),
            "data": {
                "status": event.data["status"],
                "delivery_status": event.data["delivery_status"],
                "payment_status": event.data["payment_status"],
                "version": event.data["version"],
            },
        }
        for n, event in enumerate(events)
    ]
    for row in await _TELL_CITIES.all(conn, json_parameter(told)):
        await _queue_webhooks(conn, events[row.n], row.endpoint_ids)


def _event_type(event: OutboxEvent) -> str:
    """What the event is called to those outside.

    An order that is promised for another time, or goes to another door, says why.
    """
    if event.type == "order.promise":
        return f"order.{event.data['reason']}"
    return f"{event.data['machine']}.{event.data['to']}"


async def _queue_webhooks(
    conn: AsyncConnection, event: OutboxEvent, endpoint_ids: Sequence[str]
) -> None:
    """The order in full, as it stands now: a later event may say the same."""
    order = await order_view(conn, _order_id(event), with_code=False)
    event_id, event_type = f"evt_{event.id}", _event_type(event)
    body = event_body(event_id, event_type, event.at, "order", order)
    await webhook_deliveries.queue_event(conn, endpoint_ids, event_id, event_type, body)


def _order_id(event: OutboxEvent) -> str:
    kind, _, order_id = event.stream.partition(":")
    assert kind == "order", f"{event.type} came on {event.stream}"
    return order_id


_QUEUE_CONFIRMED = Together(queue_confirmed_orders)
_TELL_OTHERS = Together(tell_others)

CONSUMERS: Mapping[str, Sequence[Consumer]] = {
    "order.promise": (_TELL_OTHERS,),
    "order.status": (_QUEUE_CONFIRMED, _TELL_OTHERS),
}
