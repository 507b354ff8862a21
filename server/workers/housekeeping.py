"""What has to happen now and then: one process runs every periodic job of the system.

A job that fails is tried again at its next turn and holds up no other; what it has not done is
still there to be done, because every job reads what is due from the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text

from identity import service as identity
from kit import idempotency
from server.wiring import Services
from server.workers.loop import PASSING, run_rounds

log = structlog.get_logger(__name__)

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is looked at every ``every_s`` real seconds."""

    name: str
    every_s: float
    run: Callable[[Services], Awaitable[object]]


async def forget_old_rows(services: Services) -> None:
    """Forget old idempotency keys, ended log-ins and quotes that became nothing."""
    async with services.database.begin() as conn:
        await idempotency.sweep(conn)
        await identity.sweep(conn)
        await conn.execute(
            text(
                "DELETE FROM quotes WHERE order_id IS NULL"
                " AND expires_at < darkstore_now() - interval '1 day'"
            )
        )


JOBS: Sequence[Job] = (Job("forget_old_rows", 60.0, forget_old_rows),)


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Run every job when its turn comes, until ``stopping``."""
    due_at = dict.fromkeys((job.name for job in JOBS), 0.0)

    async def round_() -> float:
        for job in JOBS:
            if time.monotonic() >= due_at[job.name] and not stopping.is_set():
                due_at[job.name] = time.monotonic() + job.every_s
                await _attempt(job, services)
        return POLL_S

    await run_rounds("housekeeping", stopping, round_)


async def _attempt(job: Job, services: Services) -> None:
    try:
        await job.run(services)
    except PASSING as error:
        log.warning("job_failed", job=job.name, error=type(error).__name__, detail=str(error)[:300])
