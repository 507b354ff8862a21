"""Ordering again: the lines of an old order into the cart, at today's price and as far as they go.

Each product gets as many units as it had, not that many more, so asking twice changes nothing
and the request needs no key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import repository as catalog
from catalog.repository import Alternative
from kit.money import Money
from orders.carts import Carts, PricedCart
from orders.carts_redis import MAX_QUANTITY
from orders.tables import order_lines, orders


@dataclass(frozen=True, slots=True)
class OldLine:
    """A line as it was ordered."""

    sku_id: str
    name: str
    quantity: int
    unit_price_minor: int


@dataclass(frozen=True, slots=True)
class OldOrder:
    store_id: str
    currency: str
    lines: tuple[OldLine, ...]


@dataclass(frozen=True, slots=True)
class GoneLine:
    """Nothing of it is to be had; what else there is."""

    line: OldLine
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class ShortLine:
    """Fewer units than before went into the cart."""

    line: OldLine
    available: int
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class RepricedLine:
    line: OldLine
    price: Money


@dataclass(slots=True)
class Reorder:
    """The cart, and where it differs from the old order."""

    cart: PricedCart
    gone: list[GoneLine] = field(default_factory=list)
    short: list[ShortLine] = field(default_factory=list)
    repriced: list[RepricedLine] = field(default_factory=list)


async def old_order(conn: AsyncConnection, order_id: str) -> OldOrder:
    """The lines of an order that exists, in their order."""
    head = (
        await conn.execute(
            select(orders.c.store_id, orders.c.currency).where(orders.c.id == order_id)
        )
    ).one()
    rows = await conn.execute(
        select(
            order_lines.c.sku_id, order_lines.c.name, order_lines.c.quantity,
            order_lines.c.unit_price_minor,
        )
        .where(order_lines.c.order_id == order_id)
        .order_by(order_lines.c.n)
    )  # fmt: skip
    return OldOrder(head.store_id, head.currency, tuple(OldLine(*row) for row in rows))


async def reorder(carts: Carts, user_id: str, old: OldOrder, now_ms: int) -> Reorder:
    """Put the lines of an old order into a cart.

    What the cart holds besides stays.  Raises CartOfAnotherStore, CartFull, CartUnavailable.
    """
    sku_ids = [line.sku_id for line in old.lines]
    async with carts.database.begin() as conn:
        products = await catalog.find_products(conn, old.store_id, sku_ids)
        others = await catalog.alternatives(conn, old.store_id, sku_ids)
    units = await carts.availability(old.store_id, sku_ids)
    told = Reorder(await carts.show(user_id))
    for line in old.lines:
        product, available = products.get(line.sku_id), units.get(line.sku_id, 0)
        instead = tuple(others.get(line.sku_id, ()))
        if product is None or available == 0:
            told.gone.append(GoneLine(line, instead))
            continue
        if available < line.quantity:
            told.short.append(ShortLine(line, available, instead))
        if product.price.amount_minor != line.unit_price_minor:
            told.repriced.append(RepricedLine(line, product.price))
        quantity = min(line.quantity, available, MAX_QUANTITY)
        told.cart = await carts.put_line(user_id, old.store_id, line.sku_id, quantity, now_ms)
    return told
