"""Reserved stock of an order: made by checkout, then firm, then taken from the shelf or released.

Every function runs in the caller's transaction, after the order's row was locked.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import Query, load

_RELEASE = Query(
    "stores.release", "SELECT release_reservation($1::text, $2::text, $3::text) AS released"
)
_TAKE = Query(
    "stores.take", "SELECT take_stock($1::text, $2::text, $3::integer, $4::text, $5::text)"
)
_LOCK_STOCK = load("stores", "lock_order_stock")
_RESTOCK = load("stores", "restock_order")


async def make_firm(conn: AsyncConnection, order_id: str) -> None:
    """The order is paid for: the reservation no longer expires."""
    await conn.execute(
        text(
            "UPDATE reservations SET status = 'firm', expires_at = NULL"
            " WHERE order_id = :order_id AND status = 'held'"
        ),
        {"order_id": order_id},
    )


async def lock_stock(conn: AsyncConnection, order_id: str) -> None:
    """Lock the stock of all of an order's products, in the order in which checkout does.

    Releasing and restocking touch different rows of them; without this they could meet a checkout
    that holds what they want.
    """
    await _LOCK_STOCK.run(conn, order_id)


async def release(
    conn: AsyncConnection, order_id: str, actor: str, *, expired: bool = False
) -> bool:
    """Give back what is still reserved; False when there was nothing to give back."""
    row = await _RELEASE.one(conn, order_id, "expiry" if expired else "release", actor)
    return bool(row.released)


async def take(
    conn: AsyncConnection, order_id: str, sku_id: str, quantity: int, actor: str
) -> None:
    """Reserved units leave the shelf for the order's bag."""
    await _TAKE.run(conn, order_id, sku_id, quantity, "pick", actor)


async def write_off(
    conn: AsyncConnection, order_id: str, sku_id: str, quantity: int, actor: str
) -> None:
    """Reserved units that nobody can find leave the books."""
    await _TAKE.run(conn, order_id, sku_id, quantity, "adjustment", actor)


async def consume(conn: AsyncConnection, order_id: str) -> None:
    """The order has left the store: its reservation is done."""
    await conn.execute(
        text("UPDATE reservations SET status = 'consumed' WHERE order_id = :order_id"),
        {"order_id": order_id},
    )


async def restock(conn: AsyncConnection, order_id: str, actor: str) -> None:
    """Units that were picked for the order go back on the shelf."""
    await _RESTOCK.run(conn, order_id, actor)
