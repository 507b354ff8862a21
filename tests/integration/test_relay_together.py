"""Consumers that take a batch at once: the same effects as one by one, failures included."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.db import Database
from kit.relay import _BATCH, BATCH, OutboxEvent, Together, relay_batch
from orders.model import PaymentMethod
from server.consumers import CONSUMERS
from stores import picking
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def test_a_batch_is_taken_at_once_and_in_order(fresh_database: Database) -> None:
    """A consumer of two types gets the events of both in one call, as they were written."""
    calls: list[list[int]] = []

    async def consume(conn: AsyncConnection, events: Sequence[OutboxEvent]) -> None:
        calls.append([event.data["n"] for event in events])

    together = Together(consume)
    async with fresh_database.begin() as conn:
        for n in range(6):
            await outbox.append(conn, f"order:{n % 2}", f"test.{'ab'[n % 2]}", {"n": n})
    await relay_batch(fresh_database, {"test.a": [together], "test.b": [together]})
    assert calls == [[0, 1, 2, 3, 4, 5]]


async def read_by_a_poll(database: Database) -> tuple[int, int]:
    """How many events it finds, and how many pages it reads."""
    async with database.pool.acquire() as conn, conn.transaction():
        # Planning, once a connection, reads the catalogue.
        await conn.fetch(_BATCH.text, BATCH)
        told = await conn.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) {_BATCH.text}", BATCH
        )
    (plan,) = orjson.loads(told)
    top = plan["Plan"]
    return round(top["Actual Rows"]), top["Shared Hit Blocks"] + top["Shared Read Blocks"]


async def append(database: Database, count: int) -> None:
    await database.pool.execute(
        "SELECT outbox_append('order:' || n, 'test.new', '{}') FROM generate_series(1, $1) AS n",
        count,
    )


async def test_a_poll_reads_what_waits_once(fresh_database: Database) -> None:
    """Also while the planner believes that nothing waits, which is so most of the time.

    It once looked through all that waits with each event that waits.
    """
    await append(fresh_database, 400)
    await relay_all(fresh_database)
    await fresh_database.pool.execute("ANALYZE outbox")
    await append(fresh_database, 150)
    found, pages = await read_by_a_poll(fresh_database)
    assert found == 150
    assert pages < 150


async def test_a_poll_passes_over_what_was_relayed(fresh_database: Database) -> None:
    """Without a vacuum, and before Postgres has any statistics."""
    for _ in range(40):
        await append(fresh_database, 150)
        await relay_all(fresh_database)
    await read_by_a_poll(fresh_database)
    found, pages = await read_by_a_poll(fresh_database)
    assert found == 0
    assert pages < 50


async def relay_all(database: Database) -> None:
    while await relay_batch(database, {}):
        pass


async def test_a_poison_event_of_a_batch_stops_its_own_stream_alone(
    fresh_database: Database,
) -> None:
    """The batch is undone and taken one by one; what the others wrote is there once."""

    async def consume(conn: AsyncConnection, events: Sequence[OutboxEvent]) -> None:
        for event in events:
            await outbox.append(conn, "city:heard", "heard", {"n": event.data["n"]})
            if event.data["n"] == 1:
                await conn.execute(text("SELECT 1 / 0"))

    async with fresh_database.begin() as conn:
        for n, stream in enumerate(("one", "two", "two", "three")):
            await outbox.append(conn, f"order:{stream}", "test.a", {"n": n})
    await relay_batch(fresh_database, {"test.a": [Together(consume)]})
    async with fresh_database.begin() as conn:
        heard = await conn.scalars(
            text("SELECT data->'n' FROM outbox WHERE stream = 'city:heard' ORDER BY seq")
        )
        waiting = await conn.scalars(
            text("SELECT data->'n' FROM outbox WHERE type = 'test.a' AND published_at IS NULL"
                 " ORDER BY id")
        )  # fmt: skip
        assert (heard.all(), waiting.all()) == ([0, 3], [1, 2])


async def test_orders_of_one_batch_are_queued_and_told_as_one_by_one(shop: Shop) -> None:
    """Each has its pick task, told as it reads; the city hears every move, in its order, once."""
    first, second = await shop.stock(50, 6_000, 2_000)
    order_ids = [
        await shop.place_order({first.sku_id: 1, second.sku_id: n + 1}, method=PaymentMethod.COD)
        for n in range(3)
    ]
    await relay_batch(shop.database, CONSUMERS)
    told = await shop.rows(
        "SELECT seq, data FROM outbox WHERE stream = :s ORDER BY seq",
        s=f"store:{shop.place.store.id}",
    )
    tasks = [row["data"] for row in told]
    assert [task["order_id"] for task in tasks] == order_ids
    async with shop.database.begin() as conn:
        assert tasks == [await picking.read(conn, task["id"]) for task in tasks]
    heard = await shop.rows(
        "SELECT e.seq, e.data->>'order_id' AS order_id, (e.data->>'version')::int AS version"
        " FROM outbox e JOIN orders o ON o.id = e.data->>'order_id'"
        " WHERE e.stream = 'city:' || o.city_id ORDER BY e.seq"
    )
    assert [row["seq"] for row in heard] == list(range(1, 10))
    for order_id in order_ids:
        assert [row["version"] for row in heard if row["order_id"] == order_id] == [1, 2, 3]


async def test_an_event_of_no_order_fails(shop: Shop) -> None:
    """It is tried again, and the order beside it is told."""
    (product,) = await shop.stock(5)
    async with shop.database.begin() as conn:
        await outbox.append(conn, "order:ord_nobody", "order.status", {
            "machine": "order", "from": None, "to": "placed", "reason": None, "status": "placed",
            "delivery_status": "unassigned", "payment_status": "pending", "version": 1,
        })  # fmt: skip
    order_id = await shop.place_order({product.sku_id: 1})
    await relay_batch(shop.database, CONSUMERS)
    waiting = await shop.rows(
        "SELECT stream, attempts FROM outbox"
        " WHERE published_at IS NULL AND type = 'order.status' ORDER BY id"
    )
    assert [(row["stream"], row["attempts"]) for row in waiting] == [("order:ord_nobody", 1)]
    assert await shop.task_id(order_id)
