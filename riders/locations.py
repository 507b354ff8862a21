"""Where riders are: the newest fix of each, taken in fast and flushed in batches.

A phone may send fixes late, twice and out of order; only the newest of a rider counts.  Pings skip
the outbox: they are frequent and only the last one matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from kit.errors import Busy
from kit.redis import RedisError

log = structlog.get_logger(__name__)

# Fifty milliseconds of waiting turn thousands of Redis commands into one packed batch.
FLUSH_S = 0.05
# A rider counts once, so this is a number of riders; beyond it the process is not the right size.
MAX_PENDING = 50_000


@dataclass(frozen=True, slots=True)
class RiderFix:
    """One position of a rider: POSIX milliseconds, degrees, degrees, metres a second."""

    rider_id: str
    city_id: str
    t_ms: int
    lat: float
    lon: float
    heading_deg: float | None = None
    speed_mps: float | None = None


Write = Callable[[Sequence[RiderFix]], Awaitable[None]]


class PositionIngest:
    """The newest fix of each rider since the last flush; ``put`` never blocks.

    ``writers`` are called one after another with each batch; one that fails loses that batch
    only, because the next fix is a few seconds away.
    """

    def __init__(self, writers: Sequence[Write], flush_s: float = FLUSH_S) -> None:
        self._writers = writers
        self._flush_s = flush_s
        self._pending: dict[str, RiderFix] = {}
        self._wake = asyncio.Event()

    def put(self, fix: RiderFix) -> bool:
        """Take a fix; False when a newer one of the rider waits, or when there is no room."""
        held = self._pending.get(fix.rider_id)
        if held is not None and held.t_ms >= fix.t_ms:
            return False
        if held is None and len(self._pending) >= MAX_PENDING:
            return False
        self._pending[fix.rider_id] = fix
        self._wake.set()
        return True

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what is pending."""
        batch, self._pending = list(self._pending.values()), {}
        if not batch:
            return
        for write in self._writers:
            try:
                await write(batch)
            except (Busy, RedisError, OSError) as error:
                log.warning("positions_not_written", riders=len(batch), error=type(error).__name__)


def by_city(fixes: Sequence[RiderFix]) -> Mapping[str, list[RiderFix]]:
    """Fixes grouped by city."""
    groups: dict[str, list[RiderFix]] = {}
    for fix in fixes:
        groups.setdefault(fix.city_id, []).append(fix)
    return groups
