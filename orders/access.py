"""Who may see or touch an order.  A foreign order does not exist: NotFound, never Denied."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.model import SHOPPERS, Actor, Role
from kit.errors import NotFound
from orders.tables import orders
from riders import trips
from stores.tables import stores


async def visible_order(conn: AsyncConnection, actor: Actor, order_id: str) -> None:
    """Raises NotFound unless the actor is the order's customer, rider, or staff in scope."""
    if not await may_see_order(conn, actor, order_id):
        raise NotFound("There is no such order.")


async def may_see_order(conn: AsyncConnection, actor: Actor, order_id: str) -> bool:
    row = (
        await conn.execute(
            select(orders.c.user_id, orders.c.store_id, orders.c.city_id).where(
                orders.c.id == order_id
            )
        )
    ).first()
    if row is None:
        return False
    if actor.role in SHOPPERS:
        return bool(row.user_id == actor.user_id)
    if actor.role is Role.RIDER:
        return await _rides(conn, actor, order_id)
    return actor.may_act_in_store(row.store_id) or actor.may_act_in_city(row.city_id)


async def _rides(conn: AsyncConnection, actor: Actor, order_id: str) -> bool:
    trip = await trips.active_of_order(conn, order_id)
    return trip is not None and trip.rider_id == actor.rider_id


async def staffed_store(conn: AsyncConnection, actor: Actor, store_id: str) -> None:
    """Raises NotFound unless the actor is staff of the store or of its city."""
    if not await may_act_in_store(conn, actor, store_id):
        raise NotFound("There is no such store.")


async def may_act_in_store(conn: AsyncConnection, actor: Actor, store_id: str) -> bool:
    city_id: Any = await conn.scalar(select(stores.c.city_id).where(stores.c.id == store_id))
    if city_id is None:
        return False
    return actor.may_act_in_store(store_id) or actor.may_act_in_city(city_id)
