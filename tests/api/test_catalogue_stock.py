"""The stock of a store over HTTP: for its own staff, once for each key, never below a promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from server.app import create_app
from stores import availability_redis
from tests.http_support import client_of, make_services
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture(scope="module")
async def app(database: Database, redis: Redis) -> FastAPI:
    return create_app(make_services(database, redis))


@pytest.fixture(scope="module")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk"), make_draft("Curd")], units=10)


def bearer(app: FastAPI, role: Role, **scope: Any) -> dict[str, str]:
    """The header of somebody with that role and scope."""
    actor = Actor(new_id("usr"), role, new_id("ses"), **scope)
    return {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}


def manager_of(app: FastAPI, made: MadeStore) -> dict[str, str]:
    return bearer(app, Role.STORE_MANAGER, store_ids=frozenset({made.store.id}))


async def test_a_delivery_shows_at_once_and_only_once(
    app: FastAPI, client: httpx.AsyncClient, database: Database, redis: Redis, made: MadeStore
) -> None:
    """Sent twice with one key it counts once, and the live layer shows it after the answer."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await availability_redis.rebuild(conn, redis, store_id)
    headers = {**manager_of(app, made), "Idempotency-Key": "delivery-1"}
    body = {"sku_id": milk, "quantity": 5, "expires_on": "2031-05-01"}
    path = f"/v1/ops/stores/{store_id}/stock/receive"
    first = await client.post(path, json=body, headers=headers)
    second = await client.post(path, json=body, headers=headers)
    assert (first.status_code, first.json()) == (
        200,
        {"store_id": store_id, "sku_id": milk, "on_hand": 15, "reserved": 0, "available": 15},
    )
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert await availability_redis.read(redis, store_id, [milk]) == {milk: 15}


async def test_promised_stock_is_a_named_conflict(
    app: FastAPI, client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """Writing off what orders were promised answers 409 stock_reserved with the counts."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await reserve(conn, store_id, milk, 9)
    path = f"/v1/ops/stores/{store_id}/stock/adjust"
    body = {"sku_id": milk, "delta": -2, "reason": "damaged"}
    refused = await client.post(path, json=body, headers=manager_of(app, made))
    assert refused.status_code == 409
    problem = refused.json()
    assert (problem["code"], problem["on_hand"], problem["reserved"]) == ("stock_reserved", 10, 9)
    passed = await client.post(path, json={**body, "delta": -1}, headers=manager_of(app, made))
    assert passed.json()["available"] == 0


async def test_a_foreign_store_is_not_found(
    app: FastAPI, client: httpx.AsyncClient, made: MadeStore
) -> None:
    """Staff of elsewhere get 404, customers 403, nobody 401; ops of the city and admin pass."""
    path = f"/v1/ops/stores/{made.store.id}/stock"

    async def status(headers: dict[str, str]) -> int:
        return (await client.get(path, headers=headers)).status_code

    elsewhere = frozenset({new_id("sto")})
    here = frozenset({made.city.id})
    assert await status({}) == 401
    assert await status(bearer(app, Role.CUSTOMER)) == 403
    assert await status(bearer(app, Role.STORE_MANAGER, store_ids=elsewhere)) == 404
    assert await status(bearer(app, Role.STORE_MANAGER, city_ids=here)) == 404
    assert await status(bearer(app, Role.OPS, city_ids=frozenset({new_id("cty")}))) == 404
    assert await status(bearer(app, Role.OPS, city_ids=here)) == 200
    assert await status(bearer(app, Role.ADMIN)) == 200


async def test_the_stock_list_pages_and_searches(
    app: FastAPI, client: httpx.AsyncClient, made: MadeStore
) -> None:
    """Bins and counts of the shelves, a page at a time, or those that match."""
    path, headers = f"/v1/ops/stores/{made.store.id}/stock", manager_of(app, made)
    first = (await client.get(path, params={"limit": 1}, headers=headers)).json()
    rest = (
        await client.get(path, params={"limit": 5, "cursor": first["next_cursor"]}, headers=headers)
    ).json()
    assert [item["name"] for item in first["items"] + rest["items"]] == ["Milk", "Curd"]
    assert first["items"][0]["bin"] == "C01-1-01"
    found = (await client.get(path, params={"q": "curd"}, headers=headers)).json()
    assert [item["sku_id"] for item in found["items"]] == [made.skus["Curd"]]


async def test_a_store_can_be_paused_and_resumed(
    app: FastAPI, client: httpx.AsyncClient, made: MadeStore
) -> None:
    """A paused store says why to its staff and shows closed to everybody."""
    base, headers = f"/v1/ops/stores/{made.store.id}", manager_of(app, made)
    paused = await client.post(f"{base}/pause", json={"reason": "Power cut"}, headers=headers)
    assert (paused.json()["open"], paused.json()["paused_reason"]) == (False, "Power cut")
    resumed = await client.post(f"{base}/resume", headers=headers)
    assert (resumed.json()["open"], resumed.json()["paused_reason"]) == (True, None)


@pytest.mark.parametrize(
    "body",
    [
        {"delta": 0, "reason": "count"},
        {"delta": 10**9, "reason": "count"},
        {"delta": 1, "reason": "  "},
        {"delta": 1, "reason": "nul\0l"},
        {"delta": 1, "reason": "count", "extra": 1},
        {"delta": 1.5, "reason": "count"},
    ],
)
async def test_nonsense_is_refused(
    app: FastAPI, client: httpx.AsyncClient, made: MadeStore, body: dict[str, object]
) -> None:
    """Empty, absurd and malformed corrections are 422 and change nothing."""
    path = f"/v1/ops/stores/{made.store.id}/stock/adjust"
    answer = await client.post(
        path, json={"sku_id": made.skus["Milk"], **body}, headers=manager_of(app, made)
    )
    assert answer.status_code == 422
