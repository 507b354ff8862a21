"""A store to sell from: products with plenty of stock, buyers, and quotes ready to be ordered.

Rows are made in bulk by Postgres itself: what is measured is the selling.
"""

from __future__ import annotations

from dataclasses import dataclass

from kit.db import Database
from kit.ids import new_id
from kit.sql import load
from stores import repository as stores

PRODUCTS = 2_000
UNITS = 1_000_000

_PLACE = load("server", "bench/place")
_PRODUCTS = load("server", "bench/products")
_QUOTES = load("server", "bench/quotes")


@dataclass(frozen=True, slots=True)
class Shop:
    """One store; ``sku_prefix`` and a number name its products."""

    city_id: str
    store_id: str
    sku_prefix: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A quote and who may order it."""

    quote_id: str
    user_id: str


async def open_shop(database: Database, products: int = PRODUCTS, units: int = UNITS) -> Shop:
    """A city with one store that carries ``products`` products, ``units`` of each."""
    shop = Shop(new_id("cty"), new_id("sto"), new_id("sku"))
    async with database.begin() as conn:
        await _PLACE.run(conn, shop.city_id, shop.store_id)
        made = await _PRODUCTS.all(conn, shop.store_id, shop.sku_prefix, products)
        deliveries = [stores.Delivery(row.sku_id, units, None) for row in made]
        await stores.receive(conn, shop.store_id, deliveries, "bench")
    return shop


async def make_tickets(
    database: Database, shop: Shop, count: int, lines: int, products: int
) -> list[Ticket]:
    """``count`` quotes by as many buyers, each for ``lines`` of the shop's first ``products``."""
    rows = await database.pool.fetch(
        _QUOTES.text, shop.city_id, shop.store_id, shop.sku_prefix, new_id("bch"), count, lines,
        products,
    )  # fmt: skip
    return [Ticket(row["quote_id"], row["user_id"]) for row in rows]
