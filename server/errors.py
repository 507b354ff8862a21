"""The only place that knows both our errors and HTTP: RFC 9457 problem documents.

``problem_of`` turns whatever was raised into a ``Problem``; the exception handlers and the error
boundary (``server/middleware.py``) only send it.  Expected refusals (``kit.errors``) keep their
code and detail; a database or Redis that does not answer is ``Busy``; anything else is a bug: it
is logged with its traceback and answered without details.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import asyncpg
import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kit.db import DatabaseUnavailable
from kit.errors import (
    Busy,
    Conflict,
    DarkstoreError,
    Denied,
    Invalid,
    NotFound,
    PaymentRefused,
    RateLimited,
    TooLarge,
    Unauthenticated,
)
from server.card_numbers import CardNumberRefused

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_MAX = 20

# Most specific first: the first class of which the error is an instance gives the status.
STATUS: tuple[tuple[type[DarkstoreError], int], ...] = (
    (CardNumberRefused, 400),
    (RateLimited, 429),
    (Busy, 503),
    (TooLarge, 413),
    (Conflict, 409),
    (NotFound, 404),
    (Denied, 403),
    (PaymentRefused, 402),
    (Unauthenticated, 401),
    (Invalid, 422),
)

# Postgres: a lock that was not given in time, a deadlock, a serialization failure, a statement or
# an idle transaction past its limit.  All of them pass if the caller tries again.
_BUSY_STATES = frozenset({"55P03", "40P01", "40001", "57014", "25P03", "25P04"})
# Shutting down, starting, too many clients, disk full.
_UNAVAILABLE_STATES = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "53100", "53200"})
# Text that JSON can carry and Postgres cannot store (NUL, lone surrogates).
_BAD_TEXT_STATES = frozenset({"22021", "22P05"})


class RequestTimeout(Busy):
    code = "request_timeout"
    title = "The answer took too long"


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer: ``extra`` is merged at the top level and never replaces a standard member."""

    status: int
    code: str
    title: str
    detail: str
    retryable: bool = False
    errors: Sequence[Mapping[str, object]] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        document: dict[str, object] = {
            **self.extra,
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = list(self.errors)
        return orjson.dumps(document, default=str)

    def response(self, request_id: str) -> Response:
        return Response(self.body(request_id), self.status, dict(self.headers), MEDIA_TYPE)


def sqlstate(error: BaseException) -> str | None:
    """The five characters with which Postgres names an error, through SQLAlchemy's wrapping."""
    inner = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(inner, "sqlstate", None) or getattr(inner, "pgcode", None)
    return state if isinstance(state, str) else None


def translate(error: Exception) -> DarkstoreError | None:
    """The refusal that an error of the database, Redis or the network amounts to, if any."""
    if isinstance(error, DarkstoreError):
        return error
    if isinstance(error, PoolTimeoutError):
        return Busy("Too many requests wait for the database; try again in a moment.")
    state = sqlstate(error)
    if state in _BUSY_STATES:
        return Busy("Others are changing the same things; try again in a moment.")
    if state in _BAD_TEXT_STATES:
        return Invalid("The request holds characters that cannot be stored.")
    if _is_lost_database(error, state):
        return DatabaseUnavailable("The database does not answer; try again in a moment.")
    if isinstance(error, RedisError | TimeoutError):
        return Busy("A part of the system does not answer; try again in a moment.")
    return None


def _is_lost_database(error: Exception, state: str | None) -> bool:
    if state is not None and (state in _UNAVAILABLE_STATES or state.startswith("08")):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(
        error,
        asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        | asyncpg.InternalClientError
        | ConnectionError
        | socket.gaierror,
    )


def problem_of(error: Exception) -> Problem | None:
    """The problem document of an expected error; None for a bug."""
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    refusal = translate(error)
    if refusal is None:
        return None
    status = next(status for kind, status in STATUS if isinstance(refusal, kind))
    headers: dict[str, str] = {}
    if isinstance(refusal, Busy):
        headers["Retry-After"] = str(max(1, refusal.retry_after_s))
    if isinstance(refusal, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Problem(
        status,
        refusal.code,
        refusal.title,
        refusal.detail,
        refusal.retryable,
        refusal.errors,
        refusal.extra,
        headers,
    )


def internal_error() -> Problem:
    """What a bug looks like from outside."""
    return Problem(
        500,
        "internal_error",
        "Something went wrong on our side",
        "Something went wrong on our side. If it happens again, tell us the request_id.",
    )


def _of_validation(error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return _http_problem(400)
    # FastAPI hands over the raw bytes when the content type is not JSON.
    if isinstance(error.body, bytes) and any(one["loc"][:1] == ("body",) for one in found):
        return _http_problem(415)
    errors = [
        {"field": _field_name(one["loc"]), "detail": str(one["msg"]).removeprefix("Value error, ")}
        for one in found[:ERRORS_MAX]
    ]
    first = errors[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    return Problem(422, Invalid.code, Invalid.title, detail, errors=errors)


def _field_name(location: Sequence[object]) -> str:
    """``("body", "lines", 0, "quantity")`` as ``lines.0.quantity``."""
    where = location[1:] if location[:1] and location[0] in _PLACES else location
    return ".".join(str(part) for part in where)


_PLACES = frozenset({"body", "query", "path", "header", "cookie"})

_HTTP: dict[int, tuple[str, str, str]] = {
    400: ("malformed_json", "The body is not JSON", "The body could not be read as JSON in UTF-8."),
    404: ("not_found", "There is no such thing", "There is nothing at this path."),
    405: (
        "method_not_allowed",
        "This path does not take this method",
        "This path does not take this method; the Allow header names those that it takes.",
    ),
    413: (TooLarge.code, TooLarge.title, "The body has more bytes than a request may have."),
    415: (
        "unsupported_media_type",
        "The body has the wrong type",
        "Send the body as application/json.",
    ),
}


def _http_problem(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    code, title, detail = _HTTP[status]
    return Problem(status, code, title, detail, headers=headers or {})


def _of_http(error: HTTPException) -> Problem:
    """Refusals of the framework itself.  Our own code raises ``kit.errors`` instead."""
    if error.status_code in _HTTP:
        return _http_problem(error.status_code, error.headers)
    phrase = HTTPStatus(error.status_code).phrase
    return Problem(
        error.status_code,
        phrase.lower().replace(" ", "_").replace("-", "_"),
        phrase,
        f"{phrase}.",
        headers=error.headers or {},
    )


def allowed_methods(request: Request) -> list[str]:
    """Every method that some route takes at the request's path: a path can be several routes."""
    app: FastAPI = request.app
    return sorted(
        {
            method
            for route in iter_route_contexts(app.routes)
            if route.methods
            and (pattern := getattr(route, "path_regex", None)) is not None
            and pattern.match(request.scope["path"])
            for method in route.methods
        }
    )


def log_bug(error: Exception) -> None:
    """Keep the traceback of something that nobody expected; the caller answers ``internal_error``.

    The driver's errors carry the statement's parameters in their text, which may be personal, so
    only their class, SQLSTATE and place are kept.
    """
    if isinstance(error, DBAPIError):
        log.error("internal_error", error=type(error.orig).__name__, sqlstate=sqlstate(error))
    else:
        log.error("internal_error", error=type(error).__name__, exc_info=error)


async def _framework_refusal(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    assert problem is not None, "registered for expected errors only"
    if problem.status == 405:
        methods = ", ".join(allowed_methods(request))
        problem = _http_problem(405, {"Allow": methods})
    return problem.response(request.scope.get("request_id", ""))


def install(app: FastAPI) -> None:
    """Replace the framework's own answers.  All other errors rise to the error boundary."""
    app.add_exception_handler(HTTPException, _framework_refusal)
    app.add_exception_handler(RequestValidationError, _framework_refusal)
