"""Looking at the stock books in tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from kit.db import Database
from server.verify import verify_database

STOCK_CHECKS = (
    "stock_conservation", "no_oversell", "lots_trace_to_movements", "transfers_balance",
    "counts_match_movements", "bags_handed_over_or_emptied", "stream_gap_free",
)  # fmt: skip


async def rows(database: Database, statement: str, **parameters: object) -> list[dict[str, Any]]:
    async with database.begin() as conn:
        found = await conn.execute(text(statement), parameters)
        return [dict(row) for row in found.mappings()]


async def movements(database: Database, store_id: str, sku_id: str) -> list[tuple[Any, ...]]:
    """(kind, on hand, reserved, bagged, reason) of every movement but receipts, oldest first."""
    found = await rows(
        database,
        "SELECT kind, on_hand_delta, reserved_delta, bagged_delta, reason FROM stock_movements"
        " WHERE store_id = :store AND sku_id = :sku AND kind <> 'receipt' ORDER BY id",
        store=store_id, sku=sku_id,
    )  # fmt: skip
    return [tuple(row.values()) for row in found]


async def on_hand(database: Database, store_id: str, sku_id: str) -> tuple[int, int, int]:
    """(on hand, reserved, blocked)."""
    found = await rows(
        database,
        "SELECT on_hand, reserved, blocked FROM stock WHERE store_id = :store AND sku_id = :sku",
        store=store_id, sku=sku_id,
    )  # fmt: skip
    return found[0]["on_hand"], found[0]["reserved"], found[0]["blocked"]


async def broken_stock(database: Database) -> dict[str, tuple[str, ...]]:
    """The checks on stock that do not hold, with examples."""
    checks = await verify_database(database, None)
    return {
        check.name: check.examples
        for check in checks
        if check.name in STOCK_CHECKS and check.broken_rows
    }


async def events(database: Database, store_id: str, kind: str) -> list[dict[str, Any]]:
    """The data of a store's events of a type, oldest first."""
    found = await rows(
        database,
        "SELECT data FROM outbox WHERE stream = :stream AND type = :type ORDER BY seq",
        stream=f"store:{store_id}", type=kind,
    )  # fmt: skip
    return [row["data"] for row in found]
