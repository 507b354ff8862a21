"""The live layer's view of stock: newest wins, nothing half filled, never the truth."""

from __future__ import annotations

from typing import cast

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from kit.db import Database
from kit.outbox import stream_epoch
from kit.redis import RedisError, connect
from stores import availability_redis
from stores.availability_redis import key_of
from stores.service import LiveAvailability
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(
        database, [make_draft("Milk"), make_draft("Curd")], units={"Milk": 9, "Curd": 2}
    )


async def rebuild(database: Database, redis: Redis, made: MadeStore) -> None:
    async with database.begin() as conn:
        await availability_redis.rebuild(conn, redis, made.store.id)


async def test_a_rebuild_shows_all_stock(database: Database, redis: Redis, made: MadeStore) -> None:
    """After a rebuild every product reads as Postgres has it; an unknown one has no units."""
    assert await availability_redis.read(redis, made.store.id, list(made.skus.values())) is None
    await rebuild(database, redis, made)
    ids = [made.skus["Milk"], made.skus["Curd"], "sku_unknown"]
    read = await availability_redis.read(redis, made.store.id, ids)
    assert read == dict(zip(ids, [9, 2, 0], strict=True))


async def test_an_older_version_never_overwrites(
    database: Database, redis: Redis, made: MadeStore
) -> None:
    """A refresh that read before another commit, and arrives after it, changes nothing."""
    milk = made.skus["Milk"]
    await rebuild(database, redis, made)
    async with database.snapshot() as late:
        # The snapshot begins with its first statement.
        await availability_redis.from_database(late, made.store.id, [milk])
        async with database.begin() as conn:
            await reserve(conn, made.store.id, milk, 4)
        async with database.begin() as conn:
            await availability_redis.refresh(conn, redis, made.store.id, [milk])
        await availability_redis.refresh(late, redis, made.store.id, [milk])
    assert await availability_redis.read(redis, made.store.id, [milk]) == {milk: 5}


async def test_a_wiped_redis_is_noticed_and_filled(
    database: Database, redis: Redis, made: MadeStore
) -> None:
    """After a wipe reads answer None, and the next change fills in all products."""
    milk, curd = made.skus["Milk"], made.skus["Curd"]
    await rebuild(database, redis, made)
    await redis.delete(key_of(made.store.id))
    assert await availability_redis.read(redis, made.store.id, [milk]) is None
    async with database.begin() as conn:
        await availability_redis.refresh(conn, redis, made.store.id, [milk])
    assert await availability_redis.read(redis, made.store.id, [milk, curd]) == {milk: 9, curd: 2}


async def test_another_database_leaves_nothing(
    database: Database, redis: Redis, made: MadeStore
) -> None:
    """What a database of another epoch wrote is dropped by a rebuild, however new it looks."""
    milk = made.skus["Milk"]
    await redis.hset(key_of(made.store.id), mapping={"epoch": "other", milk: "999999:77"})
    await rebuild(database, redis, made)
    assert await availability_redis.read(redis, made.store.id, [milk]) == {milk: 9}
    async with database.begin() as conn:
        epoch = (await conn.execute(select(stream_epoch.c.epoch))).scalar_one()
    assert await redis.hget(key_of(made.store.id), "epoch") == epoch.encode()


async def test_without_redis_postgres_answers(database: Database, made: MadeStore) -> None:
    """A Redis that refuses connections costs no answer."""
    nobody = connect("redis://127.0.0.1:1/0")
    available = LiveAvailability(database, nobody, 0.2)
    try:
        assert await available(made.store.id, [made.skus["Milk"], "sku_unknown"]) == {
            made.skus["Milk"]: 9,
            "sku_unknown": 0,
        }
    finally:
        await nobody.aclose()


async def test_a_slow_redis_is_not_waited_for(database: Database, made: MadeStore) -> None:
    """Past the deadline the answer comes from Postgres."""

    class Slow:
        async def hmget(self, *_: object) -> list[bytes]:
            import asyncio

            await asyncio.Event().wait()
            raise AssertionError("an event that nobody sets does not come")

    available = LiveAvailability(database, cast(Redis, Slow()), 0.02)
    assert await available(made.store.id, [made.skus["Curd"]]) == {made.skus["Curd"]: 2}


async def test_a_failed_refresh_is_told(database: Database, made: MadeStore) -> None:
    """A refresh that cannot reach Redis raises, so that its relay tries again."""
    nobody = connect("redis://127.0.0.1:1/0")
    try:
        with pytest.raises(RedisError):
            async with database.begin() as conn:
                await availability_redis.refresh(conn, nobody, made.store.id, [made.skus["Milk"]])
    finally:
        await nobody.aclose()
