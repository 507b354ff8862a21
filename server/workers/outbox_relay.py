"""The relay: consumers in one transaction, then the live layer hears what was committed."""

from __future__ import annotations

import asyncio
import time

import structlog

from kit.redis import RedisError
from kit.relay import BATCH, OutboxEvent, relay_batch
from kit.sql import load
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import StreamEvent, event_from_row
from realtime.publisher_redis import RedisPublisher
from server.consumers import CONSUMERS
from server.wiring import Services, read_epoch
from server.workers.loop import run_rounds
from stores import availability_redis
from stores import repository as stores

log = structlog.get_logger(__name__)

# Half of it is what an event waits on average; a poll of nothing costs about 0.3 ms.
POLL_S = 0.02

# All availability is written again this often, and this soon after Redis was away.
MEND_S = 60.0
RETRY_S = 2.0

_TOUCHED = load("server", "touched_stock")


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``."""
    async with services.database.begin() as conn:
        publisher = RedisPublisher(services.redis, await read_epoch(conn))
    availability = _Availability(services)

    async def round_() -> float:
        events = await relay_batch(services.database, CONSUMERS)
        if events:
            await _publish(publisher, events)
        await availability.follow(events)
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


class _Availability:
    """Keeps the live availability in Redis behind the truth by one relay round.

    What a refresh misses (Redis was away, this process died after its commit) is mended by
    writing all of it again now and then; only what is newer is taken.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._mend_at = 0.0

    async def follow(self, events: list[OutboxEvent]) -> None:
        try:
            if time.monotonic() >= self._mend_at:
                await self._mend()
            await self._refresh(events)
        except (RedisError, TimeoutError) as error:
            log.warning("availability_behind", error=type(error).__name__)
            self._mend_at = time.monotonic() + RETRY_S

    async def _mend(self) -> None:
        async with self._services.database.begin() as conn:
            for store in await stores.list_stores(conn):
                await availability_redis.rebuild(conn, self._services.redis, store.id)
        self._mend_at = time.monotonic() + MEND_S

    async def _refresh(self, events: list[OutboxEvent]) -> None:
        order_ids = {
            event.stream.removeprefix("order:")
            for event in events
            if event.stream.startswith("order:") and _moves_stock(event)
        }
        if not order_ids:
            return
        async with self._services.database.begin() as conn:
            for row in await _TOUCHED.all(conn, sorted(order_ids)):
                await availability_redis.refresh(
                    conn, self._services.redis, row.store_id, row.sku_ids
                )


def _moves_stock(event: OutboxEvent) -> bool:
    if event.type == "order.line":
        return True
    return event.type == "order.status" and event.data["to"] in (
        "placed",
        "cancelled",
        "payment_failed",
        "returned",
    )
