"""The provider as an application: its own wire, the others beside it, and the control of both."""

from __future__ import annotations

import asyncio
import hmac
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.ids import new_id
from simulator.provider.engine import Authorisation
from simulator.provider.faults import Control
from simulator.provider.host import (
    MAX_KEY_LENGTH,
    Endpoint,
    Host,
    Outage,
    Problem,
    Wire,
    fingerprint,
    read_body,
    whole,
)
from simulator.provider.model import (
    SANDBOX,
    Answer,
    Dispute,
    DisputeStatus,
    OperationKind,
    Payment,
)
from simulator.provider.plants import Plant, plant
from simulator.provider.ports import WirePorts
from simulator.provider.thread import StoreThread
from simulator.provider.webhooks import SIGNATURE_HEADER, Courier, sign
from simulator.provider.wire import (
    AmountBody,
    AuthoriseBody,
    EmptyBody,
    is_refused,
    render_event,
    render_operation,
    render_payment,
    render_refusal,
    render_refused_payment,
)

MAX_PAGE = 500

_log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=BaseModel)


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DisputeOrder(_Order):
    payment: str
    reason: str = "fraudulent"
    amount_minor: int | None = Field(default=None, strict=True, gt=0)


class DisputeEnd(_Order):
    outcome: Literal["won", "lost"]


class PlantOrder(_Order):
    kind: Plant
    payment: str


class LapseOrder(_Order):
    payment: str


class SandboxWire:
    """The provider's own wire; see :class:`simulator.provider.host.Wire`."""

    name = SANDBOX

    def __init__(self, api_key: str, webhook_secret: str) -> None:
        self._api_key = api_key.encode()
        self._webhook_secret = webhook_secret

    def routes(self, host: Host) -> Sequence[Route]:
        speaker = _Speaker(self, host)
        kinds = (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND)
        return [
            Route(path, host.guard(self, endpoint), methods=[method])
            for method, path, endpoint in (
                ("GET", "/v1/operations", speaker.operations),
                ("POST", "/v1/payments", speaker.authorise),
                ("GET", "/v1/payments", speaker.find),
                ("GET", "/v1/payments/{payment_id}", speaker.payment),
                *(
                    ("POST", f"/v1/payments/{{payment_id}}/{kind}", speaker.operation(kind))
                    for kind in kinds
                ),
            )
        ]

    def is_known(self, request: Request) -> bool:
        presented = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(presented, b"Bearer " + self._api_key)

    def refuse(self, problem: Problem) -> Response:
        return JSONResponse(render_refusal(problem.code, problem.message), problem.status)

    def render_event(
        self, event_id: str, event_type: str, key: str, payment: Payment
    ) -> bytes | None:
        return render_event(event_id, event_type, key, payment)

    def sign(self, event_id: str, body: bytes, now_s: int) -> dict[str, str]:
        return {SIGNATURE_HEADER: sign(self._webhook_secret, now_s, body)}


class Provider:
    """All wires over one engine.  ``courier`` is None when nobody wants webhooks."""

    def __init__(
        self,
        thread: StoreThread,
        courier: Courier | None,
        sandbox: SandboxWire,
        others: Sequence[Wire],
        time_scale: float,
        ports: WirePorts | None = None,
    ) -> None:
        self._thread = thread
        self._courier = courier
        self._sandbox = sandbox
        self._others = others
        self._ports = ports
        self._host = Host(thread, courier, time_scale)
        self.failed = False

    def application(self) -> Starlette:
        orders = (
            ("GET", "/v1/_control", self._control),
            ("POST", "/v1/_control", self._set_control),
            ("POST", "/_control/disputes", self._open_dispute),
            ("POST", "/_control/disputes/{dispute_id}/close", self._close_dispute),
            ("POST", "/_control/plant", self._plant),
            ("POST", "/_control/outage", self._outage),
            ("POST", "/_control/lapse", self._lapse),
        )
        return Starlette(
            routes=[
                Route("/healthz", self._healthz, methods=["GET"]),
                *(
                    Route(path, self._order(endpoint), methods=[method])
                    for method, path, endpoint in orders
                ),
                *self._sandbox.routes(self._host),
                *(route for wire in self._others for route in wire.routes(self._host)),
            ],
            lifespan=self._lifespan,
        )

    def _order(self, endpoint: Endpoint) -> Endpoint:
        """An order to the provider itself, which no fault strikes."""
        return self._host.guard(self._sandbox, endpoint, faulty=False)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        courier = asyncio.create_task(self._courier.run()) if self._courier else None
        if courier is not None:
            courier.add_done_callback(self._end_with_courier)
        try:
            yield
        finally:
            if courier is not None:
                courier.cancel()
                await asyncio.wait([courier])
            self._thread.close()

    def _end_with_courier(self, courier: asyncio.Task[None]) -> None:
        """A provider that no longer tells is broken: end it, so that whoever runs it sees that."""
        if not courier.cancelled() and (problem := courier.exception()):
            _log.critical("courier_failed", exc_info=problem)
            self.failed = True
            signal.raise_signal(signal.SIGTERM)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _control(self, _request: Request) -> Response:
        engine = self._thread.engine
        webhooks = await self._thread.run(lambda _, store: store.delivery_counts())
        return JSONResponse(
            {
                "settings": engine.control.model_dump(),
                "fired": dict(Counter(engine.fired) + self._host.fired),
                "webhooks": webhooks,
            }
        )

    async def _set_control(self, request: Request) -> Response:
        _, control = await _read(request, Control)
        await self._thread.run(lambda engine, _: engine.set_control(control))
        _log.info("control_set", **control.model_dump())
        return await self._control(request)

    async def _open_dispute(self, request: Request) -> Response:
        _, order = await _read(request, DisputeOrder)
        dispute = await self._thread.run(
            lambda engine, _: engine.open_dispute(order.payment, order.reason, order.amount_minor)
        )
        return self._told(dispute, 201)

    async def _close_dispute(self, request: Request) -> Response:
        _, end = await _read(request, DisputeEnd)
        dispute_id, outcome = request.path_params["dispute_id"], DisputeStatus(end.outcome)
        dispute = await self._thread.run(
            lambda engine, _: engine.close_dispute(dispute_id, outcome)
        )
        return self._told(dispute, 200)

    def _told(self, dispute: Dispute, status: int) -> Response:
        self._host.wake_courier()
        body = {
            "id": dispute.dispute_id, "payment": dispute.payment_id, "status": dispute.status,
            "amount_minor": dispute.amount_minor, "reason": dispute.reason,
        }  # fmt: skip
        return JSONResponse(body, status)

    async def _plant(self, request: Request) -> Response:
        _, order = await _read(request, PlantOrder)
        wrong = await self._thread.run(
            lambda engine, store: plant(store, order.kind, order.payment, engine.now_s())
        )
        _log.info("planted", kind=order.kind, payment_id=wrong.payment_id)
        return JSONResponse({"payment": wrong.payment_id, "kind": order.kind})

    async def _outage(self, request: Request) -> Response:
        _, outage = await _read(request, Outage)
        if outage.wire not in {wire.name for wire in (self._sandbox, *self._others)}:
            raise Problem(404, "no_such_wire", "There is no such wire.")
        self._host.begin_outage(outage)
        if self._ports is not None:
            self._ports.open_again(outage.wire)
            if outage.kind == "refuse" and outage.for_s > 0:
                self._ports.close_for(outage.wire, outage.for_s)
        _log.info("outage_begun", **outage.model_dump())
        return JSONResponse(outage.model_dump())

    async def _lapse(self, request: Request) -> Response:
        """What time would do to an authorisation that nobody captures."""
        raw, order = await _read(request, LapseOrder)
        mark = fingerprint(request, raw)
        answer = await self._thread.run(
            lambda engine, _: engine.operate(
                OperationKind.VOID, new_id("lapse"), mark, order.payment, None, wire=None
            )
        )
        self._host.wake_courier()
        return JSONResponse({"payment": answer.payment.payment_id, "status": answer.payment.status})


class _Speaker:
    """The endpoints of the provider's own wire."""

    def __init__(self, wire: SandboxWire, host: Host) -> None:
        self._wire = wire
        self._host = host
        self._thread = host.thread

    async def authorise(self, request: Request) -> Response:
        key = _key(request)
        raw, body = await _read(request, AuthoriseBody)
        wanted = Authorisation(
            order_reference=body.order_reference,
            method=body.method,
            currency=body.currency,
            amount_minor=body.amount_minor,
            token=body.token,
        )
        mark = fingerprint(request, raw)
        answer = await self._thread.run(lambda engine, _: engine.authorise(key, mark, wanted))
        return await self._reply(request, answer, status=201)

    def operation(self, kind: OperationKind) -> Endpoint:
        shape: type[AmountBody] | type[EmptyBody] = (
            EmptyBody if kind is OperationKind.VOID else AmountBody
        )

        async def operate(request: Request) -> Response:
            key = _key(request)
            raw, body = await _read(request, shape)
            amount_minor = body.amount_minor if isinstance(body, AmountBody) else None
            payment_id = request.path_params["payment_id"]
            mark = fingerprint(request, raw)
            answer = await self._thread.run(
                lambda engine, _: engine.operate(kind, key, mark, payment_id, amount_minor)
            )
            return await self._reply(request, answer, status=200)

        return operate

    async def _reply(self, request: Request, answer: Answer, *, status: int) -> Response:
        settled = await self._host.settled(request, self._wire, answer)
        if isinstance(settled, Response):
            return settled
        headers = {"Idempotent-Replayed": "true"} if settled.replayed else {}
        payment = settled.payment
        if is_refused(payment):
            return JSONResponse(render_refused_payment(payment), 402, headers)
        return JSONResponse(render_payment(payment), status, headers)

    async def payment(self, request: Request) -> Response:
        payment_id = request.path_params["payment_id"]
        payment = await self._thread.run(lambda engine, _: engine.payment(payment_id))
        return JSONResponse(render_payment(payment))

    async def find(self, request: Request) -> Response:
        key = request.query_params.get("idempotency_key")
        if not key:
            raise Problem(400, "invalid_request", "Say which idempotency_key.")
        found = await self._thread.run(lambda engine, _: engine.find(key))
        return JSONResponse({"items": [render_payment(found)] if found else []})

    async def operations(self, request: Request) -> Response:
        limit = whole(request, "limit", default=100, most=MAX_PAGE)
        after_seq = whole(request, "cursor", default=0, most=2**62)
        page = await self._thread.run(lambda engine, _: engine.operations(after_seq, limit))
        return JSONResponse(
            {
                "items": [render_operation(operation) for operation in page],
                "next_cursor": str(page[-1].seq) if len(page) == limit else None,
            }
        )


async def _read(request: Request, shape: type[Body]) -> tuple[bytes, Body]:
    """The raw body and its contents; refuses what is too long, malformed, or a card number."""
    raw = await read_body(request)
    try:
        return raw, shape.model_validate_json(raw or b"{}")
    except ValidationError as error:
        places = sorted({".".join(map(str, one["loc"])) or "body" for one in error.errors()})
        message = "Not valid: " + ", ".join(places)
        raise Problem(400, "invalid_request", message) from error


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        message = f"Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters."
        raise Problem(400, "idempotency_key_missing", message)
    return key
