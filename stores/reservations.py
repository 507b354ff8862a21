"""Reserved stock of an order: made by checkout, then firm, then taken from the shelf or released.

Every function runs in the caller's transaction, after the order's row was locked.  One that
touches several products locks their stock first (``lock_stock``), in the order in which all do.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import Query, load
from stores.errors import StockExpired

_RELEASE = Query(
    "stores.release", "SELECT release_reservation($1::text, $2::text, $3::text) AS released"
)
_RESERVE_MORE = Query(
    "stores.reserve_more",
    "SELECT reserve_more($1::text, $2::text, $3::integer, $4::text) AS reserved",
)
_RELEASE_SOME = Query(
    "stores.release_some", "SELECT release_some($1::text, $2::text, $3::integer, $4::text) AS units"
)
_TAKE = Query(
    "stores.take",
    "SELECT take_reserved($1::text, $2::text, $3::integer, $4::text, $5::text, $6::text)",
)
_RETURN = Query(
    "stores.return_picked",
    "SELECT sku_id, sum(units)::integer AS units"
    " FROM return_picked($1::text, $2::text, $3::integer, $4::text, $5::text) GROUP BY 1",
)
_LOCK_STOCK = load("stores", "lock_order_stock")
_HAND_OVER = load("stores", "hand_over_stock")

# What the database says when a pick finds only units past their date.
_EXPIRED = "DS410"


async def make_firm(conn: AsyncConnection, order_id: str) -> None:
    """The order is paid for: the reservation no longer expires."""
    await conn.execute(
        text(
            "UPDATE reservations SET status = 'firm', expires_at = NULL"
            " WHERE order_id = :order_id AND status = 'held'"
        ),
        {"order_id": order_id},
    )


async def hold_longer(conn: AsyncConnection, order_id: str, seconds: float) -> None:
    """Hold the stock for at least so many real seconds more: the payment is still being tried."""
    await conn.execute(
        text(
            "UPDATE reservations SET expires_at = greatest(expires_at, darkstore_now()"
            " + make_interval(secs => CAST(:seconds AS float8) * (SELECT speed FROM clock)))"
            " WHERE order_id = :order_id AND status = 'held'"
        ),
        {"order_id": order_id, "seconds": seconds},
    )


async def lock_stock(conn: AsyncConnection, order_id: str, also: Collection[str] = ()) -> None:
    """Lock the stock of all of an order's products, and of those in ``also`` (sku ids).

    In the order in which checkout does: releasing, restocking and substituting touch different
    rows of them, and without this they could meet a checkout that holds what they want.
    """
    await _LOCK_STOCK.run(conn, order_id, sorted(also))


async def release(
    conn: AsyncConnection, order_id: str, actor: str, *, expired: bool = False
) -> bool:
    """Give back what is still reserved; False when there was nothing to give back."""
    row = await _RELEASE.one(conn, order_id, "expiry" if expired else "release", actor)
    return bool(row.released)


async def reserve_more(
    conn: AsyncConnection, order_id: str, sku_id: str, quantity: int, actor: str
) -> bool:
    """Add units of a product to an open reservation, for a substitute or a late payment.

    False, and nothing is changed, when the store has too few left to sell.
    """
    return bool((await _RESERVE_MORE.one(conn, order_id, sku_id, quantity, actor)).reserved)


async def release_some(
    conn: AsyncConnection, order_id: str, sku_id: str, quantity: int, actor: str
) -> int:
    """Give back up to ``quantity`` reserved units of one product; returns how many it were."""
    return int((await _RELEASE_SOME.one(conn, order_id, sku_id, quantity, actor)).units)


async def take(
    conn: AsyncConnection, order_id: str, sku_id: str, quantity: int, actor: str
) -> None:
    """Reserved units leave the shelf for the order's bag, the earliest expiry first.

    Raises StockExpired when only units past their date are left.
    """
    try:
        await _TAKE.run(conn, order_id, sku_id, quantity, "pick", actor, None)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _EXPIRED:
            raise StockExpired(
                "All that is left of it is past its date: report it short, with reason expired."
            ) from error
        raise


async def write_off(
    conn: AsyncConnection,
    order_id: str,
    sku_id: str,
    quantity: int,
    actor: str,
    reason: str = "not_found",
) -> None:
    """Reserved units that cannot be picked leave the books."""
    await _TAKE.run(conn, order_id, sku_id, quantity, "shortage", actor, reason)


async def consume(conn: AsyncConnection, order_id: str, actor: str = "system") -> None:
    """The order has left the store: its bags are with the rider and its reservation is done."""
    await conn.execute(
        text("UPDATE reservations SET status = 'consumed' WHERE order_id = :order_id"),
        {"order_id": order_id},
    )
    await _HAND_OVER.run(conn, order_id, actor)


async def restock(conn: AsyncConnection, order_id: str, actor: str) -> dict[str, int]:
    """Units that were picked for the order go back on the shelf, into the lots they came from.

    Returns units by sku id.  What has come back before does not come back again.
    """
    return await take_back(conn, order_id, actor)


async def take_back(
    conn: AsyncConnection,
    order_id: str,
    actor: str,
    *,
    sku_id: str | None = None,
    quantity: int | None = None,
    waste_reason: str | None = None,
) -> dict[str, int]:
    """Picked units come back: of one product or of all, up to ``quantity`` of it.

    With ``waste_reason`` they are thrown away at once: returned and wasted, so that the trail of
    their lots ends where they did.  Returns units by sku id.
    """
    rows = await _RETURN.all(conn, order_id, sku_id, quantity, actor, waste_reason)
    return {row.sku_id: row.units for row in rows}
