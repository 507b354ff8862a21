"""Paying from the wallet alone: a gateway without a network.

Checkout holds the money in the transaction that places the order, so authorising is always a yes.
Spending, releasing and refunding are postings (``ledger.wallet``) of the use case itself; nothing
is left to be done here, and every operation may be repeated.
"""

from __future__ import annotations

from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
    GatewayOutcome,
    OperationKind,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)

WALLET = "wallet"
_REFERENCE_PREFIX = "wallet_"


class WalletGateway:
    """Says yes: the ledger has said so before."""

    name = WALLET

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        return _yes(_REFERENCE_PREFIX + request.operation_key)

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        return _yes(request.reference)

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        return _yes(request.reference)

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        return _yes(request.reference)

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        return _yes(reference or _REFERENCE_PREFIX + operation_key)

    async def close(self) -> None:
        return None


def _yes(reference: str) -> GatewayOutcome:
    return GatewayOutcome(OutcomeStatus.SUCCEEDED, reference)
