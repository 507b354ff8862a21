"""Cities of one store with the people who work there, as rows: no process knows of them yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert

from catalog import repository as catalog
from catalog.repository import Price
from identity.model import Role
from identity.passwords import Passwords
from identity.service import create_staff
from identity.settings import Argon2Settings
from kit.db import Database
from kit.ids import new_id
from riders.tables import riders
from stores import repository as stores
from stores.layout import ShelvedProduct
from stores.repository import City, Delivery, Store
from stores.service import carry
from tests.store_support import make_draft

RIDERS = 2
CHEAP_ARGON2 = Argon2Settings(time_cost=1, memory_cost_kib=8, parallelism=1)
PASSWORD = "one password for all of them"


@dataclass(frozen=True, slots=True)
class Product:
    sku_id: str
    name: str
    price_minor: int


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody with a log-in."""

    user_id: str
    email: str
    rider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A city of one store."""

    city: City
    store: Store
    pickers: tuple[Member, ...]
    riders: tuple[Member, ...]
    manager: Member
    ops: Member

    @property
    def dropoff(self) -> dict[str, object]:
        return {"lat": self.store.lat + 0.004, "lon": self.store.lon, "address": "1 Test Street"}


async def put_on_sale(
    conn: Any, store: Store, units: int, prices_minor: Sequence[int]
) -> list[Product]:
    """New products on a store's shelves, one for each price; returned in the order of prices."""
    drafts = [
        make_draft(f"Product {n}", price_minor=price, list_price_minor=price)
        for n, price in enumerate(prices_minor, start=1)
    ]
    counts = await catalog.import_products(conn, drafts)
    made = [
        Product(counts.sku_ids[draft.external_id], draft.name, draft.price_minor)
        for draft in drafts
    ]
    prices = [Price(product.sku_id, product.price_minor, product.price_minor) for product in made]
    await catalog.set_prices(conn, store.id, "INR", prices)
    shelved = [
        ShelvedProduct(product.sku_id, draft.temperature.value, draft.categories[0])
        for product, draft in zip(made, drafts, strict=True)
    ]
    await carry(conn, store.id, shelved)
    deliveries = [Delivery(product.sku_id, units, None) for product in made]
    await stores.receive(conn, store.id, deliveries, "test")
    return made


async def make_place(database: Database, n: int, rider_count: int = RIDERS) -> Place:
    """City ``n`` with its store and people; cities lie a degree apart."""
    lat, lon = 10.0 + n % 40, 70.0 + n // 40
    square = {
        "type": "Polygon",
        "coordinates": [
            [
                [lon - 0.01, lat - 0.01],
                [lon + 0.01, lat - 0.01],
                [lon + 0.01, lat + 0.01],
                [lon - 0.01, lat + 0.01],
                [lon - 0.01, lat - 0.01],
            ]
        ],
    }
    async with database.begin() as conn:
        city = City(new_id("cty"), f"City {new_id('tst')}", "INR", lat, lon)
        store = Store(new_id("sto"), city.id, f"Store {n}", lat, lon, True, None)
        await stores.add_city(conn, city)
        await stores.add_store(conn, store, square)
        pickers = tuple([await hire(conn, Role.PICKER, city, store) for _ in range(2)])
        manager = await hire(conn, Role.STORE_MANAGER, city, store)
        ops = await hire(conn, Role.OPS, city, None)
        riding = tuple([await hire(conn, Role.RIDER, city, None) for _ in range(rider_count)])
    return Place(city, store, pickers, riding, manager, ops)


async def hire(conn: Any, role: Role, city: City, store: Store | None) -> Member:
    in_store = role in (Role.PICKER, Role.STORE_MANAGER) and store is not None
    log_in = await create_staff(
        conn,
        Passwords(CHEAP_ARGON2),
        role=role,
        name=f"{role.value.title()} Test",
        email=f"{new_id('tst').lower()}@darkstore.example",
        store_ids=[store.id] if in_store and store else [],
        city_ids=[] if in_store else [city.id],
        password=PASSWORD,
    )
    if role is not Role.RIDER:
        return Member(log_in.user_id, log_in.email)
    rider_id = new_id("rdr")
    await conn.execute(
        insert(riders).values(
            id=rider_id, user_id=log_in.user_id, city_id=city.id, name="Rider Test",
            vehicle="scooter", capacity_orders=2, capacity_g=25_000,
        )
    )  # fmt: skip
    return Member(log_in.user_id, log_in.email, rider_id)
