"""What anybody may see over HTTP: cities, stores, streets and shelves."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, update

from catalog.model import Temperature
from geo.procedural import procedural_city
from geo.roads import RoadGraph
from kit.db import Database
from riders.tables import road_networks
from server.app import create_app
from stores import availability_redis, service
from tests.http_support import client_of, make_services
from tests.store_support import MadeStore, make_draft, make_store


@pytest.fixture(scope="module")
async def client(database: Database, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(make_services(database, redis))
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(
        database,
        [
            make_draft("Milk", brand="Amberleaf", categories=("Breakfast", "Dairy")),
            make_draft("Curd"),
            make_draft("Peas", categories=("Frozen",), temperature=Temperature.FROZEN),
        ],
        units={"Milk": 0, "Curd": 4, "Peas": 60},
    )


async def test_products_have_the_promised_shape(client: httpx.AsyncClient, made: MadeStore) -> None:
    """A product names every field of the contract; what is out names what to buy instead."""
    answer = await client.get(f"/v1/stores/{made.store.id}/products", params={"q": "amberleaf"})
    assert answer.status_code == 200
    assert answer.json() == {
        "items": [
            {
                "sku_id": made.skus["Milk"],
                "name": "Milk",
                "brand": "Amberleaf",
                "categories": ["Breakfast", "Dairy"],
                "unit": "1 l",
                "weight_g": 1050,
                "temperature": "chilled",
                "price": {"amount_minor": 6000, "currency": "INR"},
                "list_price": {"amount_minor": 6500, "currency": "INR"},
                "available": 0,
                "image_url": "/images/products/milk.svg",
                "alternatives": [
                    {
                        "sku_id": made.skus["Curd"],
                        "name": "Curd",
                        "brand": None,
                        "unit": "1 l",
                        "price": {"amount_minor": 6000, "currency": "INR"},
                        "list_price": {"amount_minor": 6500, "currency": "INR"},
                        "available": 4,
                        "image_url": "/images/products/milk.svg",
                    }
                ],
            }
        ],
        "next_cursor": None,
    }


async def test_availability_is_capped(client: httpx.AsyncClient, made: MadeStore) -> None:
    """Sixty units show as twenty: enough for a customer, too little to count the shelves."""
    answer = await client.get(f"/v1/stores/{made.store.id}/products/{made.skus['Peas']}")
    assert answer.json()["available"] == 20


async def test_availability_comes_from_the_live_layer(
    client: httpx.AsyncClient, database: Database, redis: Redis, made: MadeStore
) -> None:
    """What Redis holds is shown, and Postgres once Redis holds it no longer."""
    path = f"/v1/stores/{made.store.id}/products/{made.skus['Curd']}"
    async with database.begin() as conn:
        await availability_redis.rebuild(conn, redis, made.store.id)
    key = availability_redis.key_of(made.store.id)
    await redis.hset(key, made.skus["Curd"], "99:3")
    assert (await client.get(path)).json()["available"] == 3
    await redis.delete(key)
    assert (await client.get(path)).json()["available"] == 4


async def test_pages_follow_the_cursor(client: httpx.AsyncClient, made: MadeStore) -> None:
    """Every product comes once; a cursor that is not ours is refused by name."""
    path = f"/v1/stores/{made.store.id}/products"
    first = (await client.get(path, params={"limit": 2})).json()
    second = (await client.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    names = [item["name"] for item in first["items"] + second["items"]]
    assert (names, second["next_cursor"]) == (["Milk", "Curd", "Peas"], None)
    for wrong in ("nonsense", "WzFd", "WyJvcmRfMSJd"):
        refused = await client.get(path, params={"cursor": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "cursor_invalid")


async def test_categories_count_products(client: httpx.AsyncClient, made: MadeStore) -> None:
    """The categories of a store by title, each with its number of products."""
    answer = await client.get(f"/v1/stores/{made.store.id}/categories")
    assert [(c["slug"], c["products"]) for c in answer.json()["items"]] == [
        ("breakfast", 1),
        ("dairy", 2),
        ("frozen", 1),
    ]


@pytest.mark.parametrize("path", ["products", "categories", "products/sku_unknown"])
async def test_an_unknown_store_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    """A store that does not exist is 404, not an empty list."""
    answer = await client.get(f"/v1/stores/sto_unknown/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "store_not_found")


async def test_an_unknown_product_is_not_found(client: httpx.AsyncClient, made: MadeStore) -> None:
    """A product that the store does not sell is 404 with its own code."""
    answer = await client.get(f"/v1/stores/{made.store.id}/products/sku_unknown")
    assert (answer.status_code, answer.json()["code"]) == (404, "product_not_found")


async def test_stores_come_nearest_first(
    client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """With a point there are distances in order; half a point is refused; a pause shows."""
    async with database.begin() as conn:
        await service.pause(conn, made.store.id, "Power cut")
    answer = await client.get("/v1/stores", params={"lat": 12.06, "lon": 77.05})
    items = answer.json()["items"]
    mine = next(item for item in items if item["id"] == made.store.id)
    assert mine == {
        "id": made.store.id,
        "city_id": made.city.id,
        "name": "Test store",
        "location": {"lat": 12.05, "lon": 77.05},
        "open": False,
        "distance_m": 1112,
    }
    distances = [item["distance_m"] for item in items]
    assert distances == sorted(distances)
    assert (await client.get("/v1/stores")).json()["items"][0]["distance_m"] is None
    assert (await client.get("/v1/stores", params={"lat": 12.06})).status_code == 422


async def test_cities_are_listed(client: httpx.AsyncClient, made: MadeStore) -> None:
    """A city has a name, a centre and a currency."""
    items = (await client.get("/v1/cities")).json()["items"]
    mine = next(item for item in items if item["id"] == made.city.id)
    assert (mine["centre"], mine["currency"]) == ({"lat": 12.05, "lon": 77.05}, "INR")


async def test_streets_are_cached_and_compressed(
    client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """The streets ride as seeded, zipped for who can unzip, and 304 for who has them already."""
    path = f"/v1/cities/{made.city.id}/streets"
    missing = await client.get(path)
    assert (missing.status_code, missing.json()["code"]) == (404, "streets_not_found")

    roads = procedural_city(1, size_m=2000.0).roads
    built_at = datetime(2030, 1, 1, tzinfo=UTC)
    async with database.begin() as conn:
        await conn.execute(
            insert(road_networks).values(
                city_id=made.city.id,
                source="osm:town.osm.pbf",
                roads=roads.to_bytes(),
                travel_times=b"",
                built_at=built_at,
            )
        )
    zipped = await client.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert "max-age" in zipped.headers["cache-control"]
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == zipped.json()
    assert len(gzip.compress(plain.content)) < len(plain.content) / 2
    assert plain.json()["attribution"] == "© OpenStreetMap contributors, ODbL"
    assert RoadGraph.from_json_dict(plain.json()).edge_count == roads.edge_count

    again = await client.get(path, headers={"If-None-Match": zipped.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    # A city that is built anew has other streets at once.
    other = procedural_city(2, size_m=2000.0).roads
    async with database.begin() as conn:
        await conn.execute(
            update(road_networks)
            .where(road_networks.c.city_id == made.city.id)
            .values(roads=other.to_bytes(), built_at=built_at + timedelta(days=1))
        )
    anew = await client.get(path, headers={"If-None-Match": zipped.headers["etag"]})
    assert anew.status_code == 200
    assert RoadGraph.from_json_dict(anew.json()).edge_count == other.edge_count
