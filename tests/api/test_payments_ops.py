"""Those who look after payments: gateways of a city, alerts, disputes; and fallback over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from orders.payment_flow import CASH, Gateways
from payments.alerts import AlertKind, raise_alert
from payments.gateway_cash import CashGateway
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from payments.routing import Breakers, BreakerState, set_gateways_of_city
from payments.settings import BreakerSettings, PaymentSettings
from server.app import create_app
from tests.http_support import client_of, make_services
from tests.order_support import Shop, open_shop
from tests.provider_process import API_KEY, ProviderProcess


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


@pytest.fixture
async def app(shop: Shop, redis: Redis) -> FastAPI:
    services = make_services(shop.database, redis)
    return create_app(replace(services, gateways=shop.gateways))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


def bearer(app: FastAPI, role: Role, **scope: Any) -> dict[str, str]:
    actor = Actor(new_id("usr"), role, new_id("ses"), **scope)
    return {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}


async def test_ops_choose_the_gateways_of_their_city(
    app: FastAPI, client: httpx.AsyncClient, shop: Shop
) -> None:
    """What they set is what apps are told; unknown gateways and foreign cities are refused."""
    city = shop.place.city.id
    ops = bearer(app, Role.OPS, city_ids=frozenset({city}))
    path = f"/v1/ops/cities/{city}/gateways"
    wanted = {"methods": {"card": ["sandbox"]}}
    assert (await client.put(path, json=wanted, headers=ops)).status_code == 200
    assert (await client.get(path, headers=ops)).json()["methods"] == wanted["methods"]
    options = await client.get(f"/v1/payments/options?store_id={shop.place.store.id}")
    assert {one["method"]: one["gateways"] for one in options.json()["methods"]} == {
        "card": ["sandbox"], "upi": ["sandbox"], "cod": [], "wallet": [],
    }  # fmt: skip
    unknown = await client.put(path, json={"methods": {"card": ["nobody"]}}, headers=ops)
    assert unknown.status_code == 422
    foreign = bearer(app, Role.OPS, city_ids=frozenset({"cty_other"}))
    assert (await client.get(path, headers=foreign)).status_code == 404


async def test_an_alert_is_open_until_somebody_says_what_became_of_it(
    app: FastAPI, client: httpx.AsyncClient, shop: Shop
) -> None:
    """Those of the order's city see it and resolve it; others do not know of it."""
    order_id = await shop.order_at("confirmed")
    async with shop.database.begin() as conn:
        await raise_alert(
            conn, AlertKind.WRONG_AMOUNT, "sandbox", new_id("evt"), "Off by one.",
            order_id=order_id, facts={"theirs": 1},
        )  # fmt: skip
    ops = bearer(app, Role.OPS, city_ids=frozenset({shop.place.city.id}))
    foreign = bearer(app, Role.OPS, city_ids=frozenset({"cty_other"}))
    path = "/v1/ops/payments/alerts"
    (alert,) = (await client.get(path, headers=ops)).json()["items"]
    assert (alert["kind"], alert["facts"], alert["order_id"]) == (
        "wrong_amount", {"theirs": 1}, order_id,
    )  # fmt: skip
    assert (await client.get(path, headers=foreign)).json()["items"] == []
    resolve = f"{path}/{alert['id']}/resolve"
    body = {"resolution": "the gateway has corrected it"}
    assert (await client.post(resolve, json=body, headers=foreign)).status_code == 404
    done = await client.post(resolve, json=body, headers=ops)
    assert done.json()["resolution"] == body["resolution"]
    assert (await client.get(path, headers=ops)).json()["items"] == []
    everything = await client.get(path, params={"resolved": True}, headers=ops)
    assert len(everything.json()["items"]) == 1
    for empty in ("/v1/ops/disputes", "/v1/ops/payments/differences"):
        assert (await client.get(empty, headers=ops)).json()["items"] == []


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[ProviderProcess]:
    with ProviderProcess(tmp_path / "p.sqlite") as process:
        yield process


async def test_an_outage_over_real_http(shop: Shop, provider: ProviderProcess) -> None:
    """Stripe's port is closed: a request on a connection that breaks stays with Stripe, and after
    that Razorpay takes the orders; the breaker opens, and a probe closes it when Stripe is back.
    """
    now_s = 1_000.0
    breakers = Breakers(BreakerSettings(min_calls=3, open_s=30), now_s=lambda: now_s)
    stripe = StripeGateway(StripeSettings(provider.wire_url("stripe"), API_KEY, backoff_s=0.01))
    razorpay = RazorpayGateway(
        RazorpaySettings(provider.wire_url("razorpay"), API_KEY, key_id="rzp_test_1")
    )
    shop.gateways = Gateways(
        {CASH: CashGateway(), "stripe": stripe, "razorpay": razorpay}, PaymentSettings(), breakers
    )
    async with shop.database.begin() as conn:
        await set_gateways_of_city(
            conn, shop.place.city.id, {"card": ["stripe", "razorpay"]}, "ops", shop.clock.now()
        )

    async def taken_by(status: str = "confirmed") -> str:
        (product,) = await shop.stock(5)
        order = await shop.order(await shop.place_order({product.sku_id: 1}))
        assert order["status"] == status
        return str(order["gateway"])

    async with provider.client() as control:
        assert await taken_by() == "stripe"
        outage = {"wire": "stripe", "kind": "refuse", "for_s": 600}
        assert (await control.post("/_control/outage", json=outage)).status_code == 200
        assert await taken_by("placed") == "stripe"
        assert [await taken_by() for _ in range(3)] == ["razorpay"] * 3
        assert breakers.of("stripe").state is BreakerState.OPEN
        over = {"wire": "stripe", "kind": "refuse", "for_s": 0}
        assert (await control.post("/_control/outage", json=over)).status_code == 200
        assert await taken_by() == "razorpay"
        now_s += 31
        assert await taken_by() == "stripe"
    assert breakers.of("stripe").state is BreakerState.CLOSED
    await shop.gateways.close()
