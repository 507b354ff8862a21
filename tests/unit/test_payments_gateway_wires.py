"""Which trouble on Stripe's and Razorpay's wires means what, without a provider."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import pytest

from kit.money import Money
from payments.gateway import (
    AuthoriseRequest,
    CaptureRequest,
    GatewayUnavailable,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from payments.settings import PaymentSettings
from tests.unit.test_payments_gateway_sandbox import Behaviour, Wire, answer, reset, silence

AMOUNT = Money(1_000, "INR")
KEY = "pay_01M7Y4R3SC0PMNAZNTV7K67Y89"
REQUEST = AuthoriseRequest(KEY, "ord_1", AMOUNT, "card", "tok_ok")


@asynccontextmanager
async def stripe_over(*behaviours: Behaviour) -> AsyncIterator[tuple[StripeGateway, Wire]]:
    async with _serving(behaviours) as (url, wire):
        gateway = StripeGateway(StripeSettings(url, "sk_test_x", backoff_s=0.01))
        yield gateway, wire
        await gateway.close()


@asynccontextmanager
async def razorpay_over(*behaviours: Behaviour) -> AsyncIterator[tuple[RazorpayGateway, Wire]]:
    async with _serving(behaviours) as (url, wire):
        settings = RazorpaySettings(url, "secret", backoff_s=0.01, key_id="rzp_test_x")
        gateway = RazorpayGateway(settings)
        yield gateway, wire
        await gateway.close()


@asynccontextmanager
async def _serving(behaviours: tuple[Behaviour, ...]) -> AsyncIterator[tuple[str, Wire]]:
    wire = Wire(list(behaviours))
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", wire
    finally:
        server.close()


def intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1", "object": "payment_intent", "status": "requires_capture", "amount": 1_000,
        "amount_capturable": 1_000, "amount_received": 0, "currency": "inr", "created": 1,
        "metadata": {"order_id": "ord_1", "operation_key": KEY}, **changes,
    }  # fmt: skip


def payment(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pay_X", "entity": "payment", "amount": 1_000, "currency": "INR",
        "status": "authorized", "captured": False, "order_id": "order_X", "amount_refunded": 0,
        "notes": {"order_id": "ord_1", "operation_key": KEY}, "created_at": 1, **changes,
    }  # fmt: skip


def items(*found: dict[str, Any]) -> Behaviour:
    return answer(200, {"entity": "collection", "count": len(found), "items": list(found)})


def error(**fields: Any) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": "No.", **fields}}


def head_and_form(raw: bytes) -> tuple[str, dict[str, str]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.decode().lower(), dict(parse_qsl(body.decode()))


async def test_stripe_is_asked_as_its_guide_says() -> None:
    """One form: hold, confirm, no waiting for the payer; pinned version, key, our ids."""
    async with stripe_over(answer(200, intent())) as (gateway, wire):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
    assert (outcome.status, outcome.reference) == (OutcomeStatus.SUCCEEDED, "pi_1")
    head, form = head_and_form(wire.requests[0])
    assert head.startswith("post /v1/payment_intents http/1.1")
    for line in (
        "authorization: bearer sk_test_x", f"idempotency-key: {KEY.lower()}",
        "stripe-version: 2024-06-20", "content-type: application/x-www-form-urlencoded",
    ):  # fmt: skip
        assert line in head
    assert form == {
        "amount": "1000", "currency": "inr", "capture_method": "manual", "confirm": "true",
        "error_on_requires_action": "true", "payment_method_types[0]": "card",
        "payment_method_data[type]": "card", "payment_method_data[card][token]": "tok_ok",
        "metadata[order_id]": "ord_1", "metadata[operation_key]": KEY,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (402, error(type="card_error", code="card_declined", decline_code="lost_card"),
         OutcomeStatus.DECLINED, "lost_card"),
        (402, error(type="card_error", code="card_declined", decline_code="generic_decline"),
         OutcomeStatus.DECLINED, "card_declined"),
        (402, error(type="card_error", code="authentication_required"),
         OutcomeStatus.DECLINED, "authentication_required"),
        (402, error(type="card_error", code="processing_error"),
         OutcomeStatus.FAILED, "processing_error"),
        (400, error(code="resource_missing", param="payment_method"),
         OutcomeStatus.DECLINED, "invalid_token"),
        (400, error(code="parameter_unknown", param="amnt"),
         OutcomeStatus.FAILED, "parameter_unknown"),
        (400, error(type="idempotency_error"), OutcomeStatus.FAILED, "idempotency_error"),
        (401, error(), OutcomeStatus.FAILED, "unauthenticated"),
        (409, error(type="idempotency_error", code="idempotency_key_in_use"),
         OutcomeStatus.UNKNOWN, OutcomeCode.PROCESSING),
        (429, error(code="rate_limit"), OutcomeStatus.FAILED, OutcomeCode.RATE_LIMITED),
        (500, error(type="api_error"), OutcomeStatus.UNKNOWN, OutcomeCode.NO_ANSWER),
        (400, b"<html>", OutcomeStatus.UNKNOWN, OutcomeCode.BAD_RESPONSE),
        (200, {"id": "pi_1"}, OutcomeStatus.UNKNOWN, OutcomeCode.BAD_RESPONSE),
        (200, intent(currency="rupees"), OutcomeStatus.UNKNOWN, OutcomeCode.BAD_RESPONSE),
        (200, intent(amount=999), OutcomeStatus.UNKNOWN, OutcomeCode.MISMATCH),
        (200, intent(metadata={"order_id": "ord_2"}), OutcomeStatus.UNKNOWN, OutcomeCode.MISMATCH),
        (200, intent(status="processing"), OutcomeStatus.UNKNOWN, OutcomeCode.PROCESSING),
        (200, intent(status="requires_action"), OutcomeStatus.DECLINED, "authentication_required"),
    ],
)  # fmt: skip
async def test_each_stripe_answer_means_one_thing(
    status: int, body: object, expected: OutcomeStatus, code: str
) -> None:
    """A decline, a certain failure, or nothing known: by type, code and decline code."""
    async with stripe_over(answer(status, body)) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (expected, code)


async def test_stripe_capture_done_long_ago_is_a_success() -> None:
    """Refused because it is captured: by this very key, so it is what was asked for."""
    done = intent(status="succeeded", amount_received=1_000, metadata={"capture_key": KEY})
    body = error(code="payment_intent_unexpected_state", payment_intent=done)
    async with stripe_over(answer(400, body)) as (gateway, _):
        ours = await gateway.capture(CaptureRequest(KEY, "pi_1", AMOUNT), deadline_s=10)
        other = await gateway.capture(CaptureRequest(KEY + "x", "pi_1", AMOUNT), deadline_s=10)
    assert (ours.status, ours.amount) == (OutcomeStatus.SUCCEEDED, AMOUNT)
    assert other.status is OutcomeStatus.FAILED


async def test_stripe_lookup_without_a_reference_reads_on() -> None:
    """The intents around the key's own time, page by page, until ours is there or none is left."""
    strangers = [intent(id=f"pi_{n}", metadata={}) for n in range(2)]
    first = answer(200, {"data": strangers, "has_more": True})
    for last, status in (
        ({"data": [intent(id="pi_9")], "has_more": False}, OutcomeStatus.SUCCEEDED),
        ({"data": [], "has_more": False}, OutcomeStatus.FAILED),
    ):
        async with stripe_over(first, answer(200, last)) as (gateway, wire):
            assert (await gateway.lookup(KEY, deadline_s=10)).status is status
        assert b"created%5Bgte%5D=" in wire.requests[0]
        assert b"starting_after=pi_1" in wire.requests[1]


@pytest.mark.parametrize("failing", [reset, answer(500, {})])
async def test_razorpay_payment_is_sent_once(failing: Behaviour) -> None:
    """Making a payment has no idempotency key there: when in doubt it is unknown, not repeated."""
    order = answer(200, {"id": "order_X", "receipt": KEY})
    async with razorpay_over(items(), order, failing) as (gateway, wire):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.NO_ANSWER)
    sent = [raw.partition(b" HTTP/")[0] for raw in wire.requests]
    assert sent[1:] == [b"POST /v1/orders", b"POST /v1/payments/create/recurring"]
    pair = base64.b64encode(b"rzp_test_x:secret")
    assert all(b"Basic " + pair in raw for raw in wire.requests)


async def test_razorpay_payment_that_is_there_is_not_made_again() -> None:
    """The order with our receipt has a payment: it answers, and nothing is sent."""
    order = {"id": "order_X", "receipt": KEY, "payments": {"items": [payment()]}}
    longer = {"id": "order_Y", "receipt": KEY + "1", "payments": {"items": [payment(id="pay_Y")]}}
    async with razorpay_over(items(longer, order)) as (gateway, wire):
        outcome = await gateway.authorise(REQUEST, deadline_s=10)
        assert (outcome.status, outcome.reference) == (OutcomeStatus.SUCCEEDED, "pay_X")
        assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "behaviours", [(reset,), (silence,), (answer(500, {}),), (items(), answer(503, {}))]
)
async def test_razorpay_trouble_before_the_payment_took_nothing(
    behaviours: tuple[Behaviour, ...],
) -> None:
    """The question, or the order that holds no money, failed: certain, and free for another."""
    async with razorpay_over(*behaviours) as (gateway, _):
        outcome = await gateway.authorise(REQUEST, deadline_s=0.5)
        assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, OutcomeCode.UNAVAILABLE)
        assert outcome.retryable


async def test_razorpay_capture_goes_on_where_it_stopped() -> None:
    """Captured, and then the refund of the rest broke: unknown, then not found, then finished."""
    notes = {"order_id": "ord_1", "capture_key": "pay_capture_1", "capture_minor": "800"}
    taken = payment(status="captured", captured=True, notes=notes)
    capture = CaptureRequest("pay_capture_1", "pay_X", Money(800, "INR"))
    async with razorpay_over(
        answer(200, payment()), answer(200, payment(notes=notes)), answer(200, taken), silence
    ) as (gateway, wire):  # fmt: skip
        outcome = await gateway.capture(capture, deadline_s=0.5)
        assert (outcome.status, outcome.reference) == (OutcomeStatus.UNKNOWN, "pay_X")
        assert b"x-refund-idempotency: pay_capture_1-rest" in wire.requests[3].lower()
    async with razorpay_over(answer(200, taken), items()) as (gateway, _):
        found = await gateway.lookup(
            "pay_capture_1", kind=OperationKind.CAPTURE, reference="pay_X", deadline_s=10
        )
        assert found.retryable
    rest = {
        "id": "rfnd_1", "amount": 200, "currency": "INR", "payment_id": "pay_X",
        "receipt": "pay_capture_1-rest", "status": "processed",
    }  # fmt: skip
    async with razorpay_over(answer(200, taken), answer(200, rest)) as (gateway, wire):
        outcome = await gateway.capture(capture, deadline_s=10)
        assert (outcome.status, outcome.amount) == (OutcomeStatus.SUCCEEDED, Money(800, "INR"))
        assert len(wire.requests) == 2, "it is not captured again"


@pytest.mark.parametrize("gateway_over", [stripe_over, razorpay_over])
async def test_refund_still_on_its_way_is_not_yet_a_success(gateway_over: Any) -> None:
    """Accepted and not done: it is looked up until it is one or the other."""
    refund = {
        "id": "re_1", "amount": 1_000, "currency": "INR", "status": "pending",
        "payment_id": "pay_X", "payment_intent": "pi_1", "receipt": KEY,
    }  # fmt: skip
    async with gateway_over(answer(200, refund)) as (gateway, _):
        outcome = await gateway.refund(RefundRequest(KEY, "pay_X", AMOUNT), deadline_s=10)
        assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.PROCESSING)


@pytest.mark.parametrize("gateway_over", [stripe_over, razorpay_over])
async def test_question_without_an_answer_proves_nothing(gateway_over: Any) -> None:
    """A lookup that fails leaves the operation unknown, and a log that fails is said to."""
    async with gateway_over(answer(500, {})) as (gateway, _):
        for kind in OperationKind:
            found = await gateway.lookup(KEY, kind=kind, reference="x_1", deadline_s=10)
            assert found.status is OutcomeStatus.UNKNOWN
        with pytest.raises(GatewayUnavailable):
            await gateway.list_operations()


@pytest.mark.parametrize("gateway_over", [stripe_over, razorpay_over])
async def test_reference_stays_one_path_segment(gateway_over: Any) -> None:
    """A reference with a slash cannot reach another of the gateway's paths."""
    refusal = {"error": {"type": "invalid_request_error", "code": "BAD_REQUEST_ERROR"}}
    async with gateway_over(answer(404, refusal)) as (gateway, wire):
        outcome = await gateway.void(VoidRequest(KEY, "../x?"), deadline_s=10)
        assert outcome.status is OutcomeStatus.FAILED
        assert b"/..%2Fx%3F" in wire.requests[0].partition(b"\r\n")[0]


def test_neither_key_nor_secret_is_ever_printed() -> None:
    """What lands in a log by repr carries no secret, of the adapters or of the settings."""
    settings = PaymentSettings.model_validate(
        {"stripe": {"enabled": True, "api_key": "sk_live_1", "webhook_secret": "whsec_live"}}
    )
    for shown in (
        StripeSettings("http://x", "sk_live_1"),
        RazorpaySettings("http://x", "rzp_live_secret"),
        settings,
    ):
        assert "live" not in repr(shown)


@pytest.mark.parametrize(
    "block",
    [
        {"stripe": {"enabled": True, "api_key": "sk"}},
        {"stripe": {"enabled": True, "webhook_secret": "w"}},
        {"razorpay": {"enabled": True, "key_id": "k", "webhook_secret": "w"}},
    ],
)
def test_gateway_without_its_keys_is_not_switched_on(block: dict[str, Any]) -> None:
    """Half a configuration stops the start, instead of failing the first customer."""
    with pytest.raises(ValueError, match="without its keys"):
        PaymentSettings.model_validate(block)


def test_webhook_secrets_are_those_of_gateways_in_use() -> None:
    """One, or two during a rotation; none for a gateway that is off."""
    stripe = {"enabled": True, "api_key": "k", "webhook_secret": "new"}
    settings = PaymentSettings.model_validate(
        {"stripe": {**stripe, "previous_webhook_secret": "old"}}
    )
    assert settings.webhook_secrets("stripe") == ("new", "old")
    assert settings.webhook_secrets("razorpay") == ()
    assert settings.webhook_secrets("nobody") == ()
