"""Registration, log-in, tokens and roles over HTTP."""

from __future__ import annotations

import json
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter
from redis.asyncio import Redis

from identity.model import Actor, Role
from identity.service import create_staff
from kit.clock import Clock
from kit.db import Database
from kit.ids import new_id
from server.api import health
from server.api.access import allow
from server.settings import HttpSettings, RateLimitSettings
from tests.http_support import app_with, client_of, make_services

PASSWORD = "correct horse battery"

router = APIRouter()


@router.get("/v1/test/pickers")
async def pickers(actor: Annotated[Actor, allow(Role.PICKER, Role.OPS)]) -> dict[str, Any]:
    return {"role": actor.role, "stores": sorted(actor.store_ids)}


@pytest.fixture
async def client(database: Database, redis: Redis) -> httpx.AsyncClient:
    return client_of(app_with(router, make_services(database, redis)))


def registration(**changes: object) -> dict[str, object]:
    return {"email": f"{new_id('tst')}@example.org", "password": PASSWORD, "name": "Ana", **changes}


def bearer(answer: httpx.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_customer_from_registration_to_log_out(client: httpx.AsyncClient) -> None:
    """The whole life of a session, with the shapes of API.md."""
    form = registration()
    registered = await client.post("/v1/auth/register", json=form)
    assert registered.status_code == 201
    document = registered.json()
    assert set(document) == {"access_token", "refresh_token", "expires_in_s", "user"}
    assert document["expires_in_s"] == 900
    assert document["user"] == {
        "id": document["user"]["id"], "role": "customer", "name": "Ana", "email": form["email"],
        "store_ids": [], "city_ids": [], "rider_id": None, "must_change_password": False,
    }  # fmt: skip
    me = await client.get("/v1/me", headers=bearer(registered))
    assert me.json() == document["user"]

    login = {"email": form["email"], "password": PASSWORD}
    logged_in = await client.post("/v1/auth/login", json=login)
    assert logged_in.status_code == 200
    pair = {"refresh_token": logged_in.json()["refresh_token"]}
    refreshed = await client.post("/v1/auth/refresh", json=pair)
    assert refreshed.status_code == 200
    assert (await client.get("/v1/me", headers=bearer(refreshed))).status_code == 200

    assert (await client.post("/v1/auth/logout", headers=bearer(refreshed))).status_code == 204
    after = await client.get("/v1/me", headers=bearer(refreshed))
    assert (after.status_code, after.json()["code"]) == (401, "session_revoked")
    still = await client.get("/v1/me", headers=bearer(registered))
    assert still.status_code == 200, "the other session lives on"


async def test_refusals_have_their_codes(client: httpx.AsyncClient) -> None:
    """email_taken, credentials_wrong, token_invalid, session_revoked, field errors."""
    form = registration()
    registered = await client.post("/v1/auth/register", json=form)
    again = await client.post("/v1/auth/register", json=form)
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")
    wrong = await client.post("/v1/auth/login", json=form)
    assert wrong.status_code == 422, "unknown fields are refused: log-in takes no name"
    login = {"email": form["email"], "password": "wrong horse"}
    wrong = await client.post("/v1/auth/login", json=login)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "credentials_wrong")
    invented = await client.post("/v1/auth/refresh", json={"refresh_token": "x" * 43})
    assert (invented.status_code, invented.json()["code"]) == (401, "token_invalid")
    pair = {"refresh_token": registered.json()["refresh_token"]}
    following = (await client.post("/v1/auth/refresh", json=pair)).json()
    await client.post("/v1/auth/refresh", json={"refresh_token": following["refresh_token"]})
    reused = await client.post("/v1/auth/refresh", json=pair)
    assert (reused.status_code, reused.json()["code"]) == (401, "session_revoked")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b." + "c" * 300}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 200}, "password"),
        ({"password": 12345678}, "password"),
        ({"name": "   "}, "name"),
        ({"name": "n" * 150}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\ud800b"}, "name"),
        ({"role": "admin"}, "role"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, changes: dict[str, object], field: str
) -> None:
    """422 with the field; nobody gives himself a role, and passwords are never echoed."""
    content = json.dumps(registration(**changes))
    headers = {"content-type": "application/json"}
    answer = await client.post("/v1/auth/register", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert "x" * 200 not in answer.text


async def test_text_that_cannot_be_stored_is_not_a_crash(client: httpx.AsyncClient) -> None:
    """NUL and lone surrogates where no rule of ours looks: an answer of the 400s."""
    headers = {"content-type": "application/json"}
    for email in ("a\\u0000@b.org", "a\\ud800@b.org"):
        content = f'{{"email": "{email}", "password": "{PASSWORD}"}}'
        answer = await client.post("/v1/auth/login", content=content, headers=headers)
        assert answer.status_code in {401, 422}, answer.text


async def test_a_guest_has_a_session_and_no_name(client: httpx.AsyncClient) -> None:
    """No password, role guest."""
    answer = await client.post("/v1/auth/guest")
    assert answer.status_code == 201
    user = answer.json()["user"]
    assert (user["role"], user["email"]) == ("guest", None)
    assert (await client.get("/v1/me", headers=bearer(answer))).json()["id"] == user["id"]


async def test_roles_open_their_routes_only(
    client: httpx.AsyncClient, database: Database, redis: Redis
) -> None:
    """A picker's token carries role and stores; a customer with a good token is denied."""
    passwords = client._transport.app.state.identity.passwords  # type: ignore[attr-defined]
    async with database.begin() as conn:
        staff = await create_staff(
            conn, passwords, role=Role.PICKER, name="Pia",
            email=f"{new_id('tst')}@example.org", store_ids=["sto_1"],
        )  # fmt: skip
    login = {"email": staff.email, "password": staff.password}
    picker = await client.post("/v1/auth/login", json=login)
    assert picker.json()["user"]["must_change_password"] is True
    allowed = await client.get("/v1/test/pickers", headers=bearer(picker))
    assert allowed.json() == {"role": "picker", "stores": ["sto_1"]}
    guest = await client.post("/v1/auth/guest")
    denied = await client.get("/v1/test/pickers", headers=bearer(guest))
    assert (denied.status_code, denied.json()["code"]) == (403, "denied")
    change = {"current_password": staff.password, "new_password": "a new password"}
    changed = await client.post("/v1/auth/password/change", json=change, headers=bearer(picker))
    assert changed.json()["user"]["must_change_password"] is False
    old = await client.get("/v1/test/pickers", headers=bearer(picker))
    assert old.json()["code"] == "session_revoked"


async def test_an_access_token_expires_in_virtual_time(
    database: Database, redis: Redis, client: httpx.AsyncClient
) -> None:
    """A quarter of a virtual hour later the token is token_expired, and refresh still works."""
    guest = await client.post("/v1/auth/guest")
    later = make_services(database, redis, clock=Clock(anchor_virtual_s=903))
    client = client_of(app_with(router, later))
    answer = await client.get("/v1/me", headers=bearer(guest))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    pair = {"refresh_token": guest.json()["refresh_token"]}
    refreshed = await client.post("/v1/auth/refresh", json=pair)
    assert (await client.get("/v1/me", headers=bearer(refreshed))).status_code == 200


async def test_log_in_is_limited_by_account_and_by_address(
    database: Database, redis: Redis
) -> None:
    """Guessing one password stops after a few tries; spraying many accounts stops too."""
    limits = RateLimitSettings(log_in_per_account=3, log_in_per_address=5)
    services = make_services(database, redis, http=HttpSettings(rate_limits=limits))
    app = app_with(router, services)
    # Addresses of documentation (RFC 5737), drawn so that tests do not share a count.
    octets = [byte % 250 for byte in new_id("tst").encode()[-2:]]
    client = client_of(app, client=(f"198.18.{octets[0]}.{octets[1]}", 1))
    email = f"{new_id('tst')}@example.org"
    statuses = []
    for typed in (email, email.upper(), email, email, "x" + email, "y" + email):
        login = {"email": typed, "password": PASSWORD}
        answer = await client.post("/v1/auth/login", json=login)
        statuses.append((answer.status_code, answer.json()["code"]))
    wrong, limited = (401, "credentials_wrong"), (429, "rate_limited")
    assert statuses == [wrong, wrong, wrong, limited, wrong, limited]
    assert int(answer.headers["retry-after"]) >= 1


async def test_logs_hold_no_secret_and_no_person(client: httpx.AsyncClient) -> None:
    """A registration, good and bad log-ins, a refresh and a search leave nothing personal."""
    form = registration(name="Zenobia Quill")
    with structlog.testing.capture_logs() as captured:
        registered = await client.post("/v1/auth/register", json=form)
        login = {"email": form["email"], "password": PASSWORD}
        logged_in = await client.post("/v1/auth/login", json=login)
        await client.post("/v1/auth/login", json={**login, "password": "wrong-horse-77"})
        pair = {"refresh_token": logged_in.json()["refresh_token"]}
        refreshed = await client.post("/v1/auth/refresh", json=pair)
        await client.post("/v1/auth/refresh", json=pair)
        headers = bearer(refreshed)
        await client.get("/v1/me", params={"q": "private-search"}, headers=headers)
    logs = repr(captured)
    assert captured, "something was logged at all"
    for secret in (
        form["email"], PASSWORD, "wrong-horse-77", "Zenobia", "private-search",
        pair["refresh_token"], headers["Authorization"].split()[1],
        registered.json()["access_token"], refreshed.json()["refresh_token"],
    ):  # fmt: skip
        assert isinstance(secret, str)
        assert secret not in logs


async def test_a_schema_of_another_age_is_not_ready(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that knows a newer migration than the database has must not get traffic."""
    monkeypatch.setattr(health, "expected_revision", lambda: "a revision to come")
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["postgres"] == "migrations_missing"


async def test_readiness_tells_what_is_missing(database: Database, redis: Redis) -> None:
    """Ready with both engines, degraded without Redis, alive regardless."""
    ready = await client_of(app_with(router, make_services(database, redis))).get("/readyz")
    checks = {"postgres": "ok", "redis": "ok"}
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"] == checks
    degraded = client_of(app_with(router, make_services(database)))
    answer = await degraded.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    gone = await Database.open("postgresql://nobody@127.0.0.1:1/nothing")
    try:
        unready = client_of(app_with(router, make_services(gone, redis)))
        answer = await unready.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"] == {"postgres": "unavailable", "redis": "ok"}
        assert answer.headers["retry-after"] == "1"
        assert (await unready.get("/healthz")).status_code == 200
        down = await unready.post("/v1/auth/guest")
        assert (down.status_code, down.json()["code"]) == (503, "database_unavailable")
    finally:
        await gone.close()
