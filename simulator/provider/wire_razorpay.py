"""Razorpay's wire, as far as a merchant with saved tokens and manual capture speaks it.

Paths, fields, errors and events of API v1 (razorpay.com/docs/api: orders, payments, recurring
payments, refunds, disputes, errors; /docs/webhooks).  As there, only refunds have an idempotency
key, a capture takes the whole authorisation, and an authorisation ends by lapsing: the control's
``lapse`` does what five days would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.ids import new_id
from simulator.provider import wire_razorpay_bodies as bodies
from simulator.provider import wire_razorpay_objects as objects
from simulator.provider.engine import Authorisation, Engine
from simulator.provider.host import Host, Problem, fingerprint
from simulator.provider.model import (
    Answer,
    Method,
    OperationKind,
    Payment,
    PaymentStatus,
)
from simulator.provider.store import Store
from simulator.provider.wire import disputed

_REFUND_KEY: Final = re.compile(r"[A-Za-z0-9_-]{10,255}")
_MAX_RECEIPT: Final = 40


# Our refusals as Razorpay says them: everything that the caller got wrong is a 400.
_STATUS_OF: Final = {
    "payment_not_found": 400, "illegal_state": 400, "amount_too_large": 400,
    "idempotency_key_reused": 400, "invalid_request": 400,
}  # fmt: skip

_EVENTS: Final = {
    "payment.authorised": "payment.authorized",
    "payment.captured": "payment.captured",
    "payment.declined": "payment.failed",
    "payment.refunded": "refund.processed",
    "dispute.created": "payment.dispute.created",
}


@dataclass(frozen=True, slots=True)
class RazorpayWire:
    """See :class:`simulator.provider.host.Wire`."""

    key_id: str
    key_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    name: str = "razorpay"

    def routes(self, host: Host) -> Sequence[Route]:
        speaker = _Speaker(self, host)
        orders, payments = "/razorpay/v1/orders", "/razorpay/v1/payments"
        return [
            Route(path, host.guard(self, endpoint), methods=[method])
            for method, path, endpoint in (
                ("POST", orders, speaker.create_order),
                ("GET", orders, speaker.list_orders),
                ("GET", orders + "/{id}/payments", speaker.payments_of_order),
                ("POST", payments + "/create/recurring", speaker.create_payment),
                ("GET", payments, speaker.list_payments),
                ("GET", payments + "/{id}", speaker.fetch),
                ("PATCH", payments + "/{id}", speaker.edit),
                ("POST", payments + "/{id}/capture", speaker.capture),
                ("POST", payments + "/{id}/refund", speaker.refund),
                ("GET", payments + "/{id}/refunds", speaker.refunds_of_payment),
                ("GET", "/razorpay/v1/refunds", speaker.list_refunds),
            )
        ]

    def is_known(self, request: Request) -> bool:
        pair = base64.b64encode(f"{self.key_id}:{self.key_secret}".encode())
        presented = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(presented, b"Basic " + pair)

    def refuse(self, problem: Problem) -> Response:
        status = _STATUS_OF.get(problem.code, problem.status)
        if problem.code == "idempotency_in_progress":
            status = 409
        error: dict[str, object] = {
            "code": "SERVER_ERROR" if status >= 500 else "BAD_REQUEST_ERROR",
            "description": problem.message,
            "source": "business",
            "step": "payment_initiation",
            "reason": "server_error" if status >= 500 else "input_validation_failed",
            "metadata": {},
        }
        if problem.where is not None:
            error["field"] = problem.where
        return JSONResponse({"error": error}, status)

    def render_event(
        self, event_id: str, event_type: str, key: str, payment: Payment
    ) -> bytes | None:
        payload: dict[str, object] = {"payment": {"entity": objects.payment_of(payment)}}
        if event_type == "dispute.closed":
            name = f"payment.dispute.{disputed(payment, key).status}"
        elif event_type in _EVENTS:
            name = _EVENTS[event_type]
        else:
            return None
        if event_type.startswith("dispute."):
            payload["dispute"] = {"entity": objects.dispute_of(disputed(payment, key), payment)}
        elif event_type == "payment.refunded":
            payload["refund"] = {"entity": objects.refund_of(payment.operations[-1])}
        return msgspec.json.encode(
            {
                "entity": "event",
                "account_id": "acc_Sandbox0000000",
                "event": name,
                "contains": list(payload),
                "payload": payload,
                "created_at": int(time.time()),
            }
        )

    def sign(self, event_id: str, body: bytes, now_s: int) -> dict[str, str]:
        digest = hmac.new(self.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        return {"X-Razorpay-Signature": digest, "X-Razorpay-Event-Id": event_id}


class _Speaker:
    """The endpoints."""

    def __init__(self, wire: RazorpayWire, host: Host) -> None:
        self._wire = wire
        self._host = host

    async def create_order(self, request: Request) -> Response:
        _, body = await bodies.read(request, bodies.NewOrder)
        bodies.require_amount(body.amount)
        if body.receipt is not None and len(body.receipt) > _MAX_RECEIPT:
            raise Problem(400, "invalid_request", "A receipt has up to 40 characters.", "receipt")
        order = {
            "id": new_id("order"),
            "entity": "order",
            "amount": body.amount,
            "amount_due": body.amount,
            "amount_paid": 0,
            "currency": body.currency,
            "receipt": body.receipt,
            "notes": body.notes,
            "created_at": int(time.time()),
        }
        await self._host.thread.run(
            lambda _, store: store.put_document(
                self._wire.name, str(order["id"]), body.receipt or "", order
            )
        )
        return JSONResponse({**order, "status": "created", "attempts": 0})

    async def list_orders(self, request: Request) -> Response:
        receipt = request.query_params.get("receipt", "")
        expand = "payments" in request.query_params.getlist("expand[]")

        def work(_: Engine, store: Store) -> list[dict[str, Any]]:
            orders = store.documents(self._wire.name, name=receipt)
            return [self._order(store, order, expand=expand) for order in orders]

        return _collection(await self._host.thread.run(work))

    async def payments_of_order(self, request: Request) -> Response:
        order_id = request.path_params["id"]
        found = await self._host.thread.run(
            lambda _, store: store.payments(self._wire.name, order=order_id)
        )
        return _collection([objects.payment_of(payment) for payment in found])

    def _order(self, store: Store, order: dict[str, Any], *, expand: bool) -> dict[str, Any]:
        payments = store.payments(self._wire.name, order=order["id"])
        paid = sum(payment.captured_minor for payment in payments)
        status = "paid" if paid else "attempted" if payments else "created"
        whole_order = {
            **order,
            "amount_paid": paid,
            "amount_due": order["amount"] - paid,
            "attempts": len(payments),
            "status": status,
        }
        if expand:
            items = [objects.payment_of(payment) for payment in payments]
            whole_order["payments"] = {"entity": "collection", "count": len(items), "items": items}
        return whole_order

    async def create_payment(self, request: Request) -> Response:
        raw, body = await bodies.read(request, bodies.NewPayment)
        bodies.require_amount(body.amount)
        mark = fingerprint(request, raw)

        def work(engine: Engine, store: Store) -> Answer:
            orders = store.documents(self._wire.name, document_id=body.order_id)
            if not orders or (body.amount, body.currency) != (
                orders[0]["amount"],
                orders[0]["currency"],
            ):
                raise Problem(400, "invalid_request", "It does not fit its order.", "order_id")
            # Nothing here is idempotent: every call is another payment.
            attempt = len(store.payments(self._wire.name, order=body.order_id))
            key = f"razorpay:{body.notes.get('operation_key') or body.order_id}:{attempt}"
            if store.request(key) is not None:
                key = f"razorpay:{new_id('req')}"
            wanted = Authorisation(
                order_reference=body.order_id,
                method=Method.CARD,
                currency=body.currency,
                amount_minor=body.amount,
                token=body.token,
                wire=self._wire.name,
                id_prefix="pay",
                metadata=body.notes,
            )
            return engine.authorise(key, mark, wanted)

        answer = await self._host.thread.run(work)
        settled = await self._host.settled(request, self._wire, answer)
        if isinstance(settled, Response):
            return settled
        payment = settled.payment
        if payment.status in (PaymentStatus.DECLINED, PaymentStatus.FAILED):
            return JSONResponse({"error": objects.error_of(payment)}, 400)
        signed = f"{body.order_id}|{payment.payment_id}".encode()
        signature = hmac.new(self._wire.key_secret.encode(), signed, hashlib.sha256).hexdigest()
        return JSONResponse(
            {
                "razorpay_payment_id": payment.payment_id,
                "razorpay_order_id": body.order_id,
                "razorpay_signature": signature,
            }
        )

    async def fetch(self, request: Request) -> Response:
        return JSONResponse(objects.payment_of(await self._payment(request)))

    async def edit(self, request: Request) -> Response:
        _, body = await bodies.read(request, bodies.Notes)
        if len(body.notes) > 15 or any(len(text) > 256 for text in body.notes.values()):
            raise Problem(400, "invalid_request", "Up to 15 notes of 256 characters.", "notes")
        payment_id = request.path_params["id"]
        payment = await self._host.thread.run(
            lambda engine, _: engine.annotate(payment_id, self._wire.name, body.notes)
        )
        return JSONResponse(objects.payment_of(payment))

    async def capture(self, request: Request) -> Response:
        raw, body = await bodies.read(request, bodies.Amount)
        payment_id, mark = request.path_params["id"], fingerprint(request, raw)

        def work(engine: Engine, _: Store) -> Answer:
            payment = engine.payment(payment_id, self._wire.name)
            if payment.captured_minor:
                raise Problem(400, "invalid_request", "This payment has already been captured")
            if (body.amount, body.currency) != (payment.amount_minor, payment.currency):
                message = "Capture amount must be equal to the amount authorized"
                raise Problem(400, "invalid_request", message, "amount")
            return engine.operate(
                OperationKind.CAPTURE, f"razorpay:capture:{payment_id}", mark, payment_id, None,
                wire=self._wire.name,
            )  # fmt: skip

        answer = await self._host.thread.run(work)
        settled = await self._host.settled(request, self._wire, answer)
        if isinstance(settled, Response):
            return settled
        return JSONResponse(objects.payment_of(settled.payment))

    async def refund(self, request: Request) -> Response:
        raw, body = await bodies.read(request, bodies.NewRefund)
        given = request.headers.get("x-refund-idempotency")
        if given is not None and not _REFUND_KEY.fullmatch(given):
            raise Problem(400, "invalid_request", "The idempotency key is not valid.")
        if body.amount is not None:
            bodies.require_amount(body.amount)
        payment_id, mark = request.path_params["id"], fingerprint(request, raw)
        key = f"razorpay:refund:{given or new_id('req')}"
        metadata = {**body.notes, "receipt": body.receipt or ""}
        answer = await self._host.thread.run(
            lambda engine, _: engine.operate(
                OperationKind.REFUND, key, mark, payment_id, body.amount,
                wire=self._wire.name, metadata=metadata,
            )
        )  # fmt: skip
        settled = await self._host.settled(request, self._wire, answer)
        if isinstance(settled, Response):
            return settled
        made = next(one for one in settled.payment.operations if one.idempotency_key == key)
        return JSONResponse(objects.refund_of(made))

    async def refunds_of_payment(self, request: Request) -> Response:
        payment = await self._payment(request)
        refunds = [one for one in payment.operations if one.kind is OperationKind.REFUND]
        return _collection([objects.refund_of(one) for one in reversed(refunds)])

    async def list_payments(self, request: Request) -> Response:
        count, skip, from_s, to_s = bodies.page(request)
        found = await self._host.thread.run(
            lambda _, store: store.payments(
                self._wire.name, from_s=from_s, to_s=to_s, skip=skip, limit=count
            )
        )
        return _collection([objects.payment_of(payment) for payment in found])

    async def list_refunds(self, request: Request) -> Response:
        count, skip, from_s, to_s = bodies.page(request)
        found = await self._host.thread.run(
            lambda _, store: store.newest_operations(
                self._wire.name, (OperationKind.REFUND,), from_s=from_s, to_s=to_s, skip=skip,
                limit=count,
            )
        )  # fmt: skip
        return _collection([objects.refund_of(operation) for operation in found])

    async def _payment(self, request: Request) -> Payment:
        payment_id = request.path_params["id"]
        return await self._host.thread.run(
            lambda engine, _: engine.payment(payment_id, self._wire.name)
        )


def _collection(items: Sequence[dict[str, object]]) -> Response:
    return JSONResponse({"entity": "collection", "count": len(items), "items": list(items)})
