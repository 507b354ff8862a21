"""The stock books over HTTP: who may do what, once for each key, and what each is shown."""

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
from stores import availability_redis, service, watch
from stores.layout import ShelvedProduct
from tests.http_support import client_of, make_services
from tests.store_support import MadeStore, make_draft, make_store


@pytest.fixture(scope="module")
async def app(database: Database, redis: Redis) -> FastAPI:
    return create_app(make_services(database, redis))


@pytest.fixture(scope="module")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk"), make_draft("Curd")], units=20)


class Staff:
    """Somebody with a role in one store, who calls its stock routes."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, role: Role, store_id: str) -> None:
        actor = Actor(new_id("usr"), role, new_id("ses"), store_ids=frozenset({store_id}))
        self._headers = {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}
        self._client, self._base = client, f"/v1/ops/stores/{store_id}/stock"

    async def post(self, path: str, body: Any, status: int = 200, **headers: str) -> Any:
        answer = await self._client.post(
            self._base + path, json=body, headers={**self._headers, **headers}
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = await self._client.get(self._base + path, params=params, headers=self._headers)
        assert answer.status_code == status, answer.text
        return answer.json()


async def test_a_picker_counts_blind_and_a_manager_decides(
    app: FastAPI, client: httpx.AsyncClient, made: MadeStore
) -> None:
    """The picker never sees a figure of the books, and may not decide; the manager may."""
    milk, store_id = made.skus["Milk"], made.store.id
    picker = Staff(app, client, Role.PICKER, store_id)
    manager = Staff(app, client, Role.STORE_MANAGER, store_id)
    count = await picker.post("/counts", {"sku_ids": [milk]}, 201)
    lines = {"lines": [{"sku_id": milk, "units": 5, "reason": "fewer"}]}
    told = await picker.post(f"/counts/{count['id']}/lines", lines)
    assert (told["status"], "expected" in told["lines"][0]) == ("pending", False)
    await picker.post(f"/counts/{count['id']}/decide", {"decision": "approve"}, 403)
    seen = await manager.get(f"/counts/{count['id']}")
    assert (seen["lines"][0]["expected"], seen["lines"][0]["variance"]) == (20, -15)
    done = await manager.post(f"/counts/{count['id']}/decide", {"decision": "approve"})
    assert (done["status"], done["lines"][0]["applied"]) == ("closed", -15)
    assert [item["id"] for item in (await picker.get("/counts"))["items"]] == [count["id"]]


async def test_a_delivery_note_counts_once_and_shows_at_once(
    app: FastAPI, client: httpx.AsyncClient, redis: Redis, database: Database, made: MadeStore
) -> None:
    """The same request is replayed, the same note under another key is known; Redis follows."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await availability_redis.rebuild(conn, redis, store_id)
    manager = Staff(app, client, Role.STORE_MANAGER, store_id)
    note = {
        "supplier": "Dairy Ltd",
        "supplier_reference": "N-1",
        "lines": [{"sku_id": milk, "quantity": 6, "expires_on": "2999-01-01"}],
    }
    first = await manager.post("/deliveries", note, 201, **{"Idempotency-Key": "note-1"})
    again = await manager.post("/deliveries", note, 201, **{"Idempotency-Key": "note-1"})
    assert first == again
    known = await manager.post("/deliveries", note, 409)
    assert (known["code"], known["receipt_id"]) == ("delivery_known", first["id"])
    assert await availability_redis.read(redis, store_id, [milk]) == {milk: 26}
    found = await manager.get("/movements", reference=first["id"])
    assert [(m["kind"], m["on_hand_delta"]) for m in found["items"]] == [("receipt", 6)]
    lots = (await manager.get("/lots", sku_id=milk))["items"]
    assert [(lot["on_hand"], lot["expires_on"]) for lot in lots] == [(6, "2999-01-01"), (20, None)]


async def test_a_transfer_needs_both_stores(
    app: FastAPI, client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """The sender cannot receive, the receiver cannot send, and a stranger sees nothing."""
    milk, store_id = made.skus["Milk"], made.store.id
    other = await make_store(database, [make_draft("Ghee")])
    async with database.begin() as conn:
        await service.carry(conn, other.store.id, [ShelvedProduct(milk, "chilled", "Dairy")])
    here = Staff(app, client, Role.STORE_MANAGER, store_id)
    there = Staff(app, client, Role.STORE_MANAGER, other.store.id)
    body = {"to_store_id": other.store.id, "lines": [{"sku_id": milk, "quantity": 4}]}
    transfer = await here.post("/transfers", body, 201)
    path = f"/transfers/{transfer['id']}"
    await there.post(f"{path}/dispatch", {}, 404)
    assert (await here.post(f"{path}/dispatch", {}))["lines"][0]["in_transit"] == 4
    await here.post(f"{path}/receive", {}, 404)
    short = {"lines": [{"sku_id": milk, "quantity": 3}]}
    received = await there.post(f"{path}/receive", short)
    assert (received["status"], received["lines"][0]["received"]) == ("received", 3)
    assert (await there.post(f"{path}/receive", {}, 409))["code"] == "illegal_transition"
    stranger = Staff(app, client, Role.STORE_MANAGER, (await make_store(database, [])).store.id)
    await stranger.get(path, 404)
    assert len((await there.get("/transfers"))["items"]) == 1


async def test_waste_and_what_is_low(
    app: FastAPI, client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """Waste has a reason of the list; what it brings under the threshold is on the low list."""
    milk, store_id = made.skus["Milk"], made.store.id
    manager = Staff(app, client, Role.STORE_MANAGER, store_id)
    await manager.post("/waste", {"sku_id": milk, "quantity": 1, "reason": "eaten"}, 422)
    wasted = await manager.post("/waste", {"sku_id": milk, "quantity": 2, "reason": "spoiled"})
    assert (wasted["on_hand"], [lot["units"] for lot in wasted["lots"]]) == (18, [2])
    await manager.post(f"/{milk}/rules", {"low_stock_at": 18, "expiry_block_days": None})
    rules = await manager.post("/rules", {"expiry_block_days": 2})
    assert (rules["expiry_block_days"], rules["low_stock_at"]) == (2, 3)
    await watch.look(database)
    assert [item["sku_id"] for item in (await manager.get("/low"))["items"]] == [milk]
    page = await manager.get("/movements", limit=1, kind=["waste", "receipt"])
    rest = await manager.get("/movements", limit=9, cursor=page["next_cursor"])
    assert [m["kind"] for m in page["items"]] == ["waste"]
    assert {m["kind"] for m in rest["items"]} == {"receipt"}


async def test_a_customer_waits_for_a_product_and_is_told(
    app: FastAPI, client: httpx.AsyncClient, database: Database, made: MadeStore
) -> None:
    """Sign up while it is out, read when it is back, give up what one no longer wants."""
    milk, store_id = made.skus["Milk"], made.store.id
    actor = Actor(new_id("usr"), Role.CUSTOMER, new_id("ses"))
    headers = {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}
    body = {"store_id": store_id, "sku_id": milk}
    there = await client.post("/v1/stock-alerts", json=body, headers=headers)
    assert (there.status_code, there.json()["code"]) == (409, "in_stock")
    async with database.begin() as conn:
        await service.adjust_stock(conn, store_id, milk, -20, "gone", "usr_m")
    alert = (await client.post("/v1/stock-alerts", json=body, headers=headers)).json()
    assert (alert["sku_id"], alert["fired_at"], alert["in_stock"]) == (milk, None, False)
    async with database.begin() as conn:
        await service.receive_stock(conn, store_id, milk, 5, None, "usr_m")
    await watch.look(database)
    (mine,) = (await client.get("/v1/stock-alerts", headers=headers)).json()["items"]
    assert (mine["id"], mine["in_stock"], mine["fired_at"] is not None) == (alert["id"], True, True)
    gone = await client.delete(f"/v1/stock-alerts/{alert['id']}", headers=headers)
    assert gone.status_code == 200
    assert (await client.get("/v1/stock-alerts", headers=headers)).json()["items"] == []
