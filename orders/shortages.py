"""Units that a picker cannot find: they leave the books and their price goes back."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from orders.adjustments import Adjustment, AdjustmentKind, adjust
from orders.lines import count_line, priced, read_lines
from orders.pricing import refund_for
from stores import picking, reservations
from stores.picking import PickTask


async def report_missing(
    conn: AsyncConnection,
    task: PickTask,
    picker_id: str,
    line_id: str,
    missing: int,
    reason: str,
) -> None:
    """Take ``missing`` units of a line off the books and off the price.

    The caller holds the task and has checked that so many units of the line are open.
    """
    order_id = task["order_id"]
    row = (await read_lines(conn, order_id))[line_id]
    await picking.count_line(conn, task["id"], line_id, missing=missing)
    await reservations.write_off(conn, order_id, row.sku_id, missing, picker_id, reason)
    back = refund_for(priced(row), missing, row.missing_quantity)
    await count_line(conn, order_id, line_id, missing=missing)
    await adjust(
        conn, order_id,
        [
            Adjustment(
                AdjustmentKind.SHORT_PICK, back.items_minor, back.tax_minor, row.tax_rate_bp,
                line_id, missing,
            )
        ],
        actor=picker_id, reason=reason, source_id=task["id"],
    )  # fmt: skip
