"""Relaying the outbox: consumers run in the relay's transaction, publication follows the commit.

A consumer's writes and the mark "relayed" commit together, so a consumer takes effect exactly
once.  Publication to the live layer is at least once, which is why events carry ``seq``.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import crash_points
from kit.db import Database, lost
from kit.errors import DarkstoreError
from kit.sql import load

log = structlog.get_logger(__name__)

BATCH = 200
MAX_ATTEMPTS = 8
BACKOFF_CAP_S = 30.0

_BATCH = load("kit", "relay_batch")
_DONE = load("kit", "relay_done")
_FAILED = load("kit", "relay_failed")
_DEAD = load("kit", "relay_dead")
_POSTPONED = load("kit", "relay_postponed")

# Somebody else has the rows at this moment: no fault of the event, so no attempt is counted.
_CONTENTION = frozenset({"55P03", "40P01", "40001"})


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A row of the outbox."""

    id: int
    stream: str
    seq: int
    type: str
    data: Mapping[str, Any]
    at: datetime
    attempts: int


Consumer = Callable[[AsyncConnection, OutboxEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Together:
    """A consumer that takes all of its events of a batch in one go, in their order.

    Registered for several types it gets them mixed, as they happened.
    """

    consume: Callable[[AsyncConnection, Sequence[OutboxEvent]], Awaitable[None]]

    async def __call__(self, conn: AsyncConnection, event: OutboxEvent) -> None:
        await self.consume(conn, [event])


class _Undone(Exception):
    """A consumer failed, and with it the batch."""


# Errors that an event itself can cause; anything else (a lost connection, a full disk) fails the
# whole batch, and no attempt is counted.
EVENT_ERRORS = (DarkstoreError, DBAPIError, AssertionError, LookupError, ValueError, TypeError)

_Consumers = Mapping[str, Sequence[Consumer]]
_ConsumeBatch = Callable[
    [AsyncConnection, Sequence[OutboxEvent], _Consumers], Awaitable[list[OutboxEvent]]
]


async def relay_batch(
    database: Database, consumers: Mapping[str, Sequence[Consumer]], *, to_bus: bool = False
) -> list[OutboxEvent]:
    """Relay one batch; returns its events, now committed, in order.

    With ``to_bus`` a publisher of the event bus finds them afterwards (server.workers).

    A consumer that fails stops its own stream: the event is tried again later with back-off, and
    after ``MAX_ATTEMPTS`` becomes a dead letter.
    """
    try:
        return await _relay(database, consumers, _consume_all, to_bus)
    except _Undone:
        return await _relay(database, consumers, _consume_each, to_bus)


async def _relay(
    database: Database, consumers: _Consumers, consume: _ConsumeBatch, to_bus: bool
) -> list[OutboxEvent]:
    async with database.begin() as conn:
        events = [OutboxEvent(*row) for row in await _BATCH.all(conn, BATCH)]
        relayed = await consume(conn, events, consumers)
        if relayed:
            await _DONE.run(conn, [event.id for event in relayed], to_bus)
            crash_points.reached("relay_before_commit")
    return relayed


async def _consume_all(
    conn: AsyncConnection, events: Sequence[OutboxEvent], consumers: _Consumers
) -> list[OutboxEvent]:
    """Without savepoints, as it nearly always goes well.  Raises _Undone when it does not."""
    together: dict[Together, list[OutboxEvent]] = {}
    try:
        for event in events:
            for consume in consumers.get(event.type, ()):
                if isinstance(consume, Together):
                    together.setdefault(consume, []).append(event)
                else:
                    await consume(conn, event)
        for consume_together, theirs in together.items():
            await consume_together.consume(conn, theirs)
    except EVENT_ERRORS as error:
        if lost(error):
            raise
        raise _Undone from error
    return list(events)


async def _consume_each(
    conn: AsyncConnection, events: Sequence[OutboxEvent], consumers: _Consumers
) -> list[OutboxEvent]:
    """Each under a savepoint of its own, to find the one that fails; those that are done with."""
    relayed: list[OutboxEvent] = []
    blocked: set[str] = set()
    for event in events:
        if event.stream in blocked:
            continue
        if await _consume(conn, event, consumers.get(event.type, ())):
            relayed.append(event)
        else:
            blocked.add(event.stream)
    return relayed


async def _consume(
    conn: AsyncConnection, event: OutboxEvent, consumers: Sequence[Consumer]
) -> bool:
    """Whether the event is done with: consumed, or dead."""
    if not consumers:
        return True
    try:
        async with conn.begin_nested():
            for consume in consumers:
                await consume(conn, event)
    except EVENT_ERRORS as error:
        if isinstance(error, DBAPIError):
            if lost(error):
                raise
            if getattr(error.orig, "sqlstate", None) in _CONTENTION:
                await _POSTPONED.run(conn, event.id, random.uniform(0.02, 0.06))
                return False
        return await _refuse(conn, event, error)
    return True


async def _refuse(conn: AsyncConnection, event: OutboxEvent, error: Exception) -> bool:
    attempts = event.attempts + 1
    reason = f"{type(error).__name__}: {error}"[:500]
    dead = attempts >= MAX_ATTEMPTS
    log.error(
        "outbox_event_failed", stream=event.stream, seq=event.seq, type=event.type,
        attempts=attempts, dead=dead, exc_info=error,
    )  # fmt: skip
    if dead:
        await _DEAD.run(conn, event.id, reason)
        return True
    ceiling = min(BACKOFF_CAP_S, 0.1 * 2**attempts)
    await _FAILED.run(conn, event.id, random.uniform(ceiling / 2, ceiling), reason)
    return False
