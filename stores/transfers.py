"""Transfers between stores: created, dispatched, then received or cancelled.

From dispatch on the units are on no shelf; ``stock_transfer_lots.in_transit`` is where they are.
What does not arrive is booked as an adjustment of the store that received the rest, so that the
units and their loss both have a movement.  Lock order: the transfer, stock rows by SKU, the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import IllegalTransition, Invalid
from kit.ids import is_id, new_id
from kit.wire import rfc3339
from stores import stock
from stores.errors import NotAvailable, TransferNotFound
from stores.stock import Grounds, LotUnits, MovementKind
from stores.tables import stock_transfer_lines as lines_table
from stores.tables import stock_transfer_lots as lots_table
from stores.tables import stock_transfers

LOST = "lost_in_transit"
CANCELLED = "transfer_cancelled"

# A transfer as a JSON value.
Transfer = dict[str, Any]


async def create(
    conn: AsyncConnection,
    from_store_id: str,
    to_store_id: str,
    lines: Mapping[str, int],
    actor: str,
) -> str:
    """Plan a transfer of units by sku id; its id.  Nothing moves or is promised yet.

    Raises ``StockNotFound`` unless both stores carry all of it.
    """
    if from_store_id == to_store_id:
        raise Invalid("A transfer goes to another store.")
    for store_id in (from_store_id, to_store_id):
        await stock.check_carried(conn, store_id, lines)
    transfer_id = new_id("trf")
    await conn.execute(
        insert(stock_transfers).values(
            id=transfer_id, from_store_id=from_store_id, to_store_id=to_store_id,
            status="created", created_by=actor, created_at=func.darkstore_now(),
        )
    )  # fmt: skip
    await conn.execute(
        insert(lines_table),
        [
            {"transfer_id": transfer_id, "sku_id": sku_id, "quantity": quantity}
            for sku_id, quantity in sorted(lines.items())
        ],
    )
    return transfer_id


async def dispatch(
    conn: AsyncConnection, from_store_id: str, transfer_id: str, actor: str
) -> list[str]:
    """The units leave the shelf, what expires first first; returns their sku ids.

    Raises ``TransferNotFound``, ``IllegalTransition``, and ``NotAvailable`` when the store has too
    few that are neither promised nor too near their date.
    """
    await _lock(conn, transfer_id, "dispatched", ("created",), from_store_id=from_store_id)
    lines = await _quantities(conn, transfer_id)
    held = await stock.lock(conn, from_store_id, lines)
    lacking = [
        {"sku_id": sku_id, "requested": quantity, "available": held[sku_id].available}
        for sku_id, quantity in lines.items()
        if quantity > held[sku_id].available
    ]
    if lacking:
        raise NotAvailable("The store cannot spare that many.", extra={"lines": lacking})
    grounds = Grounds(actor, None, transfer_id)
    for sku_id, quantity in lines.items():
        taken = await stock.take(
            conn, from_store_id, sku_id, quantity, MovementKind.TRANSFER_OUT, grounds
        )
        await conn.execute(
            insert(lots_table),
            [
                {
                    "transfer_id": transfer_id, "sku_id": sku_id, "lot_id": lot.lot_id,
                    "expires_on": lot.expires_on, "sent": lot.units, "in_transit": lot.units,
                }
                for lot in taken
            ],
        )  # fmt: skip
    await _move(
        conn, transfer_id, "dispatched", dispatched_by=actor, dispatched_at=func.darkstore_now()
    )
    await stock.announce(conn, from_store_id, lines)
    return list(lines)


async def receive(
    conn: AsyncConnection,
    to_store_id: str,
    transfer_id: str,
    arrived: Mapping[str, int],
    actor: str,
) -> list[str]:
    """The units come onto the other store's shelf, as lots of the same dates; their sku ids.

    ``arrived``: units of products of which not all has arrived.  Raises ``TransferNotFound``,
    ``IllegalTransition``, and ``Invalid`` for more than was sent.
    """
    await _lock(conn, transfer_id, "received", ("dispatched",), to_store_id=to_store_id)
    lines = await _quantities(conn, transfer_id)
    wrong = [sku_id for sku_id, units in arrived.items() if units > lines.get(sku_id, -1)]
    if wrong:
        raise Invalid(f"More than was sent: {', '.join(sorted(wrong))}; book it as a delivery.")
    await stock.lock(conn, to_store_id, lines)
    for sku_id, quantity in lines.items():
        units = arrived.get(sku_id, quantity)
        await _unload(conn, to_store_id, transfer_id, sku_id, quantity - units, actor)
        await conn.execute(
            update(lines_table)
            .where(lines_table.c.transfer_id == transfer_id, lines_table.c.sku_id == sku_id)
            .values(received=units)
        )
    await _arrive(conn, transfer_id)
    await _move(conn, transfer_id, "received", closed_by=actor, closed_at=func.darkstore_now())
    await stock.announce(conn, to_store_id, lines)
    return list(lines)


async def cancel(
    conn: AsyncConnection, from_store_id: str, transfer_id: str, actor: str
) -> list[str]:
    """Call a transfer off; what is under way comes back into its lots.  Returns their sku ids.

    Raises ``TransferNotFound``, ``IllegalTransition``.
    """
    allowed = ("created", "dispatched")
    status = await _lock(conn, transfer_id, "cancelled", allowed, from_store_id=from_store_id)
    back: list[str] = []
    if status == "dispatched":
        lines = await _quantities(conn, transfer_id)
        await stock.lock(conn, from_store_id, lines)
        grounds = Grounds(actor, CANCELLED, transfer_id)
        for sku_id in lines:
            for lot in await _in_transit(conn, transfer_id, sku_id):
                await stock.put(conn, from_store_id, sku_id, lot, MovementKind.TRANSFER_IN, grounds)
        await _arrive(conn, transfer_id)
        back = list(lines)
    await _move(conn, transfer_id, "cancelled", closed_by=actor, closed_at=func.darkstore_now())
    if back:
        await stock.announce(conn, from_store_id, back)
    return back


async def stores_of(conn: AsyncConnection, transfer_id: str) -> tuple[str, str]:
    """(from, to) of a transfer, which never change.  Raises ``TransferNotFound``."""
    row = None
    if is_id(transfer_id, "trf"):
        row = (
            await conn.execute(
                select(stock_transfers.c.from_store_id, stock_transfers.c.to_store_id).where(
                    stock_transfers.c.id == transfer_id
                )
            )
        ).first()
    if row is None:
        raise TransferNotFound("There is no transfer with this id.")
    return row.from_store_id, row.to_store_id


async def read(conn: AsyncConnection, store_id: str, transfer_id: str) -> Transfer:
    """A transfer from or to a store.  Raises ``TransferNotFound``."""
    if store_id not in await stores_of(conn, transfer_id):
        raise TransferNotFound("There is no transfer with this id.")
    found = await conn.execute(select(stock_transfers).where(stock_transfers.c.id == transfer_id))
    rows = await conn.execute(
        select(
            lines_table.c.sku_id, lines_table.c.quantity, lines_table.c.received,
            select(func.coalesce(func.sum(lots_table.c.in_transit), 0))
            .where(
                lots_table.c.transfer_id == transfer_id,
                lots_table.c.sku_id == lines_table.c.sku_id,
            )
            .scalar_subquery().label("in_transit"),
        )
        .where(lines_table.c.transfer_id == transfer_id)
        .order_by(lines_table.c.sku_id)
    )  # fmt: skip
    return _shape(found.one()._mapping) | {"lines": [_shape(row) for row in rows.mappings()]}


async def list_transfers(
    conn: AsyncConnection, store_id: str, cursor: str | None, limit: int
) -> Sequence[Transfer]:
    """Transfers from and to a store without lines, the latest first, before ``cursor`` (an id)."""
    query = select(stock_transfers).where(
        or_(
            stock_transfers.c.from_store_id == store_id,
            stock_transfers.c.to_store_id == store_id,
        )
    )
    if cursor is not None:
        query = query.where(stock_transfers.c.id < cursor)
    rows = await conn.execute(query.order_by(stock_transfers.c.id.desc()).limit(limit))
    return [_shape(row._mapping) for row in rows]


def _shape(row: Mapping[Any, Any]) -> Transfer:
    return {
        str(key): rfc3339(value) if isinstance(value, datetime) else value
        for key, value in row.items()
    }


async def _lock(
    conn: AsyncConnection, transfer_id: str, wanted: str, allowed: Sequence[str], **side: str
) -> str:
    """The state of a transfer, locked.  Raises ``TransferNotFound``, ``IllegalTransition``."""
    query = select(stock_transfers.c.status).where(stock_transfers.c.id == transfer_id)
    for column, store_id in side.items():
        query = query.where(stock_transfers.c[column] == store_id)
    status = None
    if is_id(transfer_id, "trf"):
        status = await conn.scalar(query.with_for_update())
    if status is None:
        raise TransferNotFound("This store has no such transfer.")
    if status not in allowed:
        raise IllegalTransition(
            f"The transfer is {status} and cannot become {wanted}.",
            extra={"machine": "transfer", "state": status, "wanted": wanted},
        )
    return str(status)


async def _quantities(conn: AsyncConnection, transfer_id: str) -> dict[str, int]:
    """Planned units by sku id, in the order in which stock is locked."""
    rows = await conn.execute(
        select(lines_table.c.sku_id, lines_table.c.quantity)
        .where(lines_table.c.transfer_id == transfer_id)
        .order_by(lines_table.c.sku_id)
    )
    return {row.sku_id: row.quantity for row in rows}


async def _in_transit(conn: AsyncConnection, transfer_id: str, sku_id: str) -> list[LotUnits]:
    """What is under way of a product, what expires first first."""
    rows = await conn.execute(
        select(lots_table.c.lot_id, lots_table.c.in_transit, lots_table.c.expires_on)
        .where(
            lots_table.c.transfer_id == transfer_id,
            lots_table.c.sku_id == sku_id,
            lots_table.c.in_transit > 0,
        )
        .order_by(lots_table.c.expires_on.nulls_last(), lots_table.c.lot_id)
    )
    return [LotUnits(row.lot_id, row.in_transit, row.expires_on) for row in rows]


async def _unload(
    conn: AsyncConnection,
    store_id: str,
    transfer_id: str,
    sku_id: str,
    lost: int,
    actor: str,
) -> None:
    """New lots at the store; what was lost goes off the ones that expire last."""
    came = [
        LotUnits(new_id("lot"), lot.units, lot.expires_on)
        for lot in await _in_transit(conn, transfer_id, sku_id)
    ]
    for lot in came:
        grounds = Grounds(actor, None, transfer_id)
        await stock.put(conn, store_id, sku_id, lot, MovementKind.TRANSFER_IN, grounds)
    for lot in reversed(came):
        units = min(lost, lot.units)
        if units:
            await stock.take(
                conn, store_id, sku_id, units, MovementKind.ADJUSTMENT,
                Grounds(actor, LOST, transfer_id), lot.lot_id,
            )  # fmt: skip
            lost -= units


async def _arrive(conn: AsyncConnection, transfer_id: str) -> None:
    await conn.execute(
        update(lots_table).where(lots_table.c.transfer_id == transfer_id).values(in_transit=0)
    )


async def _move(conn: AsyncConnection, transfer_id: str, status: str, **values: object) -> None:
    await conn.execute(
        update(stock_transfers)
        .where(stock_transfers.c.id == transfer_id)
        .values(status=status, **values)
    )
