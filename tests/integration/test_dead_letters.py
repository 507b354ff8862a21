"""Poison events: dead after their attempts, replayable once whatever poisoned them is repaired."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import dead_letters, outbox
from kit.db import Database, DatabaseUnavailable
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


@pytest.mark.parametrize("state", ["53100", "53200", "57P01"])
async def test_a_database_in_trouble_kills_no_event(fresh_database: Database, state: str) -> None:
    """No room on its disk, no memory, shutting down: that is no fault of what was to be relayed."""

    async def in_trouble(conn: AsyncConnection, event: OutboxEvent) -> None:
        await conn.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '{state}'; END $$")
        )

    async with fresh_database.begin() as conn:
        await outbox.append(conn, "order:ord_sound", "order.sound", {})
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(DatabaseUnavailable):
            await relay_batch(fresh_database, {"order.sound": [in_trouble]})
    async with fresh_database.begin() as conn:
        assert await dead_letters.waiting(conn) == []
        assert await conn.scalar(text("SELECT max(attempts) FROM outbox")) == 0
    taken.clear()
    (event,) = await relay_batch(fresh_database, {"order.sound": [repaired]})
    assert taken == [event.id]


async def test_a_parameter_that_the_driver_refuses_is_the_events_own_fault(
    fresh_database: Database,
) -> None:
    """The driver calls it an error of the interface, as it calls a closed connection."""

    async def ill_typed(conn: AsyncConnection, event: OutboxEvent) -> None:
        await conn.exec_driver_sql("SELECT $1::bigint", ("no number",))

    async with fresh_database.begin() as conn:
        await outbox.append(conn, "order:ord_typed", "order.typed", {})
    await relay_batch(fresh_database, {"order.typed": [ill_typed]})
    async with fresh_database.begin() as conn:
        assert await conn.scalar(text("SELECT max(attempts) FROM outbox")) == 1
