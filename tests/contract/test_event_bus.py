"""The event bus: one suite over every broker that is at hand.

Redis is always there (embedded); NATS and RabbitMQ where the machine has them on their standard
ports.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from kit import outbox
from kit.db import Database
from kit.event_bus import BusEvent, BusSettings, BusUnavailable
from kit.event_bus_faststream import make_bus
from kit.ids import new_id
from kit.ports import free_port
from kit.relay import relay_batch
from server.wiring import Services
from server.workers.bus_publisher import Publisher
from tests.addresses import Addresses
from tests.http_support import make_services

WAIT_S = 20.0


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["redis", "nats", "rabbitmq"])
def bus_url(request: pytest.FixtureRequest, embedded_engines: Addresses) -> str:
    """A broker's address; skipped where there is none."""
    if request.param == "nats":
        if not is_up(4222):
            pytest.skip("no NATS server on port 4222 of this machine")
        return "nats://127.0.0.1:4222"
    if request.param == "rabbitmq":
        if not is_up(5672):
            pytest.skip("no RabbitMQ server on port 5672 of this machine")
        return "amqp://guest:guest@127.0.0.1:5672/"
    return f"{embedded_engines.redis_url}/9"


@pytest.fixture
def settings() -> BusSettings:
    """A stream (or exchange) of the test's own."""
    return BusSettings(name=f"test-{new_id('bus')[4:].lower()}", deadline_s=10.0)


@dataclasses.dataclass
class Listener:
    """A program outside, with the broker's own client; a Redis entry is packed by FastStream."""

    url: str
    name: str
    got: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _close: Any = None

    async def start(self) -> None:
        if self.url.startswith("nats"):
            await self._start_nats()
        elif self.url.startswith("amqp"):
            await self._start_rabbit()

    async def _start_nats(self) -> None:
        import nats

        client = await nats.connect(self.url)

        async def close() -> None:
            await client.jetstream().delete_stream(self.name)
            await client.close()

        self._close = close

    async def _start_rabbit(self) -> None:
        import aio_pika

        connection = await aio_pika.connect(self.url)
        channel = await connection.channel()
        exchange = await channel.declare_exchange(
            self.name, aio_pika.ExchangeType.TOPIC, durable=True
        )
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            self.got.append(orjson.loads(message.body))

        await queue.consume(take, no_ack=True)

        async def close() -> None:
            await exchange.delete()
            await connection.close()

        self._close = close

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(WAIT_S):
            while len(self.got) < count:
                if self.url.startswith("nats"):
                    await self._read_nats()
                elif self.url.startswith("redis"):
                    await self._read_redis()
                await asyncio.sleep(0.02)
        return self.got

    async def _read_nats(self) -> None:
        import nats

        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            info = await stream.stream_info(self.name)
            self.got = [
                orjson.loads((await stream.get_msg(self.name, n)).data or b"null")
                for n in range(info.state.first_seq, info.state.last_seq + 1)
                if info.state.messages
            ]
        finally:
            await client.close()

    async def _read_redis(self) -> None:
        from faststream.redis.parser import BinaryMessageFormatV1

        async with Redis.from_url(self.url) as client:
            entries = await client.xrange(self.name)
        self.got = [
            orjson.loads(BinaryMessageFormatV1.parse(fields[b"__data__"])[0])
            for _, fields in entries
        ]

    async def close(self) -> None:
        if self._close is not None:
            await self._close()


@pytest.fixture
async def listener(bus_url: str, settings: BusSettings) -> AsyncIterator[Listener]:
    listener = Listener(bus_url, settings.name)
    await listener.start()
    yield listener
    await listener.close()


def make_events(first: int, count: int) -> list[BusEvent]:
    at = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
    return [
        BusEvent(n, f"order:ord_{n % 7}", n // 7 + 1, "order.status", at, {"n": n, "text": "ü 🛵"})
        for n in range(first, first + count)
    ]


async def test_a_batch_arrives_whole_in_order_and_readable(
    bus_url: str, settings: BusSettings, listener: Listener
) -> None:
    """Two batches: every event once, in order, as the documented JSON."""
    bus = make_bus(bus_url, settings)
    await bus.connect()
    try:
        await bus.publish(make_events(1, 150))
        await bus.publish(make_events(151, 50))
        got = await listener.wait_for(200)
    finally:
        await bus.close()
    assert [event["data"]["n"] for event in got] == list(range(1, 201))
    assert got[0] == {
        "id": "evt_1", "stream": "order:ord_1", "seq": 1, "type": "order.status",
        "at": "2031-05-01T12:00:00.000Z", "data": {"n": 1, "text": "ü 🛵"},
    }  # fmt: skip


@pytest.mark.parametrize("scheme", ["redis", "nats", "amqp"])
async def test_a_broker_that_is_not_there_is_named_in_time(scheme: str) -> None:
    """No hang and no foreign exception: BusUnavailable within the deadline."""
    settings = BusSettings(deadline_s=1.5)
    bus = make_bus(f"{scheme}://127.0.0.1:{free_port()}", settings)
    async with asyncio.timeout(5):
        with pytest.raises(BusUnavailable):
            await bus.connect()


def bus_services(database: Database, bus_url: str, settings: BusSettings) -> Services:
    services = make_services(database)
    with_bus = settings.model_copy(update={"url": SecretStr(bus_url)})
    return dataclasses.replace(
        services, settings=services.settings.model_copy(update={"bus": with_bus})
    )


async def test_what_the_relay_has_relayed_reaches_the_bus_once(
    fresh_database: Database, bus_url: str, settings: BusSettings, listener: Listener
) -> None:
    """Three publishers take turns; the outbox says what was handed over."""
    async with fresh_database.begin() as conn:
        for n in range(30):
            await outbox.append(conn, f"order:ord_{n % 3}", "order.status", {"n": n})
    while await relay_batch(fresh_database, {}, to_bus=True):
        pass
    services = bus_services(fresh_database, bus_url, settings)
    publishers = [Publisher(services, make_bus(bus_url, settings)) for _ in range(3)]
    try:
        await asyncio.gather(*(publisher.round() for publisher in publishers))
        got = await listener.wait_for(30)
    finally:
        for publisher in publishers:
            await publisher.close()
    for stream in ("order:ord_0", "order:ord_1", "order:ord_2"):
        assert [event["seq"] for event in got if event["stream"] == stream] == list(range(1, 11))
    async with fresh_database.begin() as conn:
        left = await conn.exec_driver_sql("SELECT count(*) FROM outbox WHERE bus_at IS NULL")
        assert left.scalar_one() == 0


async def test_a_bus_that_is_down_loses_nothing_and_holds_up_nothing(
    fresh_database: Database, bus_url: str, settings: BusSettings, listener: Listener
) -> None:
    """The relay goes on; the events wait in the outbox and are there when the bus is back."""
    async with fresh_database.begin() as conn:
        await outbox.append(conn, "order:ord_1", "order.status", {"n": 1})
    assert len(await relay_batch(fresh_database, {}, to_bus=True)) == 1
    services = bus_services(fresh_database, bus_url, settings)
    short = settings.model_copy(update={"deadline_s": 1.0})
    down = Publisher(services, make_bus(f"redis://127.0.0.1:{free_port()}", short))
    with pytest.raises(BusUnavailable):
        await down.round()
    up = Publisher(services, make_bus(bus_url, settings))
    try:
        await up.round()
        assert [event["data"] for event in await listener.wait_for(1)] == [{"n": 1}]
    finally:
        await up.close()


async def test_without_a_bus_nothing_waits_for_it(fresh_database: Database) -> None:
    """Events count as handed over when they are relayed."""
    async with fresh_database.begin() as conn:
        await outbox.append(conn, "order:ord_1", "order.status", {})
    await relay_batch(fresh_database, {})
    async with fresh_database.begin() as conn:
        left = await conn.exec_driver_sql("SELECT count(*) FROM outbox WHERE bus_at IS NULL")
        assert left.scalar_one() == 0
