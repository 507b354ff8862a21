"""Razorpay behind the ``Gateway`` protocol: orders, payments by saved token, captures, refunds.

Taken from razorpay.com/docs/api: /orders (create, fetch-all by receipt), /payments (fetch, edit,
capture), /payments/recurring-payments (create/recurring: a payment by saved token, without its
owner), /refunds (normal-refunds-idempotent, fetch), /errors.

Razorpay differs from the protocol in four ways, and this is where that is made good:

* Making a payment has no idempotency key.  The order's ``receipt`` is our key: it is looked for
  before anything is made, a payment is sent once and never repeated, and calls under one key in
  this process are one call.  Across processes the lease on our own row does that.
* Capturing has none either, but happens once a payment.  Our key is noted on the payment first.
* A capture takes the whole authorisation.  The rest goes back at once as a refund under the
  capture's key with ``-rest``, and the log counts the two as one capture.
* There is no void.  An authorisation that is not captured lapses, which gives the money back; the
  payment is marked, so that it can be seen that this is meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from kit.money import Money
from payments.gateway import (
    DEFAULT_DEADLINE_S,
    AuthoriseRequest,
    CaptureRequest,
    GatewayOutcome,
    OperationKind,
    OperationPage,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.http_transport import (
    NoAnswer,
    post_json,
    segment,
)
from payments.razorpay_api import (
    PAGE,
    RazorpayApi,
    RazorpaySettings,
    Unread,
    about,
    checked,
    mismatch,
)
from payments.razorpay_log import read_log
from payments.razorpay_wire import (
    CAPTURE_KEY,
    CAPTURE_MINOR,
    OPERATION_KEY,
    ORDER_ID,
    REST_SUFFIX,
    VOID_KEY,
    Created,
    Order,
    OrderList,
    Payment,
    authorisation_of,
    refund_of,
    void_of,
)

__all__ = ["RazorpayGateway", "RazorpaySettings"]

# How long an authorisation waits for its capture before it lapses: five days, Razorpay's most.
_LAPSE_MIN: Final = 7_200


class RazorpayGateway:
    """See :class:`payments.gateway.Gateway` and :class:`payments.gateway.GatewayLog`."""

    name = "razorpay"

    def __init__(self, settings: RazorpaySettings) -> None:
        self._settings = settings
        self._api = RazorpayApi(settings)
        self._running: dict[str, asyncio.Task[GatewayOutcome]] = {}

    async def close(self) -> None:
        await self._api.close()

    async def authorise(
        self, request: AuthoriseRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        until = self._api.until(deadline_s)
        return await self._once(request.operation_key, lambda: self._authorise(request, until))

    async def capture(
        self, request: CaptureRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        until = self._api.until(deadline_s)
        return await self._once(request.operation_key, lambda: self._capture(request, until))

    async def void(
        self, request: VoidRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        """Mark the payment and let it lapse.  A capture or a failure before is for the reader."""
        until = self._api.until(deadline_s)
        try:
            payment = await self._api.payment(request.reference, until)
        except Unread as unread:
            return unread.unasked(request.reference)
        if payment is None:
            return _no_such(request.reference)
        if payment.status != "authorized":
            done = void_of(payment, request.operation_key)
            return done if done.status is OutcomeStatus.SUCCEEDED else _not_now(payment)
        marked = await self._api.note(payment, {VOID_KEY: request.operation_key}, until)
        return marked if marked is not None else GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id)

    async def refund(
        self, request: RefundRequest, *, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> GatewayOutcome:
        until = self._api.until(deadline_s)
        return await self._api.refund(
            request.reference, request.operation_key, request.amount, until
        )

    async def lookup(
        self,
        operation_key: str,
        *,
        kind: OperationKind = OperationKind.AUTHORISE,
        reference: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> GatewayOutcome:
        until = self._api.until(deadline_s)
        try:
            found = await self._found(operation_key, kind, reference, until)
        except Unread as unread:
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, unread.code)
        return found or GatewayOutcome(OutcomeStatus.FAILED, reference, OutcomeCode.NOT_FOUND)

    async def list_operations(
        self, *, cursor: str | None = None, limit: int = 200, since: datetime | None = None
    ) -> OperationPage:
        return await read_log(self._api, cursor, limit, since)

    async def _once(
        self, key: str, work: Callable[[], Awaitable[GatewayOutcome]]
    ) -> GatewayOutcome:
        """The outcome of ``work``, which runs once for all who ask under this key meanwhile."""
        running = self._running.get(key)
        if running is None:
            running = asyncio.ensure_future(work())
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # One caller that gives up must not cut off the others, nor leave money half moved.
        return await asyncio.shield(running)

    async def _authorise(self, request: AuthoriseRequest, until: float) -> GatewayOutcome:
        try:
            before = await self._found(request.operation_key, OperationKind.AUTHORISE, None, until)
        except Unread as unread:
            return unread.unasked(None)
        if before is not None:
            return checked(before, request.amount)
        notes = {ORDER_ID: request.order_id, OPERATION_KEY: request.operation_key}
        amount = {
            "amount": request.amount.amount_minor, "currency": request.amount.currency,
        }  # fmt: skip
        order = await self._api.send(
            post_json(
                "/v1/orders",
                {
                    **amount, "receipt": request.operation_key, "notes": notes,
                    "payment": {
                        "capture": "manual",
                        "capture_options": {
                            "manual_expiry_period": _LAPSE_MIN, "refund_speed": "normal",
                        },
                    },
                },
            ),
            Order,
            until,
        )  # fmt: skip
        if isinstance(order, GatewayOutcome):
            # An order holds no money, so whatever became of it, nothing was taken.
            unsent = order.status is OutcomeStatus.UNKNOWN
            return NoAnswer(OutcomeCode.UNAVAILABLE, sent=False).outcome() if unsent else order
        created = await self._api.send(
            post_json(
                "/v1/payments/create/recurring",
                {
                    **amount, "order_id": order.id, "recurring": True, "notes": notes,
                    "email": self._settings.email, "contact": self._settings.contact,
                    **_payer(request.token or ""),
                },
                repeatable=False,
            ),
            Created,
            until,
        )  # fmt: skip
        if isinstance(created, GatewayOutcome):
            return created
        reference = created.razorpay_payment_id
        try:
            payment = await self._api.payment(reference, until)
        except Unread as unread:
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, unread.code)
        if payment is None:
            return GatewayOutcome(OutcomeStatus.UNKNOWN, reference, OutcomeCode.BAD_RESPONSE)
        if payment.note(ORDER_ID) != request.order_id:
            return mismatch(authorisation_of(payment))
        return checked(authorisation_of(payment), request.amount)

    async def _capture(self, request: CaptureRequest, until: float) -> GatewayOutcome:
        try:
            payment = await self._api.payment(request.reference, until)
        except Unread as unread:
            return unread.unasked(request.reference)
        if payment is None:
            return _no_such(request.reference)
        if payment.money.currency != request.amount.currency:
            return _refusal(payment.id, "currency_mismatch", "It is in another currency.")
        if request.amount.amount_minor > payment.amount:
            return _refusal(payment.id, "amount_too_large", f"Only {payment.amount} is held.")
        if payment.status == "authorized":
            taken = await self._take_all(payment, request, until)
            if taken is not None:
                return taken
        elif not payment.captured or payment.note(CAPTURE_KEY) != request.operation_key:
            return _not_now(payment)
        return await self._give_back_rest(payment, request, until)

    async def _take_all(
        self, payment: Payment, request: CaptureRequest, until: float
    ) -> GatewayOutcome | None:
        """Note the key and capture the whole; None once that is done."""
        notes = {
            CAPTURE_KEY: request.operation_key,
            CAPTURE_MINOR: str(request.amount.amount_minor),
        }
        unmarked = await self._api.note(payment, notes, until)
        if unmarked is not None:
            return unmarked
        path = f"/v1/payments/{segment(payment.id)}/capture"
        body = {"amount": payment.amount, "currency": payment.currency}
        # Repeatable, because a second one is refused: then the payment itself tells.
        captured = await self._api.send(post_json(path, body), Payment, until)
        if not isinstance(captured, GatewayOutcome):
            return None
        if captured.status is OutcomeStatus.UNKNOWN:
            return about(captured, payment.id)
        try:
            again = await self._api.payment(payment.id, until)
        except Unread as unread:
            return GatewayOutcome(OutcomeStatus.UNKNOWN, payment.id, unread.code)
        ours = again is not None and again.note(CAPTURE_KEY) == request.operation_key
        return (
            None if again is not None and again.captured and ours else about(captured, payment.id)
        )

    async def _give_back_rest(
        self, payment: Payment, request: CaptureRequest, until: float
    ) -> GatewayOutcome:
        rest = payment.money - request.amount
        if rest.amount_minor:
            refunded = await self._api.refund(
                payment.id, request.operation_key + REST_SUFFIX, rest, until
            )
            if refunded.status is not OutcomeStatus.SUCCEEDED:
                # The capture stands and its rest is still to go: a lookup, then the same again.
                return GatewayOutcome(
                    OutcomeStatus.UNKNOWN, payment.id, refunded.code, refunded.message
                )
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id, amount=request.amount)

    async def _found(
        self, key: str, kind: OperationKind, reference: str | None, until: float
    ) -> GatewayOutcome | None:
        """What became of an operation, or None when it never was.  Raises Unread."""
        if kind is OperationKind.AUTHORISE:
            parameters = [("receipt", key), ("count", str(PAGE)), ("expand[]", "payments")]
            orders = await self._api.listed("/v1/orders", parameters, OrderList, until)
            payments = [
                payment
                for order in orders.items
                if order.receipt == key and order.payments
                for payment in order.payments.items
            ]
            outcomes = [authorisation_of(payment) for payment in payments]
            outcomes.sort(key=lambda outcome: _TELLING.index(outcome.status))
            return outcomes[0] if outcomes else None
        if reference is None:
            raise Unread(OutcomeCode.BAD_RESPONSE)
        if kind is OperationKind.REFUND:
            refund = await self._api.refund_of(reference, key, until)
            return None if refund is None else refund_of(refund)
        payment = await self._api.payment(reference, until)
        if payment is None:
            return None
        if kind is OperationKind.VOID:
            return void_of(payment, key)
        return await self._found_capture(payment, key, until)

    async def _found_capture(
        self, payment: Payment, key: str, until: float
    ) -> GatewayOutcome | None:
        if not payment.captured or payment.note(CAPTURE_KEY) != key:
            return None
        wanted = payment.wanted_minor
        if wanted is None:
            raise Unread(OutcomeCode.BAD_RESPONSE)
        if wanted < payment.amount:
            rest = await self._api.refund_of(payment.id, key + REST_SUFFIX, until)
            if rest is None or rest.status == "failed":
                return None  # sent again, the capture goes on from here
            if rest.status != "processed":
                return refund_of(rest)
        amount = Money(wanted, payment.currency)
        return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id, amount=amount)


# Of several payments on one order the one that holds money tells, then the one that may.
_TELLING: Final = (
    OutcomeStatus.SUCCEEDED, OutcomeStatus.UNKNOWN, OutcomeStatus.DECLINED, OutcomeStatus.FAILED,
)  # fmt: skip


def _payer(token: str) -> dict[str, str]:
    """``cust_…/token_…`` names the customer whom a saved token belongs to."""
    customer, slash, saved = token.partition("/")
    return {"customer_id": customer, "token": saved} if slash else {"token": token}


def _refusal(reference: str, code: str, message: str) -> GatewayOutcome:
    return GatewayOutcome(OutcomeStatus.FAILED, reference, code, message)


def _no_such(reference: str) -> GatewayOutcome:
    return _refusal(reference, "payment_not_found", "There is no such payment.")


def _not_now(payment: Payment) -> GatewayOutcome:
    return _refusal(payment.id, "illegal_state", f"The payment is {payment.status}.")
