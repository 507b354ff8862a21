"""Products into Postgres."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from catalog import repository
from catalog.model import TAX_RATE_BP, TaxClass
from catalog.repository import BarcodeTaken, Price
from catalog.tables import product_categories, products
from kit.db import Database
from tests.store_support import make_draft, make_store


async def test_a_second_import_changes_nothing(database: Database) -> None:
    """The same drafts again are all counted unchanged, and no row is written anew."""
    drafts = [make_draft("Milk"), make_draft("Curd", shelf_life_days=None, volume_ml=None)]
    async with database.begin() as conn:
        first = await repository.import_products(conn, drafts)
        query = select(products).where(products.c.sku_id.in_(first.sku_ids.values()))
        before = (await conn.execute(query.order_by(products.c.sku_id))).all()
    async with database.begin() as conn:
        second = await repository.import_products(conn, drafts)
        after = (await conn.execute(query.order_by(products.c.sku_id))).all()
    assert (first.inserted, first.updated, first.unchanged) == (2, 0, 0)
    assert (second.inserted, second.updated, second.unchanged) == (0, 0, 2)
    assert second.sku_ids == first.sku_ids
    assert after == before


async def test_a_changed_product_keeps_its_id(database: Database) -> None:
    """A new name updates the row of the same external id; the other product counts unchanged."""
    milk, curd = make_draft("Milk"), make_draft("Curd")
    async with database.begin() as conn:
        before = await repository.import_products(conn, [milk, curd])
        after = await repository.import_products(
            conn, [replace(milk, name="Fresh milk", tax_class=TaxClass.EXEMPT), curd]
        )
        row = (
            await conn.execute(select(products).where(products.c.external_id == milk.external_id))
        ).one()
    assert (after.inserted, after.updated, after.unchanged) == (0, 1, 1)
    assert row.sku_id == before.sku_ids[milk.external_id]
    assert (row.name, row.tax_rate_bp) == ("Fresh milk", TAX_RATE_BP[TaxClass.EXEMPT])


async def test_categories_follow_the_draft(database: Database) -> None:
    """A category that the draft dropped is taken off, a new one put on; that is a change."""
    milk = make_draft("Milk", categories=("Breakfast", "Dairy"))
    async with database.begin() as conn:
        await repository.import_products(conn, [milk])
        moved = replace(milk, categories=("Dairy", "Drinks & Juices"))
        counts = await repository.import_products(conn, [moved])
        rows = await conn.execute(
            select(product_categories.c.category).where(
                product_categories.c.sku_id == counts.sku_ids[milk.external_id]
            )
        )
    assert counts.updated == 1
    assert sorted(row.category for row in rows) == ["dairy", "drinks-juices"]


async def test_ids_follow_the_order_of_the_source(database: Database) -> None:
    """Products are listed by id, so ids ascend as the drafts stood, over batches as well."""
    drafts = [make_draft(f"Tea {n}") for n in range(repository.BATCH_PRODUCTS + 3)]
    async with database.begin() as conn:
        counts = await repository.import_products(conn, drafts)
    ids = [counts.sku_ids[draft.external_id] for draft in drafts]
    assert ids == sorted(ids)
    assert counts.inserted == len(drafts)


async def test_a_foreign_barcode_is_refused(database: Database) -> None:
    """A barcode of another product is a named conflict, and nothing of the import stays."""
    milk = make_draft("Milk")
    thief = make_draft("Curd", barcode=milk.barcode)
    async with database.begin() as conn:
        await repository.import_products(conn, [milk])
    with pytest.raises(BarcodeTaken, match=milk.barcode):
        async with database.begin() as conn:
            await repository.import_products(conn, [thief])


async def test_set_prices_counts_changes(database: Database) -> None:
    """Only new and different prices count as changed."""
    made = await make_store(database, [make_draft("Milk"), make_draft("Curd")])
    milk, curd = made.skus["Milk"], made.skus["Curd"]
    prices = [Price(milk, 5_500, 6_500), Price(curd, 6_000, 6_500)]
    async with database.begin() as conn:
        assert await repository.set_prices(conn, made.store.id, "INR", prices) == 1
        assert await repository.set_prices(conn, made.store.id, "INR", prices) == 0
        found = await repository.find_products(conn, made.store.id, [milk, "sku_unknown"])
    assert {sku: one.price.amount_minor for sku, one in found.items()} == {milk: 5_500}
