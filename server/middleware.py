"""What surrounds every request, as plain ASGI.

::

    Shell          request id, log line, metrics, security headers, drain
    └── CORS       only if other origins are allowed
        └── ErrorBoundary   deadline, body limit; whatever is raised becomes a problem document
            └── routes

``BaseHTTPMiddleware`` is not used: it starts a task a layer and loses context variables.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from functools import cache

import structlog
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.errors import Busy
from kit.ids import ID_PATTERN, new_id
from server.card_numbers import holds_card_number
from server.errors import Problem, RequestTimeout, internal_error, log_bug, problem_of
from server.metrics import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LOGGED_IDS = ("order_id", "trip_id", "offer_id", "pick_task_id", "store_id", "quote_id")
# Probes go on while the rest is told to leave.
_UNDRAINED = frozenset({"/healthz", "/readyz", "/metrics"})
DRAIN_RETRY_AFTER_S = 2

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For answers that are data: nothing in them is ever a page.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"

RawHeader = tuple[bytes, bytes]
_SECURITY: tuple[RawHeader, ...] = tuple(
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
)
_OF_DATA: tuple[RawHeader, ...] = (
    (b"content-security-policy", DATA_POLICY.encode()),
    (b"cache-control", b"no-store"),
)


class Drain:
    """Counts requests under way; once started, new ones are refused and the rest may end."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        self.draining = True

    async def wait(self, timeout_s: float) -> bool:
        """Whether all requests ended within ``timeout_s`` real seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()
        HTTP_IN_FLIGHT.inc()

    def leave(self) -> None:
        self.in_flight -= 1
        assert self.in_flight >= 0, "a request left twice"
        if self.in_flight == 0:
            self._idle.set()
        HTTP_IN_FLIGHT.dec()


class Shell:
    """Request id, access log, metrics, security headers, drain."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        status = 0
        started_at = time.perf_counter()

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _dressed(message["headers"], request_id)
            await send(message)

        self.drain.enter()
        try:
            structlog.contextvars.bind_contextvars(request_id=request_id)
            try:
                if self.drain.draining and scope["path"] not in _UNDRAINED:
                    await _draining().response(request_id)(scope, receive, send_dressed)
                else:
                    await self.app(scope, receive, send_dressed)
            finally:
                _account(scope, status, time.perf_counter() - started_at)
                structlog.contextvars.unbind_contextvars("request_id", "user_id")
        finally:
            self.drain.leave()


def _header(scope: Scope, name: bytes) -> str:
    """The first header of a name in lower case, or nothing.

    A walk over ten pairs takes a tenth of what a ``Headers`` takes to be made.
    """
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def _request_id(scope: Scope) -> str:
    offered = _header(scope, b"x-request-id")
    usable = offered and _REQUEST_ID.fullmatch(offered) and not holds_card_number(offered)
    return offered if usable else new_id("req")


def _dressed(given: Iterable[RawHeader], request_id: str) -> list[RawHeader]:
    """An answer's headers with those that every answer has; what a route has set stays."""
    headers = [pair for pair in given if pair[0] != b"x-request-id"]
    names = dict(headers)
    headers.append((b"x-request-id", request_id.encode()))
    headers += [pair for pair in _SECURITY if pair[0] not in names]
    if b"json" in names.get(b"content-type", b""):
        headers += [pair for pair in _OF_DATA if pair[0] not in names]
    return headers


def _draining() -> Problem:
    problem = problem_of(
        Busy("This server is about to stop; try again.", retry_after_s=DRAIN_RETRY_AFTER_S)
    )
    assert problem is not None
    return Problem(
        problem.status,
        "draining",
        problem.title,
        problem.detail,
        retryable=True,
        headers={**problem.headers, "Connection": "close"},
    )


def route_template(scope: Scope) -> str:
    """``/v1/orders/{order_id}``, or ``unmatched``: a path itself may hold what nobody may log."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else "unmatched"


def ids_of(scope: Scope) -> dict[str, str]:
    """Which order, trip or task it was about: well-formed ids alone, they name no person."""
    found = scope.get("path_params", {})
    return {
        name: str(found[name]) for name in _LOGGED_IDS if ID_PATTERN.match(str(found.get(name)))
    }


def _account(scope: Scope, status: int, seconds: float) -> None:
    """One log line and two metrics.  Status 499: the client left before the answer began."""
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    template = route_template(scope)
    status = status or 499
    counter, histogram = _metrics(method, template, status)
    counter.inc()
    histogram.observe(seconds)
    log.info(
        "http_request",
        method=method,
        route=template,
        status=status,
        ms=round(seconds * 1000, 1),
        **ids_of(scope),
    )


@cache
def _metrics(method: str, template: str, status: int) -> tuple[Counter, Histogram]:
    """The two of a route: as many as the metrics have children, which they look up under a lock."""
    return (
        HTTP_REQUESTS.labels(method, template, str(status)),
        HTTP_SECONDS.labels(method, template),
    )


class ErrorBoundary:
    """Deadline and body limit, and an answer for everything that is raised."""

    def __init__(self, app: ASGIApp, deadline_s: float, body_max_bytes: int) -> None:
        self.app = app
        self.deadline_s = deadline_s
        self.body_max_bytes = body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._within_limits(scope, receive, send_noting_start)
        except ClientDisconnect:
            # Phones lose their network in the middle of a request; nobody waits for the answer.
            return
        except Exception as error:  # the boundary: a bug becomes a 500
            problem = problem_of(error)
            if problem is None:
                log_bug(error)
                problem = internal_error()
            if started:
                # Half an answer is out; only breaking the connection tells the client so.
                log.warning("answer_broken_off", error=type(error).__name__)
                raise
            await problem.response(scope.get("request_id", ""))(scope, receive, send)

    async def _within_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        limited = limit_body(scope, receive, self.body_max_bytes)
        try:
            async with asyncio.timeout(self.deadline_s) as deadline:
                await self.app(scope, limited, send)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RequestTimeout("This took too long and was given up; try again.") from error


def limit_body(scope: Scope, receive: Receive, body_max_bytes: int) -> Receive:
    """``receive`` that raises 413 once the body is too long, announced or not (chunked).

    It is the framework's own exception, because that alone passes through FastAPI's body reading.
    """
    announced = _header(scope, b"content-length")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > body_max_bytes:
        raise HTTPException(413)
    received_bytes = 0

    async def receive_limited() -> Message:
        nonlocal received_bytes
        message = await receive()
        if message["type"] == "http.request":
            received_bytes += len(message.get("body", b""))
            if received_bytes > body_max_bytes:
                raise HTTPException(413)
        return message

    return receive_limited
