"""Who may use a route.  Every route states it with one of two dependencies.

``allow(Role.RIDER, …)`` verifies the bearer token, the session, the role and the rate limit, and
yields the ``Actor``; ``PUBLIC`` (or ``PROBE``, without a rate limit) says that anybody may.
``routes_without_rule`` finds those that say nothing; a test keeps that list empty.

::

    @router.get("/me")
    async def me(actor: Annotated[Actor, allow(*Role)]) -> …

    @router.post("/login", dependencies=[PUBLIC])
    async def log_in(…) -> …
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.requests import HTTPConnection

from identity.model import Actor, Role
from identity.service import Identity
from kit.errors import Denied, NotFound, Unauthenticated
from server.checkouts import Checkouts
from server.limits import RateLimiter, client_address
from server.wiring import Services


def services(connection: HTTPConnection) -> Services:
    """The system's parts, as the wiring put them together."""
    found: Services = connection.app.state.services
    return found


def identity(connection: HTTPConnection) -> Identity:
    """The use cases of identity."""
    found: Identity = connection.app.state.identity
    return found


def rate_limiter(connection: HTTPConnection) -> RateLimiter:
    """The counters of this process's rate limits."""
    found: RateLimiter = connection.app.state.rate_limiter
    return found


def checkouts(connection: HTTPConnection) -> Checkouts:
    """How this process places orders."""
    found: Checkouts = connection.app.state.checkouts
    return found


# FastAPI sends a plain function to a thread, which costs more than some whole requests.
async def _services(connection: HTTPConnection) -> Services:
    return services(connection)


async def _identity(connection: HTTPConnection) -> Identity:
    return identity(connection)


async def _rate_limiter(connection: HTTPConnection) -> RateLimiter:
    return rate_limiter(connection)


ServicesDep = Annotated[Services, Depends(_services)]
IdentityDep = Annotated[Identity, Depends(_identity)]
RateLimiterDep = Annotated[RateLimiter, Depends(_rate_limiter)]


@dataclass(frozen=True, slots=True)
class Allow:
    """The rule of a route for known people: any of ``roles``."""

    roles: frozenset[Role]

    async def __call__(self, connection: HTTPConnection) -> Actor:
        """Raises ``Unauthenticated`` (or a subclass), ``Denied`` or ``RateLimited``."""
        actor = await authenticate(connection, bearer_token(connection))
        if actor.role not in self.roles:
            raise Denied("Your account may not do this.")
        limiter = rate_limiter(connection)
        await limiter.hit("actor", limiter.settings.per_actor, actor.user_id)
        return actor


@dataclass(frozen=True, slots=True)
class Public:
    """The rule of a route for everybody; ``limited`` by client address, except for probes."""

    limited: bool = True

    async def __call__(self, connection: HTTPConnection) -> None:
        """Raises ``RateLimited``."""
        if self.limited:
            limiter = rate_limiter(connection)
            await limiter.hit("address", limiter.settings.per_address, client_address(connection))


# FastAPI's parameter marker is of a class that it does not export.
def allow(*roles: Role) -> Any:
    """The dependency that yields the ``Actor`` if it has one of ``roles``."""
    assert roles, "a route that nobody may use is a mistake"
    return Depends(Allow(frozenset(roles)))


CityOps = Annotated[Actor, allow(Role.OPS, Role.ADMIN)]
PUBLIC = Depends(Public())
PROBE = Depends(Public(limited=False))


def in_own_city(actor: Actor, city_id: str | None, what: str = "city") -> None:
    """Raises NotFound for what is in no city, or in one that is not the actor's to look after."""
    if city_id is None or not actor.may_act_in_city(city_id):
        raise NotFound(f"There is no such {what}.")


def bearer_token(connection: HTTPConnection) -> str:
    """The token of the ``Authorization`` header.  Raises ``Unauthenticated``."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Log in first: this needs an access token.")
    return token.strip()


async def authenticate(connection: HTTPConnection, token: str) -> Actor:
    """The actor whom a token proves, if its session still lives; binds the user id to the logs."""
    actor = await identity(connection).authenticate(token)
    structlog.contextvars.bind_contextvars(user_id=actor.user_id)
    return actor


def access_rule(route: RouteContext) -> Allow | Public | None:
    """The rule that a route states, or None."""
    dependant: Dependant | None = getattr(route, "dependant", None)
    rules = [] if dependant is None else list(_rules(dependant))
    assert len(rules) <= 1, f"{route.path} states more than one rule"
    return rules[0] if rules else None


def _rules(dependant: Dependant) -> Iterator[Allow | Public]:
    if isinstance(dependant.call, Allow | Public):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _rules(inner)


def routes_without_rule(app: FastAPI) -> list[str]:
    """Paths (with methods) of HTTP and WebSocket routes and mounts that do not say who may."""
    return [
        f"{','.join(sorted(route.methods or ())) or 'ANY'} {route.path}"
        for route in iter_route_contexts(app.routes)
        if access_rule(route) is None
    ]
