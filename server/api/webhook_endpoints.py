"""Outgoing webhooks: where a city's events go, what was sent, and sending it again."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.errors import Invalid, NotFound
from notify import repository, service
from notify.service import Scope, attempt_view, delivery_view, endpoint_view
from server.api.access import CityOps, ServicesDep
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from stores.service import get_city

router = APIRouter(prefix="/v1/ops/webhooks", tags=["webhooks"])

UrlText = Annotated[str, Field(min_length=1, max_length=500)]
EventTexts = Annotated[list[ShortText], Field(min_length=1, max_length=50)]


class EndpointIn(RequestModel):
    """``city_id`` left out: events of every city, which an admin alone may ask for."""

    city_id: IdText | None = None
    url: UrlText
    events: EventTexts
    description: ShortText = ""


class EndpointChangeIn(RequestModel):
    url: UrlText | None = None
    events: EventTexts | None = None
    description: ShortText | None = None
    active: bool | None = None


def _scope(actor: Actor) -> Scope:
    return Scope(None if actor.role is Role.ADMIN else actor.city_ids)


@router.post("", status_code=201)
async def create_endpoint(
    body: EndpointIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Add an endpoint.  The answer alone shows its secret; keep it."""
    if not _scope(actor).holds(body.city_id):
        if body.city_id is None:
            raise Invalid("Name the city whose events you want: city_id.")
        raise NotFound("There is no such city.")

    async def use_case(conn: AsyncConnection) -> Reply:
        if body.city_id is not None:
            await get_city(conn, body.city_id)
        made = await service.create(
            conn, services.settings.notify.webhooks, city_id=body.city_id, url=body.url,
            events=body.events, description=body.description, actor=actor.user_id,
        )  # fmt: skip
        return Reply(201, made)

    return await write(request, services, actor, use_case)


@router.get("")
async def list_endpoints(services: ServicesDep, actor: CityOps) -> dict[str, object]:
    """The endpoints that the caller may see, oldest first."""
    scope = _scope(actor)
    cities = None if scope.city_ids is None else sorted(scope.city_ids)
    async with services.database.begin() as conn:
        rows = await repository.list_endpoints(conn, cities)
    return {"items": [endpoint_view(row) for row in rows], "next_cursor": None}


@router.get("/{endpoint_id}")
async def read_endpoint(
    endpoint_id: IdText, services: ServicesDep, actor: CityOps
) -> dict[str, object]:
    """One endpoint, without its secret."""
    async with services.database.begin() as conn:
        return endpoint_view(await service.endpoint(conn, _scope(actor), endpoint_id))


@router.patch("/{endpoint_id}")
async def change_endpoint(
    endpoint_id: IdText,
    body: EndpointChangeIn,
    request: Request,
    services: ServicesDep,
    actor: CityOps,
) -> Response:
    """Change what is given; ``active: true`` switches an endpoint on again."""
    wanted = body.model_dump(exclude_none=True)

    async def use_case(conn: AsyncConnection) -> Reply:
        settings = services.settings.notify.webhooks
        return Reply(200, await service.change(conn, settings, _scope(actor), endpoint_id, wanted))

    return await write(request, services, actor, use_case)


@router.delete("/{endpoint_id}", status_code=204)
async def remove_endpoint(endpoint_id: IdText, services: ServicesDep, actor: CityOps) -> Response:
    """Remove an endpoint with everything that was sent to it."""
    async with services.database.begin() as conn:
        await service.endpoint(conn, _scope(actor), endpoint_id, lock=True)
        await repository.remove_endpoint(conn, endpoint_id)
    return Response(status_code=204)


@router.post("/{endpoint_id}/rotate-secret")
async def rotate_secret(
    endpoint_id: IdText, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """A new secret; for a day both sign, so that the receiver can change over."""

    async def use_case(conn: AsyncConnection) -> Reply:
        settings = services.settings.notify.webhooks
        return Reply(200, await service.rotate(conn, settings, _scope(actor), endpoint_id))

    return await write(request, services, actor, use_case)


@router.post("/{endpoint_id}/ping", status_code=202)
async def ping(
    endpoint_id: IdText, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Send a test event."""

    async def use_case(conn: AsyncConnection) -> Reply:
        return Reply(202, await service.ping(conn, _scope(actor), endpoint_id))

    return await write(request, services, actor, use_case)


@router.get("/{endpoint_id}/deliveries")
async def list_deliveries(
    endpoint_id: IdText,
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    status: Literal["waiting", "delivered", "dead"] | None = None,
) -> dict[str, object]:
    """The delivery log, newest first."""
    async with services.database.begin() as conn:
        await service.endpoint(conn, _scope(actor), endpoint_id)
        rows = await repository.list_deliveries(conn, endpoint_id, status, page.after, page.fetch)
    return page.body(rows, delivery_view, lambda row: (row.id,))


@router.get("/{endpoint_id}/deliveries/{delivery_id}")
async def read_delivery(
    endpoint_id: IdText, delivery_id: IdText, services: ServicesDep, actor: CityOps
) -> dict[str, object]:
    """One delivery: what is sent, and how each attempt went."""
    async with services.database.begin() as conn:
        row = await service.delivery(conn, _scope(actor), endpoint_id, delivery_id)
        attempts = await repository.attempts_of(conn, delivery_id)
    return {
        **delivery_view(row),
        "event": orjson.loads(row.body),
        "attempt_log": [attempt_view(attempt) for attempt in attempts],
    }


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(
    endpoint_id: IdText,
    delivery_id: IdText,
    request: Request,
    services: ServicesDep,
    actor: CityOps,
) -> Response:
    """Send one delivery again, whatever became of it."""

    async def use_case(conn: AsyncConnection) -> Reply:
        replayed = await service.replay(conn, _scope(actor), endpoint_id, delivery_id)
        return Reply(202, {"replayed": replayed})

    return await write(request, services, actor, use_case)


@router.post("/{endpoint_id}/replay-dead", status_code=202)
async def replay_dead(
    endpoint_id: IdText, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Send every dead delivery of the endpoint again."""

    async def use_case(conn: AsyncConnection) -> Reply:
        return Reply(
            202, {"replayed": await service.replay(conn, _scope(actor), endpoint_id, None)}
        )

    return await write(request, services, actor, use_case)
