"""Transfers between stores: the sending store plans, dispatches and cancels, the other receives."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from kit.errors import Invalid
from server.api.access import ServicesDep
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel
from server.api.stock import UNITS_MAX, StockKeeper, own_store, refresh
from server.api.writes import Reply, write
from stores import service as stores
from stores import transfers

router = APIRouter(prefix="/v1/ops/stores/{store_id}/stock/transfers", tags=["stock"])

LINES_MAX = 200


class TransferLineIn(RequestModel):
    sku_id: IdText
    quantity: int = Field(ge=1, le=UNITS_MAX)


class TransferIn(RequestModel):
    to_store_id: IdText
    lines: list[TransferLineIn] = Field(min_length=1, max_length=LINES_MAX)


class ArrivedLineIn(RequestModel):
    """Units that arrived of a product of which not all did."""

    sku_id: IdText
    quantity: int = Field(ge=0, le=UNITS_MAX)


class ReceiveIn(RequestModel):
    lines: list[ArrivedLineIn] = Field(default=[], max_length=LINES_MAX)


@router.get("")
async def list_transfers(
    store_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    page: PagingDep,
) -> dict[str, object]:
    """Transfers from and to a store, the latest first."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        rows = await transfers.list_transfers(conn, store_id, page.after, page.fetch)
    return page.body(rows, dict)


@router.get("/{transfer_id}")
async def read_transfer(
    store_id: IdText, transfer_id: IdText, actor: StockKeeper, services: ServicesDep
) -> dict[str, object]:
    """A transfer from or to this store."""
    await own_store(services.database, actor, store_id)
    async with services.database.begin() as conn:
        return await transfers.read(conn, store_id, transfer_id)


@router.post("", status_code=201)
async def create_transfer(
    store_id: IdText, body: TransferIn, actor: StockKeeper, services: ServicesDep, request: Request
) -> Response:
    """Plan a transfer; nothing moves yet."""
    await own_store(services.database, actor, store_id)
    lines = {line.sku_id: line.quantity for line in body.lines}
    if len(lines) < len(body.lines):
        raise Invalid("A product stands in one line of a transfer.")

    async def use_case(conn: AsyncConnection) -> Reply:
        await stores.get_store(conn, body.to_store_id)
        transfer_id = await transfers.create(conn, store_id, body.to_store_id, lines, actor.user_id)
        return Reply(201, await transfers.read(conn, store_id, transfer_id))

    return await write(request, services, actor, use_case)


@router.post("/{transfer_id}/dispatch")
async def dispatch_transfer(
    store_id: IdText,
    transfer_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """The units leave this store's shelf."""
    await own_store(services.database, actor, store_id)
    moved: list[str] = []

    async def use_case(conn: AsyncConnection) -> Reply:
        moved[:] = await transfers.dispatch(conn, store_id, transfer_id, actor.user_id)
        return Reply(200, await transfers.read(conn, store_id, transfer_id))

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, moved)
    return response


@router.post("/{transfer_id}/receive")
async def receive_transfer(
    store_id: IdText,
    transfer_id: IdText,
    body: ReceiveIn,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """The units come onto this store's shelf; name what did not arrive whole."""
    await own_store(services.database, actor, store_id)
    arrived = {line.sku_id: line.quantity for line in body.lines}
    moved: list[str] = []

    async def use_case(conn: AsyncConnection) -> Reply:
        moved[:] = await transfers.receive(conn, store_id, transfer_id, arrived, actor.user_id)
        return Reply(200, await transfers.read(conn, store_id, transfer_id))

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, moved)
    return response


@router.post("/{transfer_id}/cancel")
async def cancel_transfer(
    store_id: IdText,
    transfer_id: IdText,
    actor: StockKeeper,
    services: ServicesDep,
    request: Request,
) -> Response:
    """Call a transfer off; what is under way comes back to this store."""
    await own_store(services.database, actor, store_id)
    moved: list[str] = []

    async def use_case(conn: AsyncConnection) -> Reply:
        moved[:] = await transfers.cancel(conn, store_id, transfer_id, actor.user_id)
        return Reply(200, await transfers.read(conn, store_id, transfer_id))

    response = await write(request, services, actor, use_case)
    await refresh(services, store_id, moved)
    return response
