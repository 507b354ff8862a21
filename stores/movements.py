"""Reading the stock books: who moved what, why, and from which lot."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import load
from kit.wire import rfc3339
from stores.stock import MovementKind

_MOVEMENTS = load("stores", "movements")


async def list_movements(
    conn: AsyncConnection,
    store_id: str,
    *,
    sku_id: str | None = None,
    kinds: Collection[MovementKind] | None = None,
    order_id: str | None = None,
    reference: str | None = None,
    lot_id: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """A store's movements, the latest first; ``before``: the last id of the page before."""
    rows = await _MOVEMENTS.dicts(
        conn, store_id, sku_id, None if kinds is None else [kind.value for kind in kinds],
        order_id, reference, lot_id, before, limit,
    )  # fmt: skip
    return [{**row, "at": rfc3339(row["at"])} for row in rows]
