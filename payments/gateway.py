"""What Darkstore asks of whoever moves money, and the only answers that it may get.

Every operation carries ``operation_key``, the id of our own persisted attempt, which is also the
gateway's idempotency key: asking twice under one key moves money once.  An answer is one of

``succeeded``
    It took effect, under ``reference``.
``declined``
    The payer's side said no (``code`` says why); nothing moved, and repeating gives the same.
``failed``
    It certainly took no effect.  With ``retryable`` the same key may be used again.
``unknown``
    Nobody here knows: time-out, reset after sending, a 5xx, or still being processed.  Only
    :meth:`Gateway.lookup`, or a webhook, resolves it; never a new key.

Expected trouble on the network is an answer, never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from kit.errors import Busy
from kit.money import Money

# Real seconds.  Below the 8 s of a slow payment, so that a customer hears of "being confirmed"
# before giving up, and the outcome is asked for later.
DEFAULT_DEADLINE_S = 6.0


class OutcomeStatus(StrEnum):
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"
    UNKNOWN = "unknown"


class OperationKind(StrEnum):
    AUTHORISE = "authorise"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class OutcomeCode(StrEnum):
    """Codes that Darkstore itself gives; a gateway's own codes are passed on as they are."""

    UNAVAILABLE = "unavailable"  # nothing was sent
    CIRCUIT_OPEN = "circuit_open"  # not asked: it has not answered others for a while
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"  # the gateway has no operation under this key
    TIMEOUT = "timeout"
    NO_ANSWER = "no_answer"  # sent, then reset or answered by a 5xx
    PROCESSING = "processing"
    BAD_RESPONSE = "bad_response"
    MISMATCH = "mismatch"  # it took effect with another amount, currency or order than asked
    CASH_NOT_COLLECTED = "cash_not_collected"


_RETRYABLE = frozenset(
    {OutcomeCode.UNAVAILABLE, OutcomeCode.CIRCUIT_OPEN, OutcomeCode.RATE_LIMITED,
     OutcomeCode.NOT_FOUND, OutcomeCode.CASH_NOT_COLLECTED}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatewayOutcome:
    """The answer to one operation.

    ``reference`` is the gateway's id of the payment, once there is one.  ``amount`` is what the
    gateway says that the operation moved, where it says so.  ``message`` is for staff and logs.
    """

    status: OutcomeStatus
    reference: str | None = None
    code: str | None = None
    message: str | None = None
    amount: Money | None = None

    @property
    def retryable(self) -> bool:
        """Whether the very same operation, under the same key, may be sent again."""
        return self.status is OutcomeStatus.FAILED and self.code in _RETRYABLE


@dataclass(frozen=True, slots=True)
class AuthoriseRequest:
    """Hold ``amount`` on whatever ``token`` stands for; cash has no token."""

    operation_key: str
    order_id: str
    amount: Money
    method: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Take up to the authorised amount; the rest is released.  Once a payment.

    ``collected`` is what the rider recorded as taken, for cash alone.
    """

    operation_key: str
    reference: str
    amount: Money
    collected: Money | None = None


@dataclass(frozen=True, slots=True)
class VoidRequest:
    """Release an authorisation of which nothing was captured."""

    operation_key: str
    reference: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Give back part or all of what was captured; all refunds together at most that."""

    operation_key: str
    reference: str
    amount: Money


class Gateway(Protocol):
    """One way of moving money.  ``deadline_s`` is real time and covers all attempts of a call."""

    @property
    def name(self) -> str:
        """What attempts are stored under; never changes for a gateway."""
        ...

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome: ...

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome: ...

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome: ...

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome: ...

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        """What became of an operation; moves nothing.

        ``not_found`` says that the gateway has not seen the key.  A request that timed out can
        still be on its way, so give it a few seconds before believing that.  ``kind`` and
        ``reference`` (where the attempt has one) are for gateways that cannot search by key.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; nothing may be called afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayOperation:
    """A line of a gateway's own log, for reconciliation with ours."""

    operation_id: str
    reference: str
    kind: OperationKind
    amount: Money
    order_id: str
    operation_key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Some of the log; ``next_cursor`` is None on its last page, and a page may be empty."""

    operations: Sequence[GatewayOperation]
    next_cursor: str | None


class GatewayUnavailable(Busy):
    """The gateway's log could not be read; raised by reconciliation alone."""

    code = "payment_gateway_unavailable"
    title = "The payment gateway does not answer"


@runtime_checkable
class GatewayLog(Protocol):
    """A gateway that lists what took effect there: all captures and refunds, for reconciliation.

    Authorisations and voids are in it where the gateway lists them; the order is the gateway's.
    A line that does not carry a key of ours has an empty ``operation_key``; its ``reference`` and
    ``kind`` still say what it is.
    """

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200, since: datetime | None = None
    ) -> OperationPage:
        """One page of what took effect (by the gateway's clock, not before ``since``).

        ``since`` goes with every page of one walk.  Raises GatewayUnavailable.
        """
        ...
