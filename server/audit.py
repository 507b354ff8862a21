"""Writing down what staff do: who it was, and whose ops may read of it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from control import audit
from control.audit import Deed
from identity.model import Actor
from orders.tables import orders
from stores.tables import stores


async def of_order(
    conn: AsyncConnection,
    actor: Actor,
    action: str,
    order_id: str,
    reason: str | None,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """A deed about an order, in its transaction; ops of the order's city read it."""
    row = (
        await conn.execute(
            select(orders.c.city_id, orders.c.store_id).where(orders.c.id == order_id)
        )
    ).one()
    deed = Deed(
        action, "order", order_id, row.city_id, row.store_id, reason, before=before, after=after
    )
    await record(conn, actor, deed)


async def of_store(
    conn: AsyncConnection,
    actor: Actor,
    action: str,
    store_id: str,
    reason: str | None,
    *,
    object_kind: str = "store",
    object_id: str | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """A deed about a store, or about something of it."""
    city_id = await conn.scalar(select(stores.c.city_id).where(stores.c.id == store_id))
    deed = Deed(
        action, object_kind, object_id or store_id, city_id, store_id, reason,
        before=before, after=after,
    )  # fmt: skip
    await record(conn, actor, deed)


async def record(conn: AsyncConnection, actor: Actor, deed: Deed) -> None:
    """Any other deed."""
    await audit.record(conn, actor.user_id, actor.role.value, deed)
