"""Poison events: dead after their attempts, replayable once whatever poisoned them is repaired."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import dead_letters, outbox
from kit.db import Database
from kit.relay import MAX_ATTEMPTS, OutboxEvent, relay_batch

taken: list[int] = []


async def poisoned(conn: AsyncConnection, event: OutboxEvent) -> None:
    await conn.execute(text("INSERT INTO bins VALUES ('nowhere', 'x', 'ambient', 1)"))


async def repaired(conn: AsyncConnection, event: OutboxEvent) -> None:
    taken.append(event.id)


async def kill_an_event(database: Database) -> int:
    """Relay a poison event until it is dead; its id."""
    async with database.begin() as conn:
        await outbox.append(conn, "order:ord_poison", "order.poison", {})
        await outbox.append(conn, "order:ord_poison", "order.after", {})
    for _ in range(MAX_ATTEMPTS):
        async with database.begin() as conn:
            await conn.execute(text("UPDATE outbox SET next_attempt_at = NULL"))
        await relay_batch(database, {"order.poison": [poisoned]})
    async with database.begin() as conn:
        (letter,) = await dead_letters.waiting(conn, stream="order:ord_poison")
    assert "ForeignKeyViolation" in letter.error
    return letter.outbox_id


async def test_a_dead_letter_lets_its_stream_go_on_and_can_be_replayed_once(
    fresh_database: Database,
) -> None:
    """What came after it was relayed; ten replays at once run its consumers once."""
    taken.clear()
    outbox_id = await kill_an_event(fresh_database)
    async with fresh_database.begin() as conn:
        waiting = await conn.scalar(text("SELECT count(*) FROM outbox WHERE published_at IS NULL"))
        (letter,) = await dead_letters.waiting(conn, outbox_id=outbox_id)
    assert waiting == 0
    results = await asyncio.gather(
        *(
            dead_letters.replay(fresh_database, {"order.poison": [repaired]}, letter)
            for _ in range(10)
        )
    )
    assert [result.error for result in results] == [None] * 10
    assert taken == [outbox_id]
    async with fresh_database.begin() as conn:
        assert await dead_letters.waiting(conn) == []


async def test_a_replay_that_fails_again_leaves_the_letter_and_no_trace(
    fresh_database: Database,
) -> None:
    """The error is told, and the letter still waits."""
    outbox_id = await kill_an_event(fresh_database)
    async with fresh_database.begin() as conn:
        (letter,) = await dead_letters.waiting(conn, outbox_id=outbox_id)
    taken.clear()
    result = await dead_letters.replay(
        fresh_database, {"order.poison": [repaired, poisoned]}, letter
    )
    assert result.error is not None
    assert "ForeignKeyViolation" in result.error
    async with fresh_database.begin() as conn:
        assert [found.outbox_id for found in await dead_letters.waiting(conn)] == [outbox_id]
