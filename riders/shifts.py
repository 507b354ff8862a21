"""Rider shifts.  Each function runs in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import NotFound
from kit.ids import new_id
from riders.tables import riders, shifts, trips
from riders.trips import OPEN_TRIPS, touch_rider


@dataclass(frozen=True, slots=True)
class RiderCard:
    rider_id: str
    user_id: str
    city_id: str
    name: str
    vehicle: str


async def rider(conn: AsyncConnection, rider_id: str) -> RiderCard:
    """A rider, locked until the end of the transaction.  Raises NotFound."""
    row = (
        await conn.execute(select(riders).where(riders.c.id == rider_id).with_for_update())
    ).first()
    if row is None:
        raise NotFound("There is no such rider.")
    return RiderCard(row.id, row.user_id, row.city_id, row.name, row.vehicle)


async def start(conn: AsyncConnection, rider_id: str, now: datetime, ends_at: datetime) -> str:
    """Start a shift; the open one when there is one.  Returns the shift's id."""
    found = await open_shift(conn, rider_id)
    if found is not None:
        if found.ends_at > now:
            return found.id
        await stop(conn, rider_id, now)
    shift_id = new_id("shf")
    await conn.execute(
        insert(shifts).values(id=shift_id, rider_id=rider_id, started_at=now, ends_at=ends_at)
    )
    await touch_rider(conn, rider_id)
    return shift_id


@dataclass(frozen=True, slots=True)
class Shift:
    id: str
    started_at: datetime
    ends_at: datetime


async def open_shift(conn: AsyncConnection, rider_id: str) -> Shift | None:
    row = (
        await conn.execute(
            select(shifts.c.id, shifts.c.started_at, shifts.c.ends_at).where(
                shifts.c.rider_id == rider_id, shifts.c.stopped_at.is_(None)
            )
        )
    ).first()
    return None if row is None else Shift(row.id, row.started_at, row.ends_at)


async def stop(conn: AsyncConnection, rider_id: str, now: datetime) -> bool:
    """End the open shift; False when there is none."""
    ended = await conn.execute(
        update(shifts)
        .where(shifts.c.rider_id == rider_id, shifts.c.stopped_at.is_(None))
        .values(stopped_at=now)
    )
    await touch_rider(conn, rider_id)
    return ended.rowcount > 0


async def on_trip(conn: AsyncConnection, rider_id: str) -> bool:
    """Whether the rider has been offered a trip or rides one."""
    statuses = [status.value for status in OPEN_TRIPS]
    found = await conn.scalar(
        select(trips.c.id).where(trips.c.rider_id == rider_id, trips.c.status.in_(statuses))
    )
    return found is not None


async def earned(conn: AsyncConnection, rider_id: str, since: datetime) -> list[dict[str, object]]:
    """What a rider earned since a moment, newest first (500 at most)."""
    rows = await conn.execute(
        text(
            "SELECT id, order_id, kind, amount_minor, currency, at FROM earnings"
            " WHERE rider_id = :rider_id AND at >= :since ORDER BY id DESC LIMIT 500"
        ),
        {"rider_id": rider_id, "since": since},
    )
    return [dict(row) for row in rows.mappings()]
