"""Every query on products, categories and prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog.model import TAX_RATE_BP, Category, ProductDraft
from kit.errors import Conflict
from kit.ids import new_id
from kit.money import Money
from kit.sql import Query, json_parameter, load

BATCH_PRODUCTS = 1_000

_IMPORT = load("catalog", "import_products")
_TAKEN_BARCODES = load("catalog", "taken_barcodes")
_SET_PRICES = load("catalog", "set_prices")
_LIST = load("catalog", "list_products")
_FIND = load("catalog", "find_products")
_ALTERNATIVES = load("catalog", "alternatives")
_CATEGORIES = load("catalog", "list_categories")
# Two imports at once would each insert what the other is inserting; the number is arbitrary.
_IMPORT_LOCK = Query("catalog.import_lock", "SELECT pg_advisory_xact_lock(7364721)")


class BarcodeTaken(Conflict):
    code = "barcode_taken"
    title = "Another product has this barcode"


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What an import did; ``sku_ids`` gives the id of every product of it by its external id."""

    inserted: int
    updated: int
    unchanged: int
    sku_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    """What a store asks for a product, tax included, in minor units; inactive: not on offer."""

    sku_id: str
    price_minor: int
    list_price_minor: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class StoreProduct:
    """A product as one store sells it; ``categories`` are titles in order."""

    sku_id: str
    name: str
    brand: str | None
    categories: tuple[str, ...]
    unit: str
    weight_g: int
    temperature: str
    tax_rate_bp: int
    price: Money
    list_price: Money
    image_url: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """A product in stock that may stand in for another; ``available`` is in units."""

    sku_id: str
    name: str
    brand: str | None
    unit: str
    price: Money
    list_price: Money
    image_url: str
    available: int


@dataclass(frozen=True, slots=True)
class StoreCategory:
    """A category with the number of products that a store sells in it."""

    slug: str
    title: str
    products: int


async def import_products(conn: AsyncConnection, drafts: Sequence[ProductDraft]) -> ImportCounts:
    """Insert new products and update those that differ; a product's key is its ``external_id``.

    Ids of new products ascend in the order of ``drafts``, so a listing by id shows them in the
    order of their source.  Raises ``BarcodeTaken`` when a barcode belongs to a product of another
    ``external_id``.
    """
    await _IMPORT_LOCK.run(conn)
    new_ids = sorted(new_id("sku") for _ in drafts)
    inserted = updated = 0
    sku_ids: dict[str, str] = {}
    for start in range(0, len(drafts), BATCH_PRODUCTS):
        batch = drafts[start : start + BATCH_PRODUCTS]
        await _check_barcodes(conn, batch)
        ids = new_ids[start : start + BATCH_PRODUCTS]
        rows = [_as_row(sku_id, draft) for sku_id, draft in zip(ids, batch, strict=True)]
        for row in await _IMPORT.all(conn, json_parameter(rows)):
            sku_ids[row.external_id] = row.sku_id
            inserted += row.inserted
            updated += row.changed and not row.inserted
    unchanged = len(sku_ids) - inserted - updated
    return ImportCounts(inserted, updated, unchanged, sku_ids)


async def _check_barcodes(conn: AsyncConnection, drafts: Sequence[ProductDraft]) -> None:
    pairs = [{"external_id": d.external_id, "barcode": d.barcode} for d in drafts]
    taken = await _TAKEN_BARCODES.first(conn, json_parameter(pairs))
    if taken is not None:
        raise BarcodeTaken(
            f"The barcode {taken.barcode} of {taken.external_id!r} belongs to"
            f" {taken.owner_external_id!r} already; correct one of the two."
        )


def _as_row(sku_id: str, draft: ProductDraft) -> dict[str, object]:
    categories = [Category.of(title) for title in draft.categories]
    return {
        "sku_id": sku_id,
        "external_id": draft.external_id,
        "name": draft.name,
        "brand": draft.brand,
        "unit": draft.unit,
        "weight_g": draft.weight_g,
        "volume_ml": draft.volume_ml,
        "tax_class": draft.tax_class.value,
        "tax_rate_bp": TAX_RATE_BP[draft.tax_class],
        "temperature": draft.temperature.value,
        "barcode": draft.barcode,
        "image_url": draft.image_url,
        "shelf_life_days": draft.shelf_life_days,
        "categories": [{"slug": c.slug, "title": c.title} for c in categories],
    }


async def set_prices(
    conn: AsyncConnection, store_id: str, currency: str, prices: Sequence[Price]
) -> int:
    """Set the prices of products in a store; returns how many are new or changed."""
    rows = [
        {
            "sku_id": price.sku_id,
            "price_minor": price.price_minor,
            "list_price_minor": price.list_price_minor,
            "active": price.active,
        }
        for price in prices
    ]
    return len(await _SET_PRICES.all(conn, store_id, currency, json_parameter(rows)))


async def list_products(
    conn: AsyncConnection,
    store_id: str,
    q: str | None = None,
    category: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[StoreProduct], str | None]:
    """A page of a store's products and the cursor of the next page, None after the last.

    ``q``: words, each of which name or brand must contain, in any letter case.  ``category``: a
    category's slug or title.  ``cursor``: the last ``sku_id`` of the page before.
    """
    slug = None if category is None else _slug_of(category)
    rows = await _LIST.all(conn, store_id, _words(q), slug, cursor, limit + 1)
    products = [_store_product(row) for row in rows[:limit]]
    return products, products[-1].sku_id if len(rows) > limit else None


def _words(q: str | None) -> list[str]:
    """What to search for; NUL, which Postgres keeps in no text, is dropped."""
    return (q or "").replace("\0", "").lower().split()


def _slug_of(category: str) -> str:
    try:
        return Category.of(category).slug
    except ValueError:
        # No category is called so; the empty slug matches none.
        return ""


async def find_products(
    conn: AsyncConnection, store_id: str, sku_ids: Sequence[str]
) -> dict[str, StoreProduct]:
    """Products on offer in a store, by id; the ids that it does not sell are left out."""
    rows = await _FIND.all(conn, store_id, list(sku_ids))
    return {row.sku_id: _store_product(row) for row in rows}


async def alternatives(
    conn: AsyncConnection, store_id: str, sku_ids: Sequence[str], limit: int = 3
) -> dict[str, tuple[Alternative, ...]]:
    """For each of some products up to ``limit`` others in stock of one of its categories.

    Same temperature first, then nearest in price.  A product without any is left out.
    """
    if not sku_ids:
        return {}
    rows = await _ALTERNATIVES.all(conn, store_id, sorted(set(sku_ids)), limit)
    return {
        instead_of: tuple(_alternative(row) for row in group)
        for instead_of, group in groupby(rows, key=lambda row: str(row.instead_of))
    }


async def list_categories(conn: AsyncConnection, store_id: str) -> list[StoreCategory]:
    """The categories in which a store sells anything, by title."""
    rows = await _CATEGORIES.all(conn, store_id)
    return [StoreCategory(row.slug, row.title, row.products) for row in rows]


def _store_product(row: Row[*tuple[object, ...]]) -> StoreProduct:
    return StoreProduct(
        sku_id=row.sku_id,
        name=row.name,
        brand=row.brand,
        categories=tuple(row.categories),
        unit=row.unit,
        weight_g=row.weight_g,
        temperature=row.temperature,
        tax_rate_bp=row.tax_rate_bp,
        price=Money(row.price_minor, row.currency),
        list_price=Money(row.list_price_minor, row.currency),
        image_url=row.image_url,
    )


def _alternative(row: Row[*tuple[object, ...]]) -> Alternative:
    return Alternative(
        sku_id=row.sku_id,
        name=row.name,
        brand=row.brand,
        unit=row.unit,
        price=Money(row.price_minor, row.currency),
        list_price=Money(row.list_price_minor, row.currency),
        image_url=row.image_url,
        available=row.available,
    )
