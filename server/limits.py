"""Rate limits: sliding windows counted in Redis, so that all processes share them.

When Redis does not answer, each process counts in its own memory for a while: a limit that is a
few times too wide is better than refusing everybody, or nobody.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from functools import lru_cache
from typing import Final

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection

from kit.clock import Clock
from kit.errors import RateLimited
from kit.redis import line_of, line_script
from server.metrics import LIMITER_FALLBACKS, RATE_LIMITED
from server.settings import RateLimitSettings

log = structlog.get_logger(__name__)

# How long Redis is left alone after an error: asking it each time would cost its time-out.
FALLBACK_S = 5.0
_WINDOW_MS: Final = 60_000
_PREFIX: Final = "rate"
_HIT = line_script("server", "hit_rate_limit")


class RateLimiter:
    """Limits a minute, by name and identity."""

    def __init__(self, settings: RateLimitSettings, clock: Clock, redis: Redis) -> None:
        self.settings = settings
        self._clock = clock
        self._line = line_of(redis)
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
        allowed = max(1, round(per_minute * max(1.0, self._clock.speed)))
        wait_s = None
        if time.monotonic() >= self._own_until:
            wait_s = await self._shared_wait_s(allowed, (limit, *identity), counted)
        if wait_s is None:
            wait_s = await self._own_wait_s(allowed, (limit, *identity), counted)
        if wait_s > 0:
            RATE_LIMITED.labels(limit).inc()
            told_s = max(1, min(60, round(wait_s + 0.5)))
            raise RateLimited(f"Too many requests; try again in {told_s} s.", retry_after_s=told_s)

    async def _shared_wait_s(
        self, allowed: int, names: tuple[str, ...], counted: bool
    ) -> float | None:
        """Seconds to wait, 0 for none; None when Redis does not answer."""
        key = ":".join((_PREFIX, *names))
        try:
            wait_ms: int = await self._line.run(_HIT, [key], allowed, _WINDOW_MS, int(counted))
        except RedisError as error:
            log.warning("rate_limiter_fell_back", error=type(error).__name__)
            LIMITER_FALLBACKS.inc()
            self._own_until = time.monotonic() + FALLBACK_S
            return None
        return wait_ms / 1000

    async def _own_wait_s(self, allowed: int, names: tuple[str, ...], counted: bool) -> float:
        item = RateLimitItemPerMinute(allowed)
        if await (self._own.hit if counted else self._own.test)(item, *names):
            return 0.0
        reset_at, _ = await self._own.get_window_stats(item, *names)
        return max(0.001, reset_at - time.time())


def client_address(connection: HTTPConnection) -> str:
    """The peer's address, or its /64 for IPv6, where one customer has 2^64 of them."""
    return _network(connection.client.host) if connection.client else "local"


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
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
