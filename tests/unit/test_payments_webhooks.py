"""What a webhook must be before anybody believes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from kit.money import Money
from payments.gateway import OutcomeStatus
from payments.webhooks import WebhookMalformed, WebhookSignatureInvalid, verify_signature
from simulator.provider.webhooks import sign

SECRET = "whsec_unit"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OPERATION = {
    "id": "sbo_1", "payment_id": "sbp_1", "kind": "capture", "amount_minor": 900,
    "currency": "INR", "order_reference": "ord_1", "idempotency_key": "cap_1",
    "at": "2026-03-01T12:00:00Z",
}  # fmt: skip
EVENT = {
    "id": "evt_1", "type": "payment.captured", "created_at": "2026-03-01T12:00:00Z",
    "idempotency_key": "cap_1",
    "payment": {
        "id": "sbp_1", "status": "captured", "code": None, "amount_minor": 1000,
        "captured_minor": 900, "refunded_minor": 0, "currency": "INR", "method": "card",
        "order_reference": "ord_1", "idempotency_key": "aut_1", "version": 3,
        "created_at": "2026-03-01T11:59:00Z", "operations": [OPERATION],
    },
}  # fmt: skip
BODY = json.dumps(EVENT).encode()


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOW) -> str:
    return sign(secret, int(at.timestamp()), body)


def test_a_signed_event_is_read_with_its_full_state() -> None:
    """What the provider signs, we read: identity, outcome of the operation, amounts, order."""
    event = verify_signature(BODY, signed(), SECRET, NOW)
    assert (event.event_id, event.type) == ("evt_1", "payment.captured")
    assert (event.reference, event.order_id) == ("sbp_1", "ord_1")
    assert (event.operation_key, event.version) == ("cap_1", 3)
    assert event.outcome.status is OutcomeStatus.SUCCEEDED
    assert event.outcome.amount == Money(900, "INR")
    assert (event.amount, event.captured) == (Money(1000, "INR"), Money(900, "INR"))


def test_a_changed_body_is_refused() -> None:
    """One changed digit of an amount breaks the signature."""
    with pytest.raises(WebhookSignatureInvalid):
        verify_signature(BODY.replace(b"900", b"901"), signed(), SECRET, NOW)


def test_another_secret_is_refused() -> None:
    """A signature by somebody else is none."""
    with pytest.raises(WebhookSignatureInvalid) as refused:
        verify_signature(BODY, signed(secret="whsec_other"), SECRET, NOW)
    assert refused.value.code == "webhook_signature_invalid"


def test_the_time_is_part_of_what_is_signed() -> None:
    """A caught event cannot be made young again by writing a new time into its header."""
    old = signed(at=NOW - timedelta(hours=1))
    forged = f"t={int(NOW.timestamp())},{old.partition(',')[2]}"
    with pytest.raises(WebhookSignatureInvalid):
        verify_signature(BODY, forged, SECRET, NOW)


@pytest.mark.parametrize("age_s", [301, -301])
def test_outside_the_window_is_refused(age_s: int) -> None:
    """A rightly signed event is refused five minutes later, and from as far ahead."""
    header = signed(at=NOW - timedelta(seconds=age_s))
    with pytest.raises(WebhookSignatureInvalid):
        verify_signature(BODY, header, SECRET, NOW)


@pytest.mark.parametrize("age_s", [299, -299])
def test_within_the_window_is_taken(age_s: int) -> None:
    """Clocks may differ, and a delivery may dawdle, by less than five minutes."""
    event = verify_signature(BODY, signed(at=NOW - timedelta(seconds=age_s)), SECRET, NOW)
    assert event.event_id == "evt_1"


def test_either_of_two_signatures_will_do() -> None:
    """While a secret is rotated the header carries one signature by each."""
    stale = signed(secret="whsec_next")
    both = f"{stale},{signed().partition(',')[2]}"
    assert verify_signature(BODY, both, SECRET, NOW).event_id == "evt_1"


@pytest.mark.parametrize(
    "header",
    ["", "v1=00", "t=12", "t=,v1=00", "t=x,v1=00", "t=-5,v1=00", "t=1,t=2,v1=0",
     "t=" + "9" * 5000 + ",v1=00", "t=1,v1=é"],
)  # fmt: skip
def test_a_malformed_header_is_a_wrong_signature(header: str) -> None:
    """Nonsense in the header is refused like a wrong signature, and never breaks the reader."""
    with pytest.raises(WebhookSignatureInvalid):
        verify_signature(BODY, header, SECRET, NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"not json", b'{"id": "evt_1"}', BODY.replace(b"900", b"-9"),
     BODY.replace(b"INR", b"inr"), b"\xff\xfe", b'{"id":"' + b"x" * 70_000 + b'"}'],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    """The right signature does not make an event of any bytes."""
    with pytest.raises(WebhookMalformed):
        verify_signature(body, signed(body), SECRET, NOW)


def test_an_empty_secret_is_a_bug() -> None:
    """A server without a secret must not start believing everybody."""
    with pytest.raises(ValueError, match="empty secret"):
        verify_signature(BODY, signed(secret=""), "", NOW)
