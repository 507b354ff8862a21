"""Every route says who may use it, and the check notices one that does not."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, WebSocket
from fastapi.routing import iter_route_contexts

from identity.model import Actor, Role
from identity.tokens import Tokens
from kit.clock import Clock
from kit.db import Database
from server.api.access import PUBLIC, Allow, Public, access_rule, allow, routes_without_rule
from server.app import create_app
from tests.http_support import app_with, client_of, identity_settings, make_services


def test_every_route_states_its_rule() -> None:
    """A route without a rule would be open by accident."""
    app = create_app(make_services())
    assert routes_without_rule(app) == []
    # The list is not empty because nothing was looked at.
    rules = {route.path: access_rule(route) for route in iter_route_contexts(app.routes)}
    assert rules["/v1/me"] == Allow(frozenset(Role))
    assert rules["/healthz"] == Public(limited=False)
    assert rules["/openapi.json"] == Public(limited=False)


def test_a_route_without_a_rule_is_found() -> None:
    """HTTP routes and sockets, however deep their router is nested."""
    inner = APIRouter()

    @inner.get("/forgotten")
    async def forgotten() -> None: ...

    @inner.websocket("/socket")
    async def socket(websocket: WebSocket) -> None: ...

    @inner.get("/stated", dependencies=[PUBLIC])
    async def stated() -> None: ...

    outer = APIRouter(prefix="/v1/test")
    outer.include_router(inner)
    assert routes_without_rule(app_with(outer)) == [
        "GET /v1/test/forgotten",
        "ANY /v1/test/socket",
    ]


async def test_a_role_that_is_not_listed_is_denied(database: Database) -> None:
    """403 for a known person without the role, 401 for nobody, 200 for the role."""
    router = APIRouter()

    @router.get("/v1/test/riders")
    async def riders(actor: Annotated[Actor, allow(Role.RIDER, Role.OPS)]) -> dict[str, str]:
        return {"role": actor.role}

    services = make_services(database)
    client = client_of(app_with(router, services))
    tokens = Tokens(identity_settings(), Clock())
    # Redis is down here, so the session is looked up in Postgres, where it is not.
    for role, status, code in (
        (Role.RIDER, 401, "session_revoked"),
        (Role.CUSTOMER, 401, "session_revoked"),
    ):
        token = tokens.access(Actor("usr_x", role, "ses_x"))
        answer = await client.get("/v1/test/riders", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await client.get("/v1/test/riders")).json()["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer not.a.token", "Bearer é"]
)
async def test_a_header_that_is_not_a_bearer_token_is_401(header: str) -> None:
    """Whatever stands in Authorization, the answer is 401 and never a crash."""
    client = client_of(create_app(make_services()))
    headers = {"Authorization": header.encode("latin-1")}
    answer = await client.get("/v1/me", headers=headers)  # type: ignore[arg-type]  # raw bytes
    assert answer.status_code == 401
    assert answer.json()["code"] in {"unauthenticated", "token_invalid"}


async def test_the_openapi_document_shows_rules_and_problems() -> None:
    """Every operation has the problem document as default answer; roles where there are any."""
    document = (await client_of(create_app(make_services())).get("/openapi.json")).json()
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    ]
    assert operations
    for _path, operation in operations:
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert "422" not in operation["responses"]
    assert document["paths"]["/v1/me"]["get"]["x-roles"] == sorted(role.value for role in Role)
    assert "security" not in document["paths"]["/v1/auth/login"]["post"]
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(ids) == len(set(ids))
