"""Finding a request's route without trying them all, and serving plain ones without ceremony.

FastAPI tries its routers in turn and each router's routes in turn, and solves the dependencies of
what it has found through stacks of contexts.  Here routes are looked up by method and path, and a
route that asks for nothing but a JSON body, parts of its path, the request and dependencies that
look only at the connection is called directly.  It stays FastAPI's route all the same: declared
once, documented by it, and left to it whenever anything is out of the ordinary (a body that does
not parse or does not fit, another content type, an unknown path, another method), so that there is
one author of every refusal.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_JSON: Final = b"application/json"
# Segments of a path that are the same for all routes of an audience; parameters come later.
_PREFIX_SEGMENTS: Final = 2

_Look = Callable[[HTTPConnection], Awaitable[object]]
_Bucket = tuple[str, int, str]


def install(app: FastAPI) -> None:
    """Put the table before the router of ``app``, inside its middleware."""
    router = app.router
    router.middleware_stack = RouteTable(app, router.middleware_stack)


class RouteTable:
    """ASGI: the route of a request by method and path; ``otherwise`` gets what is not found."""

    def __init__(self, app: FastAPI, otherwise: ASGIApp) -> None:
        self._app = app
        self._otherwise = otherwise
        self._index: Index | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("root_path"):
            await self._otherwise(scope, receive, send)
            return
        entry, path_params = self.index().look_up(scope["method"], scope["path"])
        if entry is None or self._app.dependency_overrides:
            await self._otherwise(scope, receive, send)
            return
        scope["router"] = self._app.router
        scope["route"] = entry.route
        scope["endpoint"] = entry.context.endpoint
        scope["path_params"] = path_params
        if entry.lean is None:
            await entry.app(scope, receive, send)
        else:
            await entry.lean(scope, receive, send)

    def index(self) -> Index:
        """Built when it is first asked for: then all routers are there."""
        if self._index is None:
            self._index = _index_of(self._app)
        return self._index


# By the identities of the routers that an application is made of, kept beside it: it takes
# a second of computing, and a program that makes several applications of the same routers (our
# tests) needs it once.
_INDEXES: Final[dict[tuple[int, ...], tuple[Index, list[object]]]] = {}


def _index_of(app: FastAPI) -> Index:
    routers: list[object] = [
        getattr(route, "original_router", route)
        for route in app.routes
        if isinstance(route, APIRoute) or hasattr(route, "original_router")
    ]
    key = tuple(map(id, routers))
    if key not in _INDEXES:
        _INDEXES[key] = Index(app), routers
    return _INDEXES[key][0]


class _Entry:
    """One route."""

    def __init__(self, context: RouteContext) -> None:
        assert isinstance(context.original_route, APIRoute)
        self.context = context
        self.route = context.original_route
        self.app: ASGIApp = context.app
        self.lean = lean_route(context)

    def match(self, path: str) -> dict[str, str] | None:
        found = self.context.path_regex.match(path)
        return None if found is None else found.groupdict()


class Index:
    """Routes without parameters by their path, the others by what comes before them."""

    def __init__(self, app: FastAPI) -> None:
        self._exact: dict[tuple[str, str], _Entry] = {}
        self._buckets: dict[_Bucket, list[_Entry]] = {}
        for context in iter_route_contexts(app.routes):
            if isinstance(context.original_route, APIRoute):
                self._add(context)

    def _add(self, context: RouteContext) -> None:
        entry, path = _Entry(context), context.path
        assert path is not None, "a route of ours has a path"
        for method in context.methods or ():
            # Whoever was declared first has it, as with FastAPI.
            if self.look_up(method, path)[0] is not None:
                continue
            if "{" not in path:
                self._exact[method, path] = entry
                continue
            bucket = _bucket(method, path)
            assert "{" not in bucket[2], f"{path} has a parameter among its first segments"
            assert ":" not in path, f"{path} has a parameter that may be several segments"
            self._buckets.setdefault(bucket, []).append(entry)

    def look_up(self, method: str, path: str) -> tuple[_Entry | None, dict[str, str]]:
        """The route and the parameters in its path; None when there is none, or none so plain."""
        entry = self._exact.get((method, path))
        if entry is not None:
            return entry, {}
        for candidate in self._buckets.get(_bucket(method, path), ()):
            found = candidate.match(path)
            if found is not None:
                return candidate, found
        return None, {}


def _bucket(method: str, path: str) -> _Bucket:
    segments = path.split("/", _PREFIX_SEGMENTS + 1)
    return method, path.count("/"), "/".join(segments[: _PREFIX_SEGMENTS + 1])


def lean_route(context: RouteContext) -> LeanRoute | None:
    """The direct way to a route; None for one that asks for more than it offers."""
    dependant: Dependant | None = getattr(context, "dependant", None)
    if dependant is None or not inspect.iscoroutinefunction(dependant.call):
        return None
    looks = [_look(one) for one in dependant.dependencies]
    has_more = (
        dependant.query_params, dependant.header_params, dependant.cookie_params,
        dependant.response_param_name, dependant.background_tasks_param_name,
        dependant.security_scopes_param_name, dependant.websocket_param_name,
        context.response_model_include, context.response_model_exclude,
        context.response_model_exclude_unset, context.response_model_exclude_defaults,
        context.response_model_exclude_none,
    )  # fmt: skip
    body = _json_body(context, dependant)
    body_is_plain = body is not None or not dependant.body_params
    answers_plainly = isinstance(context.response_class, DefaultPlaceholder) and (
        context.response_field is not None or _answers_itself(dependant.call)
    )
    plain = [look for look in looks if look is not None]
    if any(has_more) or not body_is_plain or not answers_plainly or len(plain) < len(looks):
        return None
    return LeanRoute(context, dependant, plain, body)


def _answers_itself(call: Callable[..., object]) -> bool:
    """Whether an endpoint makes the response."""
    found = get_typed_return_annotation(call)
    return isinstance(found, type) and issubclass(found, Response)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A dependency that looks only at the connection; ``name`` is None when nobody takes it."""

    name: str | None
    look: _Look


def _look(dependant: Dependant) -> _Asked | None:
    call = dependant.call
    has_more = (
        dependant.dependencies, dependant.path_params, dependant.query_params,
        dependant.header_params, dependant.cookie_params, dependant.body_params,
        dependant.request_param_name, dependant.websocket_param_name,
        dependant.response_param_name, dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )  # fmt: skip
    # An instance is a coroutine function if its class's call is one.
    is_coroutine = inspect.iscoroutinefunction(
        call if inspect.isroutine(call) else type(call).__call__
    )
    if call is None or any(has_more) or not is_coroutine:
        return None
    assert dependant.http_connection_param_name is not None, "it looks at the connection"
    return _Asked(dependant.name, call)


def _json_body(context: RouteContext, dependant: Dependant) -> tuple[str, type[BaseModel]] | None:
    """(parameter, model) of a body that is one model; None for no body or another kind of one."""
    if len(dependant.body_params) != 1 or context._embed_body_fields:
        return None
    (field,) = dependant.body_params
    model: object = field.field_info.annotation
    if isinstance(model, type) and issubclass(model, BaseModel) and field.field_info.is_required():
        return field.name, model
    return None


class LeanRoute:
    """A route that is called directly; see the head of this module."""

    def __init__(
        self,
        context: RouteContext,
        dependant: Dependant,
        asked: list[_Asked],
        body: tuple[str, type[BaseModel]] | None,
    ) -> None:
        assert dependant.call is not None
        self._endpoint: Callable[..., Awaitable[object]] = dependant.call
        self._fastapi: ASGIApp = context.app
        self._asked = asked
        self._body = body
        self._request_name = dependant.request_param_name
        self._connection_name = dependant.http_connection_param_name
        self._path_fields = dependant.path_params
        self._response_field = context.response_field
        self._by_alias = context.response_model_by_alias
        self._status = context.status_code or 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        values: dict[str, object] = {}
        if not self._read_path(scope["path_params"], values):
            await self._fastapi(scope, receive, send)
            return
        if self._body is not None:
            raw = await request.body()
            if not self._read_body(scope, raw, values):
                await self._fastapi(scope, _again(raw, receive), send)
                return
        for one in self._asked:
            value = await one.look(request)
            if one.name is not None:
                values[one.name] = value
        if self._request_name is not None:
            values[self._request_name] = request
        if self._connection_name is not None:
            values[self._connection_name] = request
        answer = await self._endpoint(**values)
        response = answer if isinstance(answer, Response) else self._response(answer)
        await response(scope, receive, send)

    def _read_path(self, found: Mapping[str, str], values: dict[str, object]) -> bool:
        """Whether the parameters in the path are what the route takes."""
        for field in self._path_fields:
            value, errors = field.validate(found[field.alias], {}, loc=("path", field.alias))
            if errors:
                return False
            values[field.name] = value
        return True

    def _read_body(self, scope: Scope, raw: bytes, values: dict[str, object]) -> bool:
        """Whether the body is JSON that the route takes."""
        assert self._body is not None
        name, model = self._body
        if not any(
            header == b"content-type" and value.partition(b";")[0] == _JSON
            for header, value in scope["headers"]
        ):
            return False
        try:
            values[name] = model.__pydantic_validator__.validate_json(raw)
        except ValidationError:
            return False
        return True

    def _response(self, answer: object) -> Response:
        """Raises ResponseValidationError when the endpoint answers another shape than it says."""
        field = self._response_field
        assert field is not None, "see lean_route"
        value, errors = field.validate(answer, {}, loc=("response",))
        if errors:
            raise ResponseValidationError(errors=errors, body=answer)
        content = field.serialize_json(value, by_alias=self._by_alias)
        return Response(content, self._status, media_type="application/json")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, for another reader."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def routes_served_directly(app: FastAPI) -> Iterator[str]:
    """Method and path of the routes that have a direct way, for tests and for people."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute) and lean_route(context) is not None:
            for method in sorted(context.methods or ()):
                yield f"{method} {context.path}"
