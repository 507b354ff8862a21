"""The loop that every worker runs: work, wait, and survive what passes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import DBAPIError

from kit.errors import Busy
from kit.redis import RedisError

log = structlog.get_logger(__name__)

# What an engine that restarts looks like from here; anything else is a bug and ends the process,
# which the supervisor starts again.
PASSING = (Busy, DBAPIError, RedisError, ConnectionError, TimeoutError)
BACKOFF_CAP_S = 5.0

# Returns how long to wait before the next round, in real seconds.
Round = Callable[[], Awaitable[float]]


async def run_rounds(name: str, stopping: asyncio.Event, work: Round) -> None:
    """Run rounds until ``stopping`` is set; the round under way is finished first."""
    failures = 0
    while not stopping.is_set():
        try:
            wait_s = await work()
            failures = 0
        except PASSING as error:
            failures += 1
            ceiling = min(BACKOFF_CAP_S, 0.1 * 2**failures)
            wait_s = random.uniform(ceiling / 2, ceiling)
            log.warning(
                "worker_round_failed", worker=name, failures=failures,
                error=type(error).__name__, detail=str(error)[:300],
            )  # fmt: skip
        await _sleep(stopping, wait_s)


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
