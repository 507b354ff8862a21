"""The event bus on Redis streams, NATS JetStream or RabbitMQ, through FastStream's brokers.

Imported only where a bus is configured: FastStream takes about a second to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aio_pika.exceptions
import nats.errors
import nats.js.errors
from faststream.exceptions import FastStreamException
from faststream.nats import NatsBroker
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from faststream.redis import RedisBroker
from redis.exceptions import RedisError

from kit.event_bus import BusEvent, BusSettings, BusUnavailable, EventBus

_TROUBLE = (
    OSError, TimeoutError, ConnectionError, FastStreamException, RedisError, nats.errors.Error,
    nats.js.errors.Error, aio_pika.exceptions.AMQPException,
)  # fmt: skip

# FastStream would log each message; what goes wrong is raised and logged by the worker.
_SILENT: Any = None


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Whatever the broker's library raises in time is one error of ours."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except _TROUBLE as error:
        raise BusUnavailable(f"The event bus does not answer ({type(error).__name__}).") from error


class RedisBus:
    """One Redis stream, trimmed to about ``redis_max_events``; a batch is one round trip."""

    def __init__(self, url: str, settings: BusSettings) -> None:
        self._settings = settings
        self._broker = RedisBroker(url, logger=_SILENT)
        self._client: Any = None

    async def connect(self) -> None:
        async with _deadline(self._settings.deadline_s):
            self._client = await self._broker.connect()
            await self._client.ping()

    async def publish(self, events: Sequence[BusEvent]) -> None:
        async with _deadline(self._settings.deadline_s):
            async with self._client.pipeline(transaction=False) as pipeline:
                for event in events:
                    await self._broker.publish(
                        event.message(), stream=self._settings.name, correlation_id=event.id,
                        maxlen=self._settings.redis_max_events, pipeline=pipeline,
                    )  # fmt: skip
                await pipeline.execute()

    async def close(self) -> None:
        await self._broker.stop()


class NatsBus:
    """A JetStream stream ``name`` over ``name.>``; subject ``name.<event type>``.

    ``Nats-Msg-Id`` is the event's id, so JetStream itself drops a repeat within its window of two
    minutes.
    """

    def __init__(self, url: str, settings: BusSettings) -> None:
        self._settings = settings
        self._broker = NatsBroker(url, logger=_SILENT, max_reconnect_attempts=-1, connect_timeout=3)

    async def connect(self) -> None:
        async with _deadline(self._settings.deadline_s):
            client = await self._broker.connect()
            name = self._settings.name
            await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])

    async def publish(self, events: Sequence[BusEvent]) -> None:
        name = self._settings.name
        async with _deadline(self._settings.deadline_s):
            for event in events:
                await self._broker.publish(
                    event.message(), f"{name}.{event.type}", stream=name,
                    headers={"Nats-Msg-Id": event.id}, correlation_id=event.id,
                    timeout=self._settings.deadline_s,
                )  # fmt: skip

    async def close(self) -> None:
        await self._broker.stop()


class RabbitBus:
    """A durable topic exchange ``name``; routing key is the event's type; publisher confirms.

    Without a bound queue RabbitMQ drops an event: nobody wanted it.
    """

    def __init__(self, url: str, settings: BusSettings) -> None:
        self._settings = settings
        self._broker = RabbitBroker(url, logger=_SILENT)
        self._exchange = RabbitExchange(settings.name, type=ExchangeType.TOPIC, durable=True)

    async def connect(self) -> None:
        async with _deadline(self._settings.deadline_s):
            await self._broker.connect()
            await self._broker.declare_exchange(self._exchange)

    async def publish(self, events: Sequence[BusEvent]) -> None:
        async with _deadline(self._settings.deadline_s):
            for event in events:
                await self._broker.publish(
                    event.message(), exchange=self._exchange, routing_key=event.type,
                    persist=True, mandatory=False, message_id=event.id, correlation_id=event.id,
                    timeout=self._settings.deadline_s,
                )  # fmt: skip

    async def close(self) -> None:
        await self._broker.stop()


def make_bus(url: str, settings: BusSettings) -> EventBus:
    """The bus for a URL that ``BusSettings`` has accepted (``home`` resolved by the caller)."""
    match urlsplit(url).scheme:
        case "redis" | "rediss":
            return RedisBus(url, settings)
        case "nats" | "tls":
            return NatsBus(url, settings)
        case _:
            return RabbitBus(url, settings)
