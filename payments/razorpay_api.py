"""Razorpay's HTTP interface: asking, sending, and what its refusals mean."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from kit.money import Money
from payments.gateway import GatewayOutcome, OutcomeCode, OutcomeStatus
from payments.http_transport import (
    HttpAnswer,
    HttpRequest,
    HttpSettings,
    HttpTransport,
    NoAnswer,
    Parameters,
    post_json,
    query,
    segment,
)
from payments.razorpay_wire import OPERATION_KEY, Payment, Refund, RefundList, Refusal, failure
from payments.razorpay_wire import refund_of as outcome_of_refund

_log = structlog.get_logger(__name__)

Shape = TypeVar("Shape")

NAME: Final = "razorpay"
PAGE: Final = 100  # the most that a list gives


@dataclass(frozen=True, slots=True)
class RazorpaySettings(HttpSettings):
    """``api_key`` is the key's secret and ``key_id`` its name; ``base_url`` has no ``/v1``.

    ``email`` and ``contact`` go with each payment, because Razorpay wants some: the company's.
    """

    key_id: str = ""
    email: str = "payments@example.com"
    contact: str = "+910000000000"


class RazorpayApi:
    """One account.  Moments (``until``) are by the event loop's clock."""

    def __init__(self, settings: RazorpaySettings) -> None:
        pair = f"{settings.key_id}:{settings.api_key}".encode()
        headers = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        self._transport = HttpTransport(NAME, settings, headers)
        self.until = self._transport.until
        self.close = self._transport.close

    async def payment(self, reference: str, until: float) -> Payment | None:
        """A payment as it is now, or None where there is none.  Raises Unread."""
        request = HttpRequest("GET", f"/v1/payments/{segment(reference)}")
        answer = await self._transport.exchange(request, until)
        # Razorpay says 400 for an id that does not exist.
        if isinstance(answer, HttpAnswer) and answer.status in (400, 404):
            return None
        return _read(answer, Payment)

    async def listed(
        self, path: str, parameters: Parameters, shape: type[Shape], until: float
    ) -> Shape:
        request = HttpRequest("GET", query(path, parameters))
        return _read(await self._transport.exchange(request, until), shape)

    async def refunds(self, reference: str, until: float) -> list[Refund]:
        path = f"/v1/payments/{segment(reference)}/refunds"
        return (await self.listed(path, [("count", str(PAGE))], RefundList, until)).items

    async def refund_of(self, reference: str, receipt: str, until: float) -> Refund | None:
        for refund in await self.refunds(reference, until):
            if refund.receipt == receipt:
                return refund
        return None

    async def refund(self, reference: str, key: str, amount: Money, until: float) -> GatewayOutcome:
        path = f"/v1/payments/{segment(reference)}/refund"
        body = {
            "amount": amount.amount_minor, "speed": "normal", "receipt": key,
            "notes": {OPERATION_KEY: key},
        }  # fmt: skip
        request = post_json(path, body, {"X-Refund-Idempotency": key})
        refund = await self.send(request, Refund, until)
        if isinstance(refund, GatewayOutcome):
            return about(refund, reference)
        return checked(outcome_of_refund(refund), amount)

    async def note(
        self, payment: Payment, notes: dict[str, str], until: float
    ) -> GatewayOutcome | None:
        """Add notes to a payment; why not, or None once they are there.  Moves no money."""
        kept = payment.notes if isinstance(payment.notes, dict) else {}
        path = f"/v1/payments/{segment(payment.id)}"
        request = post_json(path, {"notes": {**kept, **notes}}, method="PATCH")
        edited = await self.send(request, Payment, until)
        if not isinstance(edited, GatewayOutcome):
            return None
        if edited.status is OutcomeStatus.UNKNOWN:
            return NoAnswer(OutcomeCode.UNAVAILABLE, sent=False).outcome(payment.id)
        return about(edited, payment.id)

    async def send(
        self, request: HttpRequest, shape: type[Shape], until: float
    ) -> Shape | GatewayOutcome:
        answer = await self._transport.exchange(request, until)
        if isinstance(answer, NoAnswer):
            return answer.outcome()
        if not answer.is_success:
            return _refused(answer)
        found = answer.read(shape)
        if found is None:
            _log.error("payment_response_not_understood", gateway=NAME)
            return GatewayOutcome(OutcomeStatus.UNKNOWN, None, OutcomeCode.BAD_RESPONSE)
        return found


class Unread(Exception):
    """A question that was not answered."""

    def __init__(self, code: OutcomeCode) -> None:
        super().__init__(str(code))
        self.code = code

    def unasked(self, reference: str | None) -> GatewayOutcome:
        """The question came first, so the operation itself was never sent."""
        return NoAnswer(self.code, sent=False).unasked(reference)


def _read(answer: HttpAnswer | NoAnswer, shape: type[Shape]) -> Shape:
    if isinstance(answer, NoAnswer):
        raise Unread(answer.code)
    found = answer.read(shape) if answer.is_success else None
    if found is None:
        _log.error("payment_lookup_refused", gateway=NAME, http_status=answer.status)
        raise Unread(OutcomeCode.BAD_RESPONSE)
    return found


def _refused(answer: HttpAnswer) -> GatewayOutcome:
    """A 3xx or 4xx: a payment that failed, or a request that took no effect."""
    refusal = answer.read(Refusal)
    if refusal is None:
        _log.error("payment_response_not_understood", gateway=NAME)
        return GatewayOutcome(OutcomeStatus.UNKNOWN, None, OutcomeCode.BAD_RESPONSE)
    error = refusal.error
    if answer.status == 409:
        return GatewayOutcome(
            OutcomeStatus.UNKNOWN, None, OutcomeCode.PROCESSING, error.description
        )
    if error.payment_id is not None:
        return failure(error.code, error.reason, error.description, error.payment_id)
    if error.field == "token":
        return GatewayOutcome(OutcomeStatus.DECLINED, None, "invalid_token", error.description)
    code = "unauthenticated" if answer.status == 401 else error.reason or error.code
    _log.error("payment_request_refused", gateway=NAME, http_status=answer.status, code=code)
    return GatewayOutcome(OutcomeStatus.FAILED, None, code, error.description)


def about(outcome: GatewayOutcome, reference: str) -> GatewayOutcome:
    """The same outcome, with the payment that it was about."""
    return GatewayOutcome(outcome.status, reference, outcome.code, outcome.message, outcome.amount)


def checked(outcome: GatewayOutcome, amount: Money) -> GatewayOutcome:
    """The outcome, unless another amount or currency moved than was asked for."""
    return outcome if outcome.amount in (None, amount) else mismatch(outcome)


def mismatch(outcome: GatewayOutcome) -> GatewayOutcome:
    _log.error("payment_mismatch", gateway=NAME, reference=outcome.reference)
    return GatewayOutcome(
        OutcomeStatus.UNKNOWN, outcome.reference, OutcomeCode.MISMATCH,
        "The provider did something else than was asked.", outcome.amount,
    )  # fmt: skip
