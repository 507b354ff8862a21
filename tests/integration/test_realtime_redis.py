"""The live layer on a real server: publishing, hearing, tickets, and living without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from kit import redis as kit_redis
from kit.engines import EmbeddedValkey
from realtime.bus import EventPacket, Packet, PositionPacket
from realtime.channels import Channel, ChannelKind
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import Position
from realtime.history import LayeredHistory
from realtime.history_redis import RedisHistory
from realtime.listener_redis import RedisListener
from realtime.publisher_redis import RedisPublisher
from realtime.tickets import RedisTickets
from tests.realtime_support import (
    CUSTOMER,
    EPOCH,
    ORDER,
    RIDER,
    FakeSocket,
    World,
    limits,
    position,
    running,
    status,
    valkey,
)
from tests.waiting import eventually, until


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with valkey() as started:
        yield started


@pytest.fixture
async def redis(server: EmbeddedValkey) -> AsyncIterator[Redis]:
    client = kit_redis.connect(server.url)
    await client.flushall()
    yield client
    await client.aclose()


async def test_publishing_twice_tells_once(redis: Redis) -> None:
    """A batch that is published again adds nothing, and what is new in it comes through."""
    heard: list[Packet] = []
    listener = RedisListener(redis)
    listener.subscribe(str(ORDER))
    task = asyncio.create_task(listener.run(lambda _, packet: heard.append(packet), lambda: None))
    assert await listener.listening(str(ORDER))
    publisher = RedisPublisher(redis, EPOCH)
    assert await publisher.publish([status(1), status(2)]) == 2
    assert await publisher.publish([status(1), status(2), status(3)]) == 1
    await until(lambda: len(heard) == 3)
    task.cancel()
    assert [p.seq for p in heard if isinstance(p, EventPacket)] == [1, 2, 3]
    assert await redis.xlen(f"darkstore:stream:{{{ORDER}}}:{EPOCH}") == 3


async def test_poison_stops_its_batch(redis: Redis) -> None:
    """An event outside the closed set is refused before anything of its batch is out."""
    publisher = RedisPublisher(redis, EPOCH)
    for poison in (
        replace(status(2), type="order.unheard_of"),
        replace(status(2), type="order.line"),
        replace(status(2), channel=Channel(ChannelKind.STORE, "sto_1")),
    ):
        with pytest.raises(InvalidEvent):
            await publisher.publish([status(1), poison])
    assert await redis.dbsize() == 0


async def test_log_is_bounded(redis: Redis) -> None:
    """A long-lived channel keeps about the last entries only, and its log ends in time."""
    publisher = RedisPublisher(redis, EPOCH, log_entries=100)
    await publisher.publish([status(seq) for seq in range(1, 1_001)])
    name = f"darkstore:stream:{{{ORDER}}}:{EPOCH}"
    assert 100 <= await redis.xlen(name) <= 250
    assert await redis.ttl(name) > 3_600


async def test_positions_keep_nothing(redis: Redis) -> None:
    """Of a batch the newest position of each rider is told, and nothing is stored."""
    city = Channel(ChannelKind.CITY, "cty_1")
    heard: list[Packet] = []
    listener = RedisListener(redis)
    listener.subscribe(str(city))
    task = asyncio.create_task(listener.run(lambda _, packet: heard.append(packet), lambda: None))
    assert await listener.listening(str(city))
    updates: list[tuple[Channel, Position]] = [
        (city, position(2, "rdr_1")),
        (city, position(1, "rdr_1")),
        (city, position(1, "rdr_2")),
    ]
    await RedisPublisher(redis, EPOCH).publish_positions(updates)
    await until(lambda: len(heard) == 2)
    task.cancel()
    told = {p.key: p.at_ms for p in heard if isinstance(p, PositionPacket)}
    assert told["rdr_1"] - told["rdr_2"] == 1_000
    assert await redis.dbsize() == 0


async def test_quick_return_is_confirmed(redis: Redis) -> None:
    """Leaving a channel and coming back at once still ends in a confirmed subscription."""
    heard: list[Packet] = []
    listener = RedisListener(redis, confirm_s=2)
    task = asyncio.create_task(listener.run(lambda _, packet: heard.append(packet), lambda: None))
    for _ in range(20):
        listener.subscribe(str(ORDER))
        assert await listener.listening(str(ORDER))
        listener.unsubscribe(str(ORDER))
    listener.subscribe(str(ORDER))
    listener.unsubscribe(str(ORDER))
    listener.subscribe(str(ORDER))
    assert await listener.listening(str(ORDER))
    await RedisPublisher(redis, EPOCH).publish([status(1)])
    await until(lambda: len(heard) == 1)
    task.cancel()


async def test_ticket_is_good_once(redis: Redis) -> None:
    """A ticket gives its holder once; ten at a time, one of them gets it."""
    tickets = RedisTickets(redis)
    ticket = await tickets.issue(RIDER)
    answers = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(10)))
    assert [answer for answer in answers if answer is not None] == [RIDER]
    assert await tickets.redeem("guess") is None
    assert len(ticket) * 6 >= 128


async def test_ticket_expires(redis: Redis) -> None:
    """A ticket dies unused after its life, and Redis never holds the ticket itself."""
    ticket = await RedisTickets(redis).issue(CUSTOMER)
    (key,) = await redis.keys("*")
    assert ticket not in str(key)
    assert timedelta(seconds=29) < timedelta(milliseconds=await redis.pttl(key))
    assert await redis.pttl(key) <= 30_000
    short = RedisTickets(redis, life_s=0.02)
    ticket = await short.issue(CUSTOMER)

    async def gone() -> bool:
        return int(await redis.dbsize()) == 1

    await eventually(gone)
    assert await short.redeem(ticket) is None


async def test_a_lost_redis_only_delays() -> None:
    """Redis goes away, comes back empty: every event arrives once, in order, and a publish in
    between fails with a retryable error in its deadline."""
    world = World()
    async with valkey() as server:
        redis = kit_redis.connect(server.url)
        publisher = RedisPublisher(redis, EPOCH, deadline_s=0.5)
        history = LayeredHistory([RedisHistory(redis, EPOCH), world.history])
        service = world.service(
            limits(reconcile_s=0.1), listener=RedisListener(redis), history=history
        )
        async with running(service):
            socket = FakeSocket()
            session = service.open(socket)
            task = asyncio.create_task(session.run())
            session.receive(f'{{"op":"auth","ticket":"{world.ticket()}"}}')
            session.receive(f'{{"op":"subscribe","channel":"{ORDER}"}}')
            await until(lambda: socket.of("snapshot"))
            await world.happen(1, 2, publisher=publisher)
            await until(lambda: len(socket.of("event")) == 2)

            await server.stop()
            before = asyncio.get_running_loop().time()
            with pytest.raises(StreamUnavailable) as refused:
                await world.happen(3, publisher=publisher)
            assert refused.value.retryable
            assert asyncio.get_running_loop().time() - before < 2
            await until(lambda: len(socket.of("event")) == 3)

            world.history.append([status(4)])
            await server.start()
            await redis.flushall()
            await until(lambda: len(socket.of("event")) == 4)
            topic = f"darkstore:stream:{{{ORDER}}}"

            async def heard_again() -> bool:
                ((_, subscribers),) = await redis.pubsub_numsub(topic)
                return bool(subscribers)

            await eventually(heard_again)
            await world.happen(5, publisher=publisher)
            await publisher.publish([status(3), status(4), status(5)])
            await until(lambda: len(socket.of("event")) == 5)
            task.cancel()
        await redis.aclose()
    assert [event["seq"] for event in socket.of("event")] == [1, 2, 3, 4, 5]
    assert world.snapshots_taken == 1
