"""What a picker's tablet calls."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from orders import picking
from orders.access import staffed_store
from server.api.access import ServicesDep, allow
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from stores import picking as pick_tasks
from stores.picking import OPEN, PickStatus

router = APIRouter(prefix="/v1", tags=["store"])

StoreStaff = Annotated[
    Actor, allow(Role.PICKER, Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)
]
Picker = Annotated[Actor, allow(Role.PICKER, Role.STORE_MANAGER)]


class ClaimIn(RequestModel):
    """Without an id: the most pressing task."""

    pick_task_id: IdText | None = None


class ScanIn(RequestModel):
    line_id: IdText
    barcode: IdText
    bin: IdText
    quantity: int = Field(default=1, ge=1, le=1000)


class ShortIn(RequestModel):
    line_id: IdText
    missing: int = Field(ge=1, le=1000)
    reason: Literal["not_found", "damaged", "expired", "other"] = "not_found"
    substitution_id: IdText | None = Field(
        default=None, description="Units of an approved substitute that is not there either"
    )


class PackIn(RequestModel):
    bags: int = Field(ge=1, le=50)
    shelf: ShortText = Field(min_length=1)


class HandoverIn(RequestModel):
    rider_code: IdText


@router.get("/stores/{store_id}/pick-tasks")
async def list_pick_tasks(
    store_id: IdText,
    services: ServicesDep,
    actor: StoreStaff,
    status: Annotated[list[PickStatus] | None, Query()] = None,
) -> dict[str, object]:
    """A store's open tasks, the most pressing first."""
    async with services.database.begin() as conn:
        await staffed_store(conn, actor, store_id)
        items = await pick_tasks.queue(conn, store_id, status or OPEN)
    return {"items": items, "next_cursor": None}


@router.post("/stores/{store_id}/pick-tasks/claim")
async def claim(
    store_id: IdText, body: ClaimIn, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Take the most pressing task; somebody who holds one gets that one again."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await staffed_store(conn, actor, store_id)
        return Reply(200, await picking.claim(conn, store_id, actor.user_id, body.pick_task_id))

    return await write(request, services, actor, use_case)


async def _in_store(conn: AsyncConnection, actor: Actor, pick_task_id: str) -> None:
    _order_id, store_id = await pick_tasks.locate(conn, pick_task_id)
    await staffed_store(conn, actor, store_id)


@router.get("/pick-tasks/{pick_task_id}")
async def read_pick_task(
    pick_task_id: IdText, services: ServicesDep, actor: StoreStaff
) -> dict[str, object]:
    """One task, whatever its state."""
    async with services.database.begin() as conn:
        await _in_store(conn, actor, pick_task_id)
        return await pick_tasks.read(conn, pick_task_id)


@router.post("/pick-tasks/{pick_task_id}/scan")
async def scan(
    pick_task_id: IdText, body: ScanIn, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Put scanned units into the bag; product and bin must be the line's."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        task = await picking.scan(
            conn, pick_task_id, actor.user_id, body.line_id, body.barcode, body.bin, body.quantity
        )
        return Reply(200, task)

    return await write(request, services, actor, use_case)


@router.post("/pick-tasks/{pick_task_id}/short")
async def short(
    pick_task_id: IdText, body: ShortIn, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Report units that are not there; the customer gets their money back."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        task = await picking.short(
            conn, pick_task_id, actor.user_id, body.line_id, body.missing, body.reason,
            body.substitution_id,
        )  # fmt: skip
        return Reply(200, task)

    return await write(request, services, actor, use_case)


@router.post("/pick-tasks/{pick_task_id}/pack")
async def pack(
    pick_task_id: IdText, body: PackIn, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Close the bags and put them on a shelf."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        task = await picking.pack(conn, pick_task_id, actor.user_id, body.bags, body.shelf)
        return Reply(200, task)

    return await write(request, services, actor, use_case)


@router.post("/pick-tasks/{pick_task_id}/handover")
async def handover(
    pick_task_id: IdText, body: HandoverIn, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Give the bags to the rider who shows the order's code."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        task = await picking.hand_over(conn, pick_task_id, actor.user_id, body.rider_code)
        return Reply(200, task)

    return await write(request, services, actor, use_case)


@router.post("/pick-tasks/{pick_task_id}/release")
async def release(
    pick_task_id: IdText, request: Request, services: ServicesDep, actor: Picker
) -> Response:
    """Put a task back into the queue."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        return Reply(200, await picking.release(conn, pick_task_id, actor.user_id))

    return await write(request, services, actor, use_case)
