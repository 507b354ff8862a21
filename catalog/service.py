"""What a customer sees on the shelves of a store: products with prices and live availability.

Availability belongs to the stores, so the caller hands in a function that knows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from catalog import repository
from catalog.repository import Alternative, StoreCategory, StoreProduct
from kit.db import Database
from kit.errors import Invalid, NotFound
from kit.ids import is_id

ALTERNATIVES_MAX = 3


class ProductNotFound(NotFound):
    code = "product_not_found"
    title = "The store does not sell that"


class CursorInvalid(Invalid):
    code = "cursor_invalid"
    title = "This cursor is not one of ours"


class Availability(Protocol):
    """Units that a store can still promise of some products; unknown products may be left out."""

    async def __call__(self, store_id: str, sku_ids: Sequence[str]) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class ListedProduct:
    """A product, the units available now, and what to buy instead when there are none."""

    product: StoreProduct
    available: int
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class ProductPage:
    items: tuple[ListedProduct, ...]
    next_cursor: str | None


async def list_products(
    database: Database,
    availability: Availability,
    store_id: str,
    *,
    q: str | None = None,
    category: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> ProductPage:
    """A page of a store's products with what is available of each now.

    Raises ``CursorInvalid``.  An unknown store has no products; the caller tells the two apart.
    """
    if cursor is not None and not is_id(cursor, "sku"):
        raise CursorInvalid("Start the list again without a cursor.")
    async with database.begin() as conn:
        products, next_cursor = await repository.list_products(
            conn, store_id, q, category, limit, cursor
        )
    items = await _with_availability(database, availability, store_id, products)
    return ProductPage(items, next_cursor)


async def get_product(
    database: Database, availability: Availability, store_id: str, sku_id: str
) -> ListedProduct:
    """One product as a store sells it now.  Raises ``ProductNotFound``."""
    async with database.begin() as conn:
        found = await repository.find_products(conn, store_id, [sku_id])
    if sku_id not in found:
        raise ProductNotFound("This store does not sell this product; look for another one.")
    items = await _with_availability(database, availability, store_id, list(found.values()))
    return items[0]


async def list_categories(database: Database, store_id: str) -> list[StoreCategory]:
    """The categories in which a store sells anything, by title."""
    async with database.begin() as conn:
        return await repository.list_categories(conn, store_id)


async def _with_availability(
    database: Database,
    availability: Availability,
    store_id: str,
    products: Sequence[StoreProduct],
) -> tuple[ListedProduct, ...]:
    # No transaction is open here: the live layer may take its whole deadline to answer.
    units = await availability(store_id, [product.sku_id for product in products])
    out = [product.sku_id for product in products if units.get(product.sku_id, 0) == 0]
    instead: dict[str, tuple[Alternative, ...]] = {}
    if out:
        async with database.begin() as conn:
            instead = await repository.alternatives(conn, store_id, out, ALTERNATIVES_MAX)
    return tuple(
        ListedProduct(product, units.get(product.sku_id, 0), instead.get(product.sku_id, ()))
        for product in products
    )
