"""Cycle counts: pickers count blind; a manager sees and decides what differs much."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.errors import Invalid
from server import audit
from server.api.access import ServicesDep, allow
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel
from server.api.stock import UNITS_MAX, Reason, StockKeeper, own_store, refresh
from server.api.writes import Reply, write
from server.wiring import Services
from stores import counting
from stores.counting import MAX_LINES, Counted, Decision

router = APIRouter(prefix="/v1/ops/stores/{store_id}/stock/counts", tags=["stock"])

Counter = Annotated[Actor, allow(Role.PICKER, Role.STORE_MANAGER, Role.OPS, Role.ADMIN)]


class OpenCountIn(RequestModel):
    """Products, bins, or both."""

    sku_ids: list[IdText] = Field(default=[], max_length=MAX_LINES)
    bins: list[IdText] = Field(default=[], max_length=MAX_LINES)


class CountedIn(RequestModel):
    """``counted_at``: when, if the message comes later; picks since then are allowed for."""

    sku_id: IdText
    units: int = Field(ge=0, le=UNITS_MAX)
    counted_at: AwareDatetime | None = None
    reason: Reason | None = None


class RecordIn(RequestModel):
    lines: list[CountedIn] = Field(min_length=1, max_length=MAX_LINES)


class DecideIn(RequestModel):
    """What to do about what differs much; without ``sku_ids``: about all of it."""

    decision: Decision
    sku_ids: list[IdText] = Field(default=[], max_length=MAX_LINES)


def _blind(actor: Actor) -> bool:
    return actor.role is Role.PICKER


@router.get("")
async def list_counts(
    store_id: IdText,
    actor: Counter,
    services: ServicesDep,
    page: PagingDep,
) -> dict[str, object]:
    """A store's counts, the latest first."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        rows = await counting.list_counts(conn, store_id, page.after, page.fetch)
    return page.body(rows, dict)


@router.get("/{count_id}")
async def read_count(
    store_id: IdText, count_id: IdText, actor: Counter, services: ServicesDep
) -> dict[str, object]:
    """A count and its lines; a picker is not told what the books say."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        return await counting.read(conn, store_id, count_id, blind=_blind(actor))


@router.post("", status_code=201)
async def open_count(
    store_id: IdText, body: OpenCountIn, actor: Counter, services: ServicesDep, request: Request
) -> Response:
    """Open a count of products and bins."""
    if not body.sku_ids and not body.bins:
        raise Invalid("Name the products or the bins to count.")
    await own_store(services.database, actor, store_id)

    async def use_case(conn: AsyncConnection) -> Reply:
        count_id = await counting.open_count(
            conn, store_id, actor.user_id, sku_ids=set(body.sku_ids), bins=set(body.bins)
        )
        return Reply(201, await counting.read(conn, store_id, count_id, blind=True))

    return await write(request, services, actor, use_case)


@router.post("/{count_id}/lines")
async def record_count(
    store_id: IdText,
    count_id: IdText,
    body: RecordIn,
    actor: Counter,
    services: ServicesDep,
    request: Request,
) -> Response:
    """Tell what was found; small differences are booked, large ones wait for a manager."""
    found = [Counted(**line.model_dump()) for line in body.lines]
    settings = services.settings.stores.count

    async def use_case(conn: AsyncConnection) -> None:
        await counting.record(conn, settings, store_id, count_id, found, actor.user_id)

    return await _change(
        request, services, actor, store_id, count_id, use_case, [line.sku_id for line in body.lines]
    )


@router.post("/{count_id}/decide")
async def decide_count(
    store_id: IdText,
    count_id: IdText,
    body: DecideIn,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """Approve, reject or have recounted what differs much; not by whom who counted it."""

    async def use_case(conn: AsyncConnection) -> None:
        await counting.decide(
            conn, store_id, count_id, set(body.sku_ids), body.decision, actor.user_id
        )
        await audit.of_store(
            conn, actor, "count.decide", store_id, None, object_kind="count", object_id=count_id,
            after={"decision": body.decision, "sku_ids": sorted(body.sku_ids)},
        )  # fmt: skip

    return await _change(request, services, actor, store_id, count_id, use_case, body.sku_ids)


@router.post("/{count_id}/close")
async def close_count(
    store_id: IdText, count_id: IdText, actor: Counter, services: ServicesDep, request: Request
) -> Response:
    """Leave out what nobody has counted."""

    async def use_case(conn: AsyncConnection) -> None:
        await counting.close(conn, store_id, count_id)

    return await _change(request, services, actor, store_id, count_id, use_case, [])


async def _change(
    request: Request,
    services: Services,
    actor: Actor,
    store_id: str,
    count_id: str,
    use_case: Callable[[AsyncConnection], Awaitable[None]],
    sku_ids: list[str],
) -> Response:
    """Run a change of a count and answer with the count as the actor may see it."""
    await own_store(services.database, actor, store_id)

    async def changed(conn: AsyncConnection) -> Reply:
        await use_case(conn)
        return Reply(200, await counting.read(conn, store_id, count_id, blind=_blind(actor)))

    response = await write(request, services, actor, changed)
    if sku_ids:
        await refresh(services, store_id, sku_ids)
    return response
