"""Events from a gateway: who sent them, when, and what they say.

A signature proves the sender and the moment, nothing else.  Events come in any order and any
number of times, so the reader dedupes by ``event_id``, compares amount, currency and order with
its own attempt, and treats ``outcome`` as one more answer for ``operation_key``.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kit.errors import Denied, Invalid
from kit.money import Money
from payments.gateway import GatewayOutcome
from payments.sandbox_wire import EventBody, outcome_of

SANDBOX_SIGNATURE_HEADER = "Darkstore-Sandbox-Signature"
DEFAULT_TOLERANCE_S = 300
MAX_BODY_BYTES = 64 * 1024


class WebhookSignatureInvalid(Denied):
    """Signed by nobody we know, or too long ago (or ahead): forged, replayed, or a wrong secret."""

    code = "webhook_signature_invalid"
    title = "The webhook's signature is not valid"


class WebhookMalformed(Invalid):
    """Rightly signed, and yet not an event."""

    code = "webhook_malformed"
    title = "The webhook is not an event"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event with the full state of its payment.

    ``operation_key`` is that of the operation which caused it, and ``outcome`` what became of
    that operation.  ``version`` rises with each change of the payment: an event with a lower one
    than was seen before is old news.
    """

    event_id: str
    type: str
    occurred_at: datetime
    operation_key: str
    outcome: GatewayOutcome
    reference: str
    order_id: str
    status: str
    version: int
    amount: Money
    captured: Money
    refunded: Money


def verify_signature(
    raw_body: bytes,
    header: str,
    secret: str,
    now: datetime,
    tolerance_s: int = DEFAULT_TOLERANCE_S,
) -> WebhookEvent:
    """The event in a body that the sandbox provider signed.

    ``header`` is ``t=<POSIX seconds>,v1=<hex>``, with several ``v1`` while a secret is rotated;
    the signed text is ``t``, a full stop and the body as it came.  ``now`` is the aware *real*
    time: the provider does not live in simulated time.

    Raises WebhookSignatureInvalid and WebhookMalformed.
    """
    if not secret:
        raise ValueError("an empty secret would let anybody sign")
    timestamp, signatures = _parse_header(header)
    signed = timestamp.encode() + b"." + raw_body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    # Every candidate is compared, so that the time taken tells nothing of which one fits.
    matches = [hmac.compare_digest(expected, candidate.encode()) for candidate in signatures]
    if not any(matches):
        raise WebhookSignatureInvalid("The signature does not fit the body.")
    if abs(now.timestamp() - int(timestamp)) > tolerance_s:
        raise WebhookSignatureInvalid("The signature is too old, or from the future.")
    if len(raw_body) > MAX_BODY_BYTES:
        raise WebhookMalformed("The event is too long.")
    try:
        return _event(msgspec.json.decode(raw_body, type=EventBody))
    except msgspec.MsgspecError as error:
        raise WebhookMalformed("The body is not an event of this gateway.") from error


def _parse_header(header: str) -> tuple[str, list[str]]:
    parts = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    # At most twelve digits: int() of a header of megabytes would be somebody's fun.
    if len(timestamps) != 1 or not signatures:
        raise WebhookSignatureInvalid("The signature header is missing or not understood.")
    if not (timestamps[0].isascii() and timestamps[0].isdecimal() and len(timestamps[0]) <= 12):
        raise WebhookSignatureInvalid("The signature header has no time.")
    return timestamps[0], signatures


def _event(body: EventBody) -> WebhookEvent:
    payment = body.payment
    return WebhookEvent(
        event_id=body.id,
        type=body.type,
        occurred_at=body.created_at,
        operation_key=body.idempotency_key,
        outcome=outcome_of(payment, body.idempotency_key),
        reference=payment.id,
        order_id=payment.order_reference,
        status=payment.status,
        version=payment.version,
        amount=payment.money(payment.amount_minor),
        captured=payment.money(payment.captured_minor),
        refunded=payment.money(payment.refunded_minor),
    )
