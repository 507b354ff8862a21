"""Razorpay's JSON, as far as Darkstore reads it, and what it means to us.

Shapes of API v1 as in razorpay.com/docs/api (orders, payments, refunds, disputes, errors) and in
the examples of github.com/razorpay/razorpay-python (``documents/``).  Empty ``notes`` are a list.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from kit.money import Money
from payments.gateway import GatewayOutcome, OutcomeCode, OutcomeStatus

# Notes that tie Razorpay's payments to our rows; at most 15 a payment, 256 characters each.
ORDER_ID: Final = "order_id"
OPERATION_KEY: Final = "operation_key"
CAPTURE_KEY: Final = "capture_key"
CAPTURE_MINOR: Final = "capture_minor"
VOID_KEY: Final = "void_key"

# Razorpay captures the whole authorisation or nothing.  What an order does not need goes back as a
# refund under the capture's key with this ending, and counts as part of the capture.
REST_SUFFIX: Final = "-rest"

_TROUBLE_OF_THEIRS: Final = frozenset({"GATEWAY_ERROR", "SERVER_ERROR"})

Minor = Annotated[int, msgspec.Meta(ge=0)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
Notes = dict[str, Any] | list[Any]  # an object of strings, or [] where there are none


class Payment(msgspec.Struct, frozen=True):
    id: str
    amount: Minor
    currency: Currency
    status: str
    captured: bool | None = None
    amount_refunded: Minor = 0
    order_id: str | None = None
    notes: Notes = {}
    error_code: str | None = None
    error_description: str | None = None
    error_reason: str | None = None
    created_at: int = 0

    def note(self, name: str) -> str:
        found = self.notes.get(name, "") if isinstance(self.notes, dict) else ""
        return str(found)

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)

    @property
    def wanted_minor(self) -> int | None:
        """How much of a captured payment its capture was to keep."""
        text = self.note(CAPTURE_MINOR)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


class Refund(msgspec.Struct, frozen=True):
    id: str
    amount: Minor
    currency: Currency
    payment_id: str
    status: str = "processed"
    receipt: str | None = None
    created_at: int = 0


class Dispute(msgspec.Struct, frozen=True):
    id: str
    payment_id: str
    amount: Minor
    currency: Currency
    status: str
    reason_code: str = ""
    respond_by: int | None = None


class PaymentList(msgspec.Struct, frozen=True):
    items: list[Payment]


class RefundList(msgspec.Struct, frozen=True):
    items: list[Refund]


class Order(msgspec.Struct, frozen=True):
    id: str
    receipt: str | None = None
    attempts: int = 0
    payments: PaymentList | None = None


class OrderList(msgspec.Struct, frozen=True):
    items: list[Order]


class Created(msgspec.Struct, frozen=True):
    razorpay_payment_id: str


class ErrorMetadata(msgspec.Struct, frozen=True):
    payment_id: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    code: str
    description: str | None = None
    reason: str | None = None
    field: str | None = None
    metadata: ErrorMetadata | list[Any] | None = None

    @property
    def payment_id(self) -> str | None:
        return self.metadata.payment_id if isinstance(self.metadata, ErrorMetadata) else None


class Refusal(msgspec.Struct, frozen=True):
    error: ErrorBody


class PaymentBox(msgspec.Struct, frozen=True):
    entity: Payment


class RefundBox(msgspec.Struct, frozen=True):
    entity: Refund


class DisputeBox(msgspec.Struct, frozen=True):
    entity: Dispute


class EventPayload(msgspec.Struct, frozen=True):
    payment: PaymentBox | None = None
    refund: RefundBox | None = None
    dispute: DisputeBox | None = None


class Event(msgspec.Struct, frozen=True):
    event: str
    created_at: int
    payload: EventPayload


def authorisation_of(payment: Payment) -> GatewayOutcome:
    """What became of the request that made the payment."""
    match payment.status:
        case "authorized" | "captured":
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id, amount=payment.money)
        case "refunded" if payment.note(CAPTURE_KEY):
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id, amount=payment.money)
        case "refunded":
            return GatewayOutcome(OutcomeStatus.FAILED, payment.id, "lapsed")
        case "failed":
            return failure(
                payment.error_code or "", payment.error_reason, payment.error_description,
                payment.id,
            )  # fmt: skip
    return GatewayOutcome(OutcomeStatus.UNKNOWN, payment.id, OutcomeCode.PROCESSING)


def failure(
    code: str, reason: str | None, description: str | None, reference: str | None
) -> GatewayOutcome:
    """A payment that failed: by the payer's bank, or by trouble at Razorpay."""
    status = OutcomeStatus.FAILED if code in _TROUBLE_OF_THEIRS else OutcomeStatus.DECLINED
    return GatewayOutcome(status, reference, reason or code, description)


def void_of(payment: Payment, operation_key: str) -> GatewayOutcome:
    """An authorisation that lapses, or has: Razorpay has no other way of letting go."""
    lapsed = payment.status == "refunded" and not payment.note(CAPTURE_KEY)
    marked = payment.status == "authorized" and payment.note(VOID_KEY) == operation_key
    if lapsed or marked or payment.status == "failed":
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id)
    return GatewayOutcome(OutcomeStatus.FAILED, payment.id, OutcomeCode.NOT_FOUND)


def refund_of(refund: Refund) -> GatewayOutcome:
    amount = Money(refund.amount, refund.currency)
    match refund.status:
        case "processed":
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, refund.payment_id, amount=amount)
        case "failed":
            return GatewayOutcome(OutcomeStatus.FAILED, refund.payment_id, "refund_failed")
    return GatewayOutcome(OutcomeStatus.UNKNOWN, refund.payment_id, OutcomeCode.PROCESSING)
