"""Stripe's wire, as far as a merchant with manual capture speaks it.

Paths, fields, errors and events of API version 2024-06-20 (docs.stripe.com/api: payment_intents,
refunds, balance_transactions, errors, events, idempotent_requests; docs.stripe.com/webhooks).
Unlike Stripe, a refused request leaves its key free.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.ids import new_id
from simulator.provider import wire_stripe_objects as objects
from simulator.provider.engine import Authorisation
from simulator.provider.host import (
    MAX_KEY_LENGTH,
    Host,
    Problem,
    fingerprint,
    read_body,
    whole,
)
from simulator.provider.model import (
    Answer,
    Method,
    Operation,
    OperationKind,
    Payment,
)
from simulator.provider.wire import MAX_AMOUNT_MINOR, disputed

API_VERSION: Final = "2024-06-20"
_TOKEN_FIELDS: Final = ("payment_method", "payment_method_data[card][token]")


# Our refusals as Stripe says them: HTTP status, error type, code.
_ERRORS: Final = {
    "unauthenticated": (401, "invalid_request_error", None),
    "payment_not_found": (404, "invalid_request_error", "resource_missing"),
    "illegal_state": (400, "invalid_request_error", "payment_intent_unexpected_state"),
    "amount_too_large": (400, "invalid_request_error", "amount_too_large"),
    "idempotency_key_reused": (400, "idempotency_error", None),
    "idempotency_in_progress": (409, "idempotency_error", "idempotency_key_in_use"),
    "card_number_refused": (402, "invalid_request_error", None),
}

_EVENTS: Final = {
    "payment.authorised": "payment_intent.amount_capturable_updated",
    "payment.captured": "payment_intent.succeeded",
    "payment.voided": "payment_intent.canceled",
    "payment.declined": "payment_intent.payment_failed",
    "payment.refunded": "refund.created",
    "dispute.created": "charge.dispute.created",
    "dispute.closed": "charge.dispute.closed",
}


@dataclass(frozen=True, slots=True)
class StripeWire:
    """See :class:`simulator.provider.host.Wire`."""

    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    name: str = "stripe"

    def routes(self, host: Host) -> Sequence[Route]:
        speaker = _Speaker(self, host)
        intents = "/stripe/v1/payment_intents"
        return [
            Route(path, host.guard(self, endpoint), methods=[method])
            for method, path, endpoint in (
                ("POST", intents, speaker.create),
                ("GET", intents, speaker.list_intents),
                ("GET", intents + "/search", speaker.search),
                ("GET", intents + "/{id}", speaker.retrieve),
                ("POST", intents + "/{id}/capture", speaker.capture),
                ("POST", intents + "/{id}/cancel", speaker.cancel),
                ("POST", "/stripe/v1/refunds", speaker.refund),
                ("GET", "/stripe/v1/refunds", speaker.list_refunds),
                ("GET", "/stripe/v1/balance_transactions", speaker.list_balance),
            )
        ]

    def is_known(self, request: Request) -> bool:
        """A bearer key, or the key as the user of Basic authentication."""
        presented = request.headers.get("authorization", "").encode()
        basic = b"Basic " + base64.b64encode(f"{self.api_key}:".encode())
        bearer = b"Bearer " + self.api_key.encode()
        return hmac.compare_digest(presented, bearer) or hmac.compare_digest(presented, basic)

    def refuse(self, problem: Problem) -> Response:
        default = "api_error" if problem.status >= 500 else "invalid_request_error"
        status, kind, code = _ERRORS.get(problem.code, (problem.status, default, None))
        error = {"type": kind, "message": problem.message}
        if code is not None:
            error["code"] = code
        if problem.where is not None:
            error["param"] = problem.where
        return JSONResponse({"error": error}, status)

    def render_event(
        self, event_id: str, event_type: str, key: str, payment: Payment
    ) -> bytes | None:
        if event_type not in _EVENTS:
            return None
        if event_type.startswith("dispute."):
            subject = objects.dispute_of(disputed(payment, key), payment)
        elif event_type == "payment.refunded":
            subject = objects.refund_of(payment.operations[-1], payment)
        else:
            subject = objects.intent_of(payment)
        moment = payment.operations[-1].at_s if payment.operations else payment.settle_at_s
        return msgspec.json.encode(
            {
                "id": event_id,
                "object": "event",
                "api_version": API_VERSION,
                "created": int(moment),
                "data": {"object": subject},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": key.partition(":")[2] or None},
                "type": _EVENTS[event_type],
            }
        )

    def sign(self, event_id: str, body: bytes, now_s: int) -> dict[str, str]:
        signed = f"{now_s}.".encode() + body
        digest = hmac.new(self.webhook_secret.encode(), signed, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={now_s},v1={digest}"}


class _Speaker:
    """The endpoints."""

    def __init__(self, wire: StripeWire, host: Host) -> None:
        self._wire = wire
        self._host = host

    async def create(self, request: Request) -> Response:
        raw, form = await _form(request, _CREATE)
        token = next((form[name] for name in _TOKEN_FIELDS if name in form), "")
        if form.get("capture_method") != "manual" or form.get("confirm") != "true":
            raise Problem(400, "invalid_request", "Only manual capture, confirmed at once.")
        metadata = _metadata(form)
        wanted = Authorisation(
            order_reference=metadata.get("order_id", ""),
            method=Method.CARD,
            currency=_currency(form),
            amount_minor=_amount(form, "amount"),
            token=token,
            wire=self._wire.name,
            id_prefix="pi",
            metadata=metadata,
        )
        key, mark = _key(request), fingerprint(request, raw)
        answer = await self._host.thread.run(lambda engine, _: engine.authorise(key, mark, wanted))
        return await self._reply(request, answer, objects.answer_of)

    async def capture(self, request: Request) -> Response:
        raw, form = await _form(request, {"amount_to_capture"})
        amount = _amount(form, "amount_to_capture") if "amount_to_capture" in form else None
        return await self._operate(request, raw, OperationKind.CAPTURE, amount, _metadata(form))

    async def cancel(self, request: Request) -> Response:
        raw, _ = await _form(request, {"cancellation_reason"})
        return await self._operate(request, raw, OperationKind.VOID, None, {})

    async def _operate(
        self, request: Request, raw: bytes, kind: OperationKind, amount: int | None,
        metadata: Mapping[str, str],
    ) -> Response:  # fmt: skip
        key, mark, payment_id = _key(request), fingerprint(request, raw), request.path_params["id"]
        answer = await self._host.thread.run(
            lambda engine, _: engine.operate(
                kind, key, mark, payment_id, amount, wire=self._wire.name, metadata=metadata
            )
        )
        return await self._reply(request, answer, objects.answer_of)

    async def refund(self, request: Request) -> Response:
        raw, form = await _form(request, {"payment_intent", "amount", "reason"})
        amount = _amount(form, "amount") if "amount" in form else None
        key, mark = _key(request), fingerprint(request, raw)
        payment_id, metadata = form.get("payment_intent", ""), _metadata(form)
        answer = await self._host.thread.run(
            lambda engine, _: engine.operate(
                OperationKind.REFUND, key, mark, payment_id, amount,
                wire=self._wire.name, metadata=metadata,
            )
        )  # fmt: skip
        return await self._reply(
            request,
            answer,
            lambda payment: (200, objects.refund_of(_of_key(payment, key), payment)),
        )

    async def _reply(
        self, request: Request, answer: Answer,
        render: Callable[[Payment], tuple[int, dict[str, object]]],
    ) -> Response:  # fmt: skip
        settled = await self._host.settled(request, self._wire, answer)
        if isinstance(settled, Response):
            return settled
        headers = {"Idempotent-Replayed": "true"} if settled.replayed else {}
        status, body = render(settled.payment)
        return JSONResponse(body, status, headers)

    async def retrieve(self, request: Request) -> Response:
        payment_id = request.path_params["id"]
        payment = await self._host.thread.run(
            lambda engine, _: engine.payment(payment_id, self._wire.name)
        )
        return JSONResponse(objects.intent_of(payment))

    async def list_intents(self, request: Request) -> Response:
        limit = whole(request, "limit", default=10, most=100)
        from_s = whole(request, "created[gte]", default=0, most=10**12)
        to_s = whole(request, "created[lte]", default=10**12, most=10**12)
        after = request.query_params.get("starting_after")
        found = await self._host.thread.run(
            lambda _, store: store.payments(
                self._wire.name, from_s=from_s, to_s=to_s + 1, after=after, limit=limit + 1
            )
        )
        return _list([objects.intent_of(payment) for payment in found], limit, request)

    async def search(self, request: Request) -> Response:
        """``metadata['name']:'value'`` alone."""
        text = request.query_params.get("query", "")
        name, _, value = text.removeprefix("metadata['").partition("']:'")
        found = await self._host.thread.run(lambda _, store: store.payments(self._wire.name))
        fitting = [
            objects.intent_of(one) for one in found if one.metadata.get(name) == value.rstrip("'")
        ]
        return JSONResponse({"object": "search_result", "data": fitting, "has_more": False})

    async def list_refunds(self, request: Request) -> Response:
        payment_id = request.query_params.get("payment_intent", "")
        payment = await self._host.thread.run(
            lambda engine, _: engine.payment(payment_id, self._wire.name)
        )
        refunds = [one for one in payment.operations if one.kind is OperationKind.REFUND]
        return _list([objects.refund_of(one, payment) for one in reversed(refunds)], 100, request)

    async def list_balance(self, request: Request) -> Response:
        """What moved money, newest first, with its source expanded."""
        limit = whole(request, "limit", default=10, most=100)
        from_s = whole(request, "created[gte]", default=0, most=10**12)
        after = request.query_params.get("starting_after")
        kinds = (OperationKind.CAPTURE, OperationKind.REFUND)
        last = None if after is None else "sbo" + after.removeprefix("txn")
        found = await self._host.thread.run(
            lambda engine, store: [
                (one, engine.payment(one.payment_id, self._wire.name))
                for one in store.newest_operations(
                    self._wire.name, kinds, from_s=from_s, after=last, limit=limit + 1
                )
            ]
        )
        return _list([objects.balance_of(one, payment) for one, payment in found], limit, request)


_CREATE: Final = {
    "amount", "currency", "capture_method", "confirm", "error_on_requires_action",
    "payment_method_types[0]", "payment_method_data[type]", "description", *_TOKEN_FIELDS,
}  # fmt: skip


async def _form(request: Request, known: set[str]) -> tuple[bytes, dict[str, str]]:
    """The body as a form; a parameter that nobody knows is refused, as Stripe does."""
    raw = await read_body(request)
    form = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    for name in form:
        if name not in known and not name.startswith("metadata["):
            raise Problem(400, "invalid_request", f"Received unknown parameter: {name}", name)
    return raw, form


def _metadata(form: Mapping[str, str]) -> dict[str, str]:
    return {
        name[len("metadata[") : -1]: value
        for name, value in form.items()
        if name.startswith("metadata[") and name.endswith("]")
    }


def _amount(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_AMOUNT_MINOR):
        raise Problem(400, "invalid_request", f"Invalid integer: {name}", name)
    return int(text)


def _currency(form: Mapping[str, str]) -> str:
    text = form.get("currency", "")
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise Problem(400, "invalid_request", "Invalid currency", "currency")
    return text.upper()


def _key(request: Request) -> str:
    """Of this wire alone; without one every request is another."""
    key = request.headers.get("idempotency-key") or new_id("req")
    if len(key) > MAX_KEY_LENGTH:
        raise Problem(400, "invalid_request", "An idempotency key has up to 255 characters.")
    return f"stripe:{key}"


def _of_key(payment: Payment, key: str) -> Operation:
    return next(one for one in payment.operations if one.idempotency_key == key)


def _list(items: Sequence[dict[str, object]], limit: int, request: Request) -> Response:
    """One more item than asked for says that there are more."""
    return JSONResponse(
        {
            "object": "list",
            "url": request.url.path.removeprefix("/stripe"),
            "has_more": len(items) > limit,
            "data": list(items[:limit]),
        }
    )
