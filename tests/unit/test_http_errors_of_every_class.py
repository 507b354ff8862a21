"""Every error that can rise becomes the right problem document, over the real application."""

from __future__ import annotations

from typing import Annotated

import asyncpg
import httpx
import pytest
import structlog
from fastapi import APIRouter, Query
from pydantic import Field
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kit.errors import (
    Busy,
    Conflict,
    DarkstoreError,
    Denied,
    IllegalTransition,
    Invalid,
    NotFound,
    PaymentRefused,
    RateLimited,
    TooLarge,
    Unauthenticated,
)
from server.api.access import PUBLIC
from server.api.paging import decode_cursor
from server.api.schemas import LatLon, RequestModel
from server.errors import STATUS
from tests.http_support import app_with, client_of


class StockShort(Conflict):
    code = "stock_short"


def wrapped(kind: type[asyncpg.PostgresError]) -> DBAPIError:
    """An error of the driver as SQLAlchemy hands it on."""
    return DBAPIError("SELECT secret", {"phone": "0123"}, kind("driver text with 0123"))


RAISED: dict[str, tuple[Exception, int, str, bool]] = {
    "invalid": (Invalid("No."), 422, "invalid", False),
    "unauthenticated": (Unauthenticated("Who are you? Log in."), 401, "unauthenticated", False),
    "payment": (PaymentRefused("No."), 402, "payment_declined", False),
    "denied": (Denied("No."), 403, "denied", False),
    "not_found": (NotFound("No."), 404, "not_found", False),
    "conflict": (Conflict("No."), 409, "conflict", False),
    "subclass": (StockShort("No."), 409, "stock_short", False),
    "illegal": (IllegalTransition("No."), 409, "illegal_transition", False),
    "too_large": (TooLarge("No."), 413, "too_large", False),
    "busy": (Busy("Later.", retry_after_s=7), 503, "busy", True),
    "rate": (RateLimited("Later.", retry_after_s=3), 429, "rate_limited", True),
    "pool": (PoolTimeoutError(), 503, "busy", True),
    "lock": (wrapped(asyncpg.LockNotAvailableError), 503, "busy", True),
    "deadlock": (asyncpg.DeadlockDetectedError("d"), 503, "busy", True),
    "statement_timeout": (wrapped(asyncpg.QueryCanceledError), 503, "busy", True),
    "shutdown": (wrapped(asyncpg.AdminShutdownError), 503, "database_unavailable", True),
    "clients": (asyncpg.TooManyConnectionsError("t"), 503, "database_unavailable", True),
    "starting": (asyncpg.CannotConnectNowError("s"), 503, "database_unavailable", True),
    "refused": (ConnectionRefusedError(), 503, "database_unavailable", True),
    "closed": (asyncpg.InterfaceError("closed"), 503, "database_unavailable", True),
    "bad_text": (wrapped(asyncpg.CharacterNotInRepertoireError), 422, "invalid", False),
    "redis": (RedisConnectionError("down"), 503, "busy", True),
    "timeout": (TimeoutError(), 503, "busy", True),
    "bug": (ValueError("card 4111 1111"), 500, "internal_error", False),
    "database_bug": (wrapped(asyncpg.UndefinedColumnError), 500, "internal_error", False),
}


class EchoIn(RequestModel):
    quantity: Annotated[int, Field(ge=1, le=50)]
    place: LatLon | None = None
    lines: tuple[LatLon, ...] = ()


router = APIRouter(prefix="/v1/test", dependencies=[PUBLIC])


@router.get("/raise/{name}")
async def raise_it(name: str) -> None:
    raise RAISED[name][0]


@router.get("/extra")
async def extra() -> None:
    raise StockShort("Two are left.", extra={"available": 2, "status": 200, "code": "evil"})


@router.post("/echo")
async def echo(body: EchoIn) -> EchoIn:
    return body


@router.get("/page")
async def page(cursor: Annotated[str, Query(max_length=500)]) -> None:
    decode_cursor(cursor, str, int)


@pytest.fixture
async def client() -> httpx.AsyncClient:
    return client_of(app_with(router))


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The members that API.md promises are there and agree with one another."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"] == f"/problems/{code}"
    assert document["title"]
    assert str(document["detail"]).endswith((".", "…")) or document.get("errors")
    assert document["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    return document


@pytest.mark.parametrize("name", RAISED)
async def test_every_error_has_its_status_and_code(client: httpx.AsyncClient, name: str) -> None:
    """Each class of error gives its status, code and retryable flag, and nothing of its inside."""
    error, status, code, retryable = RAISED[name]
    answer = await client.get(f"/v1/test/raise/{name}")
    document = assert_problem(answer, status, code)
    assert document["retryable"] is retryable
    assert "secret" not in answer.text
    assert "0123" not in answer.text
    assert "4111" not in answer.text
    if isinstance(error, DarkstoreError):
        assert document["detail"] == error.detail


def test_every_class_of_the_tree_has_a_status() -> None:
    """A class added to kit.errors without a status would answer with a crash."""
    kinds = DarkstoreError.__subclasses__()
    assert kinds
    assert all(any(issubclass(kind, known) for known, _ in STATUS) for kind in kinds)
    # A superclass before its subclass would hide it.
    known = [kind for kind, _ in STATUS]
    assert all(
        not issubclass(later, earlier)
        for n, earlier in enumerate(known)
        for later in known[n + 1 :]
    )


async def test_retry_after_is_the_errors_own(client: httpx.AsyncClient) -> None:
    """Busy says how long to wait."""
    assert (await client.get("/v1/test/raise/busy")).headers["retry-after"] == "7"
    assert (await client.get("/v1/test/raise/rate")).headers["retry-after"] == "3"


async def test_extras_are_merged_and_never_replace_standard_members(
    client: httpx.AsyncClient,
) -> None:
    """Extra members stand at the top level; status and code stay ours."""
    document = assert_problem(await client.get("/v1/test/extra"), 409, "stock_short")
    assert document["available"] == 2


async def test_unauthenticated_names_the_scheme(client: httpx.AsyncClient) -> None:
    """401 carries WWW-Authenticate, as RFC 9110 wants."""
    answer = await client.get("/v1/test/raise/unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_bug_is_logged_with_its_traceback_and_answered_without(
    client: httpx.AsyncClient,
) -> None:
    """500 tells the client a request id alone; the log has the error, but no SQL parameters."""
    with structlog.testing.capture_logs() as logs:
        answer = await client.get("/v1/test/raise/bug")
        await client.get("/v1/test/raise/database_bug")
    assert set(answer.json()) == {
        "type", "title", "status", "detail", "code", "retryable", "request_id",
    }  # fmt: skip
    bug, database_bug = (line for line in logs if line["event"] == "internal_error")
    assert isinstance(bug["exc_info"], ValueError)
    assert database_bug["sqlstate"] == "42703"
    assert "0123" not in repr(database_bug)


async def test_field_errors_are_named_by_their_path(client: httpx.AsyncClient) -> None:
    """422 lists each wrong field; unknown fields, NaN and out-of-range values are wrong."""
    answer = await client.post(
        "/v1/test/echo",
        json={"quantity": 0, "lines": [{"lat": 91, "lon": 0}], "coupon": "x"},
    )
    document = assert_problem(answer, 422, "invalid")
    errors = document["errors"]
    assert isinstance(errors, list)
    assert {one["field"] for one in errors} == {"quantity", "lines.0.lat", "coupon"}
    assert all(one["detail"] for one in errors)
    content = b'{"quantity": 1, "place": {"lat": NaN, "lon": 0}}'
    headers = {"content-type": "application/json"}
    nan = await client.post("/v1/test/echo", content=content, headers=headers)
    assert_problem(nan, 422, "invalid")


@pytest.mark.parametrize("content", [b"{", b'{"quantity": 1,}', b"\xff\xfe{}", b"[" * 20_000])
async def test_a_body_that_is_not_json_is_malformed(
    client: httpx.AsyncClient, content: bytes
) -> None:
    """Broken JSON, broken UTF-8 and endless nesting are 400."""
    headers = {"content-type": "application/json"}
    answer = await client.post("/v1/test/echo", content=content, headers=headers)
    assert_problem(answer, 400, "malformed_json")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", None])
async def test_another_content_type_is_unsupported(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    """JSON under another name is 415: a browser form cannot post here from a foreign page."""
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await client.post("/v1/test/echo", content=b'{"quantity": 1}', headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    """404 for nothing there, also with a slash too many; 405 names every method of the path."""
    assert_problem(await client.get("/v1/nothing"), 404, "not_found")
    assert_problem(await client.get("/v1/me/"), 404, "not_found")
    answer = await client.delete("/v1/test/echo")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_bad_cursor_is_the_clients_fault(client: httpx.AsyncClient) -> None:
    """A cursor that we did not make is 422 and not a crash."""
    for cursor in ("x", "%00", "WyJhIl0", "bnVsbA", "WzEsMV0"):
        answer = await client.get("/v1/test/page", params={"cursor": cursor})
        assert_problem(answer, 422, "cursor_invalid")
