"""The route table: the same route and the same refusals as FastAPI's own search, found directly."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.responses import Response

from server.api.access import PUBLIC, ServicesDep
from server.api.schemas import IdText, RequestModel
from server.app import create_app
from server.routing import RouteTable, lean_route, routes_served_directly
from tests.http_support import app_with, client_of, make_services


class WishIn(RequestModel):
    text: str
    times: int = 1


class WishOut(BaseModel):
    text: str
    note: str | None = None


def _router() -> APIRouter:
    router = APIRouter(prefix="/v1/wishes", tags=["wishes"], dependencies=[PUBLIC])

    @router.post("", status_code=201)
    async def wish(body: WishIn, services: ServicesDep) -> WishOut:
        return WishOut(text=body.text * body.times)

    @router.get("/latest")
    async def latest() -> dict[str, object]:
        return {"which": "latest"}

    @router.get("/{wish_id}")
    async def one(wish_id: IdText) -> dict[str, object]:
        return {"which": wish_id}

    @router.get("/{wish_id}/raw")
    async def raw(wish_id: str) -> Response:
        return Response(wish_id.encode(), 200, media_type="text/plain")

    @router.get("/{wish_id}/pages")
    async def pages(wish_id: str, limit: int = 5) -> dict[str, object]:
        return {"which": wish_id, "limit": limit}

    return router


def _app(*, table: bool) -> FastAPI:
    app = app_with(_router())
    installed = app.router.middleware_stack
    assert isinstance(installed, RouteTable)
    if not table:
        app.router.middleware_stack = app.router.app
    return app


JSON = {"content-type": "application/json"}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/wishes", {"json": {"text": "a", "times": 3}}),
    ("POST", "/v1/wishes", {"json": {"text": "a", "times": "3"}}),
    ("POST", "/v1/wishes", {"json": {"text": "a", "more": 1}}),
    ("POST", "/v1/wishes", {"json": {"times": 1}}),
    ("POST", "/v1/wishes", {"json": ["text"]}),
    ("POST", "/v1/wishes", {"content": b'{"text": "a"', "headers": JSON}),
    ("POST", "/v1/wishes", {"content": b'{"text": "\\ud800"}', "headers": JSON}),
    ("POST", "/v1/wishes", {"content": b'{"text": "a", "times": NaN}', "headers": JSON}),
    ("POST", "/v1/wishes", {"content": b'{"text": "a"}'}),
    ("POST", "/v1/wishes", {"content": b'{"text": "a"}', "headers": {"content-type": "text/x"}}),
    ("POST", "/v1/wishes", {"content": b"text=a", "headers": JSON}),
    ("POST", "/v1/wishes", {}),
    ("GET", "/v1/wishes", {}),
    ("GET", "/v1/wishes/latest", {}),
    ("GET", "/v1/wishes/wsh_1", {}),
    ("GET", "/v1/wishes/" + "x" * 65, {}),
    ("GET", "/v1/wishes/a%20b", {}),
    ("GET", "/v1/wishes/wsh_1/raw", {}),
    ("GET", "/v1/wishes/wsh_1/pages?limit=7", {}),
    ("GET", "/v1/wishes/wsh_1/pages?limit=many", {}),
    ("DELETE", "/v1/wishes/latest", {}),
    ("HEAD", "/v1/wishes/latest", {}),
    ("GET", "/v1/wishes/", {}),
    ("GET", "/v1/nothing", {}),
]


async def _answer(app: FastAPI, method: str, path: str, options: dict[str, Any]) -> object:
    answer = await client_of(app).request(
        method, path, **{**options, "headers": {**options.get("headers", {}), **_KNOWN}}
    )
    headers = httpx.Headers(answer.headers)
    return answer.status_code, answer.content, headers.get("content-type"), headers.get("allow")


_KNOWN = {"X-Request-Id": "the-same-for-both"}


@pytest.fixture(scope="module")
def apps() -> tuple[FastAPI, FastAPI]:
    """With the table and without it, once: the first request builds the table of a whole app."""
    return _app(table=True), _app(table=False)


@pytest.mark.parametrize(("method", "path", "options"), REQUESTS)
async def test_the_table_changes_no_answer(
    apps: tuple[FastAPI, FastAPI], method: str, path: str, options: dict[str, Any]
) -> None:
    """Good and bad requests get the same bytes with the table and without it."""
    with_table, without = apps
    assert await _answer(with_table, method, path, options) == await _answer(
        without, method, path, options
    )


def test_every_route_is_found_where_fastapi_finds_it() -> None:
    """The first declared route whose path fits has it, also where two of them fit."""
    app = create_app(make_services())
    contexts = [
        c for c in iter_route_contexts(app.routes) if isinstance(c.original_route, APIRoute)
    ]
    table = RouteTable(app, app.router.app).index()
    for context in contexts:
        path = re.sub(r"\{[^}]*\}", "some-id", str(context.path))
        for method in context.methods or ():
            first = next(
                c for c in contexts if method in (c.methods or ()) and c.path_regex.match(path)
            )
            found, _ = table.look_up(method, path)
            assert found is not None, f"{method} {path}"
            assert found.context.path == first.path


def test_what_a_guest_needs_for_an_order_is_served_directly() -> None:
    """A parameter too many would quietly put a hot route back on the long way."""
    direct = set(routes_served_directly(create_app(make_services())))
    assert {
        "POST /v1/auth/guest",
        "POST /v1/quotes",
        "POST /v1/orders",
        "GET /v1/orders/{order_id}",
        "POST /v1/webhooks/payments/{gateway}",
    } <= direct


def test_a_route_with_a_query_is_left_to_the_framework() -> None:
    """What the direct way does not know it does not guess."""
    app = app_with(_router())
    pages = next(
        c for c in iter_route_contexts(app.routes) if c.path == "/v1/wishes/{wish_id}/pages"
    )
    assert lean_route(pages) is None
