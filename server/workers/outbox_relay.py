"""The relay: consumers in one transaction, then the live layer hears what was committed."""

from __future__ import annotations

import asyncio
import time

import structlog

from kit import crash_points
from kit.relay import BATCH, OutboxEvent, relay_batch
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import StreamEvent, event_from_row
from realtime.publisher_redis import RedisPublisher
from server.consumers import CONSUMERS
from server.wakeups import cities_to_wake, wake
from server.wiring import Services, read_epoch
from server.workers.availability import AvailabilityFollower
from server.workers.loop import run_rounds

log = structlog.get_logger(__name__)

# Half of it is what an event waits on average; a poll of nothing costs about 0.3 ms.
POLL_S = 0.02
# After a round that found something: a round costs much more than one more event in it, and the
# events of an order come in twos and threes.
PAUSE_S = 0.05


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``."""
    async with services.database.begin() as conn:
        publisher = RedisPublisher(services.redis, await read_epoch(conn))
    availability = AvailabilityFollower(services)

    async def round_() -> float:
        began_s = time.time()
        events = await relay_batch(
            services.database, CONSUMERS, to_bus=services.settings.bus.url is not None
        )
        if events:
            crash_points.reached("relay_before_publication")
            await _publish(publisher, events)
            await wake(services.redis, cities_to_wake(events))
        await availability.follow(events, began_s)
        if len(events) == BATCH:
            return 0.0
        return PAUSE_S if events else POLL_S

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
