"""The sandbox provider behind the ``Gateway`` protocol, over HTTP.

Retries live in the transport and nowhere above: a few, with jitter, inside the call's deadline,
always under the same idempotency key, so that the provider does the work once however often it is
asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from kit.money import Money
from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
    GatewayOperation,
    GatewayOutcome,
    GatewayUnavailable,
    OperationKind,
    OperationPage,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.http_transport import (
    HttpAnswer,
    HttpRequest,
    HttpSettings,
    HttpTransport,
    NoAnswer,
    post_json,
    query,
    segment,
)
from payments.sandbox_wire import OperationList, PaymentBody, PaymentList, RefusalBody, outcome_of

_log = structlog.get_logger(__name__)

# Refusals that leave the outcome open: the first request with this key is still at work.
_STILL_RUNNING = frozenset({"idempotency_in_progress"})


@dataclass(frozen=True, slots=True)
class SandboxSettings(HttpSettings):
    """Where the provider is, and its API key."""


class SandboxGateway:
    """See :class:`payments.gateway.Gateway` and :class:`payments.gateway.GatewayLog`."""

    name = "sandbox"

    def __init__(self, settings: SandboxSettings) -> None:
        self._transport = HttpTransport(
            self.name, settings, {"Authorization": f"Bearer {settings.api_key}"}
        )

    async def close(self) -> None:
        await self._transport.close()

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        body = {
            "amount_minor": request.amount.amount_minor,
            "currency": request.amount.currency,
            "token": request.token,
            "method": request.method,
            "order_reference": request.order_id,
        }
        return await self._operate(
            "/v1/payments", request.operation_key, body, request.amount, request.order_id,
            deadline_s,
        )  # fmt: skip

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        body = {"amount_minor": request.amount.amount_minor}
        path = _path(request.reference, OperationKind.CAPTURE)
        return await self._operate(
            path, request.operation_key, body, request.amount, None, deadline_s
        )

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        path = _path(request.reference, OperationKind.VOID)
        return await self._operate(path, request.operation_key, {}, None, None, deadline_s)

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        body = {"amount_minor": request.amount.amount_minor}
        path = _path(request.reference, OperationKind.REFUND)
        return await self._operate(
            path, request.operation_key, body, request.amount, None, deadline_s
        )

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        request = HttpRequest("GET", query("/v1/payments", [("idempotency_key", operation_key)]))
        answer = await self._transport.exchange(request, self._transport.until(deadline_s))
        if isinstance(answer, NoAnswer):
            return answer.unread(reference)
        found = answer.read(PaymentList) if answer.is_success else None
        if found is None:
            _log.error("payment_lookup_refused", http_status=answer.status)
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, OutcomeCode.BAD_RESPONSE)
        if not found.items:
            return GatewayOutcome(OutcomeStatus.FAILED, reference, OutcomeCode.NOT_FOUND)
        return outcome_of(found.items[0], operation_key)

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200, since: datetime | None = None
    ) -> OperationPage:
        parameters = [("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]
        request = HttpRequest("GET", query("/v1/operations", parameters))
        answer = await self._transport.exchange(request, self._transport.until(DEFAULT_DEADLINE_S))
        if isinstance(answer, NoAnswer):
            raise GatewayUnavailable(f"The sandbox provider's log was not read: {answer.code}.")
        page = answer.read(OperationList) if answer.is_success else None
        if page is None:
            status = answer.status
            raise GatewayUnavailable(f"The sandbox provider answered {status} for its log.")
        operations = [
            GatewayOperation(
                operation_id=item.id,
                reference=item.payment_id,
                kind=item.kind,
                amount=Money(item.amount_minor, item.currency),
                order_id=item.order_reference,
                operation_key=item.idempotency_key,
                at=item.at,
            )
            for item in page.items
            if since is None or item.at >= since
        ]
        return OperationPage(operations, page.next_cursor)

    async def _operate(
        self,
        path: str,
        operation_key: str,
        body: dict[str, Any],  # JSON of one request
        amount: Money | None,
        order_id: str | None,
        deadline_s: float,
    ) -> GatewayOutcome:
        request = post_json(path, body, {"Idempotency-Key": operation_key})
        answer = await self._transport.exchange(request, self._transport.until(deadline_s))
        if isinstance(answer, NoAnswer):
            return answer.outcome()
        if not answer.is_success:
            return _refused(answer, operation_key)
        payment = answer.read(PaymentBody)
        if payment is None:
            _log.error("payment_response_not_understood", operation_key=operation_key)
            return GatewayOutcome(OutcomeStatus.UNKNOWN, None, OutcomeCode.BAD_RESPONSE)
        outcome = outcome_of(payment, operation_key)
        wrong_amount = amount is not None and outcome.amount not in (None, amount)
        wrong_order = order_id is not None and payment.order_reference != order_id
        if wrong_amount or wrong_order:
            _log.error("payment_mismatch", operation_key=operation_key, reference=payment.id)
            return GatewayOutcome(
                OutcomeStatus.UNKNOWN,
                payment.id,
                OutcomeCode.MISMATCH,
                "The provider did something else than was asked.",
                outcome.amount,
            )
        return outcome


def _refused(answer: HttpAnswer, operation_key: str) -> GatewayOutcome:
    """A 3xx or 4xx: a decline, or a request that took no effect."""
    refusal = answer.read(RefusalBody)
    if refusal is None:
        _log.error("payment_response_not_understood", operation_key=operation_key)
        return GatewayOutcome(OutcomeStatus.UNKNOWN, None, OutcomeCode.BAD_RESPONSE)
    error = refusal.error
    if refusal.payment is not None:
        outcome = outcome_of(refusal.payment, operation_key)
        return GatewayOutcome(outcome.status, outcome.reference, error.code, error.message)
    if error.code in _STILL_RUNNING:
        return GatewayOutcome(OutcomeStatus.UNKNOWN, None, OutcomeCode.PROCESSING, error.message)
    _log.error(
        "payment_request_refused",
        operation_key=operation_key,
        http_status=answer.status,
        code=error.code,
    )
    return GatewayOutcome(OutcomeStatus.FAILED, None, error.code, error.message)


def _path(reference: str, kind: OperationKind) -> str:
    return f"/v1/payments/{segment(reference)}/{kind}"
