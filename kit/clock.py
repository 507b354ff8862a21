"""The clock of the system: wall-clock time, or a faster one for simulated days.

Business time (promises, expiries, shifts, token lives) is *virtual*: ``anchor_virtual + (real -
anchor_real) × speed``.  In production the speed is 1 and virtual time is wall-clock time.  The
database reads the same anchors from its one-row table ``clock`` in the SQL function
``darkstore_now()``, so every process and Postgres agree.  Network deadlines, heartbeats and
back-offs are real time, because packets do not hurry for a simulation.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import CheckConstraint, Column, DateTime, Double, SmallInteger, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import metadata

MAX_SPEED = 600.0

clock_table = Table(
    "clock",
    metadata,
    Column("one", SmallInteger, primary_key=True, server_default=text("1")),
    Column("anchor_real", DateTime(timezone=True), nullable=False),
    Column("anchor_virtual", DateTime(timezone=True), nullable=False),
    Column("speed", Double, nullable=False),
    CheckConstraint("one = 1", name="one_row"),
    CheckConstraint("speed > 0", name="forward"),
)


@dataclass(frozen=True, slots=True)
class Clock:
    """Anchors are POSIX seconds; ``speed`` is virtual seconds a real second."""

    anchor_real_s: float = 0.0
    anchor_virtual_s: float = 0.0
    speed: float = 1.0

    def now(self) -> datetime:
        """Virtual time, aware, in UTC."""
        return datetime.fromtimestamp(self.now_s(), UTC)

    def now_s(self) -> float:
        """Virtual time in POSIX seconds."""
        return self.anchor_virtual_s + (time.time() - self.anchor_real_s) * self.speed

    def real_s(self, virtual_s: float) -> float:
        """How many real seconds a virtual duration takes."""
        return virtual_s / self.speed

    async def sleep(self, virtual_s: float) -> None:
        """Sleep for a virtual duration."""
        await asyncio.sleep(max(0.0, self.real_s(virtual_s)))

    def after(self, virtual_s: float) -> datetime:
        """The moment so many virtual seconds from now."""
        return self.now() + timedelta(seconds=virtual_s)


async def load_clock(conn: AsyncConnection) -> Clock:
    """The clock that the database keeps."""
    row = (
        await conn.execute(
            text(
                "SELECT extract(epoch FROM anchor_real)::float8 AS real_s,"
                " extract(epoch FROM anchor_virtual)::float8 AS virtual_s, speed FROM clock"
            )
        )
    ).one()
    return Clock(row.real_s, row.virtual_s, row.speed)


async def database_now(conn: AsyncConnection) -> datetime:
    """Virtual time on the database's clock: the one that its rows are stamped with."""
    moment = await conn.scalar(text("SELECT darkstore_now()"))
    assert isinstance(moment, datetime)
    return moment


async def set_speed(conn: AsyncConnection, speed: float) -> Clock:
    """Anchor the clock anew at this moment, so that time goes on from where it is at ``speed``."""
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"speed must be above 0 and at most {MAX_SPEED:g}, not {speed:g}")
    await conn.execute(
        text(
            "UPDATE clock SET anchor_virtual = darkstore_now(),"
            " anchor_real = clock_timestamp(), speed = :speed"
        ),
        {"speed": speed},
    )
    return await load_clock(conn)
