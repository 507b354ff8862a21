"""Waiting for something to be so, and never for a length of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

# Generous, because it bounds a failure and not a success.
PATIENCE_S = 20.0

Found = TypeVar("Found")


async def until(
    condition: Callable[[], object], within_s: float = 10.0, look_every_s: float = 0.005
) -> float:
    """Wait for a condition of this process, or one that is quick to look at; how long it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < within_s, f"waited {within_s:g} s in vain"
        await asyncio.sleep(look_every_s)
    return time.monotonic() - started_s


async def eventually(
    look: Callable[[], Awaitable[Found | None]],
    what: str = "it to be so",
    within_s: float = PATIENCE_S,
    look_every_s: float = 0.05,
) -> Found:
    """The first thing that ``look`` finds; fails with ``what`` when nothing comes in time."""
    deadline_s = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"waited {within_s:g} s in vain for {what}"
        await asyncio.sleep(look_every_s)
