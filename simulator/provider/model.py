"""What the provider knows of a payment, whatever wire it is spoken over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

SANDBOX: Final = "sandbox"  # the provider's own wire


class PaymentStatus(StrEnum):
    PROCESSING = "processing"
    AUTHORISED = "authorised"
    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    VOIDED = "voided"
    DECLINED = "declined"
    FAILED = "failed"


class OperationKind(StrEnum):
    AUTHORISE = "authorise"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Method(StrEnum):
    CARD = "card"
    UPI = "upi"
    WALLET = "wallet"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that took effect; ``seq`` orders the provider's whole log."""

    seq: int
    operation_id: str
    payment_id: str
    kind: OperationKind
    amount_minor: int
    currency: str
    order_reference: str
    idempotency_key: str
    at_s: float
    metadata: dict[str, str] = field(default_factory=dict)


class DisputeStatus(StrEnum):
    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payer's bank asks for money back."""

    dispute_id: str
    payment_id: str
    amount_minor: int
    reason: str
    status: DisputeStatus
    opened_at_s: float


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment with everything that took effect on it.

    While ``status`` is processing, ``planned_status`` is what it becomes at ``settle_at_s`` (POSIX
    seconds), even when the provider was killed in between.  ``wire`` is the one that it was made
    over and lives on; ``metadata`` is the merchant's own.
    """

    payment_id: str
    idempotency_key: str
    order_reference: str
    method: Method
    currency: str
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    status: PaymentStatus
    code: str | None
    version: int
    created_at_s: float
    planned_status: PaymentStatus
    settle_at_s: float
    duplicates: bool
    operations: tuple[Operation, ...] = ()
    wire: str = SANDBOX
    metadata: dict[str, str] = field(default_factory=dict)
    disputes: tuple[Dispute, ...] = ()

    @property
    def refundable_minor(self) -> int:
        return self.captured_minor - self.refunded_minor


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request: a payment as it was at that moment.

    ``wait_s`` above zero: still processing; settle the payment after so many seconds and answer
    then.  ``unanswered``: it took effect, and the client is not to hear of it.
    """

    payment: Payment
    replayed: bool = False
    wait_s: float = 0.0
    unanswered: bool = False


class RefusalKind(StrEnum):
    UNKNOWN_PAYMENT = "unknown_payment"
    UNKNOWN_DISPUTE = "unknown_dispute"
    NOT_NOW = "not_now"
    NOT_THAT_MUCH = "not_that_much"
    KEY_REUSED = "key_reused"
    IN_PROGRESS = "in_progress"


class Refused(Exception):
    """A request that took no effect, and is not remembered under its key."""

    def __init__(self, kind: RefusalKind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
