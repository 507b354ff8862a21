"""Rate limits: sliding windows counted in Redis, so that all processes share them.

When Redis does not answer, each process counts in its own memory for a while: a limit that is a
few times too wide is better than refusing everybody, or nobody.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from typing import cast

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection

from kit.clock import Clock
from kit.errors import RateLimited
from server.metrics import LIMITER_FALLBACKS, RATE_LIMITED
from server.settings import RateLimitSettings

log = structlog.get_logger(__name__)

# How long Redis is left alone after an error: asking it each time would cost its time-out.
FALLBACK_S = 5.0


class RateLimiter:
    """Limits a minute, by name and identity."""

    def __init__(self, settings: RateLimitSettings, clock: Clock, redis: Redis) -> None:
        self.settings = settings
        self._clock = clock
        # The pool is the wiring's, with its deadlines; the library's types know only strings.
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="rate",
            connection_pool=cast(str, redis.connection_pool),
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._own_until = 0.0

    async def hit(self, limit: str, per_minute: int, *identity: str) -> None:
        """Count one request.  Raises ``RateLimited`` if it is one too many.

        A simulated minute is shorter than ours, so the amount grows with the clock's speed.
        """
        if self.settings.enabled:
            await self._limit(limit, per_minute, identity, counted=True)

    async def check(self, limit: str, per_minute: int, *identity: str) -> None:
        """Raises ``RateLimited`` if one more request would be too many; counts nothing."""
        if self.settings.enabled:
            await self._limit(limit, per_minute, identity, counted=False)

    async def _limit(
        self, limit: str, per_minute: int, identity: tuple[str, ...], *, counted: bool
    ) -> None:
        item = RateLimitItemPerMinute(max(1, round(per_minute * max(1.0, self._clock.speed))))
        try:
            await self._count(self._counter(), limit, item, identity, counted)
        except RedisError as error:
            log.warning("rate_limiter_fell_back", error=type(error).__name__)
            LIMITER_FALLBACKS.inc()
            self._own_until = time.monotonic() + FALLBACK_S
            await self._count(self._own, limit, item, identity, counted)

    def _counter(self) -> SlidingWindowCounterRateLimiter:
        return self._own if time.monotonic() < self._own_until else self._shared

    async def _count(
        self,
        counter: SlidingWindowCounterRateLimiter,
        limit: str,
        item: RateLimitItemPerMinute,
        identity: tuple[str, ...],
        counted: bool,
    ) -> None:
        if await (counter.hit if counted else counter.test)(item, limit, *identity):
            return
        RATE_LIMITED.labels(limit).inc()
        reset_at, _ = await counter.get_window_stats(item, limit, *identity)
        wait_s = max(1, min(60, round(reset_at - time.time() + 0.5)))
        raise RateLimited(
            f"Too many requests; try again in {wait_s} s.",
            retry_after_s=wait_s,
        )


def client_address(connection: HTTPConnection) -> str:
    """The peer's address, or its /64 for IPv6, where one customer has 2^64 of them."""
    host = connection.client.host if connection.client else "local"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return host


def pseudonym(text: str) -> str:
    """A stand-in for something personal (an e-mail address) in the key of a counter."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
