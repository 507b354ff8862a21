"""Rules of a shelf: when a lot is too old to be sold, when a product is low.

A lot is blocked ``expiry_block_days`` before its date, by the wall clock of its store: its units
stay on hand, but no longer count as available.  Units that orders were promised before may still be
picked until the date itself.
"""

from __future__ import annotations

from itertools import groupby

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.sql import Query, load
from stores import stock
from stores.tables import stock as stock_rows
from stores.tables import stores

# Rows locked in one transaction: checkouts of these products wait meanwhile (4 ms a product, busy).
BATCH = 50

_DUE = load("stores", "lots_due")
_DUE_UNTIL = load("stores", "lots_due_until")
_BLOCK = Query("stores.block_by_expiry", "SELECT block_by_expiry($1::text, $2::text) AS changed")


async def block_expiring(database: Database) -> int:
    """Block every lot whose time has come; returns how many products had one.

    One store a transaction, so that stock rows are locked as a checkout locks them.
    """
    blocked = 0
    while True:
        async with database.begin() as conn:
            until = (await _DUE_UNTIL.one(conn)).until
            due = [(row.store_id, row.sku_id) for row in await _DUE.all(conn, until, BATCH)]
        for store_id, group in groupby(due, key=lambda found: found[0]):
            async with database.begin() as conn:
                await _block(conn, store_id, [sku_id for _store, sku_id in group])
        blocked += len(due)
        if len(due) < BATCH:
            return blocked


async def _block(conn: AsyncConnection, store_id: str, sku_ids: list[str]) -> None:
    changed = [
        sku_id for sku_id in sorted(sku_ids) if (await _BLOCK.one(conn, store_id, sku_id)).changed
    ]
    if changed:
        await stock.announce(conn, store_id, changed)


async def set_store_rules(
    conn: AsyncConnection,
    store_id: str,
    *,
    low_stock_at: int | None = None,
    expiry_block_days: int | None = None,
) -> None:
    """What holds in a store where a product says nothing else; None leaves it as it is."""
    values = _given(low_stock_at=low_stock_at, expiry_block_days=expiry_block_days)
    if values:
        await conn.execute(update(stores).where(stores.c.id == store_id).values(**values))
    if expiry_block_days is not None:
        # What was blocked may be free again; what is to be blocked now, the next round finds.
        rows = await conn.scalars(
            select(stock_rows.c.sku_id).where(
                stock_rows.c.store_id == store_id, stock_rows.c.blocked > 0
            )
        )
        await _block(conn, store_id, list(rows))


async def set_product_rules(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    *,
    low_stock_at: int | None,
    expiry_block_days: int | None,
) -> None:
    """A product's own rules in a store; None: the store's.  Raises ``StockNotFound``."""
    await stock.lock_one(conn, store_id, sku_id)
    await conn.execute(
        update(stock_rows)
        .where(stock_rows.c.store_id == store_id, stock_rows.c.sku_id == sku_id)
        .values(low_stock_at=low_stock_at, expiry_block_days=expiry_block_days)
    )
    await _block(conn, store_id, [sku_id])


def _given(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


async def store_rules(conn: AsyncConnection, store_id: str) -> dict[str, object]:
    """The rules of a store as a JSON value."""
    row = (
        await conn.execute(
            select(stores.c.low_stock_at, stores.c.expiry_block_days).where(stores.c.id == store_id)
        )
    ).one()
    return {
        "store_id": store_id,
        "low_stock_at": row.low_stock_at,
        "expiry_block_days": row.expiry_block_days,
    }
