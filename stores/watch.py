"""What somebody wants to be told about stock: the store that it is low, a customer that it is back.

Both are looked for by a periodic job, not by the transactions that change stock: a checkout must
not take the lock of its store's whole stream to say that two litres of milk are left.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.ids import is_id, new_id
from kit.sql import Query, load
from kit.wire import rfc3339
from stores.errors import AlertNotFound, InStock, StockNotFound, TooManyAlerts
from stores.tables import stock, stock_alerts

# A look at 50,000 stock rows took 40 ms on two busy cores; a full batch holds stores' streams.
BATCH = 200

_NOTE_LOW = Query("stores.note_low", "SELECT note_low_stock($1::integer) AS told")
_FIRE = Query("stores.fire_alerts", "SELECT fire_stock_alerts($1::integer) AS fired")
_LOW = load("stores", "low_stock")
_ALERTS = load("stores", "alerts")

# An alert as a JSON value.
Alert = dict[str, object]


async def look(database: Database) -> tuple[int, int]:
    """Tell all that is to be told; (products that ran low, alerts that were fired)."""
    told = fired = 0
    while True:
        async with database.begin() as conn:
            low = int((await _NOTE_LOW.one(conn, BATCH)).told)
        async with database.begin() as conn:
            back = int((await _FIRE.one(conn, BATCH)).fired)
        told, fired = told + low, fired + back
        if low < BATCH and back < BATCH:
            return told, fired


async def list_low(
    conn: AsyncConnection, store_id: str, cursor: str | None, limit: int
) -> list[dict[str, object]]:
    """Products of a store that are low now, by sku id, after ``cursor`` (a sku id)."""
    rows = await _LOW.dicts(conn, store_id, cursor, limit)
    return [{**row, "since": rfc3339(row["since"])} for row in rows]


async def sign_up(
    conn: AsyncConnection, user_id: str, store_id: str, sku_id: str, most: int
) -> Alert:
    """Wait for a product; signing up twice is signing up once.

    Raises ``StockNotFound``, ``InStock``, and ``TooManyAlerts`` past ``most`` that wait.
    """
    available = await conn.scalar(
        select(stock.c.available).where(stock.c.store_id == store_id, stock.c.sku_id == sku_id)
    )
    if available is None:
        raise StockNotFound("This store does not carry that product.")
    if available > 0:
        raise InStock("The product is there: order it.")
    # One sign-up a customer at a time, or two at once would pass the bound together.
    await conn.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"stock_alerts:{user_id}", 0)))
    )
    waiting = await conn.scalar(
        select(func.count())
        .select_from(stock_alerts)
        .where(stock_alerts.c.user_id == user_id, stock_alerts.c.fired_at.is_(None))
    )
    if (waiting or 0) >= most and await _waiting(conn, user_id, store_id, sku_id) is None:
        raise TooManyAlerts(f"You wait for {most} products; give one of them up first.")
    await conn.execute(
        insert(stock_alerts)
        .values(
            id=new_id("alr"), user_id=user_id, store_id=store_id, sku_id=sku_id,
            created_at=func.darkstore_now(),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    alert_id = await _waiting(conn, user_id, store_id, sku_id)
    assert alert_id is not None, "it was written a moment ago"
    return (await list_alerts(conn, user_id, None, 1, alert_id))[0]


async def _waiting(conn: AsyncConnection, user_id: str, store_id: str, sku_id: str) -> str | None:
    found: str | None = await conn.scalar(
        select(stock_alerts.c.id).where(
            stock_alerts.c.user_id == user_id,
            stock_alerts.c.store_id == store_id,
            stock_alerts.c.sku_id == sku_id,
            stock_alerts.c.fired_at.is_(None),
        )
    )
    return found


async def list_alerts(
    conn: AsyncConnection,
    user_id: str,
    cursor: str | None,
    limit: int,
    alert_id: str | None = None,
) -> list[Alert]:
    """A customer's alerts, the latest first, before ``cursor`` (an id); fired ones have a time."""
    rows = await _ALERTS.dicts(conn, user_id, cursor, limit, alert_id)
    return [
        {**row, "created_at": rfc3339(row["created_at"]), "fired_at": rfc3339(row["fired_at"])}
        for row in rows
    ]


async def give_up(conn: AsyncConnection, user_id: str, alert_id: str) -> None:
    """Forget an alert.  Raises ``AlertNotFound``."""
    gone = None
    if is_id(alert_id, "alr"):
        gone = await conn.scalar(
            delete(stock_alerts)
            .where(stock_alerts.c.id == alert_id, stock_alerts.c.user_id == user_id)
            .returning(stock_alerts.c.id)
        )
    if gone is None:
        raise AlertNotFound("You have no alert with this id.")
