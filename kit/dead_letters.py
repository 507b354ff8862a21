"""Events whose consumers failed for good: what they are, and running their consumers once more.

The stream of a dead letter has long gone on, so only its consumers run again; it was published
when it died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.relay import EVENT_ERRORS, Consumer, OutboxEvent
from kit.sql import load

_WAITING = load("kit", "dead_letters")
_LOCK = load("kit", "dead_letter_lock")
_REPLAYED = load("kit", "dead_letter_replayed")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``error`` is what the last attempt ended with."""

    outbox_id: int
    stream: str
    seq: int
    type: str
    error: str
    died_at: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """``error`` None: the consumers took it this time."""

    letter: DeadLetter
    error: str | None


async def waiting(
    conn: AsyncConnection, *, stream: str | None = None, outbox_id: int | None = None
) -> list[DeadLetter]:
    """Dead letters that nobody has replayed, oldest first; of one stream, or the one event."""
    return [DeadLetter(*row) for row in await _WAITING.all(conn, stream, outbox_id)]


async def replay(
    database: Database, consumers: Mapping[str, Sequence[Consumer]], letter: DeadLetter
) -> Replay:
    """Run an event's consumers in one transaction; a failure leaves everything as it was.

    Two replays of one letter at once are one: the second finds it replayed.
    """
    try:
        async with database.begin() as conn:
            row = await _LOCK.first(conn, letter.outbox_id)
            if row is not None:
                event = OutboxEvent(*row)
                for consume in consumers.get(event.type, ()):
                    await consume(conn, event)
                await _REPLAYED.run(conn, letter.outbox_id)
    except EVENT_ERRORS as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        return Replay(letter, f"{type(error).__name__}: {error}"[:500])
    return Replay(letter, None)
