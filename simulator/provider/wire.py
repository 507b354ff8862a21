"""The provider's own REST form: request bodies, payments, events and refusals as JSON.

::

    payment    {"id", "status", "code", "amount_minor", "captured_minor", "refunded_minor",
                "currency", "method", "order_reference", "idempotency_key", "version",
                "created_at", "operations": [operation]}
    operation  {"id", "payment_id", "kind", "amount_minor", "currency", "order_reference",
                "idempotency_key", "at"}
    event      {"id", "type", "created_at", "idempotency_key", "payment": payment,
                "dispute": {"id", "status", "amount_minor", "reason"}, for dispute.… alone}
    refusal    {"error": {"code", "message"}}, with "payment" beside it for a 402
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from simulator.provider.model import (
    Dispute,
    Method,
    Operation,
    Payment,
    PaymentStatus,
)

MAX_AMOUNT_MINOR = 10**12

_MESSAGE = {
    "card_declined": "The card was declined.",
    "insufficient_funds": "There is not enough money on the account.",
    "invalid_token": "The token is not valid.",
    "processing_error": "The payment could not be processed, and took no money.",
}

# Digits in a row, or grouped as they are printed on cards.
_CARD_LIKE = re.compile(
    r"(?<!\d)(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?!\d)"
)


class AuthoriseBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    amount_minor: int = Field(strict=True, gt=0, le=MAX_AMOUNT_MINOR)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    token: str = Field(min_length=1, max_length=128)
    method: Method
    order_reference: str = Field(min_length=1, max_length=128)


class AmountBody(BaseModel):
    """For a capture or a refund; without an amount, all that there is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount_minor: int | None = Field(default=None, strict=True, gt=0, le=MAX_AMOUNT_MINOR)


class EmptyBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def has_card_number(text: str) -> bool:
    """Whether 13 to 19 digits that satisfy the check digit of ISO/IEC 7812 (Luhn) stand in it."""
    return any(_luhn(re.sub(r"\D", "", match[0])) for match in _CARD_LIKE.finditer(text))


def render_payment(payment: Payment) -> dict[str, object]:
    return {
        "id": payment.payment_id,
        "status": payment.status,
        "code": payment.code if is_refused(payment) else None,
        "amount_minor": payment.amount_minor,
        "captured_minor": payment.captured_minor,
        "refunded_minor": payment.refunded_minor,
        "currency": payment.currency,
        "method": payment.method,
        "order_reference": payment.order_reference,
        "idempotency_key": payment.idempotency_key,
        "version": payment.version,
        "created_at": _rfc3339(payment.created_at_s),
        "operations": [render_operation(operation) for operation in payment.operations],
    }


def render_operation(operation: Operation) -> dict[str, object]:
    return {
        "id": operation.operation_id,
        "payment_id": operation.payment_id,
        "kind": operation.kind,
        "amount_minor": operation.amount_minor,
        "currency": operation.currency,
        "order_reference": operation.order_reference,
        "idempotency_key": operation.idempotency_key,
        "at": _rfc3339(operation.at_s),
    }


def render_event(event_id: str, event_type: str, key: str, payment: Payment) -> bytes:
    at_s = payment.operations[-1].at_s if payment.operations else payment.settle_at_s
    event: dict[str, object] = {
        "id": event_id,
        "type": event_type,
        "created_at": _rfc3339(at_s),
        "idempotency_key": key,
        "payment": render_payment(payment),
    }
    if event_type.startswith("dispute."):
        dispute = disputed(payment, key)
        event["idempotency_key"] = ""
        event["dispute"] = {
            "id": dispute.dispute_id,
            "status": dispute.status,
            "amount_minor": dispute.amount_minor,
            "reason": dispute.reason,
        }
    return msgspec.json.encode(event)


def disputed(payment: Payment, dispute_id: str) -> Dispute:
    """The dispute that an event is about: its id takes the place of a key there."""
    return next(one for one in payment.disputes if one.dispute_id == dispute_id)


def render_refusal(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


def render_refused_payment(payment: Payment) -> dict[str, object]:
    code = payment.code or "card_declined"
    return {**render_refusal(code, _MESSAGE.get(code, code)), "payment": render_payment(payment)}


def is_refused(payment: Payment) -> bool:
    return payment.status in (PaymentStatus.DECLINED, PaymentStatus.FAILED)


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(digits[::-1])]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _rfc3339(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
