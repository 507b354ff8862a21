"""What every wire stands on: authentication, faults, waiting, and refusals as answers."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.provider.faults import HELD_CONNECTION_S
from simulator.provider.model import Answer, Payment, RefusalKind, Refused
from simulator.provider.thread import Overloaded, StoreThread
from simulator.provider.webhooks import Courier
from simulator.provider.wire import has_card_number

MAX_BODY_BYTES = 16 * 1024
MAX_KEY_LENGTH = 255

Endpoint = Callable[[Request], Awaitable[Response]]


class Problem(Exception):
    """A request that is refused before it reaches the engine; ``where`` is the field at fault."""

    def __init__(self, status: int, code: str, message: str, where: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.where = where


class Wire(Protocol):
    """One form in which the provider is spoken to."""

    @property
    def name(self) -> str: ...

    def routes(self, host: Host) -> Sequence[Route]: ...

    def is_known(self, request: Request) -> bool:
        """Whether the request carries this wire's key."""
        ...

    def refuse(self, problem: Problem) -> Response:
        """A refusal in this wire's form."""
        ...

    def render_event(
        self, event_id: str, event_type: str, key: str, payment: Payment
    ) -> bytes | None: ...

    def sign(self, event_id: str, body: bytes, now_s: int) -> dict[str, str]:
        """The headers that prove who sent an event."""
        ...


class Outage(BaseModel):
    """A wire that is out for ``for_s`` real seconds; none at all ends an outage.

    ``5xx`` answers with an error, ``hang`` never answers, ``refuse`` closes the wire's own port
    (where it has one) and breaks off whatever arrives on open connections.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wire: str
    kind: Literal["refuse", "hang", "5xx"]
    for_s: float = Field(ge=0, le=600)


@dataclass(frozen=True, slots=True)
class _Running:
    kind: str
    until_s: float


STATUS_OF_REFUSAL = {
    RefusalKind.UNKNOWN_PAYMENT: 404,
    RefusalKind.UNKNOWN_DISPUTE: 404,
    RefusalKind.NOT_NOW: 409,
    RefusalKind.IN_PROGRESS: 409,
    RefusalKind.NOT_THAT_MUCH: 422,
    RefusalKind.KEY_REUSED: 422,
}


class Host:
    """The engine as wires use it.  ``courier`` is None when nobody wants webhooks."""

    def __init__(self, thread: StoreThread, courier: Courier | None, time_scale: float) -> None:
        self.thread = thread
        self._courier = courier
        self._time_scale = time_scale
        self._outages: dict[str, _Running] = {}
        self.fired: Counter[str] = Counter()

    def begin_outage(self, outage: Outage) -> None:
        self._outages[outage.wire] = _Running(outage.kind, time.monotonic() + outage.for_s)

    def guard(self, wire: Wire, endpoint: Endpoint, *, faulty: bool = True) -> Endpoint:
        """Authentication, the faults for all, and refusals as answers, around an endpoint."""

        async def guarded(request: Request) -> Response:
            if faulty and (running := self._outage(wire.name)):
                return await self._out(wire, request, running)
            if not wire.is_known(request):
                stranger = Problem(401, "unauthenticated", "The API key is missing or wrong.")
                return wire.refuse(stranger)
            control = self.thread.engine.control
            if faulty and control.outage:
                self.fired["outage"] += 1
                return wire.refuse(Problem(503, "outage", "The provider is not available."))
            try:
                response = await endpoint(request)
            except Refused as refused:
                status = STATUS_OF_REFUSAL[refused.kind]
                response = wire.refuse(Problem(status, refused.code, refused.message))
            except Problem as problem:
                response = wire.refuse(problem)
            except Overloaded:
                busy = Problem(503, "overloaded", "Too many requests are waiting.")
                response = wire.refuse(busy)
            if faulty and control.delay_ms:
                self.fired["delay"] += 1
                await asyncio.sleep(control.delay_ms / 1_000)
            return response

        return guarded

    def _outage(self, wire: str) -> _Running | None:
        running = self._outages.get(wire)
        if running is not None and time.monotonic() >= running.until_s:
            del self._outages[wire]
            return None
        return running

    async def _out(self, wire: Wire, request: Request, running: _Running) -> Response:
        self.fired[f"outage_{running.kind}"] += 1
        match running.kind:
            case "hang":
                left_s = running.until_s - time.monotonic()
                await hold(request, min(HELD_CONNECTION_S, max(0.0, left_s)))
                return wire.refuse(Problem(504, "timeout", "It was not answered in time."))
            case "refuse":
                return BrokenOff()
        return wire.refuse(Problem(500, "outage", "The provider is not available."))

    async def settled(self, request: Request, wire: Wire, answer: Answer) -> Answer | Response:
        """The answer once its processing has ended, or what a client that must not hear gets."""
        if answer.wait_s > 0:
            await asyncio.sleep(answer.wait_s)
            payment_id = answer.payment.payment_id
            payment = await self.thread.run(lambda engine, _: engine.settle(payment_id))
            answer = Answer(payment, unanswered=answer.unanswered)
        if self._courier is not None:
            self._courier.wake()
        if answer.unanswered:
            await hold(request, HELD_CONNECTION_S * self._time_scale)
            return wire.refuse(Problem(504, "timeout", "The request was not answered in time."))
        return answer

    def wake_courier(self) -> None:
        if self._courier is not None:
            self._courier.wake()


class BrokenOff(Response):
    """Begins an answer and breaks off, so that the client sees a connection that died."""

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        assert callable(send)
        start = {
            "type": "http.response.start", "status": 500,
            "headers": [(b"content-length", b"64"), (b"connection", b"close")],
        }  # fmt: skip
        await send(start)
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


async def read_body(request: Request) -> bytes:
    """The raw body; refuses what is too long, and a card number."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise Problem(413, "too_large", f"A body has at most {MAX_BODY_BYTES} bytes.")
    if has_card_number(raw.decode("utf-8", "replace")):
        raise Problem(400, "card_number_refused", "Send a token, never a card number.")
    return raw


def fingerprint(request: Request, raw: bytes) -> str:
    return hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + raw).hexdigest()


def whole(request: Request, name: str, *, default: int, most: int) -> int:
    """A query parameter that is a whole number of at most ``most``."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or not 0 <= int(text) <= most:
        raise Problem(400, "invalid_request", f"Not valid: {name}", name)
    return int(text)


async def hold(request: Request, seconds: float) -> None:
    """Keep the connection open without a word until the client hangs up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
