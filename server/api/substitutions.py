"""Substitutes: what a picker offers, and what the customer says to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from orders import picking, substitutions
from orders.access import staffed_store, visible_order
from orders.shortage import shape_alternative
from orders.views import shape_order
from server.api.access import ServicesDep, allow
from server.api.schemas import IdText, RequestModel
from server.api.writes import Reply, write
from server.wiring import Services
from stores import picking as pick_tasks

router = APIRouter(prefix="/v1", tags=["substitutions"])

Picker = Annotated[Actor, allow(Role.PICKER, Role.STORE_MANAGER)]
StoreStaff = Annotated[
    Actor, allow(Role.PICKER, Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)
]
Shopper = Annotated[Actor, allow(Role.CUSTOMER, Role.GUEST)]


class SubstituteIn(RequestModel):
    """With a barcode the units are in the picker's hand."""

    line_id: IdText
    sku_id: IdText
    quantity: int = Field(default=1, ge=1, le=1000)
    barcode: IdText | None = None


async def _in_store(conn: AsyncConnection, actor: Actor, pick_task_id: str) -> None:
    _order_id, store_id = await pick_tasks.locate(conn, pick_task_id)
    await staffed_store(conn, actor, store_id)


@router.get("/pick-tasks/{pick_task_id}/lines/{line_id}/substitutes")
async def list_substitutes(
    pick_task_id: IdText, line_id: IdText, services: ServicesDep, actor: StoreStaff
) -> dict[str, object]:
    """What may stand in for a line: same category, nearest in price, in stock now."""
    limit = services.settings.orders.substitutions.candidates
    async with services.database.begin() as conn:
        await _in_store(conn, actor, pick_task_id)
        task = await pick_tasks.read(conn, pick_task_id)
        found = await substitutions.candidates(conn, task, line_id, limit)
    return {"items": [shape_alternative(each) for each in found], "next_cursor": None}


@router.post("/pick-tasks/{pick_task_id}/substitute")
async def substitute(
    pick_task_id: IdText,
    body: SubstituteIn,
    request: Request,
    services: ServicesDep,
    actor: Picker,
) -> Response:
    """Offer another product for missing units of a line.

    Units of the line that are still open are reported missing with it.  Whether the customer is
    asked first is the order's `substitution`; while they are, the line is `waiting`.
    """
    settings = services.settings.orders.substitutions

    async def use_case(conn: AsyncConnection) -> Reply:
        await _in_store(conn, actor, pick_task_id)
        task = await picking.substitute(
            conn, settings, pick_task_id, actor.user_id, body.line_id, body.sku_id,
            body.quantity, body.barcode,
        )  # fmt: skip
        return Reply(200, task)

    return await write(request, services, actor, use_case)


@router.post("/orders/{order_id}/substitutions/{substitution_id}/approve")
async def approve(
    order_id: IdText,
    substitution_id: IdText,
    request: Request,
    services: ServicesDep,
    actor: Shopper,
) -> Response:
    """Take the substitute, at most for the price of what is missing."""
    return await _decide(request, services, actor, order_id, substitution_id, approved=True)


@router.post("/orders/{order_id}/substitutions/{substitution_id}/reject")
async def reject(
    order_id: IdText,
    substitution_id: IdText,
    request: Request,
    services: ServicesDep,
    actor: Shopper,
) -> Response:
    """Rather have the money back."""
    return await _decide(request, services, actor, order_id, substitution_id, approved=False)


async def _decide(
    request: Request,
    services: Services,
    actor: Actor,
    order_id: str,
    substitution_id: str,
    *,
    approved: bool,
) -> Response:
    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        await substitutions.decide(
            conn, order_id, substitution_id, actor.user_id, approved=approved
        )
        order = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(order, with_code=True))

    return await write(request, services, actor, use_case)
