"""Cash on delivery: a gateway without a network, where the rider's hand is the terminal.

It keeps nothing.  Nobody but Darkstore has a record of cash, so the answers follow from the
requests: the same request has the same answer for ever, and repeating one is always safe.
"""

from __future__ import annotations

from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)

_REFERENCE_PREFIX = "cash_"


class CashGateway:
    """Authorising is a promise; capturing needs what the rider collected."""

    name = "cash"

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        if request.amount.amount_minor <= 0:
            return _failed(None, "invalid_amount", "Only an amount above zero can be collected.")
        return GatewayOutcome(
            OutcomeStatus.SUCCEEDED,
            reference=_REFERENCE_PREFIX + request.operation_key,
            amount=request.amount,
        )

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        """Succeeds when the rider recorded at least the amount, in its currency."""
        collected = request.collected
        if (
            collected is None
            or collected.currency != request.amount.currency
            or collected.amount_minor < request.amount.amount_minor
        ):
            return _failed(
                request.reference,
                OutcomeCode.CASH_NOT_COLLECTED,
                "The rider has not recorded the whole amount as collected.",
            )
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, request.reference, amount=request.amount)

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, request.reference)

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        """Succeeds: what is owed is a posting.  The ledger, not this class, knows the limit."""
        if request.amount.amount_minor <= 0:
            return _failed(
                request.reference, "invalid_amount", "Only an amount above zero can be refunded."
            )
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, request.reference, amount=request.amount)

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        """What a promise or a release comes to; for a capture or refund ``not_found``: ask again.

        An attempt whose outcome was not persisted had no effect outside, and those two depend on
        more than the key.
        """
        if kind is OperationKind.AUTHORISE:
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, _REFERENCE_PREFIX + operation_key)
        if kind is OperationKind.VOID:
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, reference)
        return _failed(
            reference, OutcomeCode.NOT_FOUND, "Cash keeps no record; send the operation again."
        )

    async def close(self) -> None:
        return None


def _failed(reference: str | None, code: str, message: str) -> GatewayOutcome:
    return GatewayOutcome(OutcomeStatus.FAILED, reference, code, message)
