"""A store's stock and whether it takes orders, for its manager, ops and admin."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import date
from typing import Annotated

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.db import Database
from kit.redis import RedisError
from server import audit
from server.api.access import ServicesDep, allow
from server.api.catalogue import Search, StoreOut, store_out
from server.api.paging import PagingDep, encode_cursor
from server.api.schemas import IdText, Page, RequestModel
from server.api.writes import Reply, write
from server.wiring import Services
from stores import availability_redis
from stores import service as stores
from stores.errors import StoreNotFound
from stores.repository import StockLine, Store
from stores.service import NearStore
from stores.stock import StockCount

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/ops/stores/{store_id}", tags=["stock"])

# The largest delivery of one product; a typing error has more digits.
UNITS_MAX = 100_000

Reason = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        min_length=1,
        max_length=stores.REASON_MAX_CHARACTERS,
        pattern=r"^[^\x00-\x1f]*$",
    ),
]
# Whoever works in a store is staff of that store, and not of its city's others.
_OF_A_STORE = frozenset({Role.STORE_MANAGER, Role.PICKER})
StockKeeper = Annotated[Actor, allow(Role.STORE_MANAGER, Role.OPS, Role.ADMIN)]


class OpsStoreOut(StoreOut):
    paused_reason: str | None


class StockLineOut(BaseModel):
    """Units of one product on the shelf; ``expires_on`` of what expires first.

    ``blocked`` units are too near their date to be sold.
    """

    sku_id: str
    name: str
    brand: str | None
    unit: str
    barcode: str
    temperature: str
    bin: str
    on_hand: int
    reserved: int
    available: int
    blocked: int
    expires_on: date | None


class StockCountOut(BaseModel):
    store_id: str
    sku_id: str
    on_hand: int
    reserved: int
    available: int


class ReceiveIn(RequestModel):
    """A delivery of one product; without ``expires_on`` it keeps."""

    sku_id: IdText
    quantity: int = Field(ge=1, le=UNITS_MAX)
    expires_on: date | None = None


class AdjustIn(RequestModel):
    """A correction: ``delta`` units found (positive) or gone (negative)."""

    sku_id: IdText
    delta: int = Field(ge=-UNITS_MAX, le=UNITS_MAX)
    reason: Reason


class PauseIn(RequestModel):
    reason: Reason


@router.get("/stock")
async def list_stock(
    store_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    page: PagingDep,
    q: Search = None,
) -> Page[StockLineOut]:
    """What is on the shelves; `q` also finds bins and barcodes."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        lines, more = await stores.list_stock(conn, store_id, q, page.after, page.limit)
    return Page(
        items=[_stock_line_out(line) for line in lines],
        next_cursor=None if more is None else encode_cursor(more),
    )


@router.post("/stock/receive", response_model=StockCountOut)
async def receive_stock(
    store_id: IdText, body: ReceiveIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """A delivery: the units become a lot of their own."""
    await own_store(services.database, actor, store_id)

    async def receive(conn: AsyncConnection) -> Reply:
        count = await stores.receive_stock(
            conn, store_id, body.sku_id, body.quantity, body.expires_on, actor.user_id
        )
        return Reply(200, count_body(store_id, body.sku_id, count))

    response = await write(request, services, actor, receive)
    await refresh(services, store_id, [body.sku_id])
    return response


@router.post("/stock/adjust", response_model=StockCountOut)
async def adjust_stock(
    store_id: IdText, body: AdjustIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """A correction of the count; `stock_reserved` if orders were promised those units."""
    await own_store(services.database, actor, store_id)

    async def adjust(conn: AsyncConnection) -> Reply:
        count = await stores.adjust_stock(
            conn, store_id, body.sku_id, body.delta, body.reason, actor.user_id
        )
        await audit.of_store(
            conn, actor, "stock.adjust", store_id, body.reason,
            object_kind="product", object_id=body.sku_id,
            after={"delta": body.delta, "on_hand": count.on_hand},
        )  # fmt: skip
        return Reply(200, count_body(store_id, body.sku_id, count))

    response = await write(request, services, actor, adjust)
    await refresh(services, store_id, [body.sku_id])
    return response


@router.post("/pause", response_model=OpsStoreOut)
async def pause_store(
    store_id: IdText, body: PauseIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """Take no new orders; those that are placed go on."""
    await own_store(services.database, actor, store_id)

    async def pause(conn: AsyncConnection) -> Reply:
        paused = await stores.pause(conn, store_id, body.reason)
        await audit.of_store(conn, actor, "store.pause", store_id, body.reason)
        return Reply(200, _ops_store_body(paused))

    return await write(request, services, actor, pause)


@router.post("/resume", response_model=OpsStoreOut)
async def resume_store(
    store_id: IdText, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """Take orders again."""
    await own_store(services.database, actor, store_id)

    async def resume(conn: AsyncConnection) -> Reply:
        resumed = await stores.resume(conn, store_id)
        await audit.of_store(conn, actor, "store.resume", store_id, None)
        return Reply(200, _ops_store_body(resumed))

    return await write(request, services, actor, resume)


async def refresh(services: Services, store_id: str, sku_ids: Collection[str]) -> None:
    """Show a change at once; if Redis is away, the event's relay or a rebuild does it later."""
    try:
        async with services.database.begin() as conn:
            await availability_redis.refresh(conn, services.redis, store_id, sku_ids)
    except RedisError as error:
        log.warning("availability_not_refreshed", store_id=store_id, error=type(error).__name__)


async def own_store(database: Database, actor: Actor, store_id: str) -> None:
    """Raises ``StoreNotFound`` unless the actor is staff of the store or of its city."""
    async with database.begin() as conn:
        store = await stores.get_store(conn, store_id)
    of_city = actor.role not in _OF_A_STORE and actor.may_act_in_city(store.city_id)
    if not (of_city or actor.may_act_in_store(store_id)):
        raise StoreNotFound("There is no store with this id among yours.")


def _ops_store_body(store: Store) -> dict[str, object]:
    shape = store_out(NearStore(store, None)).model_dump()
    return {**shape, "paused_reason": store.paused_reason}


def _stock_line_out(line: StockLine) -> StockLineOut:
    return StockLineOut(**asdict(line))


def count_body(store_id: str, sku_id: str, count: StockCount) -> dict[str, object]:
    return {
        "store_id": store_id,
        "sku_id": sku_id,
        "on_hand": count.on_hand,
        "reserved": count.reserved,
        "available": count.available,
    }
