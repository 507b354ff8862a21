"""Webhook endpoints over HTTP: for a city's ops, with a secret that is shown once."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from notify.settings import NotifySettings, WebhookSettings
from server.app import create_app
from tests.cities import Place, make_place
from tests.http_support import client_of, make_services

PATH = "/v1/ops/webhooks"
BODY = {"url": "https://shop.example/hook", "events": ["order.*"]}


@pytest.fixture
def app(database: Database, redis: Redis) -> FastAPI:
    services = make_services(database, redis)
    webhooks = WebhookSettings(master_secret=SecretStr("m" * 32), max_endpoints_per_city=2)
    settings = services.settings.model_copy(update={"notify": NotifySettings(webhooks=webhooks)})
    return create_app(dataclasses.replace(services, settings=settings))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def place(database: Database) -> Place:
    return await make_place(database, 0)


def bearer(app: FastAPI, role: Role, *city_ids: str) -> dict[str, str]:
    actor = Actor(new_id("usr"), role, new_id("ses"), city_ids=frozenset(city_ids))
    return {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}


async def made(client: httpx.AsyncClient, ops: dict[str, str], city_id: str) -> dict[str, Any]:
    answer = await client.post(PATH, json={**BODY, "city_id": city_id}, headers=ops)
    assert answer.status_code == 201, answer.text
    endpoint: dict[str, Any] = answer.json()
    return endpoint


async def test_the_secret_is_shown_when_it_is_made_and_never_again(
    app: FastAPI, client: httpx.AsyncClient, place: Place
) -> None:
    """Created, read, listed; rotated: another secret, again shown once."""
    ops = bearer(app, Role.OPS, place.city.id)
    endpoint = await made(client, ops, place.city.id)
    path = f"{PATH}/{endpoint['id']}"
    assert endpoint["secret"].startswith("whsec_")
    shown = (await client.get(path, headers=ops)).json()
    listed = (await client.get(PATH, headers=ops)).json()["items"]
    assert listed == [shown]
    assert shown == {key: value for key, value in endpoint.items() if key != "secret"}
    rotated = await client.post(f"{path}/rotate-secret", headers=ops)
    assert rotated.json()["secret"] not in ("", endpoint["secret"])


async def test_another_citys_endpoint_is_not_there(
    app: FastAPI, client: httpx.AsyncClient, database: Database, place: Place
) -> None:
    """Neither to be read nor changed nor replayed; and nobody but ops may ask at all."""
    endpoint = await made(client, bearer(app, Role.OPS, place.city.id), place.city.id)
    elsewhere = bearer(app, Role.OPS, (await make_place(database, 0)).city.id)
    path = f"{PATH}/{endpoint['id']}"
    for method, where, body in (
        ("GET", path, None), ("PATCH", path, {"active": False}), ("DELETE", path, None),
        ("POST", f"{path}/ping", None), ("POST", f"{path}/replay-dead", None),
        ("GET", f"{path}/deliveries", None), ("POST", f"{path}/rotate-secret", None),
    ):  # fmt: skip
        answer = await client.request(method, where, json=body, headers=elsewhere)
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_endpoint_not_found")
    foreign = await client.post(PATH, json={**BODY, "city_id": place.city.id}, headers=elsewhere)
    assert foreign.status_code == 404
    everywhere = await client.post(PATH, json=BODY, headers=elsewhere)
    assert everywhere.status_code == 422
    support = await client.get(PATH, headers=bearer(app, Role.SUPPORT, place.city.id))
    assert support.status_code == 403


async def test_a_city_has_a_bounded_number_of_endpoints(
    app: FastAPI, client: httpx.AsyncClient, place: Place
) -> None:
    """One too many is a named conflict; after a removal there is room again."""
    ops = bearer(app, Role.OPS, place.city.id)
    first, _ = [await made(client, ops, place.city.id) for _ in range(2)]
    body = {**BODY, "city_id": place.city.id}
    refused = await client.post(PATH, json=body, headers=ops)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhook_endpoints")
    assert (await client.delete(f"{PATH}/{first['id']}", headers=ops)).status_code == 204
    assert (await client.post(PATH, json=body, headers=ops)).status_code == 201


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://shop.example/"}, "webhook_url_refused"),
        ({"url": "https://169.254.169.254/latest"}, "webhook_url_refused"),
        ({"events": ["everything"]}, "invalid"),
    ],
)
async def test_bad_input_names_its_field(
    app: FastAPI, client: httpx.AsyncClient, place: Place, change: dict[str, Any], code: str
) -> None:
    """At creation and at a later change alike."""
    ops = bearer(app, Role.OPS, place.city.id)
    body = {**BODY, "city_id": place.city.id, **change}
    created = await client.post(PATH, json=body, headers=ops)
    endpoint = await made(client, ops, place.city.id)
    changed = await client.patch(f"{PATH}/{endpoint['id']}", json=change, headers=ops)
    for answer in (created, changed):
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert answer.json()["errors"][0]["field"] in change


async def test_a_ping_is_a_delivery_that_can_be_read_and_replayed(
    app: FastAPI, client: httpx.AsyncClient, place: Place
) -> None:
    """It waits for the sender; the log shows the event as it will be sent."""
    ops = bearer(app, Role.OPS, place.city.id)
    endpoint = await made(client, ops, place.city.id)
    path = f"{PATH}/{endpoint['id']}"
    queued = (await client.post(f"{path}/ping", headers=ops)).json()
    listed = (await client.get(f"{path}/deliveries?status=waiting", headers=ops)).json()["items"]
    assert [item["id"] for item in listed] == [queued["id"]]
    read = (await client.get(f"{path}/deliveries/{queued['id']}", headers=ops)).json()
    assert read["event"]["type"] == "ping"
    assert read["event"]["data"]["object"]["url"] == BODY["url"]
    assert read["attempt_log"] == []
    again = await client.post(f"{path}/deliveries/{queued['id']}/replay", headers=ops)
    assert (again.status_code, again.json()) == (202, {"replayed": 1})


async def test_without_a_master_secret_no_endpoint_is_made(
    database: Database, redis: Redis, place: Place
) -> None:
    """The error says what to set."""
    app = create_app(make_services(database, redis))
    async with client_of(app) as client:
        answer = await client.post(
            PATH, json={**BODY, "city_id": place.city.id}, headers=bearer(app, Role.ADMIN)
        )
    assert (answer.status_code, answer.json()["code"]) == (409, "webhooks_not_configured")
    assert "DARKSTORE_NOTIFY__WEBHOOKS__MASTER_SECRET" in answer.json()["detail"]
