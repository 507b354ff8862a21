"""The rows of substitutions: reading, deciding, closing, and the event that tells of each step.

Every function runs in the caller's transaction, with the order's row locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import NotFound
from kit.wire import money, rfc3339
from orders.rows import OrderRow
from orders.tables import order_substitutions as table
from stores import substitutes


class SubstitutionState(StrEnum):
    """``proposed → approved | rejected``, ``approved → picked | withdrawn``."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    PICKED = "picked"
    WITHDRAWN = "withdrawn"


# In these units of the substitute are reserved for the order.
RESERVED = (SubstitutionState.PROPOSED, SubstitutionState.APPROVED)


async def read(conn: AsyncConnection, order_id: str, substitution_id: str) -> OrderRow:
    """One substitution of an order.  Raises NotFound."""
    row = (
        await conn.execute(
            select(table).where(table.c.id == substitution_id, table.c.order_id == order_id)
        )
    ).first()
    if row is None:
        raise NotFound("The order has no such substitution.")
    return row


async def of_order(conn: AsyncConnection, order_id: str) -> list[OrderRow]:
    """An order's substitutions, oldest first."""
    rows = await conn.execute(
        select(table).where(table.c.order_id == order_id).order_by(table.c.id)
    )
    return list(rows)


async def set_state(
    conn: AsyncConnection, row: OrderRow, status: SubstitutionState, decided_by: str | None = None
) -> None:
    """Move a substitution on both sides, and tell the order's channel."""
    values: dict[str, object] = {"status": status.value}
    if decided_by is not None:
        values |= {"decided_by": decided_by, "decided_at": await database_now(conn)}
    await conn.execute(update(table).where(table.c.id == row.id).values(**values))
    await substitutes.set_status(conn, row.id, status.value)
    await tell(conn, row.order_id, row.id)


async def withdraw_open(conn: AsyncConnection, order_id: str) -> None:
    """The order has ended: nobody is asked any more.  Its reservation is released as a whole."""
    for row in await of_order(conn, order_id):
        if row.status in RESERVED:
            await set_state(conn, row, SubstitutionState.WITHDRAWN)


async def tell(conn: AsyncConnection, order_id: str, substitution_id: str) -> None:
    """Announce a substitution as it stands now to its customer."""
    row = await read(conn, order_id, substitution_id)
    data = {
        "id": row.id, "line_id": row.line_id, "sku_id": row.sku_id, "name": row.name,
        "quantity": row.quantity, "picked_quantity": row.picked_quantity, "status": row.status,
        "price_minor": row.items_minor + row.tax_minor, "charged_minor": row.charged_minor,
        "fallback": row.fallback, "deadline_at": rfc3339(row.deadline_at),
    }  # fmt: skip
    await outbox.append(conn, f"order:{order_id}", "order.substitution", data)


def shape(row: Mapping[str, Any], currency: str) -> dict[str, object]:
    """A substitution as its customer sees it; ``row`` is one of the order's view, as JSON.

    ``price`` is what all its units cost with tax, ``charged`` what the picked ones did cost.
    """
    return {
        "id": row["id"],
        "line_id": row["line_id"],
        "sku_id": row["sku_id"],
        "name": row["name"],
        "quantity": row["quantity"],
        "picked_quantity": row["picked_quantity"],
        "unit_price": money(row["unit_price_minor"], currency),
        "price": money(row["items_minor"] + row["tax_minor"], currency),
        "charged": money(row["charged_minor"], currency),
        "refunded": money(row["refunded_minor"], currency),
        "status": row["status"],
        "fallback": row["fallback"],
        **{name: _moment(row[name]) for name in ("proposed_at", "deadline_at", "decided_at")},
    }


def _moment(value: str | None) -> str | None:
    """A moment as Postgres writes it into JSON, as answers show it."""
    return None if value is None else rfc3339(datetime.fromisoformat(value))
