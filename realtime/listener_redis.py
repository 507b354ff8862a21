"""Hearing the bus through Redis pub/sub.

One subscription a channel, while somebody here watches it, and not a fixed set of shards: an
order's channel has one to three watchers, so a hub that heard whole shards would read and discard
nearly every event of the city, on each of its cores, while SUBSCRIBE costs one short command in
the life of a watcher.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from kit.redis import RedisError
from realtime import keys
from realtime.bus import Packet, unpack
from realtime.cancellation import checkpoint

_log = structlog.get_logger(__name__)

# Redis confirms in well under a millisecond; a hub without it still converges, only later.
CONFIRM_S = 0.5
# A dead link is noticed by the reconciler's findings first; this only bounds each read.
READ_S = 1.0
# Between attempts to connect, with half of it as jitter either way; the first ones come sooner.
FIRST_DELAYS_S = (0.05, 0.1, 0.2, 0.5)
LONGEST_DELAY_S = 1.0
# Keeps the connection in subscribed state while nobody watches anything.
IDLE_TOPIC = f"{keys.PREFIX}:idle"


class RedisListener:
    """One connection, owned by one task; wishes reach it through a set and a wake-up."""

    def __init__(
        self, redis: Redis, *, confirm_s: float = CONFIRM_S, read_s: float = READ_S
    ) -> None:
        self._redis = redis
        self._confirm_s = confirm_s
        self._read_s = read_s
        self._wanted: dict[str, asyncio.Event] = {}
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()
        self._changed = asyncio.Event()

    def subscribe(self, channel: str) -> None:
        if channel in self._wanted:
            return
        confirmed = asyncio.Event()
        if channel in self._asked and channel in self._confirmed:
            # Given up and wanted again before the task got to it: it still stands.
            confirmed.set()
        self._wanted[channel] = confirmed
        self._changed.set()

    def unsubscribe(self, channel: str) -> None:
        if self._wanted.pop(channel, None) is not None:
            self._changed.set()

    async def listening(self, channel: str) -> bool:
        """Wait for the confirmation of a wanted channel, at most ``confirm_s``."""
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            return False
        try:
            async with asyncio.timeout(self._confirm_s):
                await confirmed.wait()
        except TimeoutError:
            return False
        return True

    async def run(
        self, on_packet: Callable[[str, Packet], None], on_interruption: Callable[[], None]
    ) -> None:
        """Listen until cancelled; connect again, with jitter, for as long as it takes."""
        delays = _delays_s()
        while True:
            # A task of its own: after a failed TaskGroup, Python 3.11 takes its task for cancelled.
            attempt = asyncio.create_task(self._attempt(on_packet, on_interruption))
            if await attempt:
                delays = _delays_s()
            await asyncio.sleep(next(delays) * random.uniform(0.5, 1.5))

    async def _attempt(
        self, on_packet: Callable[[str, Packet], None], on_interruption: Callable[[], None]
    ) -> bool:
        """One connection until it breaks; returns whether it ever stood."""
        connected = False
        pubsub = self._redis.pubsub()
        try:
            await self._connect(pubsub)
            checkpoint()
            connected = True
            on_interruption()
            await self._attend(pubsub, on_packet, on_interruption)
        except* (RedisError, OSError) as errors:
            _log.warning("listener_interrupted", error=type(errors.exceptions[0]).__name__)
        finally:
            self._forget_confirmations()
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
        return connected

    async def _connect(self, pubsub: PubSub) -> None:
        self._changed.clear()
        self._asked = set(self._wanted)
        await pubsub.subscribe(IDLE_TOPIC, *map(keys.topic, self._asked))

    async def _attend(
        self,
        pubsub: PubSub,
        on_packet: Callable[[str, Packet], None],
        on_interruption: Callable[[], None],
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask(pubsub))
            tasks.create_task(self._read(pubsub, on_packet, on_interruption))

    async def _ask(self, pubsub: PubSub) -> None:
        """Send the difference between what is wanted and what was asked for."""
        while True:
            checkpoint()
            await self._changed.wait()
            self._changed.clear()
            added = self._wanted.keys() - self._asked
            removed = self._asked - self._wanted.keys()
            self._asked = set(self._wanted)
            self._confirmed -= removed
            if removed:
                await pubsub.unsubscribe(*map(keys.topic, removed))
            if added:
                await pubsub.subscribe(*map(keys.topic, added))

    async def _read(
        self,
        pubsub: PubSub,
        on_packet: Callable[[str, Packet], None],
        on_interruption: Callable[[], None],
    ) -> None:
        while True:
            checkpoint()
            message = await pubsub.get_message(timeout=self._read_s)
            if message is None or message["channel"] is None:
                continue
            name = message["channel"].decode()
            if name == IDLE_TOPIC:
                continue
            channel = keys.topic_channel(name)
            if message["type"] == "message":
                on_packet(channel, unpack(message["data"]))
            elif message["type"] == "subscribe":
                self._confirm(channel, on_interruption)

    def _confirm(self, channel: str, on_interruption: Callable[[], None]) -> None:
        if channel in self._confirmed:
            # The client connected anew and subscribed again behind our back.
            on_interruption()
        self._confirmed.add(channel)
        confirmed = self._wanted.get(channel)
        if confirmed is not None:
            confirmed.set()

    def _forget_confirmations(self) -> None:
        self._confirmed.clear()
        for confirmed in self._wanted.values():
            confirmed.clear()


def _delays_s() -> Iterator[float]:
    return itertools.chain(FIRST_DELAYS_S, itertools.repeat(LONGEST_DELAY_S))
