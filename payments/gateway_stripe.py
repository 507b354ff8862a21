"""Stripe behind the ``Gateway`` protocol: PaymentIntents with manual capture, over its own wire.

Taken from docs.stripe.com: /api/payment_intents (create, capture, cancel, list, search),
/api/refunds, /api/balance_transactions, /api/errors, /api/idempotent_requests,
/payments/place-a-hold-on-a-payment-method.  ``Stripe-Version`` is pinned.

Stripe keeps every answer to a key, refusals and 500s too, for at least a day; asked again later it
would do the work once more.  That is why an unknown outcome is looked up and never just repeated.
Our order and operation ids travel as metadata, so that everything can be found again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import msgspec
import structlog
from ulid import ULID

from kit.money import Money
from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
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
    Parameters,
    post_form,
    query,
    segment,
)
from payments.stripe_wire import (
    API_VERSION,
    CAPTURE_KEY,
    OPERATION_KEY,
    ORDER_ID,
    BalanceList,
    ErrorBody,
    Intent,
    IntentList,
    Refund,
    RefundList,
    Refusal,
    authorisation_of,
    capture_of,
    is_decline,
    logged,
    reason_of,
    refund_of,
    void_of,
)

_log = structlog.get_logger(__name__)

Shape = TypeVar("Shape")

_INTENTS: Final = "/v1/payment_intents"
_PAGE: Final = 100  # the most that a list gives
# A lookup without a reference reads the intents that were made around the key's own time.  More
# pages than this would be 2,000 payments within eleven minutes: then only a webhook resolves it.
_LOOKUP_PAGES: Final = 20
_LOOKUP_BEFORE_S: Final = 60
_LOOKUP_AFTER_S: Final = 600


@dataclass(frozen=True, slots=True)
class StripeSettings(HttpSettings):
    """``api_key`` is the secret key; ``base_url`` has no ``/v1``."""


class StripeGateway:
    """See :class:`payments.gateway.Gateway` and :class:`payments.gateway.GatewayLog`."""

    name = "stripe"

    def __init__(self, settings: StripeSettings) -> None:
        headers = {"Authorization": f"Bearer {settings.api_key}", "Stripe-Version": API_VERSION}
        self._transport = HttpTransport(self.name, settings, headers)

    async def close(self) -> None:
        await self._transport.close()

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        """Create and confirm in one call.  A payer who has to act is a decline: nobody waits."""
        fields = [
            ("amount", str(request.amount.amount_minor)),
            ("currency", request.amount.currency.lower()),
            ("capture_method", "manual"),
            ("confirm", "true"),
            ("error_on_requires_action", "true"),
            ("payment_method_types[0]", "card"),
            *_payment_method(request.token or ""),
            (f"metadata[{ORDER_ID}]", request.order_id),
            (f"metadata[{OPERATION_KEY}]", request.operation_key),
        ]
        answer = await self._post(_INTENTS, fields, request.operation_key, deadline_s)
        if isinstance(answer, GatewayOutcome):
            return answer
        intent = answer.read(Intent)
        if intent is None:
            return _not_understood(request.operation_key, None)
        outcome = authorisation_of(intent)
        if intent.metadata.get(ORDER_ID) != request.order_id:
            return _mismatch(request.operation_key, outcome)
        return _checked(request.operation_key, outcome, request.amount)

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        fields = [
            ("amount_to_capture", str(request.amount.amount_minor)),
            (f"metadata[{CAPTURE_KEY}]", request.operation_key),
        ]
        path = f"{_INTENTS}/{segment(request.reference)}/capture"
        answer = await self._post(path, fields, request.operation_key, deadline_s)
        if isinstance(answer, GatewayOutcome):
            return answer
        intent = answer.read(Intent)
        if intent is None:
            return _not_understood(request.operation_key, request.reference)
        return _checked(
            request.operation_key, capture_of(intent, request.operation_key), request.amount
        )

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        path = f"{_INTENTS}/{segment(request.reference)}/cancel"
        answer = await self._post(path, [], request.operation_key, deadline_s)
        if isinstance(answer, GatewayOutcome):
            return answer
        intent = answer.read(Intent)
        if intent is None:
            return _not_understood(request.operation_key, request.reference)
        return void_of(intent)

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        fields = [
            ("payment_intent", request.reference),
            ("amount", str(request.amount.amount_minor)),
            (f"metadata[{OPERATION_KEY}]", request.operation_key),
        ]
        answer = await self._post("/v1/refunds", fields, request.operation_key, deadline_s)
        if isinstance(answer, GatewayOutcome):
            return answer
        refund = answer.read(Refund)
        if refund is None:
            return _not_understood(request.operation_key, request.reference)
        return _checked(request.operation_key, refund_of(refund), request.amount)

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        until = self._transport.until(deadline_s)
        try:
            if kind is OperationKind.REFUND and reference is not None:
                return await self._find_refund(operation_key, reference, until)
            if reference is None:
                intent = await self._find_intent(operation_key, until)
            else:
                path = f"{_INTENTS}/{segment(reference)}"
                intent = await self._get(path, [], Intent, until)
        except _Unread as unread:
            return unread.outcome(reference)
        if intent is None:
            return GatewayOutcome(OutcomeStatus.FAILED, reference, OutcomeCode.NOT_FOUND)
        match kind:
            case OperationKind.AUTHORISE:
                return authorisation_of(intent)
            case OperationKind.CAPTURE:
                return capture_of(intent, operation_key)
            case _:
                return void_of(intent)

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200, since: datetime | None = None
    ) -> OperationPage:
        """Captures and refunds as balance transactions, newest first."""
        parameters = [
            ("limit", str(min(limit, _PAGE))),
            ("expand[]", "data.source.payment_intent"),
            *([("starting_after", cursor)] if cursor else []),
            *([("created[gte]", str(int(since.timestamp())))] if since else []),
        ]
        until = self._transport.until(DEFAULT_DEADLINE_S)
        try:
            page = await self._get("/v1/balance_transactions", parameters, BalanceList, until)
        except _Unread as unread:
            raise GatewayUnavailable(f"Stripe's log was not read: {unread}.") from unread
        if page is None:
            raise GatewayUnavailable("Stripe has no such log.")
        try:
            operations = [found for one in page.data if (found := logged(one)) is not None]
        except msgspec.MsgspecError as error:
            raise GatewayUnavailable("Stripe's log was not understood.") from error
        more = page.has_more and page.data
        return OperationPage(operations, page.data[-1].id if more else None)

    async def _post(
        self, path: str, fields: Parameters, operation_key: str, deadline_s: float
    ) -> HttpAnswer | GatewayOutcome:
        request = post_form(path, fields, {"Idempotency-Key": operation_key})
        answer = await self._transport.exchange(request, self._transport.until(deadline_s))
        if isinstance(answer, NoAnswer):
            return answer.outcome()
        return answer if answer.is_success else _refused(answer, operation_key)

    async def _get(
        self, path: str, parameters: Parameters, shape: type[Shape], until: float
    ) -> Shape | None:
        """What is at ``path``, or None for a 404.  Raises _Unread."""
        answer = await self._transport.exchange(HttpRequest("GET", query(path, parameters)), until)
        if isinstance(answer, NoAnswer):
            raise _Unread(answer.code)
        if answer.status == 404:
            return None
        found = answer.read(shape) if answer.is_success else None
        if found is None:
            _log.error("payment_lookup_refused", gateway=self.name, http_status=answer.status)
            raise _Unread(OutcomeCode.BAD_RESPONSE)
        return found

    async def _find_intent(self, operation_key: str, until: float) -> Intent | None:
        """The intent that this key made, when its id is not known.  Raises _Unread.

        Lists are up to date, while search may lag by a minute or an hour and is not to be had in
        India; the key tells when it was made, which keeps the list short.
        """
        window = [
            (f"created[{bound}]", str(moment))
            for bound, moment in zip(("gte", "lte"), _window(operation_key), strict=False)
        ]
        after: list[tuple[str, str]] = []
        for _ in range(_LOOKUP_PAGES):
            parameters = [("limit", str(_PAGE)), *window, *after]
            page = await self._get(_INTENTS, parameters, IntentList, until)
            if page is None:
                raise _Unread(OutcomeCode.BAD_RESPONSE)
            for intent in page.data:
                if intent.metadata.get(OPERATION_KEY) == operation_key:
                    return intent
            if not page.has_more or not page.data:
                return None
            after = [("starting_after", page.data[-1].id)]
        _log.error("payment_lookup_gave_up", gateway=self.name, operation_key=operation_key)
        raise _Unread(OutcomeCode.PROCESSING)

    async def _find_refund(
        self, operation_key: str, reference: str, until: float
    ) -> GatewayOutcome:
        """A payment has few refunds: one page, or a second.  Raises _Unread."""
        after: list[tuple[str, str]] = []
        for _ in range(_LOOKUP_PAGES):
            parameters = [("payment_intent", reference), ("limit", str(_PAGE)), *after]
            page = await self._get("/v1/refunds", parameters, RefundList, until)
            for refund in page.data if page else ():
                if refund.metadata.get(OPERATION_KEY) == operation_key:
                    return refund_of(refund)
            if page is None or not page.has_more or not page.data:
                break
            after = [("starting_after", page.data[-1].id)]
        return GatewayOutcome(OutcomeStatus.FAILED, reference, OutcomeCode.NOT_FOUND)


class _Unread(Exception):
    """A question that was not answered."""

    def __init__(self, code: OutcomeCode) -> None:
        super().__init__(str(code))
        self.code = code

    def outcome(self, reference: str | None) -> GatewayOutcome:
        return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, self.code)


def _payment_method(token: str) -> Iterator[tuple[str, str]]:
    """Old-style card tokens (``tok_…``) go into a payment method; ids (``pm_…``) are one."""
    if token.startswith("tok_"):
        yield ("payment_method_data[type]", "card")
        yield ("payment_method_data[card][token]", token)
    else:
        yield ("payment_method", token)


def _window(operation_key: str) -> tuple[int, int] | tuple[()]:
    """POSIX seconds between which a request with this key was first sent, if the key tells."""
    try:
        made_s = ULID.from_str(operation_key.rpartition("_")[2]).timestamp
    except ValueError:
        return ()
    return int(made_s) - _LOOKUP_BEFORE_S, int(made_s) + _LOOKUP_AFTER_S


def _refused(answer: HttpAnswer, operation_key: str) -> GatewayOutcome:
    """A 3xx or 4xx: a decline, or a request that took no effect."""
    refusal = answer.read(Refusal)
    if refusal is None:
        return _not_understood(operation_key, None)
    error = refusal.error
    reference = error.payment_intent.id if error.payment_intent else None
    if answer.status == 401:
        code = "unauthenticated"
    elif answer.status == 409 or error.code == "idempotency_key_in_use":
        return GatewayOutcome(
            OutcomeStatus.UNKNOWN, reference, OutcomeCode.PROCESSING, error.message
        )
    else:
        code = reason_of(error)
    if is_decline(error):
        return GatewayOutcome(OutcomeStatus.DECLINED, reference, code, error.message)
    done = _done_before(error, operation_key)
    if done is not None:
        return done
    _log.error(
        "payment_request_refused",
        gateway=StripeGateway.name, operation_key=operation_key, http_status=answer.status,
        code=code,
    )  # fmt: skip
    return GatewayOutcome(OutcomeStatus.FAILED, reference, code, error.message)


def _done_before(error: ErrorBody, operation_key: str) -> GatewayOutcome | None:
    """Refused because this very capture was done, longer ago than Stripe keeps keys."""
    intent = error.payment_intent
    if error.code != "payment_intent_unexpected_state" or intent is None:
        return None
    outcome = capture_of(intent, operation_key)
    return outcome if outcome.status is OutcomeStatus.SUCCEEDED else None


def _checked(operation_key: str, outcome: GatewayOutcome, amount: Money) -> GatewayOutcome:
    """The outcome, unless another amount or currency moved than was asked for."""
    if outcome.amount is None or outcome.amount == amount:
        return outcome
    return _mismatch(operation_key, outcome)


def _mismatch(operation_key: str, outcome: GatewayOutcome) -> GatewayOutcome:
    _log.error("payment_mismatch", operation_key=operation_key, reference=outcome.reference)
    return GatewayOutcome(
        OutcomeStatus.UNKNOWN, outcome.reference, OutcomeCode.MISMATCH,
        "The provider did something else than was asked.", outcome.amount,
    )  # fmt: skip


def _not_understood(operation_key: str, reference: str | None) -> GatewayOutcome:
    _log.error("payment_response_not_understood", operation_key=operation_key)
    return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, OutcomeCode.BAD_RESPONSE)
