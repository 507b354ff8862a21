"""The dispatcher's lease on a partition: a row with an epoch, checked by every assignment.

A lock alone is not safe: a process that was stopped past its lease wakes up and writes through its
other connection.  With the epoch inside the assignment's own transaction it writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import load

_ACQUIRE = load("riders", "acquire_lease")
_CHECK = load("riders", "check_lease")
_FREE = load("riders", "free_partitions")
_RELEASE = load("riders", "release_leases")
_RENEW = load("riders", "renew_leases")

# Far more than the time between two statements of a dispatcher that runs, and well below the life
# of a lease: a stopped process must not keep its row locks for longer than its lease.
IDLE_LIMIT_MS = 1_500

# Leases are taken and renewed by single statements without a transaction around them: a process
# that is stopped between two statements holds no lock on the row then.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


def partition_id(city_id: str, part: int) -> str:
    """The lease's key: a city's id, or ``city/part`` for all parts but the first."""
    return city_id if part == 0 else f"{city_id}/{part}"


async def acquire(
    pool: Pool, partition: str, city_id: str, holder: str, life_s: float
) -> int | None:
    """Take or renew a lease; its epoch, or None while somebody else holds it.

    The epoch grows whenever the lease changes hands or had run out.  ``life_s`` is real time: a
    lease is about processes, not about the simulated day.
    """
    epoch = await pool.fetchval(_ACQUIRE.text, partition, city_id, holder, life_s)
    return None if epoch is None else int(epoch)


async def renew(pool: Pool, holder: str, life_s: float) -> dict[str, int]:
    """Renew whatever the holder has; (partition -> epoch) of what is still theirs."""
    rows = await pool.fetch(_RENEW.text, holder, life_s)
    return {row["partition_id"]: int(row["epoch"]) for row in rows}


async def free(pool: Pool, partitions: Sequence[str]) -> list[str]:
    """Those of the partitions that nobody holds."""
    return [row["id"] for row in await pool.fetch(_FREE.text, list(partitions))]


async def release(pool: Pool, holder: str) -> None:
    """Give all leases back, so that the next dispatcher need not wait for their end."""
    await pool.execute(_RELEASE.text, holder)


async def holds(conn: AsyncConnection, partition: str, epoch: int) -> bool:
    """Whether the epoch still is the partition's; locks the row against a takeover until commit."""
    return await _CHECK.first(conn, partition, epoch, str(IDLE_LIMIT_MS)) is not None
