"""The FastAPI application: routers, error answers, middleware, the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from identity.service import Identity
from server import errors, routing
from server.api import (
    asyncapi,
    audit,
    auth,
    books,
    cart,
    catalogue,
    claims,
    clock,
    customer,
    dispatch_desk,
    dispatch_insight,
    dispatch_ops,
    dispatch_parts,
    dispatch_sets,
    health,
    offers,
    ops,
    order_changes,
    payments,
    realtime,
    rider,
    rider_money,
    slots,
    stock,
    stock_alerts,
    stock_books,
    stock_counts,
    stock_transfers,
    store,
    stream,
    substitutions,
    supply,
    wallet,
    webhook_endpoints,
    webhooks,
)
from server.api.access import Allow, access_rule
from server.api.schemas import Problem
from server.api.writes import KEY_HEADER, REPLAYED_HEADER
from server.card_numbers import CardNumberGuard
from server.checkouts import Checkouts
from server.limits import RateLimiter
from server.middleware import Drain, ErrorBoundary, Shell
from server.settings import HttpSettings
from server.what_if import WhatIf
from server.wiring import Services

TITLE = "Darkstore"
VERSION = "1"

# One line an audience.  A router brings its whole prefix itself: logs name routes by it.
ROUTERS: tuple[APIRouter, ...] = (
    # Found in this order, so what is asked most comes first.
    customer.router,
    auth.router,
    cart.router,
    catalogue.router,
    webhooks.router,
    health.router,
    asyncapi.router,
    clock.router,
    order_changes.router,
    slots.router,
    store.router,
    substitutions.router,
    claims.router,
    rider.router,
    offers.router,
    ops.router,
    dispatch_ops.router,
    dispatch_desk.router,
    dispatch_insight.router,
    dispatch_parts.router,
    dispatch_sets.router,
    supply.router,
    audit.router,
    wallet.router,
    rider_money.router,
    books.router,
    stock.router,
    stock_books.router,
    stock_counts.router,
    stock_transfers.router,
    stock_alerts.router,
    realtime.router,
    stream.router,
    payments.router,
    webhook_endpoints.router,
)


class DarkstoreApp(FastAPI):
    """FastAPI with our error documents in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = get_openapi(title=TITLE, version=VERSION, routes=self.routes)
            self.openapi_schema = _with_our_rules(self, document)
        return self.openapi_schema


def create_app(services: Services, *, routers: tuple[APIRouter, ...] = ROUTERS) -> FastAPI:
    """The application over ready-made services; it opens and closes nothing itself."""
    http = services.settings.http
    drain = Drain()
    app = DarkstoreApp(
        title=TITLE,
        version=VERSION,
        # Served by a route of ours, so that it has an access rule like all the others.
        openapi_url="/openapi.json" if http.docs_page else None,
        docs_url="/docs" if http.docs_page else None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        middleware=_middleware(http, drain),
    )
    app.state.services = services
    app.state.drain = drain
    app.state.identity = Identity(
        services.settings.identity,
        services.database,
        services.redis,
        services.clock,
        auth.rider_of,
    )
    app.state.rate_limiter = RateLimiter(http.rate_limits, services.clock, services.redis)
    app.state.checkouts = Checkouts(services)
    app.state.what_if = WhatIf(services)
    errors.install(app)
    for router in routers:
        app.include_router(router)
    routing.install(app)
    return app


def _middleware(http: HttpSettings, drain: Drain) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(Shell, drain=drain)]
    if http.trusted_proxies:
        layers.insert(
            0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(http.trusted_proxies))
        )
    if http.allowed_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(http.allowed_origins),
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", KEY_HEADER, "X-Request-Id"],
                expose_headers=["X-Request-Id", "Retry-After", REPLAYED_HEADER],
                max_age=600,
            )
        )
    layers.append(
        Middleware(
            ErrorBoundary,
            deadline_s=http.request_deadline_s,
            body_max_bytes=http.body_max_bytes,
        )
    )
    layers.append(Middleware(CardNumberGuard))
    return layers


def _operation_id(route: APIRoute) -> str:
    """``identity_log_in``: what a generated client calls its method."""
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def _with_our_rules(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    """Problem documents as every operation's default answer, and who may call it."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    definition = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(definition.pop("$defs", {}))
    schemas["Problem"] = definition
    for ours in ("HTTPValidationError", "ValidationError"):
        schemas.pop(ours, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = document["paths"].get(route.path, {}).get(method.lower())
            if operation is not None:
                _describe(operation, route)
    return document


def _describe(operation: dict[str, Any], route: RouteContext) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {
        "description": "A problem; `code` says which",
        "content": {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    rule = access_rule(route)
    if isinstance(rule, Allow):
        operation["security"] = [{"bearer": []}]
        operation["x-roles"] = sorted(role.value for role in rule.roles)
