"""What every change of stock is made of: lock the row, take or put units, tell the store's screens.

All of it runs in the caller's transaction, through the routines in ``sql/routines/050_stock.sql``:
stock row, lots and movements change together.  Stock rows are locked in the order of their SKU,
and the store's stream last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import is_id, new_id
from kit.outbox import append
from kit.sql import Query, load
from stores.errors import StockNotFound, StockReserved
from stores.tables import stock as stock_rows

_LOCK = load("stores", "lock_stock")
_CORRECT = Query(
    "stores.correct",
    "SELECT stock_correct($1::text, $2::text, $3::integer, $4::text, $5::text, $6::text, $7::text,"
    " $8::text)",
)
_TAKE = Query(
    "stores.stock_take",
    "SELECT lot_id, units, expires_on FROM stock_take($1::text, $2::text, $3::integer, $4::text,"
    " $5::text, $6::text, $7::text, NULL, $8::text)",
)
_PUT = Query(
    "stores.stock_put",
    "SELECT stock_put($1::text, $2::text, $3::integer, $4::text, $5::date, $6::text, $7::text,"
    " $8::text, $9::text, NULL, 0)",
)


class MovementKind(StrEnum):
    """What moves stock; the table's CHECK says which figures each may change."""

    RECEIPT = "receipt"
    RESERVATION = "reservation"
    RELEASE = "release"
    EXPIRY = "expiry"
    PICK = "pick"
    SHORTAGE = "shortage"
    HANDOVER = "handover"
    RETURN = "return"
    ADJUSTMENT = "adjustment"
    COUNT = "count"
    WASTE = "waste"
    TRANSFER_OUT = "transfer_out"
    TRANSFER_IN = "transfer_in"


@dataclass(frozen=True, slots=True)
class StockCount:
    """Units of one product in a store.

    ``reserved`` of ``on_hand`` are promised to orders, ``blocked`` are too near their date to be
    sold; the same unit can be both.
    """

    on_hand: int
    reserved: int
    blocked: int = 0

    @property
    def available(self) -> int:
        """Units that may still be promised."""
        return max(0, self.on_hand - self.reserved - self.blocked)

    @property
    def free(self) -> int:
        """Units that may leave without breaking a promise, sound or not."""
        return self.on_hand - self.reserved


@dataclass(frozen=True, slots=True)
class LotUnits:
    """Units of one lot; ``expires_on`` None: they keep."""

    lot_id: str
    units: int
    expires_on: date | None


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why a change is made, by whom, and what it belongs to (a count, a delivery, a transfer)."""

    actor: str
    reason: str | None = None
    reference: str | None = None


async def lock(
    conn: AsyncConnection, store_id: str, sku_ids: Collection[str]
) -> dict[str, StockCount]:
    """The counts of some products, locked until the transaction ends.

    Raises ``StockNotFound`` when the store does not carry one of them.
    """
    wanted = sorted(set(sku_ids))
    rows = await _LOCK.all(conn, store_id, wanted) if all(is_id(s, "sku") for s in wanted) else []
    if len(rows) < len(wanted):
        raise StockNotFound("This store carries no product with this id.")
    return {row.sku_id: StockCount(row.on_hand, row.reserved, row.blocked) for row in rows}


async def check_carried(conn: AsyncConnection, store_id: str, sku_ids: Collection[str]) -> None:
    """Raises ``StockNotFound`` unless the store has a shelf for all of them.  Locks nothing."""
    carried = await conn.scalar(
        select(func.count())
        .select_from(stock_rows)
        .where(stock_rows.c.store_id == store_id, stock_rows.c.sku_id.in_(sku_ids))
    )
    if carried != len(set(sku_ids)):
        raise StockNotFound("The store does not carry all of these products.")


async def lock_one(conn: AsyncConnection, store_id: str, sku_id: str) -> StockCount:
    """The count of one product, locked.  Raises ``StockNotFound``."""
    return (await lock(conn, store_id, [sku_id]))[sku_id]


def check_free(held: StockCount, units: int) -> None:
    """Raises ``StockReserved`` unless ``units`` can leave without breaking a promise."""
    if units > held.free:
        raise StockReserved(
            f"{held.reserved} of {held.on_hand} units are promised to orders;"
            f" at most {held.free} can be taken off.",
            extra={"on_hand": held.on_hand, "reserved": held.reserved},
        )


async def correct(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    delta: int,
    kind: MovementKind,
    grounds: Grounds,
) -> None:
    """The books were wrong by ``delta`` units.  The caller has checked that promises hold."""
    await _CORRECT.run(
        conn, store_id, sku_id, delta, new_id("lot"), kind.value, grounds.actor, grounds.reason,
        grounds.reference,
    )  # fmt: skip


async def take(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    units: int,
    kind: MovementKind,
    grounds: Grounds,
    lot_id: str | None = None,
) -> list[LotUnits]:
    """Units leave the shelf, of one lot or what expires first; returns what each lot gave."""
    rows = await _TAKE.all(
        conn, store_id, sku_id, units, kind.value, grounds.actor, grounds.reason,
        grounds.reference, lot_id,
    )  # fmt: skip
    return [LotUnits(row.lot_id, row.units, row.expires_on) for row in rows]


async def put(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    lot: LotUnits,
    kind: MovementKind,
    grounds: Grounds,
) -> None:
    """Units come onto the shelf, as a new lot or back into one of the product's own."""
    await _PUT.run(
        conn, store_id, sku_id, lot.units, lot.lot_id, lot.expires_on, kind.value, grounds.actor,
        grounds.reason, grounds.reference,
    )  # fmt: skip


async def announce(
    conn: AsyncConnection, store_id: str, sku_ids: Collection[str]
) -> Mapping[str, StockCount]:
    """Tell the store's screens how much there is of some products now; returns it.

    Last in a transaction, because a store's stream is shared.
    """
    counts = await lock(conn, store_id, sku_ids)
    for sku_id, count in counts.items():
        await append(
            conn,
            f"store:{store_id}",
            "stock.changed",
            {
                "sku_id": sku_id,
                "on_hand": count.on_hand,
                "reserved": count.reserved,
                "available": count.available,
            },
        )
    return counts
