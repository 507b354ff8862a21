"""The cart over HTTP: kept in Redis, priced anew at each look."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from catalog import repository
from catalog.repository import Price
from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from orders import carts_redis
from server.app import create_app
from tests.http_support import client_of, make_services
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture(scope="module")
async def app(database: Database, redis: Redis) -> FastAPI:
    return create_app(make_services(database, redis))


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(
        database, [make_draft("Milk"), make_draft("Curd", price_minor=4_000)], units=10
    )


def user() -> Actor:
    return Actor(new_id("usr"), Role.GUEST, new_id("ses"))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A shopper who has just come in."""
    token = app.state.identity.tokens.access(user())
    async with client_of(app) as opened:
        opened.headers["Authorization"] = f"Bearer {token}"
        yield opened


async def test_a_new_cart_is_empty(client: httpx.AsyncClient) -> None:
    """Nobody has to make a cart first."""
    answer = await client.get("/v1/cart")
    assert answer.json() == {"store_id": None, "lines": [], "items_total": None}


async def test_lines_are_priced_and_keep_their_order(
    client: httpx.AsyncClient, made: MadeStore
) -> None:
    """Lines stand as they were put in, at live prices; a changed quantity does not move a line."""
    milk, curd = made.skus["Milk"], made.skus["Curd"]
    body = {"store_id": made.store.id, "quantity": 2}
    await client.put(f"/v1/cart/lines/{curd}", json=body)
    await client.put(f"/v1/cart/lines/{milk}", json={"quantity": 1})
    answer = (await client.put(f"/v1/cart/lines/{curd}", json={"quantity": 3})).json()
    assert answer["store_id"] == made.store.id
    assert [(line["sku_id"], line["quantity"]) for line in answer["lines"]] == [
        (curd, 3),
        (milk, 1),
    ]
    assert answer["lines"][0]["line_total"] == {"amount_minor": 12_000, "currency": "INR"}
    assert answer["items_total"] == {"amount_minor": 18_000, "currency": "INR"}
    assert [line["notes"] for line in answer["lines"]] == [[], []]
    gone = (await client.delete(f"/v1/cart/lines/{curd}")).json()
    assert [line["sku_id"] for line in gone["lines"]] == [milk]
    assert (await client.delete("/v1/cart")).status_code == 204
    assert (await client.get("/v1/cart")).json()["lines"] == []


async def test_changes_since_are_noted(
    client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """Another price, too few units and a product taken off sale each have their note."""
    milk, curd = made.skus["Milk"], made.skus["Curd"]
    lines = [{"sku_id": milk, "quantity": 4}, {"sku_id": curd, "quantity": 1}]
    await client.put("/v1/cart", json={"store_id": made.store.id, "lines": lines})
    async with database.begin() as conn:
        prices = [Price(milk, 6_200, 6_500), Price(curd, 4_000, 6_500, active=False)]
        await repository.set_prices(conn, made.store.id, "INR", prices)
        await reserve(conn, made.store.id, milk, 8)
    answer = (await client.get("/v1/cart")).json()
    notes = [[note["code"] for note in line["notes"]] for line in answer["lines"]]
    assert notes == [["price_changed", "units_short"], ["no_longer_sold"]]
    assert answer["lines"][0]["available"] == 2
    assert answer["lines"][1]["name"] is None
    assert answer["items_total"] == {"amount_minor": 24_800, "currency": "INR"}
    # Who puts the line in again has seen the new price.
    seen = (await client.put(f"/v1/cart/lines/{milk}", json={"quantity": 2})).json()
    assert seen["lines"][0]["notes"] == []


async def test_one_cart_one_store(
    client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """A product of another store is a conflict until the cart is emptied or replaced."""
    other = await make_store(database, [make_draft("Tea")])
    tea = other.skus["Tea"]
    await client.put(
        f"/v1/cart/lines/{made.skus['Milk']}", json={"quantity": 1, "store_id": made.store.id}
    )
    body = {"quantity": 1, "store_id": other.store.id}
    refused = await client.put(f"/v1/cart/lines/{tea}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "cart_of_another_store")
    replaced = await client.put(
        "/v1/cart",
        json={"store_id": other.store.id, "lines": [{"sku_id": tea, "quantity": 1}]},
    )
    assert [line["sku_id"] for line in replaced.json()["lines"]] == [tea]


async def test_a_cart_has_bounds(
    client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """51 units, 101 products, a product twice, an unknown one, and no store are refused."""
    milk = made.skus["Milk"]

    async def status(body: dict[str, object]) -> int:
        return (await client.put("/v1/cart", json=body)).status_code

    def cart_of(*lines: tuple[str, int]) -> dict[str, object]:
        listed = [{"sku_id": sku_id, "quantity": quantity} for sku_id, quantity in lines]
        return {"store_id": made.store.id, "lines": listed}

    assert await status(cart_of((milk, 51))) == 422
    assert await status(cart_of((milk, 0))) == 422
    assert await status(cart_of((milk, 1), (milk, 1))) == 422
    assert await status(cart_of(("sku_unknown", 1))) == 404
    nowhere = await client.put(f"/v1/cart/lines/{milk}", json={"quantity": 1})
    assert nowhere.status_code == 422

    many = await make_store(database, [make_draft(f"Tea {n}") for n in range(101)])
    ids = list(many.skus.values())
    lines = [{"sku_id": sku_id, "quantity": 1} for sku_id in ids[:100]]
    filled = await client.put("/v1/cart", json={"store_id": many.store.id, "lines": lines})
    assert [line["sku_id"] for line in filled.json()["lines"]] == ids[:100]
    full = await client.put(f"/v1/cart/lines/{ids[100]}", json={"quantity": 1})
    assert (full.status_code, full.json()["code"]) == (409, "cart_full")
    changed = await client.put(f"/v1/cart/lines/{ids[0]}", json={"quantity": 9})
    assert changed.json()["lines"][0]["quantity"] == 9


async def test_a_cart_outlives_the_server_and_then_ends(
    database: Database, redis: Redis, made: MadeStore
) -> None:
    """Another process finds the cart; a week after the last change Redis forgets it."""
    shopper = user()
    line = f"/v1/cart/lines/{made.skus['Milk']}"
    for step in ("put", "get"):
        app = create_app(make_services(database, redis))
        token = app.state.identity.tokens.access(shopper)
        async with client_of(app) as client:
            client.headers["Authorization"] = f"Bearer {token}"
            if step == "put":
                await client.put(line, json={"quantity": 2, "store_id": made.store.id})
            found = (await client.get("/v1/cart")).json()
            assert [line["quantity"] for line in found["lines"]] == [2]
    life_s = await redis.ttl(carts_redis.key_of(shopper.user_id))
    assert carts_redis.LIFE_S - 60 < life_s <= carts_redis.LIFE_S


async def test_without_redis_the_cart_is_busy(database: Database) -> None:
    """A cart that cannot be reached is 503 with Retry-After, not an empty cart."""
    app = create_app(make_services(database))
    guest = await app.state.identity.guest()
    headers = {"Authorization": f"Bearer {guest.access_token}"}
    async with client_of(app) as client:
        answer = await client.get("/v1/cart", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "cart_unavailable")
    assert "retry-after" in answer.headers
