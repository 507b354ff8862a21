"""Routes of the provider's own wire, with authentication, limits and the faults for all."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.provider.engine import Authorisation
from simulator.provider.faults import HELD_CONNECTION_S, Control
from simulator.provider.model import Answer, OperationKind, Refused
from simulator.provider.thread import Overloaded, StoreThread
from simulator.provider.webhooks import Courier
from simulator.provider.wire import (
    STATUS_OF_REFUSAL,
    AmountBody,
    AuthoriseBody,
    EmptyBody,
    has_card_number,
    is_refused,
    render_operation,
    render_payment,
    render_refusal,
    render_refused_payment,
)

MAX_BODY_BYTES = 16 * 1024
MAX_KEY_LENGTH = 255
MAX_PAGE = 500

_log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]


class _Problem(Exception):
    """A request that is refused before it reaches the engine."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Provider:
    """The HTTP side.  ``courier`` is None when nobody wants webhooks."""

    def __init__(
        self, thread: StoreThread, courier: Courier | None, api_key: str, time_scale: float
    ) -> None:
        self._thread = thread
        self._courier = courier
        self._api_key = api_key.encode()
        self._time_scale = time_scale
        self._fired: Counter[str] = Counter()
        self.failed = False

    def application(self) -> Starlette:
        post, get = ["POST"], ["GET"]
        return Starlette(
            routes=[
                Route("/healthz", self._healthz, methods=get),
                Route("/v1/_control", self._guard(self._control, faulty=False)),
                Route("/v1/_control", self._guard(self._set_control, faulty=False), methods=post),
                Route("/v1/operations", self._guard(self._operations), methods=get),
                Route("/v1/payments", self._guard(self._authorise), methods=post),
                Route("/v1/payments", self._guard(self._find), methods=get),
                Route("/v1/payments/{payment_id}", self._guard(self._payment), methods=get),
                *(
                    Route(
                        f"/v1/payments/{{payment_id}}/{kind}",
                        self._guard(self._operation(kind)),
                        methods=post,
                    )
                    for kind in (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND)
                ),
            ],
            lifespan=self._lifespan,
        )

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

    def _guard(self, endpoint: Endpoint, *, faulty: bool = True) -> Endpoint:
        """Authentication, the faults for all, and refusals as answers, around an endpoint."""

        async def guarded(request: Request) -> Response:
            presented = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(presented, b"Bearer " + self._api_key):
                return _refusal(401, "unauthenticated", "The API key is missing or wrong.")
            control = self._thread.engine.control
            if faulty and control.outage:
                self._fired["outage"] += 1
                return _refusal(503, "outage", "The provider is not available.")
            try:
                response = await endpoint(request)
            except Refused as refused:
                status = STATUS_OF_REFUSAL[refused.kind]
                response = _refusal(status, refused.code, refused.message)
            except _Problem as problem:
                response = _refusal(problem.status, problem.code, problem.message)
            except Overloaded:
                response = _refusal(503, "overloaded", "Too many requests are waiting.")
            if faulty and control.delay_ms:
                self._fired["delay"] += 1
                await asyncio.sleep(control.delay_ms / 1_000)
            return response

        return guarded

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _control(self, _request: Request) -> Response:
        engine = self._thread.engine
        webhooks = await self._thread.run(lambda _, store: store.delivery_counts())
        return JSONResponse(
            {
                "settings": engine.control.model_dump(),
                "fired": dict(Counter(engine.fired) + self._fired),
                "webhooks": webhooks,
            }
        )

    async def _set_control(self, request: Request) -> Response:
        _, control = await _read(request, Control)
        await self._thread.run(lambda engine, _: engine.set_control(control))
        _log.info("control_set", **control.model_dump())
        return await self._control(request)

    async def _authorise(self, request: Request) -> Response:
        key = _key(request)
        raw, body = await _read(request, AuthoriseBody)
        wanted = Authorisation(
            order_reference=body.order_reference,
            method=body.method,
            currency=body.currency,
            amount_minor=body.amount_minor,
            token=body.token,
        )
        fingerprint = _fingerprint(request, raw)
        answer = await self._thread.run(
            lambda engine, _: engine.authorise(key, fingerprint, wanted)
        )
        if answer.wait_s > 0:
            await asyncio.sleep(answer.wait_s)
            payment_id = answer.payment.payment_id
            settled = await self._thread.run(lambda engine, _: engine.settle(payment_id))
            answer = Answer(settled, unanswered=answer.unanswered)
        return await self._reply(request, answer, status=201)

    def _operation(self, kind: OperationKind) -> Endpoint:
        shape: type[AmountBody] | type[EmptyBody] = (
            EmptyBody if kind is OperationKind.VOID else AmountBody
        )

        async def operate(request: Request) -> Response:
            key = _key(request)
            raw, body = await _read(request, shape)
            amount_minor = body.amount_minor if isinstance(body, AmountBody) else None
            payment_id = request.path_params["payment_id"]
            fingerprint = _fingerprint(request, raw)
            answer = await self._thread.run(
                lambda engine, _: engine.operate(kind, key, fingerprint, payment_id, amount_minor)
            )
            return await self._reply(request, answer, status=200)

        return operate

    async def _reply(self, request: Request, answer: Answer, *, status: int) -> Response:
        if self._courier is not None:
            self._courier.wake()
        if answer.unanswered:
            await _hold(request, HELD_CONNECTION_S * self._time_scale)
            return _refusal(504, "timeout", "The request was not answered in time.")
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
        payment = answer.payment
        if is_refused(payment):
            return JSONResponse(render_refused_payment(payment), 402, headers)
        return JSONResponse(render_payment(payment), status, headers)

    async def _payment(self, request: Request) -> Response:
        payment_id = request.path_params["payment_id"]
        payment = await self._thread.run(lambda engine, _: engine.payment(payment_id))
        return JSONResponse(render_payment(payment))

    async def _find(self, request: Request) -> Response:
        key = request.query_params.get("idempotency_key")
        if not key:
            raise _Problem(400, "invalid_request", "Say which idempotency_key.")
        found = await self._thread.run(lambda engine, _: engine.find(key))
        return JSONResponse({"items": [render_payment(found)] if found else []})

    async def _operations(self, request: Request) -> Response:
        limit = _whole(request, "limit", default=100, most=MAX_PAGE)
        after_seq = _whole(request, "cursor", default=0, most=2**62)
        page = await self._thread.run(lambda engine, _: engine.operations(after_seq, limit))
        return JSONResponse(
            {
                "items": [render_operation(operation) for operation in page],
                "next_cursor": str(page[-1].seq) if len(page) == limit else None,
            }
        )


def _refusal(status: int, code: str, message: str) -> Response:
    return JSONResponse(render_refusal(code, message), status)


async def _read(request: Request, shape: type[Body]) -> tuple[bytes, Body]:
    """The raw body and its contents; refuses what is too long, malformed, or a card number."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise _Problem(413, "too_large", f"A body has at most {MAX_BODY_BYTES} bytes.")
    if has_card_number(raw.decode("utf-8", "replace")):
        raise _Problem(400, "card_number_refused", "Send a token, never a card number.")
    try:
        return raw, shape.model_validate_json(raw or b"{}")
    except ValidationError as error:
        places = sorted({".".join(map(str, one["loc"])) or "body" for one in error.errors()})
        message = "Not valid: " + ", ".join(places)
        raise _Problem(400, "invalid_request", message) from error


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        message = f"Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters."
        raise _Problem(400, "idempotency_key_missing", message)
    return key


def _fingerprint(request: Request, raw: bytes) -> str:
    return hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + raw).hexdigest()


def _whole(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or not 0 <= int(text) <= most:
        raise _Problem(400, "invalid_request", f"Not valid: {name}")
    return int(text)


async def _hold(request: Request, seconds: float) -> None:
    """Keep the connection open without a word until the client hangs up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
