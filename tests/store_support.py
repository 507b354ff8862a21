"""Rows for tests about stores: a city with a store, products of its own, stock on its shelves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import repository as catalog
from catalog.model import ProductDraft, TaxClass, Temperature, in_store_barcode
from catalog.repository import Price
from kit.db import Database
from kit.ids import new_id
from stores import repository as stores
from stores.layout import ShelvedProduct
from stores.repository import City, Delivery, Store
from stores.service import carry

SQUARE = {
    "type": "Polygon",
    "coordinates": [[[77.0, 12.0], [77.1, 12.0], [77.1, 12.1], [77.0, 12.1], [77.0, 12.0]]],
}


def make_draft(name: str, **changes: object) -> ProductDraft:
    """A product whose external id no other test has."""
    external_id = new_id("ext")
    values: dict[str, object] = {
        "external_id": external_id,
        "name": name,
        "brand": None,
        "categories": ("Dairy",),
        "unit": "1 l",
        "weight_g": 1050,
        "volume_ml": 1000,
        "tax_class": TaxClass.REDUCED,
        "temperature": Temperature.CHILLED,
        "price_minor": 6_000,
        "list_price_minor": 6_500,
        "barcode": in_store_barcode(external_id),
        "image_url": "/images/products/milk.svg",
        "shelf_life_days": 5,
        "initial_quantity": 10,
    }
    return ProductDraft(**{**values, **changes})  # type: ignore[arg-type]  # a test's own values


@dataclass(frozen=True, slots=True)
class MadeStore:
    """A store and its products: ``skus`` by the name of the draft."""

    city: City
    store: Store
    skus: Mapping[str, str]


async def make_store(
    database: Database, drafts: list[ProductDraft], units: int | Mapping[str, int] = 10
) -> MadeStore:
    """A new city and store that sells ``drafts``, with so many units of each (or by name)."""
    async with database.begin() as conn:
        city = City(new_id("cty"), f"City {new_id('tst')}", "INR", 12.05, 77.05)
        store = Store(new_id("sto"), city.id, "Test store", 12.05, 77.05, True, None)
        await stores.add_city(conn, city)
        await stores.add_store(conn, store, SQUARE)
        counts = await catalog.import_products(conn, drafts)
        skus = {draft.name: counts.sku_ids[draft.external_id] for draft in drafts}
        prices = [
            Price(skus[draft.name], draft.price_minor, draft.list_price_minor) for draft in drafts
        ]
        await catalog.set_prices(conn, store.id, "INR", prices)
        shelved = [
            ShelvedProduct(skus[draft.name], draft.temperature.value, draft.categories[0])
            for draft in drafts
        ]
        await carry(conn, store.id, shelved)
        wanted = {name: units if isinstance(units, int) else units[name] for name in skus}
        deliveries = [
            Delivery(skus[name], quantity, None) for name, quantity in wanted.items() if quantity
        ]
        await stores.receive(conn, store.id, deliveries, "test")
    return MadeStore(city, store, skus)


async def reserve(conn: AsyncConnection, store_id: str, sku_id: str, quantity: int) -> None:
    """Promise units to an order, as the checkout does."""
    await conn.exec_driver_sql(
        "UPDATE stock SET reserved = reserved + $3, version = version + 1"
        " WHERE store_id = $1 AND sku_id = $2",
        (store_id, sku_id, quantity),
    )
