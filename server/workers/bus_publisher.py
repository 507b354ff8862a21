"""Hands relayed events to the event bus: one publisher at a time, in the order of the outbox."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import asyncpg.pool
import structlog

from kit.event_bus import HOME, BusEvent, EventBus
from kit.sql import load
from server.settings import SettingsError
from server.wiring import Services
from server.workers.loop import run_rounds

log = structlog.get_logger(__name__)

BATCH = 200
POLL_S = 0.1
# Another publisher holds the lock; it is looked at again this often.
STANDBY_S = 1.0
# Any constant will do, as long as every publisher uses the same.
_LOCK = 0x62757331

_WAITING = load("kit", "bus_waiting")
_DONE = load("kit", "bus_done")


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Publish until ``stopping``.  Raises ``SettingsError`` when there is no bus."""
    bus = open_bus(services)
    publisher = Publisher(services, bus)
    try:
        await run_rounds("bus_publisher", stopping, publisher.round)
    finally:
        await publisher.close()


def open_bus(services: Services) -> EventBus:
    """The bus of the settings, not connected yet."""
    from kit.event_bus_faststream import make_bus

    settings = services.settings.bus
    if settings.url is None:
        raise SettingsError(
            "There is no event bus: set DARKSTORE_BUS__URL (home, redis://, nats:// or amqp://)."
        )
    url = settings.url.get_secret_value()
    redis_url = services.settings.redis_url
    assert redis_url, "the caller has started the engines"
    return make_bus(redis_url if url == HOME else url, settings)


# A connection of the pool; the names of the driver's own types are generic only for mypy.
Session: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Publisher:
    """One process's turn at the bus.

    The lock is a session's: it ends with its connection, and a process that was stopped and comes
    back can at worst repeat what another has published, which consumers expect.
    """

    def __init__(self, services: Services, bus: EventBus) -> None:
        self._services = services
        self._bus = bus
        self._connected = False

    async def round(self) -> float:
        """One batch under the lock; seconds to wait before the next."""
        async with self._services.database.pool.acquire() as session:
            if not await session.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                return STANDBY_S
            try:
                done = await self._batch()
            finally:
                await _unlock(session)
        return 0.0 if done == BATCH else POLL_S

    async def _batch(self) -> int:
        async with self._services.database.begin() as conn:
            rows = await _WAITING.all(conn, BATCH)
        if not rows:
            return 0
        if not self._connected:
            await self._bus.connect()
            self._connected = True
        await self._bus.publish([BusEvent(*row) for row in rows])
        async with self._services.database.begin() as conn:
            await _DONE.run(conn, [row.id for row in rows])
        return len(rows)

    async def close(self) -> None:
        if self._connected:
            await self._bus.close()


async def _unlock(session: Session) -> None:
    """Give the lock back; a connection that cannot tell whether it did must not be used again."""
    if session.is_closed():
        return
    try:
        await session.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    except BaseException:
        session.terminate()
        raise
