"""The sandbox provider behind the ``Gateway`` protocol, over HTTP.

Retries live here and nowhere above: a few, with jitter, inside the call's deadline, always under
the same idempotency key, so that the provider does the work once however often it is asked.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
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
from payments.sandbox_wire import OperationList, PaymentBody, PaymentList, RefusalBody, outcome_of

_log = structlog.get_logger(__name__)

Body = TypeVar("Body")

# Refusals that leave the outcome open: the first request with this key is still at work.
_STILL_RUNNING = frozenset({"idempotency_in_progress"})


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where the provider is.  Seconds are real seconds; ``attempts`` counts the first one too."""

    base_url: str
    api_key: str = field(repr=False)
    connect_timeout_s: float = 2.0
    attempts: int = 3
    backoff_s: float = 0.15
    max_connections: int = 100

    def __post_init__(self) -> None:
        if httpx.URL(self.base_url).scheme not in ("http", "https"):
            raise ValueError("the provider's base_url is an http or https address")
        if self.attempts < 1 or self.backoff_s < 0 or self.connect_timeout_s <= 0:
            raise ValueError("attempts, back-off and time-out are not below their least")


class SandboxGateway:
    """See :class:`payments.gateway.Gateway` and :class:`payments.gateway.GatewayLog`."""

    name = "sandbox"

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            base_url=settings.base_url,
            headers={"Authorization": f"Bearer {settings.api_key}"},
            limits=httpx.Limits(
                max_connections=settings.max_connections,
                max_keepalive_connections=settings.max_connections,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

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
        request = self._client.build_request(
            "GET", "/v1/payments", params={"idempotency_key": operation_key}
        )
        response = await self._exchange(request, deadline_s)
        if isinstance(response, GatewayOutcome):
            # That the question did not get through says nothing of the operation.
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, response.code, response.message)
        found = _decode(response, PaymentList) if response.is_success else None
        if found is None:
            _log.error("payment_lookup_refused", http_status=response.status_code)
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, OutcomeCode.BAD_RESPONSE)
        if not found.items:
            return GatewayOutcome(OutcomeStatus.FAILED, reference, OutcomeCode.NOT_FOUND)
        return outcome_of(found.items[0], operation_key)

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200
    ) -> OperationPage:
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        request = self._client.build_request("GET", "/v1/operations", params=params)
        response = await self._exchange(request, DEFAULT_DEADLINE_S)
        if isinstance(response, GatewayOutcome):
            raise GatewayUnavailable(f"The sandbox provider's log was not read: {response.code}.")
        page = _decode(response, OperationList) if response.is_success else None
        if page is None:
            status = response.status_code
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
        request = self._client.build_request(
            "POST", path, json=body, headers={"Idempotency-Key": operation_key}
        )
        response = await self._exchange(request, deadline_s)
        if isinstance(response, GatewayOutcome):
            return response
        if not response.is_success:
            return _refused(response, operation_key)
        payment = _decode(response, PaymentBody)
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

    async def _exchange(
        self, request: httpx.Request, deadline_s: float
    ) -> httpx.Response | GatewayOutcome:
        """Send, and again while that is safe and there is time; an answer below 500, or why not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_s
        sent = False
        code = OutcomeCode.UNAVAILABLE
        for attempt in range(1, self._settings.attempts + 1):
            remaining_s = deadline - loop.time()
            # The connection gets less than all, so that a host which cannot be reached is known
            # as such before the deadline blurs it into a time-out.
            connect_s = min(self._settings.connect_timeout_s, 0.8 * remaining_s)
            timeout = httpx.Timeout(remaining_s, connect=connect_s, pool=connect_s)
            request.extensions["timeout"] = timeout.as_dict()
            try:
                async with asyncio.timeout(remaining_s):
                    response = await self._client.send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
                pass
            except (TimeoutError, httpx.TimeoutException):
                sent, code = True, OutcomeCode.TIMEOUT
            except httpx.RequestError:
                sent, code = True, OutcomeCode.NO_ANSWER
            else:
                if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                    code = code if sent else OutcomeCode.RATE_LIMITED
                elif response.is_server_error:
                    sent, code = True, OutcomeCode.NO_ANSWER
                else:
                    return response
            pause_s = self._settings.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)
            if attempt == self._settings.attempts or loop.time() + pause_s >= deadline:
                break
            await asyncio.sleep(pause_s)
        status = OutcomeStatus.UNKNOWN if sent else OutcomeStatus.FAILED
        _log.warning("payment_gateway_no_answer", gateway=self.name, code=code, attempts=attempt)
        return GatewayOutcome(status, code=code, message="The provider did not answer.")


def _refused(response: httpx.Response, operation_key: str) -> GatewayOutcome:
    """A 3xx or 4xx: a decline, or a request that took no effect."""
    refusal = _decode(response, RefusalBody)
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
        http_status=response.status_code,
        code=error.code,
    )
    return GatewayOutcome(OutcomeStatus.FAILED, None, error.code, error.message)


def _decode(response: httpx.Response, shape: type[Body]) -> Body | None:
    try:
        return msgspec.json.decode(response.content, type=shape)
    except msgspec.MsgspecError:
        return None


def _path(reference: str, kind: OperationKind) -> str:
    # The id comes from the provider, so it goes into a path only as one segment.
    return f"/v1/payments/{quote(reference, safe='')}/{kind}"
