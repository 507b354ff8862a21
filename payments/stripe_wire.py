"""Stripe's JSON, as far as Darkstore reads it, and what it means to us.

Shapes of API version 2024-06-20, as in docs.stripe.com/api (payment_intents, refunds, charges,
balance_transactions, disputes, errors) and its published OpenAPI description
(github.com/stripe/openapi).  Unknown fields are passed over, so later versions read the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import msgspec

from kit.money import Money
from payments.gateway import (
    GatewayOperation,
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
)

API_VERSION: Final = "2024-06-20"

# Metadata that ties Stripe's objects to our rows.
ORDER_ID: Final = "order_id"
OPERATION_KEY: Final = "operation_key"
CAPTURE_KEY: Final = "capture_key"

Minor = Annotated[int, msgspec.Meta(ge=0)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{3}$")]
Subject = TypeVar("Subject")


class ErrorBody(msgspec.Struct, frozen=True):
    """``error`` of a refusal, and ``last_payment_error`` of an intent."""

    type: str = ""
    code: str | None = None
    decline_code: str | None = None
    message: str | None = None
    param: str | None = None
    payment_intent: Intent | None = None


class Intent(msgspec.Struct, frozen=True):
    id: str
    status: str
    amount: Minor
    currency: Currency
    created: int = 0
    amount_capturable: Minor = 0
    amount_received: Minor = 0
    metadata: dict[str, str] = {}
    last_payment_error: ErrorBody | None = None


class Refund(msgspec.Struct, frozen=True):
    id: str
    amount: Minor
    currency: Currency
    created: int = 0
    status: str | None = None
    payment_intent: str | Intent | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] = {}

    @property
    def reference(self) -> str:
        intent = self.payment_intent
        return intent.id if isinstance(intent, Intent) else intent or ""


class Charge(msgspec.Struct, frozen=True):
    id: str
    amount_captured: Minor
    currency: Currency
    payment_intent: str | Intent | None = None


class BalanceTransaction(msgspec.Struct, frozen=True):
    """``source`` is expanded: a charge or a refund, and other things that we pass over."""

    id: str
    type: str
    created: int
    source: msgspec.Raw


class EvidenceDetails(msgspec.Struct, frozen=True):
    due_by: int | None = None


class Dispute(msgspec.Struct, frozen=True):
    id: str
    amount: Minor
    currency: Currency
    status: str
    reason: str
    payment_intent: str | None = None
    evidence_details: EvidenceDetails | None = None


class IntentList(msgspec.Struct, frozen=True):
    data: list[Intent]
    has_more: bool = False


class RefundList(msgspec.Struct, frozen=True):
    data: list[Refund]
    has_more: bool = False


class BalanceList(msgspec.Struct, frozen=True):
    data: list[BalanceTransaction]
    has_more: bool = False


class Refusal(msgspec.Struct, frozen=True):
    error: ErrorBody


class EventData(msgspec.Struct, frozen=True):
    object: msgspec.Raw


class Event(msgspec.Struct, frozen=True):
    id: str
    name: str = msgspec.field(name="type")
    created: int
    data: EventData

    def subject(self, shape: type[Subject]) -> Subject:
        """The object that the event is about; raises msgspec.MsgspecError."""
        return msgspec.json.decode(self.data.object, type=shape)


def money(amount: int, currency: str) -> Money:
    """Stripe counts minor units as we do, and writes currencies small."""
    return Money(amount, currency.upper())


def reason_of(error: ErrorBody) -> str:
    """The most telling of Stripe's three levels of code."""
    if error.decline_code and error.decline_code != "generic_decline":
        return error.decline_code
    if error.code == "resource_missing" and (error.param or "").startswith("payment_method"):
        return "invalid_token"
    return error.code or error.type


def is_decline(error: ErrorBody) -> bool:
    """Whether the payer's side said no; a token that stands for nothing counts as that.

    A ``processing_error`` is a card error by name, and trouble on the way by its description.
    """
    if error.type == "card_error":
        return error.code != "processing_error"
    return reason_of(error) == "invalid_token"


def authorisation_of(intent: Intent) -> GatewayOutcome:
    """What became of the request that made the intent."""
    whole = money(intent.amount, intent.currency)
    match intent.status:
        case "requires_capture" | "succeeded":
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, intent.id, amount=whole)
        case "processing":
            return GatewayOutcome(OutcomeStatus.UNKNOWN, intent.id, OutcomeCode.PROCESSING)
        case "canceled":
            return GatewayOutcome(OutcomeStatus.FAILED, intent.id, "canceled")
        case "requires_action" | "requires_confirmation":
            # Nobody is there any more to confirm it; it holds no money until somebody does.
            return GatewayOutcome(OutcomeStatus.DECLINED, intent.id, "authentication_required")
    error = intent.last_payment_error
    if error is None:
        return GatewayOutcome(OutcomeStatus.FAILED, intent.id, intent.status)
    status = OutcomeStatus.DECLINED if is_decline(error) else OutcomeStatus.FAILED
    return GatewayOutcome(status, intent.id, reason_of(error), error.message)


def capture_of(intent: Intent, operation_key: str) -> GatewayOutcome:
    """What became of the capture under this key; not found leaves it free to be sent."""
    if intent.status == "processing":
        return GatewayOutcome(OutcomeStatus.UNKNOWN, intent.id, OutcomeCode.PROCESSING)
    ours = intent.metadata.get(CAPTURE_KEY, "") == operation_key
    if intent.status == "succeeded" and ours:
        taken = money(intent.amount_received, intent.currency)
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, intent.id, amount=taken)
    return GatewayOutcome(OutcomeStatus.FAILED, intent.id, OutcomeCode.NOT_FOUND)


def void_of(intent: Intent) -> GatewayOutcome:
    if intent.status == "canceled":
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, intent.id)
    return GatewayOutcome(OutcomeStatus.FAILED, intent.id, OutcomeCode.NOT_FOUND)


def refund_of(refund: Refund) -> GatewayOutcome:
    amount = money(refund.amount, refund.currency)
    match refund.status:
        case "succeeded":
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, refund.reference, amount=amount)
        case "failed" | "canceled":
            code = refund.failure_reason or refund.status
            return GatewayOutcome(OutcomeStatus.FAILED, refund.reference, code)
    return GatewayOutcome(OutcomeStatus.UNKNOWN, refund.reference, OutcomeCode.PROCESSING)


def logged(transaction: BalanceTransaction) -> GatewayOperation | None:
    """A line of our log; None for fees, payouts, disputes and whatever else moves a balance.

    Raises msgspec.MsgspecError.
    """
    source: Charge | Refund
    if transaction.type in ("charge", "payment"):
        source = msgspec.json.decode(transaction.source, type=Charge)
        kind, key_name = OperationKind.CAPTURE, CAPTURE_KEY
        amount = money(source.amount_captured, source.currency)
    elif transaction.type in ("refund", "payment_refund"):
        source = msgspec.json.decode(transaction.source, type=Refund)
        kind, key_name = OperationKind.REFUND, OPERATION_KEY
        amount = money(source.amount, source.currency)
    else:
        return None
    intent = source.payment_intent if isinstance(source.payment_intent, Intent) else None
    notes = intent.metadata if intent else {}
    own = source.metadata if isinstance(source, Refund) else notes
    return GatewayOperation(
        operation_id=transaction.id,
        reference=intent.id if intent else "",
        kind=kind,
        amount=amount,
        order_id=notes.get(ORDER_ID, ""),
        operation_key=own.get(key_name, ""),
        at=datetime.fromtimestamp(transaction.created, UTC),
    )
