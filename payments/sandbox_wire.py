"""The sandbox provider's JSON, as far as Darkstore reads it, and what it means to us."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from kit.money import Money
from payments.gateway import GatewayOutcome, OperationKind, OutcomeCode, OutcomeStatus

Minor = Annotated[int, msgspec.Meta(ge=0)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


class OperationBody(msgspec.Struct, frozen=True):
    id: str
    payment_id: str
    kind: OperationKind
    amount_minor: Minor
    currency: Currency
    order_reference: str
    idempotency_key: str
    at: AwareTime


class PaymentBody(msgspec.Struct, frozen=True):
    id: str
    status: str
    code: str | None
    amount_minor: Minor
    captured_minor: Minor
    refunded_minor: Minor
    currency: Currency
    order_reference: str
    idempotency_key: str
    version: int
    operations: list[OperationBody]

    def money(self, amount_minor: int) -> Money:
        return Money(amount_minor, self.currency)


class PaymentList(msgspec.Struct, frozen=True):
    items: list[PaymentBody]


class OperationList(msgspec.Struct, frozen=True):
    items: list[OperationBody]
    next_cursor: str | None


class ErrorBody(msgspec.Struct, frozen=True):
    code: str
    message: str


class RefusalBody(msgspec.Struct, frozen=True):
    error: ErrorBody
    payment: PaymentBody | None = None


class DisputeBody(msgspec.Struct, frozen=True):
    id: str
    status: Literal["open", "won", "lost"]
    amount_minor: Minor
    reason: str


class EventBody(msgspec.Struct, frozen=True):
    """``idempotency_key`` is empty for what no request of ours caused, such as a dispute."""

    id: str
    type: str
    created_at: AwareTime
    idempotency_key: str
    payment: PaymentBody
    dispute: DisputeBody | None = None


def outcome_of(payment: PaymentBody, operation_key: str) -> GatewayOutcome:
    """What became of the operation with this key, by a payment that lists what took effect."""
    for operation in payment.operations:
        if operation.idempotency_key == operation_key:
            return GatewayOutcome(
                OutcomeStatus.SUCCEEDED,
                reference=payment.id,
                amount=Money(operation.amount_minor, operation.currency),
            )
    if payment.idempotency_key == operation_key:
        match payment.status:
            case "declined":
                return GatewayOutcome(OutcomeStatus.DECLINED, payment.id, payment.code)
            case "failed":
                return GatewayOutcome(OutcomeStatus.FAILED, payment.id, payment.code)
            case "processing":
                return GatewayOutcome(OutcomeStatus.UNKNOWN, payment.id, OutcomeCode.PROCESSING)
    return GatewayOutcome(
        OutcomeStatus.UNKNOWN,
        payment.id,
        OutcomeCode.BAD_RESPONSE,
        "The payment does not list the operation.",
    )
