"""The relay: consumers in one transaction, then the live layer hears what was committed."""

from __future__ import annotations

import asyncio

import structlog

from kit.relay import BATCH, OutboxEvent, relay_batch
from kit.sql import load
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import StreamEvent, event_from_row
from realtime.publisher_redis import RedisPublisher
from server.consumers import CONSUMERS
from server.wiring import Services, read_epoch
from server.workers.loop import run_rounds
from stores import availability_redis

log = structlog.get_logger(__name__)

# Half of it is what an event waits on average; a poll of nothing costs about 0.3 ms.
POLL_S = 0.02

_TOUCHED = load("server", "touched_stock")


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``."""
    async with services.database.begin() as conn:
        publisher = RedisPublisher(services.redis, await read_epoch(conn))

    async def round_() -> float:
        events = await relay_batch(services.database, CONSUMERS)
        if events:
            await _publish(publisher, events)
            await _refresh_availability(services, events)
        return 0.0 if len(events) == BATCH else POLL_S

    await run_rounds("outbox_relay", stopping, round_)


async def _publish(publisher: RedisPublisher, events: list[OutboxEvent]) -> None:
    """Tell the hubs.  What does not get out they find in Postgres within two seconds."""
    packets: list[StreamEvent] = []
    for event in events:
        try:
            packets.append(
                event_from_row(event.stream, event.seq, event.type, event.at, event.data)
            )
        except InvalidEvent as error:
            log.error("event_not_publishable", stream=event.stream, seq=event.seq, error=str(error))
    try:
        await publisher.publish(packets)
    except StreamUnavailable as error:
        log.warning("events_not_published", events=len(packets), error=str(error))


async def _refresh_availability(services: Services, events: list[OutboxEvent]) -> None:
    order_ids = {
        event.stream.removeprefix("order:")
        for event in events
        if event.stream.startswith("order:") and _moves_stock(event)
    }
    if not order_ids:
        return
    async with services.database.begin() as conn:
        for row in await _TOUCHED.all(conn, sorted(order_ids)):
            await availability_redis.refresh(conn, services.redis, row.store_id, row.sku_ids)


def _moves_stock(event: OutboxEvent) -> bool:
    if event.type == "order.line":
        return True
    return event.type == "order.status" and event.data["to"] in (
        "placed",
        "cancelled",
        "payment_failed",
        "returned",
    )
