"""What a store sells, as its customers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from catalog import repository, service
from catalog.model import Temperature
from catalog.repository import Price
from catalog.service import CursorInvalid, ProductNotFound
from kit.db import Database
from stores import availability_redis
from tests.store_support import MadeStore, make_draft, make_store


class Truth:
    """Availability from Postgres."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def __call__(self, store_id: str, sku_ids: Sequence[str]) -> Mapping[str, int]:
        async with self.database.begin() as conn:
            return await availability_redis.from_database(conn, store_id, sku_ids)


async def names(database: Database, made: MadeStore, **query: str) -> list[str]:
    async with database.begin() as conn:
        found, _ = await repository.list_products(conn, made.store.id, **query)  # type: ignore[arg-type]  # the query of a test
    return [product.name for product in found]


async def test_every_word_must_match_name_or_brand(database: Database) -> None:
    """Search ignores letter case and order, looks at the brand too, and takes no wildcards."""
    made = await make_store(
        database,
        [
            make_draft("Full Cream MILK", brand="Amberleaf"),
            make_draft("Milk chocolate 50% dark"),
            make_draft("Curd", brand="Amberleaf"),
        ],
    )
    assert await names(database, made, q="milk amberLEAF") == ["Full Cream MILK"]
    assert await names(database, made, q="milk") == ["Full Cream MILK", "Milk chocolate 50% dark"]
    assert await names(database, made, q="50%") == ["Milk chocolate 50% dark"]
    assert await names(database, made, q="m_lk") == []
    assert await names(database, made, q="  ") == [
        "Full Cream MILK", "Milk chocolate 50% dark", "Curd",
    ]  # fmt: skip
    assert await names(database, made, q="nul\0l") == []


async def test_a_category_is_named_by_slug_or_title(database: Database) -> None:
    """Both forms give the same products, each once, whatever else they are in."""
    made = await make_store(
        database,
        [make_draft("Tea", categories=("Drinks & Juices", "Tea")), make_draft("Curd")],
    )
    assert await names(database, made, category="drinks-juices") == ["Tea"]
    assert await names(database, made, category="Drinks & Juices") == ["Tea"]
    assert await names(database, made, category="no such thing") == []
    assert await names(database, made, category="!!") == []


async def test_pages_give_every_product_once(database: Database) -> None:
    """Following the cursor to its end shows all products once, in the order of the catalogue."""
    made = await make_store(database, [make_draft(f"Tea {n:02d}") for n in range(7)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await service.list_products(
            database, Truth(database), made.store.id, limit=3, cursor=cursor
        )
        seen += [listed.product.name for listed in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"Tea {n:02d}" for n in range(7)]


async def test_a_foreign_cursor_is_refused(database: Database) -> None:
    """A cursor of another kind is an error, not an empty or a first page."""
    made = await make_store(database, [make_draft("Tea")])
    with pytest.raises(CursorInvalid):
        await service.list_products(database, Truth(database), made.store.id, cursor="ord_1")


async def test_who_shares_more_categories_is_the_nearer_alternative(database: Database) -> None:
    """Another milk comes before a yoghurt of the same price, and before any dearer dairy."""
    made = await make_store(
        database,
        [
            make_draft("Milk", categories=("Dairy", "Milk")),
            make_draft("Yoghurt", categories=("Dairy",)),
            make_draft("Oat milk", categories=("Dairy", "Milk"), price_minor=4_000),
        ],
        units={"Milk": 0, "Yoghurt": 4, "Oat milk": 4},
    )
    listed = await service.get_product(database, Truth(database), made.store.id, made.skus["Milk"])
    assert [other.name for other in listed.alternatives] == ["Oat milk", "Yoghurt"]


async def test_what_is_out_names_alternatives(database: Database) -> None:
    """Up to three in stock of the same category: same temperature first, then nearest in price."""
    made = await make_store(
        database,
        [
            make_draft("Milk"),
            make_draft("Dear milk", price_minor=6_400),
            make_draft("Near milk", price_minor=6_100),
            make_draft("Far milk", price_minor=1_000),
            make_draft("Empty milk", price_minor=6_010),
            make_draft("Powder", price_minor=6_000, temperature=Temperature.AMBIENT),
            make_draft("Soap", price_minor=6_000, categories=("Bath",)),
        ],
        units={"Milk": 0, "Empty milk": 0, "Near milk": 4, "Dear milk": 4, "Far milk": 4,
               "Powder": 4, "Soap": 4},
    )  # fmt: skip
    listed = await service.get_product(database, Truth(database), made.store.id, made.skus["Milk"])
    assert listed.available == 0
    assert [other.name for other in listed.alternatives] == ["Near milk", "Dear milk", "Far milk"]
    near = await service.get_product(
        database, Truth(database), made.store.id, made.skus["Near milk"]
    )
    assert (near.available, near.alternatives) == (4, ())


async def test_what_is_not_on_offer_is_not_shown(database: Database) -> None:
    """A product with an inactive price is neither listed, found, counted nor an alternative."""
    made = await make_store(
        database, [make_draft("Milk"), make_draft("Curd")], units={"Milk": 5, "Curd": 0}
    )
    async with database.begin() as conn:
        prices = [Price(made.skus["Milk"], 6_000, 6_500, active=False)]
        await repository.set_prices(conn, made.store.id, "INR", prices)
    page = await service.list_products(database, Truth(database), made.store.id)
    assert [(one.product.name, one.alternatives) for one in page.items] == [("Curd", ())]
    with pytest.raises(ProductNotFound):
        await service.get_product(database, Truth(database), made.store.id, made.skus["Milk"])
    categories = await service.list_categories(database, made.store.id)
    assert [(c.slug, c.title, c.products) for c in categories] == [("dairy", "Dairy", 1)]
