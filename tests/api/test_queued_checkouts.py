"""Checkouts while Postgres is away: told honestly, kept, and placed once when it is back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from loadtests.chaos.proxy import Link, Mode
from orders.spool import CheckoutSpool, SpoolSettings
from riders.locations_redis import RedisLocations
from server.app import create_app
from server.checkouts import QueuedCheckouts
from server.database_watch import DatabaseWatch
from server.territory import TerritoryCache
from server.tracking import Tracking
from tests.http_support import client_of, make_services
from tests.order_support import Shop, open_shop
from tests.support import opened_database
from tests.waiting import eventually


@dataclass
class Scene:
    """A shop behind a wire that can be cut, and its customer's client."""

    shop: Shop
    link: Link
    watch: DatabaseWatch
    queue: QueuedCheckouts
    app: FastAPI
    client: httpx.AsyncClient
    headers: dict[str, str]
    sku_id: str

    async def quote(self) -> str:
        """A quote as POST /v1/quotes leaves it, its mark included."""
        quote_id = await self.shop.quote({self.sku_id: 1})
        await self.queue.remember_quote(quote_id, self.shop.customer_id)
        return quote_id

    async def post(self, quote_id: str, key: str, **changes: Any) -> httpx.Response:
        body = {"quote_id": quote_id, "payment": {"method": "card", "token": "tok_ok"}, **changes}
        headers = {**self.headers, "Idempotency-Key": key}
        return await self.client.post("/v1/orders", json=body, headers=headers)

    async def read(self, order_id: str) -> httpx.Response:
        return await self.client.get(f"/v1/orders/{order_id}", headers=self.headers)

    async def go(self, mode: Mode) -> None:
        """Change the wire, and wait until the watch has seen it."""
        await self.link.become(mode)
        if mode is Mode.PASS:
            async with asyncio.timeout(10):
                await self.watch.until_up()

    async def ended(self, order_id: str) -> dict[str, Any]:
        """The order (or refusal) that a queued checkout has become."""

        async def look() -> dict[str, Any] | None:
            answer = await self.read(order_id)
            found: dict[str, Any] = answer.json()
            queued = answer.status_code != 200 or found["status"] == "queued"
            return None if queued else found

        return await eventually(look, "the end of a queued checkout")

    async def orders(self) -> int:
        rows = await self.shop.rows("SELECT count(*) AS n FROM orders")
        return int(rows[0]["n"])


@asynccontextmanager
async def open_scene(
    database: Database, redis: Redis, directory: Path, settings: SpoolSettings
) -> AsyncIterator[Scene]:
    shop = await open_shop(database)
    (product,) = await shop.stock(20)
    url = make_url(str(database.engine.url)).set(drivername="postgresql")
    assert url.port is not None
    link = Link("postgres", url.port, random.Random(1))
    await link.open()
    wire = url.set(host="127.0.0.1", port=link.port).render_as_string(hide_password=False)
    async with opened_database(wire, size=4) as cut_off:
        territory = TerritoryCache(cut_off)
        services = replace(
            make_services(cut_off, redis, clock=shop.clock),
            gateways=shop.gateways,
            tracking=Tracking(cut_off, RedisLocations(redis), shop.clock, territory),
        )
        services = replace(
            services, settings=services.settings.model_copy(update={"spool": settings})
        )
        spool = await CheckoutSpool.open(directory, settings)
        watch = DatabaseWatch(wire, cut_off)
        queue = QueuedCheckouts(services, spool, watch)
        app = create_app(services)
        app.state.checkouts = queue
        running = asyncio.create_task(queue.run())
        actor = Actor(shop.customer_id, Role.GUEST, new_id("ses"))
        token = app.state.identity.tokens.access(actor)
        async with client_of(app) as client:
            headers = {"Authorization": f"Bearer {token}"}
            yield Scene(shop, link, watch, queue, app, client, headers, product.sku_id)
        running.cancel()
        await asyncio.wait([running])
        await spool.close()
    await link.close()


@pytest.fixture
async def scene(fresh_database: Database, redis: Redis, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(fresh_database, redis, tmp_path, SpoolSettings()) as scene:
        yield scene


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.HALF_OPEN])
async def test_a_checkout_without_a_database_is_queued_and_placed_when_it_is_back(
    scene: Scene, mode: Mode
) -> None:
    """202 with the id of the order to be; then that very order, once, for any repeat of the key."""
    quote_id = await scene.quote()
    await scene.go(mode)
    async with asyncio.timeout(8):
        queued = await scene.post(quote_id, "key-1")
    assert queued.status_code == 202
    told = queued.json()
    assert told["status"] == "queued"
    assert "not placed yet" in told["detail"]
    assert (await scene.read(told["id"])).json() == told
    again = await scene.post(quote_id, "key-1")
    assert (again.status_code, again.json()) == (202, told)
    assert again.headers["idempotent-replayed"] == "true"
    other = await scene.post(quote_id, "key-1", substitution="ask")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await scene.go(Mode.PASS)
    order = await scene.ended(told["id"])
    assert (order["id"], order["status"]) == (told["id"], "confirmed")
    replayed = await scene.post(quote_id, "key-1")
    assert (replayed.status_code, replayed.json()["id"]) == (201, told["id"])
    assert await scene.orders() == 1


async def test_an_answer_lost_on_the_wire_is_one_order(scene: Scene) -> None:
    """The database commits and goes deaf before it can say so: queued, and yet no second order."""
    quote_id = await scene.quote()
    placing = scene.shop.gateway.authorise

    async def deaf_after_commit(*given: Any, **named: Any) -> Any:
        scene.shop.gateway.authorise = placing  # type: ignore[method-assign]
        await scene.link.become(Mode.HALF_OPEN)
        return await placing(*given, **named)

    scene.shop.gateway.authorise = deaf_after_commit  # type: ignore[method-assign]
    answer = await scene.post(quote_id, "key-1")
    assert answer.status_code == 202
    assert await scene.orders() == 1
    await scene.go(Mode.PASS)
    # The settlement worker finds the operation that nobody has written down, and resolves it.
    await scene.shop.settle_all()
    order = await scene.ended(answer.json()["id"])
    assert order["status"] in ("confirmed", "payment_failed")
    assert await scene.orders() == 1


async def test_a_quote_that_is_not_known_is_not_queued(scene: Scene) -> None:
    """Nobody can tell whether it is good: 503, and nothing is kept."""
    await scene.go(Mode.REFUSE)
    answer = await scene.post("quo_unknown", "key-1")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_another_customers_quote_is_not_queued(scene: Scene) -> None:
    """A mark belongs to who asked for the quote."""
    quote_id = await scene.shop.quote({scene.sku_id: 1})
    await scene.queue.remember_quote(quote_id, new_id("usr"))
    await scene.go(Mode.REFUSE)
    assert (await scene.post(quote_id, "key-1")).status_code == 503


async def test_a_full_disk_queue_says_when_to_come_back(
    fresh_database: Database, redis: Redis, tmp_path: Path
) -> None:
    """503 with Retry-After, and nothing promised."""
    full = SpoolSettings(max_waiting=1)
    async with open_scene(fresh_database, redis, tmp_path, full) as scene:
        quotes = [await scene.quote() for _ in range(2)]
        await scene.go(Mode.REFUSE)
        first, second = [await scene.post(quote, f"key-{n}") for n, quote in enumerate(quotes)]
        assert first.status_code == 202
        assert (second.status_code, second.json()["code"]) == (503, "checkout_queue_full")
        assert int(second.headers["retry-after"]) > 0


async def test_what_has_run_out_meanwhile_is_refused_with_its_reason(scene: Scene) -> None:
    """The customer reads why, and sees it as an event of the id that was told."""
    quote_id = await scene.quote()
    await scene.go(Mode.REFUSE)
    told = (await scene.post(quote_id, "key-1")).json()
    async with scene.shop.database.begin() as conn:
        await conn.execute(text("UPDATE stores SET open = false"))
    await scene.go(Mode.PASS)
    ended = await scene.ended(told["id"])
    assert (ended["status"], ended["code"], ended["order_id"]) == ("refused", "store_paused", None)
    events = await scene.shop.rows(
        "SELECT type, data FROM outbox WHERE stream = :stream", stream=f"order:{told['id']}"
    )
    assert [(event["type"], event["data"]["code"]) for event in events] == [
        ("checkout.refused", "store_paused")
    ]
    assert await scene.orders() == 0


async def test_nobody_gets_groceries_that_were_asked_for_long_ago(
    fresh_database: Database, redis: Redis, tmp_path: Path
) -> None:
    """Past its age a queued checkout is refused; its quote may have lived on."""
    async with open_scene(fresh_database, redis, tmp_path, SpoolSettings(max_age_s=0.001)) as scene:
        quote_id = await scene.quote()
        await scene.go(Mode.REFUSE)
        told = (await scene.post(quote_id, "key-1")).json()
        await scene.go(Mode.PASS)
        ended = await scene.ended(told["id"])
        assert (ended["status"], ended["code"]) == ("refused", "checkout_too_late")
        assert await scene.orders() == 0


async def test_a_quote_that_was_good_when_it_was_asked_for_stays_good(scene: Scene) -> None:
    """It expires while it waits, and its price is kept all the same."""
    quote_id = await scene.quote()
    await scene.go(Mode.REFUSE)
    told = (await scene.post(quote_id, "key-1")).json()
    async with scene.shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE quotes SET expires_at = :at"),
            {"at": scene.shop.clock.now() + timedelta(milliseconds=1)},
        )
    await scene.go(Mode.PASS)
    assert (await scene.ended(told["id"]))["status"] == "confirmed"


async def test_foreign_checkouts_are_not_there(scene: Scene) -> None:
    """Another customer sees neither what waits nor what became of it."""
    quote_id = await scene.quote()
    await scene.go(Mode.REFUSE)
    told = (await scene.post(quote_id, "key-1")).json()
    stranger = Actor(new_id("usr"), Role.GUEST, new_id("ses"))
    token = scene.app.state.identity.tokens.access(stranger)
    scene.headers = {"Authorization": f"Bearer {token}"}
    assert (await scene.read(told["id"])).status_code == 503
    await scene.go(Mode.PASS)

    async def gone() -> bool:
        return (await scene.read(told["id"])).status_code == 404

    await eventually(gone, "a 404 for a stranger")
