"""Waste: units that cannot be sold leave the books, of a lot that is named or of the earliest."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import Invalid, NotFound
from stores import stock
from stores.stock import Grounds, LotUnits, MovementKind, StockCount
from stores.tables import lots


class WasteReason(StrEnum):
    EXPIRED = "expired"
    DAMAGED = "damaged"
    SPOILED = "spoiled"
    RECALLED = "recalled"
    STOLEN = "stolen"
    OTHER = "other"


class LotNotFound(NotFound):
    code = "lot_not_found"
    title = "The product has no such lot"


async def waste(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    quantity: int,
    reason: WasteReason,
    actor: str,
    lot_id: str | None = None,
) -> tuple[StockCount, list[LotUnits]]:
    """Throw units away; the count after it and what each lot gave.

    Raises ``StockNotFound``, ``LotNotFound``, ``Invalid`` for more than the lot holds, and
    ``StockReserved`` when orders hold the units: those have to be picked short first.
    """
    stock.check_free(await stock.lock_one(conn, store_id, sku_id), quantity)
    if lot_id is not None:
        in_lot = await conn.scalar(
            select(lots.c.on_hand).where(
                lots.c.id == lot_id, lots.c.store_id == store_id, lots.c.sku_id == sku_id
            )
        )
        if in_lot is None:
            raise LotNotFound("This product has no lot with this id here.")
        if in_lot < quantity:
            raise Invalid(f"The lot holds {in_lot} units.")
    taken = await stock.take(
        conn, store_id, sku_id, quantity, MovementKind.WASTE, Grounds(actor, reason.value), lot_id
    )
    return (await stock.announce(conn, store_id, [sku_id]))[sku_id], taken


async def list_lots(
    conn: AsyncConnection,
    store_id: str,
    *,
    sku_id: str | None = None,
    expires_before: date | None = None,
    blocked: bool | None = None,
    limit: int = 100,
) -> list[dict[str, object]]:
    """Lots with units in them, what expires first first."""
    query = select(
        lots.c.id, lots.c.sku_id, lots.c.on_hand, lots.c.expires_on, lots.c.blocked,
        lots.c.received_at,
    ).where(lots.c.store_id == store_id, lots.c.on_hand > 0)  # fmt: skip
    if sku_id is not None:
        query = query.where(lots.c.sku_id == sku_id)
    if expires_before is not None:
        query = query.where(lots.c.expires_on < expires_before)
    if blocked is not None:
        query = query.where(lots.c.blocked == blocked)
    rows = await conn.execute(
        query.order_by(lots.c.expires_on.nulls_last(), lots.c.id).limit(limit)
    )
    return [dict(row) for row in rows.mappings()]
