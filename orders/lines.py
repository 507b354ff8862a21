"""Counting on an order's lines, with the event that tells its customer."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from orders.pricing import PricedLine
from orders.rows import OrderRow
from orders.tables import order_lines


async def count_line(
    conn: AsyncConnection,
    order_id: str,
    line_id: str,
    *,
    picked: int = 0,
    missing: int = 0,
    claimed: int = 0,
    refunded_minor: int = 0,
) -> None:
    """Add to a line's counts.  ``refunded_minor`` may be negative: a substitute is charged."""
    row = (
        await conn.execute(
            update(order_lines)
            .where(order_lines.c.order_id == order_id, order_lines.c.line_id == line_id)
            .values(
                picked_quantity=order_lines.c.picked_quantity + picked,
                missing_quantity=order_lines.c.missing_quantity + missing,
                claimed_quantity=order_lines.c.claimed_quantity + claimed,
                refunded_minor=order_lines.c.refunded_minor + refunded_minor,
            )
            .returning(
                order_lines.c.sku_id, order_lines.c.quantity, order_lines.c.picked_quantity,
                order_lines.c.refunded_minor,
            )
        )
    ).one()  # fmt: skip
    await outbox.append(
        conn,
        f"order:{order_id}",
        "order.line",
        {
            "line_id": line_id,
            "sku_id": row.sku_id,
            "quantity": row.quantity,
            "picked_quantity": row.picked_quantity,
            "refunded_minor": row.refunded_minor,
        },
    )


async def read_lines(conn: AsyncConnection, order_id: str) -> dict[str, OrderRow]:
    """An order's lines by id, in their order."""
    rows = await conn.execute(
        select(order_lines).where(order_lines.c.order_id == order_id).order_by(order_lines.c.n)
    )
    return {row.line_id: row for row in rows}


def priced(row: OrderRow) -> PricedLine:
    """A line as it was priced at checkout."""
    return PricedLine(
        row.sku_id, row.name, row.quantity, row.unit_price_minor, row.line_total_minor,
        row.discount_minor, row.tax_rate_bp, row.tax_minor, row.weight_g,
    )  # fmt: skip
