"""No card number reaches the server: 400, and no trace of it in the database or in the logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text

from identity.model import Actor, Role
from kit.db import Database
from kit.ids import new_id
from server.app import create_app
from tests.http_support import client_of, make_services

CARD = "4539578763621486"
GROUPED = "4539 5787 6362 1486"
# Signed by a gateway, and never stored as it comes.
EXEMPT = "/v1/webhooks/payments/{gateway}"
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
async def app(fresh_database: Database, redis: Redis) -> FastAPI:
    return create_app(make_services(fresh_database, redis))


@contextmanager
def logged() -> Iterator[StringIO]:
    """Everything that is logged meanwhile, at every level."""
    written = StringIO()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.PrintLoggerFactory(written),
        cache_logger_on_first_use=False,
    )
    try:
        yield written
    finally:
        structlog.configure(**before)


def free_texts(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Names of a body's fields that take text (or anything at all), at its top."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return sorted(schema.get("properties", {"note": {}}))


async def leaks(database: Database) -> list[str]:
    """Columns of any table in which the number stands, in any spelling."""
    found = []
    async with database.begin() as conn:
        columns = await conn.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns c"
                " JOIN information_schema.tables t USING (table_schema, table_name)"
                " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            )
        )
        for table, column in columns.all():
            row = await conn.scalar(
                text(
                    f'SELECT 1 FROM "{table}" WHERE regexp_replace('
                    f"coalesce(encode(CASE WHEN pg_typeof(\"{column}\")::text = 'bytea'"
                    f' THEN "{column}"::text::bytea END, \'escape\'), "{column}"::text),'
                    " '[ -]', '', 'g') LIKE '%' || :card || '%' LIMIT 1"
                ),
                {"card": CARD},
            )
            if row is not None:
                found.append(f"{table}.{column}")
    return found


async def test_every_writable_field_refuses_it_and_nothing_is_kept(
    app: FastAPI, fresh_database: Database
) -> None:
    """Each field of each writing route, with a token that may do everything."""
    document = app.openapi()
    actor = Actor(new_id("usr"), Role.ADMIN, new_id("ses"))
    headers = {"Authorization": f"Bearer {app.state.identity.tokens.access(actor)}"}
    tried = 0
    with logged() as written:
        async with client_of(app) as client:
            for path, operations in document["paths"].items():
                if path == EXEMPT:
                    continue
                for method, operation in operations.items():
                    if method.upper() not in WRITES:
                        continue
                    content = operation.get("requestBody", {}).get("content", {})
                    schema = content.get("application/json", {}).get("schema", {})
                    for field in free_texts(schema, document):
                        # A barcode takes what scanners read, and no more.
                        answer = await client.request(
                            method, path, json={field: f"note {GROUPED}"}, headers=headers
                        )
                        assert answer.status_code == 400, f"{method} {path} {field}"
                        assert answer.json()["code"] == "card_number_refused"
                        tried += 1
    assert tried > 60, "the routes with bodies were found"
    assert await leaks(fresh_database) == []
    assert CARD not in written.getvalue()
    assert GROUPED not in written.getvalue()
    assert "http_request" in written.getvalue(), "the log was read"


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"quote_id": "quo_1", "payment": {"method": "card", "token": CARD}}},
        {"json": {"quote_id": "quo_1", "payment": {"method": "card", "tokens": {"s": CARD}}}},
        {"json": {"quote_id": "quo_1", "payment": {"method": "card", "token": int(CARD)}}},
        {"content": f"token={CARD}"},
        {"json": {}, "params": {"note": GROUPED}},
        {"json": {}, "headers": {"Idempotency-Key": CARD}},
    ],
    ids=["token", "tokens", "number", "form", "query", "idempotency_key"],
)
async def test_it_is_refused_wherever_it_hides(
    app: FastAPI, fresh_database: Database, request_: dict[str, Any]
) -> None:
    """As a token, a number, a form, in the query or as the key of a request."""
    with logged() as written:
        async with client_of(app) as client:
            answer = await client.post("/v1/orders", **request_)
            request_id = await client.get("/v1/stores", headers={"X-Request-Id": CARD})
    assert (answer.status_code, answer.json()["code"]) == (400, "card_number_refused")
    assert request_id.headers["x-request-id"] != CARD
    assert CARD not in written.getvalue()
    assert await leaks(fresh_database) == []


async def test_the_scan_itself_finds_a_number(fresh_database: Database) -> None:
    """Or else its silence would prove nothing."""
    async with fresh_database.begin() as conn:
        await conn.execute(
            text(
                "INSERT INTO payment_alerts (id, kind, gateway, subject, detail, facts, raised_at)"
                " VALUES ('a', 'k', 'g', 's', :card, '{}', darkstore_now())"
            ),
            {"card": f"note {GROUPED}"},
        )
    assert await leaks(fresh_database) == ["payment_alerts.detail"]


async def test_barcodes_telephones_and_chunks_pass(app: FastAPI) -> None:
    """Refused for other reasons (nobody is logged in), but not as a card number."""
    bodies: list[dict[str, Any]] = [
        {"line_id": "lin_1", "barcode": "4006381333931", "bin": "A1", "quantity": 1},
        {"line_id": "lin_1", "barcode": "30012345678906", "bin": "A1", "quantity": 1},
        {"phone": "+4915123456789"},
        {"lat": 12.971598765432101, "lon": 77.594566123456789},
    ]
    async with client_of(app) as client:
        for body in bodies:
            answer = await client.post("/v1/pick-tasks/ptk_1/scan", json=body)
            assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text


async def test_a_number_over_two_chunks_is_seen(app: FastAPI) -> None:
    """The body is read whole before it is judged."""

    async def chunks() -> Any:
        yield b'{"note": "' + CARD[:7].encode()
        yield CARD[7:].encode() + b'"}'

    async with client_of(app) as client:
        answer = await client.post("/v1/orders", content=chunks())
    assert answer.json()["code"] == "card_number_refused"
