"""Stripe's and Razorpay's signatures and events: what must be there before anybody believes one."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kit.money import Money
from payments.gateway import OperationKind, OutcomeStatus
from payments.webhooks import (
    WEBHOOKS,
    DisputeStatus,
    UnwantedEvent,
    WebhookEvent,
    WebhookKind,
    WebhookMalformed,
    WebhookSignatureInvalid,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
SECRET = "whsec_unit_secret"

# The body and the digest of razorpay-python's own test (tests/test_client_utility.py, key_secret).
RAZORPAY_VECTOR = b"""{
  "event": "payment.authorized",
  "entity": "event",
  "contains": [
    "payment"
  ],
  "payload": {
    "payment": {
      "entity": {
        "id": "pay_6koWN7bvxujzxM",
        "entity": "payment",
        "amount": 1000000,
        "currency": "INR",
        "status": "captured",
        "order_id": "order_100000000order",
        "international": false,
        "method": "card",
        "amount_refunded": 0,
        "refund_status": null,
        "captured": true,
        "description": "random description",
        "card_id": "card_6koWNAT6LASUqy",
        "bank": null,
        "wallet": null,
        "vpa": null,
        "email": "a@b.com",
        "contact": "+919999999999",
        "notes": {
          "merchant_order_id": "random order id"
        },
        "fee": 23000,
        "service_tax": 3000,
        "error_code": null,
        "error_description": null,
        "created_at": 1479978483
      }
    }
  },
  "created_at": 1400826760
}
"""
RAZORPAY_DIGEST = "d60e67fd884556c045e9be7dad57903e33efc7172c17c6e3ef77db42d2b366e9"
# The payload, the secret and the scheme of stripe-python's own test (tests/test_webhook.py), with
# the digest that `openssl dgst -sha256 -hmac` gives for "12345." before it.
STRIPE_VECTOR = b"""{
  "id": "evt_test_webhook",
  "object": "event",
  "data": { "object": { "id": "rdr_123", "object": "terminal.reader" } }
}"""


STRIPE_DIGEST = "07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda"


def hex_of(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def stripe_header(body: bytes, *, secret: str = SECRET, at: int = T) -> str:
    return f"t={at},v1={hex_of(secret, f'{at}.'.encode() + body)}"


def event_of(
    wire: str, event: dict[str, Any], *, secrets: tuple[str, ...] = (SECRET,)
) -> WebhookEvent:
    """An event that we act on."""
    found = anything_of(wire, event, secrets=secrets)
    assert isinstance(found, WebhookEvent)
    return found


def anything_of(
    wire: str, event: dict[str, Any], *, secrets: tuple[str, ...] = (SECRET,)
) -> WebhookEvent | UnwantedEvent:
    body = json.dumps(event).encode()
    headers = {
        "stripe": {"stripe-signature": stripe_header(body)},
        "razorpay": {"x-razorpay-signature": hex_of(SECRET, body), "x-razorpay-event-id": "e1"},
    }[wire]
    return WEBHOOKS[wire].parse(body, headers, secrets, NOW)


def stripe_event(kind: str, subject: dict[str, Any]) -> dict[str, Any]:
    return {"id": "evt_1", "object": "event", "type": kind, "created": T - 5,
            "data": {"object": subject}}  # fmt: skip


def intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1", "object": "payment_intent", "status": "requires_capture", "amount": 1000,
        "amount_capturable": 1000, "amount_received": 0, "currency": "inr", "created": T - 60,
        "metadata": {"order_id": "ord_1", "operation_key": "pay_1"}, **changes,
    }  # fmt: skip


def razorpay_event(kind: str, **entities: dict[str, Any]) -> dict[str, Any]:
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return {"entity": "event", "event": kind, "contains": list(payload), "payload": payload,
            "created_at": T - 5}  # fmt: skip


def payment(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pay_X", "entity": "payment", "amount": 1000, "currency": "INR",
        "status": "authorized", "captured": False, "order_id": "order_X", "amount_refunded": 0,
        "notes": {"order_id": "ord_1", "operation_key": "pay_1"}, "created_at": T - 60, **changes,
    }  # fmt: skip


def test_razorpays_published_vector_is_believed() -> None:
    """The digest in Razorpay's own test suite is the one that we compute."""
    at = datetime.fromtimestamp(1400826760 + 60, UTC)
    headers = {"x-razorpay-signature": RAZORPAY_DIGEST}
    event = WEBHOOKS["razorpay"].parse(RAZORPAY_VECTOR, headers, ("key_secret",), at)
    assert (event.reference, event.amount) == ("pay_6koWN7bvxujzxM", Money(1_000_000, "INR"))
    with pytest.raises(WebhookSignatureInvalid):
        WEBHOOKS["razorpay"].parse(RAZORPAY_VECTOR[:-1], headers, ("key_secret",), at)


def test_stripes_published_scheme_is_ours() -> None:
    """The payload of Stripe's own test passes the signature; only then its content is looked at."""
    body = STRIPE_VECTOR
    header = "t=12345,v1=" + STRIPE_DIGEST
    at = datetime.fromtimestamp(12_345, UTC)
    with pytest.raises(WebhookMalformed):  # the test event of Stripe has no type
        WEBHOOKS["stripe"].parse(body, {"stripe-signature": header}, ("whsec_test_secret",), at)
    with pytest.raises(WebhookSignatureInvalid):
        WEBHOOKS["stripe"].parse(
            body + b" ", {"stripe-signature": header}, ("whsec_test_secret",), at
        )


@pytest.mark.parametrize(
    ("age_s", "good"), [(299, True), (-299, True), (301, False), (-301, False)]
)
def test_stripe_window_is_five_minutes(age_s: int, good: bool) -> None:
    """A caught event is worth nothing five minutes later."""
    body = json.dumps(stripe_event("payment_intent.succeeded", intent())).encode()
    headers = {"stripe-signature": stripe_header(body, at=T - age_s)}
    if good:
        WEBHOOKS["stripe"].parse(body, headers, (SECRET,), NOW)
    else:
        with pytest.raises(WebhookSignatureInvalid):
            WEBHOOKS["stripe"].parse(body, headers, (SECRET,), NOW)


@pytest.mark.parametrize(("age_s", "good"), [(86_400, True), (90_001, False), (-301, False)])
def test_razorpay_window_outlasts_its_own_retries(age_s: int, good: bool) -> None:
    """A delivery repeated for a day is taken; the signed time of an older one is not believed."""
    event = razorpay_event("payment.authorized", payment=payment()) | {"created_at": T - age_s}
    if good:
        assert event_of("razorpay", event).reference == "pay_X"
    else:
        with pytest.raises(WebhookSignatureInvalid):
            event_of("razorpay", event)


def test_razorpay_event_id_cannot_be_made_new() -> None:
    """The header with the event's id is not signed, so another one does not make another event."""
    body = json.dumps(razorpay_event("payment.authorized", payment=payment())).encode()
    signature = hex_of(SECRET, body)
    ids = {
        WEBHOOKS["razorpay"]
        .parse(
            body, {"x-razorpay-signature": signature, "x-razorpay-event-id": name}, (SECRET,), NOW
        )
        .event_id
        for name in ("one", "two")
    }
    assert len(ids) == 1


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
def test_secret_of_another_is_refused_and_a_rotated_one_is_not(wire: str) -> None:
    """While a secret is rotated both are believed; a stranger's never, an empty one is a bug."""
    event = {
        "stripe": stripe_event("payment_intent.amount_capturable_updated", intent()),
        "razorpay": razorpay_event("payment.authorized", payment=payment()),
    }[wire]
    assert event_of(wire, event, secrets=("whsec_next", SECRET)).operation_key == "pay_1"
    with pytest.raises(WebhookSignatureInvalid):
        event_of(wire, event, secrets=("whsec_next",))
    for secrets in ((), ("",), (SECRET, "")):
        with pytest.raises(ValueError, match="empty secret"):
            event_of(wire, event, secrets=secrets)


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
@pytest.mark.parametrize("signature", ["", "é", "t=1,v1=00", "t=,v1=", "v1=00", "0" * 64])
def test_nonsense_for_a_signature_is_a_wrong_signature(wire: str, signature: str) -> None:
    """Whatever stands in the header, it is refused and breaks nothing."""
    headers = {"stripe-signature": signature, "x-razorpay-signature": signature}
    with pytest.raises(WebhookSignatureInvalid):
        WEBHOOKS[wire].parse(b"{}", headers, (SECRET,), NOW)


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"id": "evt_1"}', b'{"a":"' + b"x" * 70_000]
)
def test_signed_bytes_that_are_no_event_are_malformed(wire: str, body: bytes) -> None:
    """The right signature does not make an event of any bytes."""
    headers = {
        "stripe-signature": stripe_header(body), "x-razorpay-signature": hex_of(SECRET, body),
    }  # fmt: skip
    with pytest.raises(WebhookMalformed):
        WEBHOOKS[wire].parse(body, headers, (SECRET,), NOW)


def test_stripe_payment_events_are_answers_for_our_operations() -> None:
    """Held, taken, refused, let go and given back: each names what became of which operation."""
    held = event_of("stripe", stripe_event("payment_intent.amount_capturable_updated", intent()))
    assert (held.operation_key, held.order_id, held.reference) == ("pay_1", "ord_1", "pi_1")
    assert (held.outcome.status, held.outcome.amount) == (
        OutcomeStatus.SUCCEEDED,
        Money(1000, "INR"),
    )
    taken = event_of(
        "stripe",
        stripe_event(
            "payment_intent.succeeded",
            intent(
                status="succeeded", amount_received=900,
                metadata={"order_id": "ord_1", "operation_key": "pay_1", "capture_key": "pay_2"},
            ),
        ),
    )  # fmt: skip
    assert (taken.operation_key, taken.operation_kind) == ("pay_2", OperationKind.CAPTURE)
    assert (taken.outcome.status, taken.outcome.amount) == (
        OutcomeStatus.SUCCEEDED,
        Money(900, "INR"),
    )
    error = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}
    refused = event_of(
        "stripe",
        stripe_event(
            "payment_intent.payment_failed",
            intent(status="requires_payment_method", last_payment_error=error),
        ),
    )
    assert (refused.outcome.status, refused.outcome.code) == (
        OutcomeStatus.DECLINED,
        "insufficient_funds",
    )
    dropped = event_of("stripe", stripe_event("payment_intent.canceled", intent(status="canceled")))
    assert (dropped.operation_key, dropped.operation_kind) == ("", OperationKind.VOID)
    assert dropped.outcome.status is OutcomeStatus.SUCCEEDED
    refund = {
        "id": "re_1", "amount": 300, "currency": "inr", "status": "succeeded",
        "payment_intent": "pi_1", "metadata": {"operation_key": "pay_3"},
    }  # fmt: skip
    back = event_of("stripe", stripe_event("refund.created", refund))
    assert (back.kind, back.operation_key, back.reference) == (WebhookKind.REFUND, "pay_3", "pi_1")
    assert back.outcome.amount == Money(300, "INR")


def test_razorpay_payment_events_are_answers_for_our_operations() -> None:
    """Held, taken, refused and given back; a partial capture is not done with its first half."""
    held = event_of("razorpay", razorpay_event("payment.authorized", payment=payment()))
    assert (held.operation_key, held.order_id) == ("pay_1", "ord_1")
    assert held.outcome.status is OutcomeStatus.SUCCEEDED
    notes = {"order_id": "ord_1", "operation_key": "pay_1", "capture_key": "pay_2"}
    for wanted, status in (("1000", OutcomeStatus.SUCCEEDED), ("800", OutcomeStatus.UNKNOWN)):
        entity = payment(status="captured", captured=True, notes=notes | {"capture_minor": wanted})
        taken = event_of("razorpay", razorpay_event("payment.captured", payment=entity))
        assert (taken.operation_key, taken.outcome.status) == ("pay_2", status)
    failed = payment(status="failed", error_code="BAD_REQUEST_ERROR", error_reason="card_declined")
    refused = event_of("razorpay", razorpay_event("payment.failed", payment=failed))
    assert (refused.outcome.status, refused.outcome.code) == (
        OutcomeStatus.DECLINED,
        "card_declined",
    )
    refund = {
        "id": "rfnd_1", "amount": 300, "currency": "INR", "payment_id": "pay_X",
        "receipt": "pay_3", "status": "processed",
    }  # fmt: skip
    back = event_of(
        "razorpay", razorpay_event("refund.processed", refund=refund, payment=payment())
    )
    assert (back.kind, back.operation_key, back.order_id) == (WebhookKind.REFUND, "pay_3", "ord_1")
    rest = anything_of(
        "razorpay", razorpay_event("refund.processed", refund=refund | {"receipt": "pay_2-rest"})
    )
    assert isinstance(rest, UnwantedEvent), "the rest of a capture is no refund of ours"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("charge.dispute.created", "needs_response", DisputeStatus.OPEN),
        ("charge.dispute.updated", "under_review", DisputeStatus.UNDER_REVIEW),
        ("charge.dispute.closed", "won", DisputeStatus.WON),
        ("charge.dispute.closed", "lost", DisputeStatus.LOST),
        ("charge.dispute.closed", "warning_closed", DisputeStatus.CLOSED),
    ],
)
def test_stripe_disputes_are_read(kind: str, status: str, expected: DisputeStatus) -> None:
    """Which payment, how much, why, until when, and how it stands."""
    subject = {
        "id": "du_1", "amount": 700, "currency": "inr", "reason": "fraudulent", "status": status,
        "charge": "ch_1", "payment_intent": "pi_1", "evidence_details": {"due_by": T + 60},
    }  # fmt: skip
    event = event_of("stripe", stripe_event(kind, subject))
    assert (event.kind, event.reference) == (WebhookKind.DISPUTE, "pi_1")
    assert event.dispute is not None
    assert (event.dispute.status, event.dispute.amount) == (expected, Money(700, "INR"))
    assert event.dispute.respond_by == NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("payment.dispute.created", "open", DisputeStatus.OPEN),
        ("payment.dispute.under_review", "under_review", DisputeStatus.UNDER_REVIEW),
        ("payment.dispute.won", "won", DisputeStatus.WON),
        ("payment.dispute.lost", "lost", DisputeStatus.LOST),
        ("payment.dispute.closed", "closed", DisputeStatus.CLOSED),
    ],
)
def test_razorpay_disputes_are_read(kind: str, status: str, expected: DisputeStatus) -> None:
    """The example of Razorpay's own guide, in each of its states."""
    dispute = {
        "id": "disp_Esz7KAitoYM7PJ", "entity": "dispute", "payment_id": "pay_EsyWjHrfzb59eR",
        "amount": 10_000, "currency": "INR", "amount_deducted": 0,
        "reason_code": "pre_arbitration", "respond_by": 1_590_604_200, "status": status,
        "phase": "pre_arbitration", "created_at": 1_590_059_211,
    }  # fmt: skip
    event = event_of("razorpay", razorpay_event(kind, dispute=dispute, payment=payment()))
    assert (event.kind, event.reference) == (WebhookKind.DISPUTE, "pay_EsyWjHrfzb59eR")
    assert event.dispute is not None
    assert (event.dispute.status, event.dispute.reason) == (expected, "pre_arbitration")


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
def test_events_that_we_did_not_ask_for_are_passed_over(wire: str) -> None:
    """A payout or an order event is thanked for, and changes nothing."""
    event = {
        "stripe": stripe_event("payout.paid", {"id": "po_1"}),
        "razorpay": razorpay_event("order.paid", payment=payment()),
    }[wire]
    assert isinstance(anything_of(wire, event), UnwantedEvent)
