"""Every route says who may use it, and the check notices one that does not."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, WebSocket
from fastapi.routing import iter_route_contexts

from identity.model import Role
from server.api.access import PUBLIC, Allow, Public, access_rule, routes_without_rule
from server.app import create_app
from tests.http_support import app_with, client_of, make_services


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
    found = routes_without_rule(app_with(outer))
    assert {"GET /v1/test/forgotten", "ANY /v1/test/socket"} <= set(found)
    assert "GET /v1/test/stated" not in found


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
