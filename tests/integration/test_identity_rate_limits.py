"""Rate limits: shared through Redis, kept in memory without it, wider for a faster clock."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from kit.clock import Clock
from kit.errors import RateLimited
from kit.ids import new_id
from kit.redis import connect
from server.limits import RateLimiter
from server.settings import RateLimitSettings

SETTINGS = RateLimitSettings()


async def allowed(limiter: RateLimiter, per_minute: int, tries: int, who: str) -> int:
    """How many of so many requests pass."""
    passed = 0
    for _ in range(tries):
        try:
            await limiter.hit("test", per_minute, who)
            passed += 1
        except RateLimited:
            continue
    return passed


async def test_processes_share_their_count(redis: Redis) -> None:
    """Two limiters on one Redis let through together what one would."""
    who = new_id("tst")
    first, second = (RateLimiter(SETTINGS, Clock(), redis) for _ in range(2))
    results = await asyncio.gather(allowed(first, 5, 6, who), allowed(second, 5, 6, who))
    assert sum(results) == 5
    assert await allowed(first, 5, 1, new_id("tst")) == 1, "another person has a count of their own"


async def test_a_refusal_says_when_to_come_back(redis: Redis) -> None:
    """Within the minute, and at least a second."""
    limiter, who = RateLimiter(SETTINGS, Clock(), redis), new_id("tst")
    await limiter.hit("test", 1, who)
    with pytest.raises(RateLimited) as refused:
        await limiter.hit("test", 1, who)
    assert 1 <= refused.value.retry_after_s <= 60


async def test_a_faster_clock_allows_as_many_more(redis: Redis) -> None:
    """A simulated minute at speed 30 is two seconds long."""
    limiter = RateLimiter(SETTINGS, Clock(speed=30), redis)
    assert await allowed(limiter, 1, 40, new_id("tst")) == 30
    slow = RateLimiter(SETTINGS, Clock(speed=0.1), redis)
    assert await allowed(slow, 2, 4, new_id("tst")) == 2


async def test_without_redis_a_process_counts_alone() -> None:
    """Requests go on and are still limited."""
    limiter = RateLimiter(SETTINGS, Clock(), connect("redis://127.0.0.1:1/0"))
    assert await allowed(limiter, 5, 8, new_id("tst")) == 5


async def test_limits_can_be_switched_off(redis: Redis) -> None:
    """For load tests from one address."""
    limiter = RateLimiter(RateLimitSettings(enabled=False), Clock(), redis)
    assert await allowed(limiter, 1, 5, new_id("tst")) == 5
