"""Which riders are not asked for an order: they declined it, let it pass, or had it once.

Each function runs in a transaction.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def count_miss(
    conn: AsyncConnection,
    order_id: str,
    rider_id: str,
    now: datetime,
    again_at: datetime,
    again_most: int,
) -> None:
    """The rider let an offer of this order pass: it may come again at a moment, but only so often.

    A rider who has declined it for good stays out.
    """
    await conn.execute(
        text(
            "INSERT INTO declines AS d (order_id, rider_id, at, until, misses)"
            " VALUES (:order_id, :rider_id, :at,"
            " CASE WHEN :again_most > 0 THEN CAST(:again_at AS timestamptz) END, 1)"
            " ON CONFLICT (order_id, rider_id) DO UPDATE SET at = excluded.at,"
            " misses = d.misses + 1,"
            " until = CASE WHEN d.until IS NOT NULL AND d.misses < :again_most"
            " THEN excluded.until END"
        ),
        {
            "order_id": order_id, "rider_id": rider_id, "at": now, "again_at": again_at,
            "again_most": again_most,
        },
    )  # fmt: skip


async def exclude(
    conn: AsyncConnection,
    order_id: str,
    rider_id: str,
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Do not offer this order to this rider again: until a moment, or for good."""
    await conn.execute(
        text(
            "INSERT INTO declines (order_id, rider_id, at, until)"
            " VALUES (:order_id, :rider_id, :at, :until)"
            " ON CONFLICT (order_id, rider_id)"
            " DO UPDATE SET at = excluded.at, until = excluded.until"
        ),
        {"order_id": order_id, "rider_id": rider_id, "at": now, "until": until},
    )
