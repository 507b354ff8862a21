"""Receiving: what a supplier brings, several products on one delivery note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import Invalid
from kit.ids import new_id
from stores import repository, stock
from stores.errors import BinTaken, DeliveryKnown
from stores.repository import Delivery
from stores.stock import StockCount
from stores.tables import bins, receipts
from stores.tables import stock as stock_rows


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """Units of one product; ``expires_on`` None: they keep; ``bin`` None: where it always lies."""

    sku_id: str
    quantity: int
    expires_on: date | None = None
    bin: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A booked delivery and the counts after it, by sku id."""

    id: str
    counts: Mapping[str, StockCount]


async def receive_delivery(
    conn: AsyncConnection,
    store_id: str,
    supplier: str,
    supplier_reference: str,
    lines: Sequence[ReceiptLine],
    actor: str,
) -> Receipt:
    """Book a delivery note: every line becomes a lot.

    Raises ``DeliveryKnown`` (the same note was booked before), ``StockNotFound``, ``BinTaken``,
    and ``Invalid`` for goods that are past their date.
    """
    receipt_id = new_id("rcp")
    booked = await conn.scalar(
        insert(receipts)
        .values(
            id=receipt_id, store_id=store_id, supplier=supplier,
            supplier_reference=supplier_reference, received_by=actor,
            received_at=func.darkstore_now(),
        )
        .on_conflict_do_nothing()
        .returning(receipts.c.id)
    )  # fmt: skip
    if booked is None:
        raise await _known(conn, store_id, supplier, supplier_reference)
    sku_ids = {line.sku_id for line in lines}
    held = await stock.lock(conn, store_id, sku_ids)
    today: date = (await conn.execute(select(func.store_today(store_id)))).scalar_one()
    for line in lines:
        if line.expires_on is not None and line.expires_on < today:
            raise Invalid(f"{line.sku_id} is past its date: refuse the goods.")
        if line.bin is not None:
            await _put_into_bin(conn, store_id, line.sku_id, line.bin, held[line.sku_id])
    deliveries = [Delivery(line.sku_id, line.quantity, line.expires_on) for line in lines]
    await repository.receive(conn, store_id, deliveries, actor, receipt_id)
    return Receipt(receipt_id, await stock.announce(conn, store_id, sku_ids))


async def _known(
    conn: AsyncConnection, store_id: str, supplier: str, supplier_reference: str
) -> DeliveryKnown:
    first = await conn.scalar(
        select(receipts.c.id).where(
            receipts.c.store_id == store_id,
            receipts.c.supplier == supplier,
            receipts.c.supplier_reference == supplier_reference,
        )
    )
    return DeliveryKnown(
        "This delivery note has been booked; correct what was wrong with an adjustment.",
        extra={"receipt_id": first},
    )


async def _put_into_bin(
    conn: AsyncConnection, store_id: str, sku_id: str, code: str, held: StockCount
) -> None:
    """A product without a unit left may get another free bin of its temperature.

    With units on the shelf it stays: pick tasks name the bin where they lie.
    """
    now = await conn.scalar(
        select(stock_rows.c.bin).where(
            stock_rows.c.store_id == store_id, stock_rows.c.sku_id == sku_id
        )
    )
    if now == code:
        return
    wanted = await conn.scalar(
        select(bins.c.temperature).where(bins.c.store_id == store_id, bins.c.code == code)
    )
    kept_at = await conn.scalar(
        select(bins.c.temperature).where(bins.c.store_id == store_id, bins.c.code == now)
    )
    lies_there = await conn.scalar(
        select(stock_rows.c.sku_id).where(
            stock_rows.c.store_id == store_id, stock_rows.c.bin == code
        )
    )
    if wanted != kept_at or lies_there is not None or held.on_hand:
        raise BinTaken(
            f"{sku_id} lies in {now}; {code} is taken, of another temperature, or not a bin of"
            " this store, or there are units left that would have to move."
        )
    await conn.execute(
        update(stock_rows)
        .where(stock_rows.c.store_id == store_id, stock_rows.c.sku_id == sku_id)
        .values(bin=code)
    )
