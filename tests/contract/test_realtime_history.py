"""One suite over the histories: in memory, in Redis, in Postgres, and composed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import pytest

from kit import redis as kit_redis
from realtime.channels import Channel, ChannelKind
from realtime.errors import StreamUnavailable
from realtime.events import StreamEvent
from realtime.history import Cursor, History, LayeredHistory
from realtime.history_memory import MemoryHistory
from realtime.history_postgres import PostgresHistory
from realtime.history_redis import RedisHistory
from realtime.publisher_redis import RedisPublisher
from tests.addresses import Addresses
from tests.realtime_support import (
    EPOCH,
    append_rows,
    postgres_pool,
    status,
    valkey,
)
from tests.support import new_database


@dataclass(frozen=True)
class Subject:
    """A history, how events come into it, and how its old ones are forgotten."""

    history: History
    append: Callable[[Sequence[StreamEvent]], Awaitable[object]]
    forget_first: Callable[[Channel, int], Awaitable[object]]


@pytest.fixture(scope="module")
async def redis_url() -> AsyncIterator[str]:
    async with valkey() as server:
        yield server.url


@pytest.fixture(scope="module")
async def pool(embedded_engines: Addresses) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with new_database(embedded_engines.database_url) as url:
        async with postgres_pool(url) as opened:
            yield opened


def _in_memory() -> Subject:
    history = MemoryHistory(EPOCH)

    async def append(events: Sequence[StreamEvent]) -> None:
        history.append(events)

    async def forget_first(channel: Channel, count: int) -> None:
        history.trim(channel, len(history.events(channel)) - count)

    return Subject(history, append, forget_first)


async def _in_redis(url: str) -> AsyncIterator[Subject]:
    redis = kit_redis.connect(url)
    publisher = RedisPublisher(redis, EPOCH)

    async def forget_first(channel: Channel, count: int) -> None:
        name = f"darkstore:stream:{{{channel}}}:{EPOCH}"
        await redis.xtrim(name, minid=f"{count + 1}-0", approximate=False)

    yield Subject(RedisHistory(redis, EPOCH), publisher.publish, forget_first)
    await redis.aclose()


def _in_postgres(pool: asyncpg.Pool[asyncpg.Record]) -> Subject:
    async def append(events: Sequence[StreamEvent]) -> None:
        await append_rows(pool, events)

    async def forget_first(channel: Channel, count: int) -> None:
        await pool.execute(
            "DELETE FROM outbox WHERE stream = $1 AND seq <= $2", str(channel), count
        )

    return Subject(PostgresHistory(pool), append, forget_first)


@pytest.fixture(params=["memory", "redis", "postgres"])
async def subject(
    request: pytest.FixtureRequest, redis_url: str, pool: asyncpg.Pool[asyncpg.Record]
) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield _in_memory()
    elif request.param == "redis":
        async for made in _in_redis(redis_url):
            yield made
    else:
        yield _in_postgres(pool)


@pytest.fixture
def channel() -> Channel:
    return Channel(ChannelKind.ORDER, f"ord_{uuid.uuid4().hex}")


def _events(channel: Channel, first: int, last: int) -> list[StreamEvent]:
    return [status(seq, channel) for seq in range(first, last + 1)]


async def test_events_after_a_place(subject: Subject, channel: Channel) -> None:
    """What follows the cursor comes back as it was appended, in order and up to the limit."""
    await subject.append(_events(channel, 1, 5))
    assert await subject.history.since(channel, Cursor(EPOCH, 2), 10) == _events(channel, 3, 5)
    assert await subject.history.since(channel, Cursor(EPOCH, 0), 2) == _events(channel, 1, 2)


async def test_nothing_missed(subject: Subject, channel: Channel) -> None:
    """A client that is at the head missed nothing, which is not the same as unknown."""
    await subject.append(_events(channel, 1, 3))
    assert await subject.history.since(channel, Cursor(EPOCH, 3), 10) == []


async def test_ahead_of_the_head(subject: Subject, channel: Channel) -> None:
    """A place that was never reached cannot be served."""
    await subject.append(_events(channel, 1, 3))
    assert await subject.history.since(channel, Cursor(EPOCH, 4), 10) is None


async def test_another_epoch(subject: Subject, channel: Channel) -> None:
    """A place under another epoch cannot be served."""
    await subject.append(_events(channel, 1, 3))
    assert await subject.history.since(channel, Cursor("other", 2), 10) is None


async def test_forgotten_events(subject: Subject, channel: Channel) -> None:
    """Where old events are gone, only clients that have them already are served."""
    await subject.append(_events(channel, 1, 6))
    await subject.forget_first(channel, 3)
    assert await subject.history.since(channel, Cursor(EPOCH, 2), 10) is None
    assert await subject.history.since(channel, Cursor(EPOCH, 3), 10) == _events(channel, 4, 6)


async def test_known_to_reach_further(subject: Subject, channel: Channel) -> None:
    """A history that ends before an event that is known to exist does not serve, but a full page
    is served."""
    await subject.append(_events(channel, 1, 4))
    assert await subject.history.since(channel, Cursor(EPOCH, 1), 10, reach=6) is None
    assert await subject.history.since(channel, Cursor(EPOCH, 1), 10, reach=4) is not None
    assert await subject.history.since(channel, Cursor(EPOCH, 1), 2, reach=6) is not None


async def test_head(subject: Subject, channel: Channel) -> None:
    """The head is the last event, and 0 before the first."""
    assert await subject.history.head(channel) == Cursor(EPOCH, 0)
    await subject.append(_events(channel, 1, 4))
    assert await subject.history.head(channel) == Cursor(EPOCH, 4)


async def test_redis_never_serves_over_a_hole(redis_url: str, channel: Channel) -> None:
    """Where Redis lost an entry in the middle it serves only what follows the hole."""
    redis = kit_redis.connect(redis_url)
    await RedisPublisher(redis, EPOCH).publish([*_events(channel, 1, 2), *_events(channel, 4, 5)])
    history = RedisHistory(redis, EPOCH)
    assert await history.since(channel, Cursor(EPOCH, 1), 10) is None
    assert await history.since(channel, Cursor(EPOCH, 2), 10) is None
    assert await history.since(channel, Cursor(EPOCH, 3), 10) == _events(channel, 4, 5)
    await redis.aclose()


async def test_heads_in_one_query(pool: asyncpg.Pool[asyncpg.Record], channel: Channel) -> None:
    """The heads of many channels come at once, without those that have no events."""
    history = PostgresHistory(pool)
    await append_rows(pool, _events(channel, 1, 2))
    heads = await history.heads([str(channel), "order:ord_none"])
    assert (heads.epoch, heads.seqs) == (EPOCH, {str(channel): 2})
    assert (await history.heads([])).seqs == {}


async def test_poison_in_the_outbox(pool: asyncpg.Pool[asyncpg.Record], channel: Channel) -> None:
    """A row outside the closed set is not shown: only a snapshot passes over it."""
    await append_rows(pool, _events(channel, 1, 3))
    await pool.execute(
        "UPDATE outbox SET type = 'order.unheard_of' WHERE stream = $1 AND seq = 2", str(channel)
    )
    history = PostgresHistory(pool)
    assert await history.since(channel, Cursor(EPOCH, 1), 10) is None
    assert await history.since(channel, Cursor(EPOCH, 2), 10) == _events(channel, 3, 3)


async def test_layers(channel: Channel) -> None:
    """The nearest layer that can answer does; one that fails or has a gap is passed over."""
    near, truth = MemoryHistory(EPOCH), MemoryHistory(EPOCH)
    layered = LayeredHistory([near, truth])
    truth.append(_events(channel, 1, 4))
    near.append(_events(channel, 1, 4))
    near.trim(channel, 2)
    assert await layered.since(channel, Cursor(EPOCH, 0), 10) == _events(channel, 1, 4)
    near.available = False
    assert await layered.since(channel, Cursor(EPOCH, 3), 10) == _events(channel, 4, 4)
    near.available, truth.available = True, False
    assert await layered.since(channel, Cursor(EPOCH, 3), 10) == _events(channel, 4, 4)
    with pytest.raises(StreamUnavailable):
        await layered.since(channel, Cursor(EPOCH, 0), 10)
