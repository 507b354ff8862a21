"""The provider's further wires over real HTTP: shapes, events that we believe, disputes, faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kit.ids import new_id
from kit.money import Money
from payments.gateway import (
    AuthoriseRequest,
    CaptureRequest,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from payments.webhooks import WEBHOOKS, DisputeStatus, WebhookEvent, WebhookKind
from tests.provider_process import (
    API_KEY,
    RAZORPAY_SECRET,
    STRIPE_SECRET,
    ProviderProcess,
    WebhookSink,
)
from tests.waiting import until

TOTAL, PART = Money(1_000, "INR"), Money(800, "INR")
SECRETS = {"stripe": STRIPE_SECRET, "razorpay": RAZORPAY_SECRET}
AUTH = {"stripe": (API_KEY, ""), "razorpay": ("rzp_test_1", API_KEY)}
CARD = "4242" * 4


@pytest.fixture(scope="module")
def sink() -> Iterator[WebhookSink]:
    with WebhookSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def provider(
    sink: WebhookSink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProviderProcess]:
    store = tmp_path_factory.mktemp("wires") / "p.sqlite"
    urls = {wire: f"{sink.url}/{wire}" for wire in SECRETS}
    with ProviderProcess(store, webhook_urls=urls, time_scale=0.05) as process:
        yield process


@pytest.fixture(params=["stripe", "razorpay"])
async def gateway(
    request: pytest.FixtureRequest, provider: ProviderProcess
) -> AsyncIterator[StripeGateway | RazorpayGateway]:
    made = over(request.param, provider)
    yield made
    await made.close()


def over(wire: str, provider: ProviderProcess) -> StripeGateway | RazorpayGateway:
    url = provider.wire_url(wire)
    if wire == "stripe":
        return StripeGateway(StripeSettings(url, API_KEY))
    return RazorpayGateway(RazorpaySettings(url, API_KEY, key_id="rzp_test_1"))


@pytest.fixture
async def control(provider: ProviderProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with provider.client() as client:
        yield client
        await client.post("/v1/_control", json={})


def key() -> str:
    return new_id("pay")


async def authorise(
    gateway: StripeGateway | RazorpayGateway, operation_key: str, token: str = "tok_ok",
    *, deadline_s: float = 5.0,
) -> str:  # fmt: skip
    request = AuthoriseRequest(operation_key, "ord_7", TOTAL, "card", token)
    outcome = await gateway.authorise(request, deadline_s=deadline_s)
    return outcome.reference or ""


def told(sink: WebhookSink, wire: str, reference: str) -> list[WebhookEvent]:
    """The wire's events about a payment, read as the server reads them, in order of arrival."""
    now = datetime.now(UTC)
    events = [
        WEBHOOKS[wire].parse(body, headers, (SECRETS[wire],), now)
        for path, headers, body in list(sink.deliveries)
        if path.endswith(wire)
    ]
    return [
        event
        for event in events
        if isinstance(event, WebhookEvent) and event.reference == reference
    ]


async def test_each_wire_tells_what_happened(
    gateway: StripeGateway | RazorpayGateway, sink: WebhookSink
) -> None:
    """Held, taken whole, given back: signed, to its own address, under our keys and order."""
    hold, take, back = key(), key(), key()
    payment = await authorise(gateway, hold)
    await gateway.capture(CaptureRequest(take, payment, TOTAL))
    await gateway.refund(RefundRequest(back, payment, Money(300, "INR")))
    await until(lambda: len(told(sink, gateway.name, payment)) >= 3)
    events = {event.operation_key: event for event in told(sink, gateway.name, payment)}
    assert set(events) == {hold, take, back}
    assert {event.outcome.status for event in events.values()} == {OutcomeStatus.SUCCEEDED}
    assert events[hold].outcome.amount == events[take].outcome.amount == TOTAL
    assert (events[back].kind, events[back].outcome.amount) == (
        WebhookKind.REFUND,
        Money(300, "INR"),
    )
    assert events[hold].order_id == events[take].order_id == "ord_7"


async def test_decline_is_told(gateway: StripeGateway | RazorpayGateway, sink: WebhookSink) -> None:
    """A refused payment is an event too, with its reason."""
    payment = await authorise(gateway, key(), "tok_insufficient_funds")
    await until(lambda: len(told(sink, gateway.name, payment)) >= 1)
    outcome = told(sink, gateway.name, payment)[0].outcome
    assert (outcome.status, outcome.code) == (OutcomeStatus.DECLINED, "insufficient_funds")


@pytest.mark.parametrize("end", ["won", "lost"])
async def test_dispute_is_opened_and_decided(
    gateway: StripeGateway | RazorpayGateway, sink: WebhookSink, control: httpx.AsyncClient,
    end: str,
) -> None:  # fmt: skip
    """A part is disputed and decided once: two events about one dispute."""
    payment = await authorise(gateway, key())
    refused = await control.post("/_control/disputes", json={"payment": payment})
    assert refused.status_code == 409, "what was not captured cannot be disputed"
    await gateway.capture(CaptureRequest(key(), payment, TOTAL))
    order = {"payment": payment, "reason": "fraudulent", "amount_minor": 700}
    dispute = (await control.post("/_control/disputes", json=order)).json()
    close = f"/_control/disputes/{dispute['id']}/close"
    assert (await control.post(close, json={"outcome": end})).json()["status"] == end
    assert (await control.post(close, json={"outcome": end})).status_code == 409

    def notices() -> list[Any]:
        return [e.dispute for e in told(sink, gateway.name, payment) if e.dispute]

    await until(lambda: len(notices()) >= 2)
    assert {notice.status for notice in notices()} == {DisputeStatus.OPEN, DisputeStatus(end)}
    assert {notice.amount for notice in notices()} == {Money(700, "INR")}
    assert len({notice.dispute_id for notice in notices()}) == 1


@pytest.mark.parametrize(("fault", "taken"), [("timeout_charged", True), ("timeout_failed", False)])
async def test_capture_that_timed_out_is_resolved_and_taken_once(
    gateway: StripeGateway | RazorpayGateway, control: httpx.AsyncClient, fault: str, taken: bool
) -> None:
    """Unknown, looked up, and sent again only where it never was: 800 are taken in the end."""
    payment, capture = await authorise(gateway, key()), key()
    request = CaptureRequest(capture, payment, PART)
    await control.post("/v1/_control", json={f"{fault}_rate": 1.0})
    outcome = await gateway.capture(request, deadline_s=0.5)
    assert outcome.status is OutcomeStatus.UNKNOWN
    await control.post("/v1/_control", json={})
    found = await gateway.lookup(capture, kind=OperationKind.CAPTURE, reference=payment)
    # Razorpay's capture is only half done: the rest has to go back.
    if taken and gateway.name == "stripe":
        assert (found.status, found.amount) == (OutcomeStatus.SUCCEEDED, PART)
    else:
        assert (found.code, found.retryable) == (OutcomeCode.NOT_FOUND, True)
    again = await gateway.capture(request)
    assert (again.status, again.amount) == (OutcomeStatus.SUCCEEDED, PART)
    log = [
        (one.operation_key, one.amount)
        for one in (await gateway.list_operations(limit=100)).operations
        if one.reference == payment
    ]
    assert log == [(capture, PART)]


async def test_authorisation_that_timed_out_is_never_made_twice(
    gateway: StripeGateway | RazorpayGateway, provider: ProviderProcess
) -> None:
    """Sent again under its key after a time-out that took the money: the same payment answers."""
    hold = key()
    await authorise(gateway, hold, "tok_timeout_charged", deadline_s=0.5)
    found = await gateway.lookup(hold)
    assert found.status is OutcomeStatus.SUCCEEDED
    again = await authorise(gateway, hold, "tok_timeout_charged")
    assert again == found.reference


async def test_razorpays_void_lapses(provider: ProviderProcess, control: httpx.AsyncClient) -> None:
    """There is no void: it is marked, lapses in time, and then cannot be captured any more."""
    settings = RazorpaySettings(provider.wire_url("razorpay"), API_KEY, key_id="rzp_test_1")
    gateway, void = RazorpayGateway(settings), key()
    payment = await authorise(gateway, key())
    asked = {"kind": OperationKind.VOID, "reference": payment}
    assert (await gateway.lookup(void, **asked)).retryable  # type: ignore[arg-type]
    assert (await gateway.void(VoidRequest(void, payment))).status is OutcomeStatus.SUCCEEDED
    assert (await gateway.lookup(void, **asked)).status is OutcomeStatus.SUCCEEDED  # type: ignore[arg-type]
    await control.post("/_control/lapse", json={"payment": payment})
    assert (await gateway.lookup(void, **asked)).status is OutcomeStatus.SUCCEEDED  # type: ignore[arg-type]
    late = await gateway.capture(CaptureRequest(key(), payment, TOTAL))
    assert (late.status, late.code) == (OutcomeStatus.FAILED, "illegal_state")
    await gateway.close()


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
async def test_card_number_is_refused_on_each_wire(provider: ProviderProcess, wire: str) -> None:
    """Whatever field it comes in, and without an echo."""
    path = {"stripe": "/v1/payment_intents", "razorpay": "/v1/payments/create/recurring"}[wire]
    async with httpx.AsyncClient(auth=AUTH[wire]) as client:
        body = {"card": CARD}
        url = provider.wire_url(wire) + path
        answer = await (
            client.post(url, data=body) if wire == "stripe" else client.post(url, json=body)
        )
    assert answer.status_code in (400, 402)
    assert CARD not in answer.text
    assert "error" in answer.json()


async def test_stripe_shapes_are_the_published_ones(provider: ProviderProcess) -> None:
    """Required fields and closed values of Stripe's OpenAPI description (2024-06-20)."""
    fields = {
        "amount": "1000", "currency": "inr", "capture_method": "manual", "confirm": "true",
        "payment_method": "tok_ok", "metadata[order_id]": "ord_1",
    }  # fmt: skip
    base = provider.wire_url("stripe") + "/v1"
    async with httpx.AsyncClient(auth=AUTH["stripe"]) as client:
        intent = (await client.post(f"{base}/payment_intents", data=fields)).json()
        unknown = await client.post(f"{base}/payment_intents", data={**fields, "sum": "1"})
        page = (await client.get(f"{base}/payment_intents", params={"limit": "1"})).json()
    error = unknown.json()["error"]
    # `required` of the schema payment_intent
    assert set(intent) >= {
        "amount", "capture_method", "confirmation_method", "created", "currency", "id", "livemode",
        "object", "payment_method_types", "status",
    }  # fmt: skip
    assert (intent["object"], intent["status"]) == ("payment_intent", "requires_capture")
    assert intent["id"].startswith("pi_")
    assert set(page) >= {"data", "has_more", "object", "url"}
    assert (unknown.status_code, error["type"], error["param"]) == (
        400,
        "invalid_request_error",
        "sum",
    )


async def test_payments_outlive_a_kill_and_stay_on_their_wire(provider: ProviderProcess) -> None:
    """Killed and started again, a wire knows its payments, and others' do not show on it."""
    gateways = [over(wire, provider) for wire in SECRETS]
    holds = {gateway: key() for gateway in gateways}
    payments = {gateway: await authorise(gateway, hold) for gateway, hold in holds.items()}
    provider.kill()
    provider.start()
    async with provider.client() as client:
        listed = (await client.get("/v1/operations", params={"limit": 500})).json()["items"]
        for gateway, payment in payments.items():
            assert (await gateway.lookup(holds[gateway])).reference == payment
            assert (await client.get(f"/v1/payments/{payment}")).status_code == 404
            assert not [one for one in listed if one["payment_id"] == payment]
            await gateway.close()
