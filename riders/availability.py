"""Whether a rider on shift gets offers: breaks, pauses, and the choice to take every offer.

A pause has an end, or ends when the rider says so; a new shift begins without one.  Each function
runs in the caller's transaction; the rider's row is the last thing it locks before the streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.wire import rfc3339
from riders.model import PauseReason
from riders.tables import riders


@dataclass(frozen=True, slots=True)
class Availability:
    """``until`` None with a reason: until the rider says so."""

    auto_accept: bool
    reason: PauseReason | None
    until: datetime | None

    @property
    def paused(self) -> bool:
        return self.reason is not None


async def read(conn: AsyncConnection, rider_id: str) -> Availability:
    """How a rider who exists stands now; a pause that is over is none."""
    row = (
        await conn.execute(
            select(
                riders.c.auto_accept, riders.c.paused_at, riders.c.paused_until,
                riders.c.pause_reason,
            ).where(riders.c.id == rider_id)
        )
    ).one()  # fmt: skip
    over = row.paused_until is not None and row.paused_until <= await database_now(conn)
    if row.paused_at is None or over:
        return Availability(row.auto_accept, None, None)
    return Availability(row.auto_accept, PauseReason(row.pause_reason), row.paused_until)


def shape(found: Availability) -> dict[str, object]:
    """As the rider's app shows it, and the ``rider.availability`` event says it."""
    return {
        "status": "paused" if found.paused else "available",
        "reason": None if found.reason is None else found.reason.value,
        "until": rfc3339(found.until),
        "auto_accept": found.auto_accept,
    }


async def pause(
    conn: AsyncConnection, rider_id: str, reason: PauseReason, until: datetime | None
) -> None:
    """No offers until a moment, or until the rider says so.  The plans made so far are stale."""
    await conn.execute(
        update(riders)
        .where(riders.c.id == rider_id)
        .values(
            paused_at=await database_now(conn), paused_until=until, pause_reason=reason.value,
            offers_missed=0, version=riders.c.version + 1,
        )
    )  # fmt: skip
    await _announce(conn, rider_id)


async def resume(conn: AsyncConnection, rider_id: str) -> None:
    """Offers again, from now on.  Saying it twice is fine."""
    await conn.execute(
        update(riders)
        .where(riders.c.id == rider_id)
        .values(
            paused_at=None, paused_until=None, pause_reason=None, offers_missed=0,
            acted_at=await database_now(conn), version=riders.c.version + 1,
        )
    )  # fmt: skip
    await _announce(conn, rider_id)


async def prefer(conn: AsyncConnection, rider_id: str, *, auto_accept: bool) -> None:
    """Whether offers are taken for the rider at once, from the next one on."""
    await conn.execute(
        update(riders).where(riders.c.id == rider_id).values(auto_accept=auto_accept)
    )
    await _announce(conn, rider_id)


async def acted(conn: AsyncConnection, rider_id: str) -> None:
    """The rider has just done something that only a person does: there is somebody."""
    await conn.execute(
        update(riders)
        .where(riders.c.id == rider_id)
        .values(acted_at=await database_now(conn), offers_missed=0)
    )


async def missed_offer(conn: AsyncConnection, rider_id: str, most: int) -> bool:
    """An offer ran out unanswered; with ``most`` of them in a row the rider is paused.

    Returns whether the rider is now.
    """
    missed = await conn.scalar(
        update(riders)
        .where(riders.c.id == rider_id)
        .values(offers_missed=riders.c.offers_missed + 1)
        .returning(riders.c.offers_missed)
    )
    if missed is None or missed < most:
        return False
    await pause(conn, rider_id, PauseReason.NOT_RESPONDING, None)
    return True


async def _announce(conn: AsyncConnection, rider_id: str) -> None:
    """To the rider's phone, and to the ops of the city."""
    found = await read(conn, rider_id)
    city_id = await conn.scalar(select(riders.c.city_id).where(riders.c.id == rider_id))
    await outbox.append(conn, f"rider:{rider_id}", "rider.availability", shape(found))
    status = "paused" if found.paused else "available"
    await outbox.append(
        conn, f"city:{city_id}", "rider.changed", {"rider_id": rider_id, "status": status}
    )
