"""The HTTP shell: request ids, headers, body limit, deadline, drain, metrics, CORS, logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
from fastapi import APIRouter
from prometheus_client import REGISTRY

from kit.ids import new_id
from server.api.access import PUBLIC
from server.api.schemas import RequestModel
from server.middleware import ids_of
from server.settings import HttpSettings, RateLimitSettings
from tests.http_support import app_with, client_of, make_services, served

HTTP = HttpSettings(
    body_max_bytes=1024,
    request_deadline_s=15.0,
    allowed_origins=("https://shop.example",),
    rate_limits=RateLimitSettings(enabled=False),
)


class NoteIn(RequestModel):
    text: str


class Gate:
    """An endpoint that waits until the test lets it go."""

    def __init__(self, http: HttpSettings = HTTP) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()
        router = APIRouter(prefix="/v1/test", dependencies=[PUBLIC])
        router.add_api_route("/notes/{note_id}", self.note, methods=["POST"])
        router.add_api_route("/wait", self.wait, methods=["GET"])
        self.app = app_with(router, make_services(http=http))

    async def note(self, note_id: str, body: NoteIn) -> dict[str, int]:
        return {"characters": len(body.text)}

    async def wait(self) -> dict[str, bool]:
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"done": True}


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def client(gate: Gate) -> httpx.AsyncClient:
    return client_of(gate.app)


async def test_a_sane_request_id_is_kept_and_another_replaced(client: httpx.AsyncClient) -> None:
    """The caller's id is echoed if it cannot break a log line; else a new one is made."""
    kept = await client.get("/healthz", headers={"X-Request-Id": "mobile-42.abc"})
    assert kept.headers["x-request-id"] == "mobile-42.abc"
    for wild in ("short", 'a"b\\n{}aaaa', "x" * 65):
        answer = await client.get("/healthz", headers={"X-Request-Id": wild})
        assert answer.headers["x-request-id"].startswith("req_")


async def test_security_headers_are_on_answers_and_on_errors(client: httpx.AsyncClient) -> None:
    """No sniffing, no framing, no referrer; data is never cached by something in between."""
    for path in ("/healthz", "/v1/nothing"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


async def test_announced_and_chunked_bodies_are_bounded(gate: Gate) -> None:
    """Over a real socket, a long body is 413 with or without Content-Length."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(count):
            yield b"x" * 100
        yield b'"}'

    headers = {"content-type": "application/json"}
    async with served(gate.app) as server:
        for content in (chunks(20), b'{"text": "' + b"x" * 2000 + b'"}'):
            answer = await server.client.post("/v1/test/notes/1", content=content, headers=headers)
            assert answer.status_code == 413
            assert answer.json()["code"] == "too_large"
        fitting = await server.client.post("/v1/test/notes/1", content=chunks(5), headers=headers)
        assert fitting.json() == {"characters": 500}


async def test_a_request_past_its_deadline_is_cancelled_and_answered() -> None:
    """503 with Retry-After, and the endpoint does not run on."""
    gate = Gate(HTTP.model_copy(update={"request_deadline_s": 0.3}))
    async with served(gate.app) as server:
        answer = await server.client.get("/v1/test/wait")
        assert answer.status_code == 503
        assert answer.json()["code"] == "request_timeout"
        assert answer.json()["retryable"] is True
        assert answer.headers["retry-after"] == "1"
    assert gate.cancelled.is_set()


async def test_draining_ends_what_runs_and_refuses_what_comes(gate: Gate) -> None:
    """Requests under way end normally, new ones get 503 and a closed connection, probes go on."""
    drain = gate.app.state.drain
    async with served(gate.app) as server, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.client.get("/v1/test/wait"))
        await gate.entered.wait()
        drain.start()
        refused = await server.client.get("/v1/me")
        assert refused.status_code == 503
        assert refused.json()["code"] == "draining"
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["connection"] == "close"
        assert (await server.client.get("/healthz")).status_code == 200
        assert not await drain.wait(0.01)
        gate.opened.set()
        assert await drain.wait(5)
        assert (await running).json() == {"done": True}


async def test_metrics_and_logs_name_routes_by_template(client: httpx.AsyncClient) -> None:
    """Paths, queries and bodies may hold tokens and addresses; templates cannot."""
    labels = {"method": "POST", "route": "/v1/test/notes/{note_id}", "status": "200"}
    before = REGISTRY.get_sample_value("darkstore_http_requests_total", labels) or 0
    with structlog.testing.capture_logs() as logs:
        await client.post("/v1/test/notes/n-secret?q=query-secret", json={"text": "body-secret"})
        await client.get("/v1/unknown/path-secret")
    after = REGISTRY.get_sample_value("darkstore_http_requests_total", labels) or 0
    assert after == before + 1
    lines = [line for line in logs if line["event"] == "http_request"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/test/notes/{note_id}", 200),
        ("unmatched", 404),
    ]
    assert "secret" not in repr(logs)
    exported = (await client.get("/metrics")).text
    assert "darkstore_http_request_seconds_bucket" in exported
    # A route's own template may speak of secrets (other tests of this process asked for some).
    for given in ("n-secret", "query-secret", "body-secret", "path-secret"):
        assert given not in exported


def test_logs_name_the_order_and_the_trip() -> None:
    """Well-formed ids of a path are logged; whatever else stands in a path is not."""
    order_id = new_id("ord")
    params = {"order_id": order_id, "trip_id": "not an id", "token": new_id("tok")}
    assert ids_of({"path_params": params}) == {"order_id": order_id}
    assert ids_of({}) == {}


async def test_only_listed_origins_may_read(client: httpx.AsyncClient) -> None:
    """CORS answers our origins, also on errors, and stays silent for others."""
    ours = await client.get("/v1/me", headers={"Origin": "https://shop.example"})
    assert ours.status_code == 401
    assert ours.headers["access-control-allow-origin"] == "https://shop.example"
    foreign = await client.get("/v1/me", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


async def nothing() -> None:
    """An endpoint."""


async def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    """Without a trusted proxy a client cannot choose the address by which it is limited."""
    limits = RateLimitSettings(per_address=1)
    statuses = {}
    for name, proxies in (("none", ()), ("trusted", ("127.0.0.1",))):
        http = HttpSettings(rate_limits=limits, trusted_proxies=proxies)
        router = APIRouter(dependencies=[PUBLIC])
        router.add_api_route("/v1/test/open", nothing, methods=["GET"])
        client = client_of(app_with(router, make_services(http=http)))
        statuses[name] = [
            (
                await client.get("/v1/test/open", headers={"X-Forwarded-For": f"192.0.2.{n}"})
            ).status_code
            for n in (1, 2)
        ]
    assert statuses == {"none": [200, 429], "trusted": [200, 200]}
