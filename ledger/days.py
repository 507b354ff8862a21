"""The daily close: a day's balances are fixed, and nothing is posted to it any more.

Days are those of UTC.  What happens late is posted to the first open day and keeps its own time.
"""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock
from kit.sql import Query
from ledger.errors import DayNotOver
from ledger.tables import ledger_days

_CLOSE = Query("ledger.close", "SELECT ledger_close($1::date, $2::text) AS days")
# Whoever posts waits behind us for as long; then the next turn tries again.
_LOCK_WAIT = "SET LOCAL lock_timeout = '1s'"


async def closed_until(conn: AsyncConnection) -> date | None:
    """The last day that is closed; None before the first."""
    found: date | None = await conn.scalar(select(func.max(ledger_days.c.day)))
    return found


async def close(conn: AsyncConnection, day: date, actor: str) -> int:
    """Close every day up to and including ``day``; returns how many were.

    Raises DayNotOver.  A ledger that does not balance is a bug, and is not closed.
    """
    await conn.exec_driver_sql(_LOCK_WAIT)
    try:
        return int((await _CLOSE.one(conn, day, actor)).days)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "DS409":
            raise DayNotOver(f"The day {day.isoformat()} (UTC) is not over yet.") from error
        raise


def last_over(clock: Clock, close_after_s: float) -> date:
    """The last day that has been over for ``close_after_s``."""
    return (clock.now() - timedelta(seconds=close_after_s)).date() - timedelta(days=1)
