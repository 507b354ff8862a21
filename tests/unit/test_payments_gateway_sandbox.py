"""Which trouble on the wire means what, without a provider."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from kit.money import Money
from payments.gateway import (
    AuthoriseRequest,
    CaptureRequest,
    GatewayUnavailable,
    OutcomeCode,
    OutcomeStatus,
)
from payments.gateway_sandbox import SandboxGateway, SandboxSettings

AMOUNT = Money(1_000, "INR")
REQUEST = AuthoriseRequest("pat_1", "ord_1", AMOUNT, "card", "tok_ok")
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """A TCP server that does what it is told with each request, and keeps what came."""

    def __init__(self, behaviours: list[Behaviour]) -> None:
        self._behaviours = behaviours
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        body = await reader.readexactly(lengths[0]) if lengths else b""
        self.requests.append(head + body)
        behaviour = self._behaviours[min(len(self.requests), len(self._behaviours)) - 1]
        await behaviour(reader, writer)
        writer.close()


def answer(status: int, body: object) -> Behaviour:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + raw)
        await writer.drain()

    return write


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await reader.read()  # until the client hangs up


def payment(**changes: object) -> dict[str, object]:
    operation = {
        "id": "sbo_1", "payment_id": "sbp_1", "kind": "authorise", "amount_minor": 1_000,
        "currency": "INR", "order_reference": "ord_1", "idempotency_key": "pat_1",
        "at": "2026-03-01T12:00:00Z",
    }  # fmt: skip
    whole: dict[str, object] = {
        "id": "sbp_1", "status": "authorised", "code": None, "amount_minor": 1_000,
        "captured_minor": 0, "refunded_minor": 0, "currency": "INR", "method": "card",
        "order_reference": "ord_1", "idempotency_key": "pat_1", "version": 2,
        "created_at": "2026-03-01T12:00:00Z", "operations": [operation],
    }  # fmt: skip
    if "amount_minor" in changes:
        operation["amount_minor"] = changes["amount_minor"]
    return {**whole, **changes}


@asynccontextmanager
async def gateway_over(*behaviours: Behaviour) -> AsyncIterator[tuple[SandboxGateway, Wire]]:
    wire = Wire(list(behaviours))
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = SandboxSettings(f"http://127.0.0.1:{port}", "key", backoff_s=0.01)
    gateway = SandboxGateway(settings)
    try:
        yield gateway, wire
    finally:
        await gateway.close()
        server.close()


async def test_time_out_after_sending_is_unknown() -> None:
    """Silence until the deadline says nothing about the money; it is not asked for again."""
    async with gateway_over(silence) as (gateway, wire):
        started = time.monotonic()
        outcome = await gateway.authorise(REQUEST, deadline_s=0.2)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.TIMEOUT)
        assert not outcome.retryable
        assert time.monotonic() - started < 1.0
        assert len(wire.requests) == 1


async def test_reset_after_sending_is_unknown() -> None:
    """A connection that breaks after the request went out may have moved the money."""
    async with gateway_over(reset) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.NO_ANSWER)


async def test_server_error_is_unknown() -> None:
    """A 5xx does not say whether it happened before or after the money moved."""
    async with gateway_over(answer(503, {})) as (gateway, wire):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.NO_ANSWER)
        assert len(wire.requests) == 3


async def test_retry_carries_the_same_key_and_body() -> None:
    """After a reset the very same request is sent once more, and its answer counts."""
    async with gateway_over(reset, answer(201, payment())) as (gateway, wire):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.reference) == (OutcomeStatus.SUCCEEDED, "sbp_1")
        assert outcome.amount == AMOUNT
        assert wire.requests[0] == wire.requests[1]
        assert b"idempotency-key: pat_1" in wire.requests[1].lower()


async def test_connection_refused_is_failed_and_retryable() -> None:
    """When nobody listens nothing was sent, so nothing happened and it may be tried later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gateway = SandboxGateway(SandboxSettings(f"http://127.0.0.1:{port}", "key", backoff_s=0.01))
    outcome = await gateway.authorise(REQUEST, deadline_s=10)
    assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, OutcomeCode.UNAVAILABLE)
    assert outcome.retryable
    looked_up = await gateway.lookup("pat_1", deadline_s=10)
    assert looked_up.status is OutcomeStatus.UNKNOWN, "an unasked question has no answer"
    with pytest.raises(GatewayUnavailable):
        await gateway.list_operations()
    await gateway.close()


async def test_too_many_requests_is_failed_and_retryable() -> None:
    """A 429 says that nothing was done."""
    async with gateway_over(answer(429, {})) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, OutcomeCode.RATE_LIMITED)
        assert outcome.retryable


async def test_too_many_requests_does_not_hide_an_earlier_reset() -> None:
    """Once a try may have arrived, later refusals of others do not make it certain."""
    async with gateway_over(reset, answer(429, {})) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert outcome.status is OutcomeStatus.UNKNOWN


@pytest.mark.parametrize("body", [b"<html>", {"id": "sbp_1"}, payment(currency="rupees")])
async def test_answer_that_makes_no_sense_is_unknown(body: object) -> None:
    """A 2xx with a body that is not a payment proves nothing."""
    async with gateway_over(answer(201, body)) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.BAD_RESPONSE)


@pytest.mark.parametrize("changes", [{"amount_minor": 999}, {"order_reference": "ord_2"}])
async def test_success_for_something_else_is_not_success(changes: dict[str, object]) -> None:
    """Another amount, or another order's payment, is for people to look at."""
    async with gateway_over(answer(201, payment(**changes))) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.MISMATCH)


async def test_key_still_in_progress_is_unknown() -> None:
    """A conflict with our own running request leaves its outcome open."""
    error = {"error": {"code": "idempotency_in_progress", "message": "Wait."}}
    async with gateway_over(answer(409, error)) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.PROCESSING)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("processing", OutcomeStatus.UNKNOWN),
        ("declined", OutcomeStatus.DECLINED),
        ("failed", OutcomeStatus.FAILED),
        ("authorised", OutcomeStatus.UNKNOWN),
    ],
)
async def test_lookup_without_a_listed_operation(status: str, expected: OutcomeStatus) -> None:
    """Success needs the operation in the payment's own list; other states speak for themselves."""
    items = {"items": [payment(status=status, operations=[])]}
    async with gateway_over(answer(200, items)) as (gateway, _):
        assert (await gateway.lookup("pat_1", deadline_s=10)).status is expected


async def test_reference_stays_one_path_segment() -> None:
    """A reference with a slash cannot reach another of the provider's paths."""
    refusal = {"error": {"code": "payment_not_found", "message": "No."}}
    async with gateway_over(answer(404, refusal)) as (gateway, wire):
        request = CaptureRequest("cap_1", "../x/void?", AMOUNT)
        outcome = await gateway.capture(request, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, "payment_not_found")
        assert wire.requests[0].startswith(b"POST /v1/payments/..%2Fx%2Fvoid%3F/capture HTTP/1.1")


def test_neither_key_nor_token_is_ever_printed() -> None:
    """What lands in a log by repr carries no secret."""
    assert "sk_live" not in repr(SandboxSettings("http://x", "sk_live"))
    assert "tok_ok" not in repr(REQUEST)
