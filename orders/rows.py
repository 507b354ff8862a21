"""Reading an order's row for a use case: locked, and first of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orders.tables import orders

# A row of the orders table; its columns are typed by the table, which Python cannot read.
OrderRow = Row[*tuple[Any, ...]]


async def read_row(conn: AsyncConnection, order_id: str) -> OrderRow:
    """An order that exists, as it stands; nothing may be decided on it without a lock."""
    return (await conn.execute(select(orders).where(orders.c.id == order_id))).one()


async def lock_order(conn: AsyncConnection, order_id: str) -> OrderRow:
    """An order that exists, locked until the end of the transaction."""
    return (
        await conn.execute(select(orders).where(orders.c.id == order_id).with_for_update())
    ).one()


async def lock_orders(conn: AsyncConnection, order_ids: Sequence[str]) -> dict[str, OrderRow]:
    """Several orders by id, locked in the order of their ids so that nobody waits in a circle."""
    rows = await conn.execute(
        select(orders).where(orders.c.id.in_(order_ids)).order_by(orders.c.id).with_for_update()
    )
    return {row.id: row for row in rows}
