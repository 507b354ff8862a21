"""The dispatcher's lease on a city: a row with an epoch, checked by every assignment.

A lock alone is not safe: a process that was stopped past its lease wakes up and writes through its
other connection.  With the epoch inside the assignment's own transaction it writes nothing.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import load

_ACQUIRE = load("riders", "acquire_lease")
_CHECK = load("riders", "check_lease")
_RELEASE = load("riders", "release_lease")


async def acquire(conn: AsyncConnection, city_id: str, holder: str, life_s: float) -> int | None:
    """Take or renew the lease of a city; its epoch, or None while somebody else holds it.

    The epoch grows whenever the lease changes hands or had run out.  ``life_s`` is real time: a
    lease is about processes, not about the simulated day.
    """
    row = await _ACQUIRE.first(conn, city_id, holder, life_s)
    return None if row is None else int(row.epoch)


async def holds(conn: AsyncConnection, city_id: str, epoch: int) -> bool:
    """Whether the epoch still is the city's; locks the row against a takeover until commit."""
    return await _CHECK.first(conn, city_id, epoch) is not None


async def release(conn: AsyncConnection, city_id: str, holder: str) -> None:
    """Give the lease back, so that the next dispatcher need not wait for its end."""
    await _RELEASE.run(conn, city_id, holder)
