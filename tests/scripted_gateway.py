"""A gateway that answers as a test says, and keeps a log as a real one does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from kit.ids import new_id
from kit.money import Money
from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
    GatewayOperation,
    GatewayOutcome,
    OperationKind,
    OperationPage,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)

SUCCEEDED = GatewayOutcome(OutcomeStatus.SUCCEEDED)
DECLINED = GatewayOutcome(OutcomeStatus.DECLINED, code="card_declined")
UNKNOWN = GatewayOutcome(OutcomeStatus.UNKNOWN, code=OutcomeCode.TIMEOUT)
NEVER_SEEN = GatewayOutcome(OutcomeStatus.FAILED, code=OutcomeCode.NOT_FOUND)
UNAVAILABLE = GatewayOutcome(OutcomeStatus.FAILED, code=OutcomeCode.UNAVAILABLE)


@dataclass
class ScriptedGateway:
    """Answers ``script`` (by kind of operation, oldest first), then with success; keeps a log."""

    name: str = "sandbox"
    script: dict[str, list[GatewayOutcome]] = field(default_factory=dict)
    log: list[GatewayOperation] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (kind or 'lookup', key)
    orders: dict[str, tuple[str, Money]] = field(default_factory=dict)  # by reference

    def _answer(
        self, kind: OperationKind, key: str, reference: str, order_id: str, amount: Money
    ) -> GatewayOutcome:
        self.asked.append((kind.value, key))
        told = self._next(kind.value)
        if told.status is not OutcomeStatus.SUCCEEDED:
            return told
        self._take_effect(kind, key, reference, order_id, amount)
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, reference, amount=amount)

    def _next(self, kind: str) -> GatewayOutcome:
        waiting = self.script.get(kind)
        return waiting.pop(0) if waiting else SUCCEEDED

    def _take_effect(
        self, kind: OperationKind, key: str, reference: str, order_id: str, amount: Money
    ) -> None:
        if all(entry.operation_key != key for entry in self.log):
            now = datetime.now(UTC)
            entry = GatewayOperation(new_id("gop"), reference, kind, amount, order_id, key, now)
            self.log.append(entry)

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        reference = f"ref_{request.operation_key}"
        self.orders[reference] = (request.order_id, request.amount)
        return self._answer(
            OperationKind.AUTHORISE, request.operation_key, reference, request.order_id,
            request.amount,
        )  # fmt: skip

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        order_id, _ = self.orders[request.reference]
        return self._answer(
            OperationKind.CAPTURE, request.operation_key, request.reference, order_id,
            request.amount,
        )  # fmt: skip

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        order_id, amount = self.orders[request.reference]
        return self._answer(
            OperationKind.VOID, request.operation_key, request.reference, order_id, amount
        )

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        order_id, _ = self.orders[request.reference]
        return self._answer(
            OperationKind.REFUND, request.operation_key, request.reference, order_id,
            request.amount,
        )  # fmt: skip

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        self.asked.append(("lookup", operation_key))
        told = self._next("lookup")
        found = reference or f"ref_{operation_key}"
        if told.status is OutcomeStatus.SUCCEEDED:
            order_id, amount = self.orders[found]
            self._take_effect(kind, operation_key, found, order_id, amount)
            return GatewayOutcome(OutcomeStatus.SUCCEEDED, found, amount=amount)
        return told

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200, since: datetime | None = None
    ) -> OperationPage:
        lines = [line for line in self.log if since is None or line.at >= since]
        return OperationPage(lines, None)

    async def close(self) -> None:
        return None
