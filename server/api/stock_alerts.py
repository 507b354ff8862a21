"""Stock alerts: a customer waits for a product and is told once that it is there again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import SHOPPERS, Actor
from server.api.access import ServicesDep, allow
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel
from server.api.writes import Reply, write
from stores import watch

router = APIRouter(prefix="/v1/stock-alerts", tags=["stock alerts"])

Shopper = Annotated[Actor, allow(*sorted(SHOPPERS))]


class AlertIn(RequestModel):
    store_id: IdText
    sku_id: IdText


@router.get("")
async def list_stock_alerts(
    actor: Shopper,
    services: ServicesDep,
    page: PagingDep,
) -> dict[str, object]:
    """My alerts, the latest first; `fired_at` says when the product was back."""
    async with services.database.begin() as conn:
        rows = await watch.list_alerts(conn, actor.user_id, page.after, page.fetch)
    return page.body(rows, dict)


@router.post("", status_code=201)
async def sign_up(
    body: AlertIn, actor: Shopper, services: ServicesDep, request: Request
) -> Response:
    """Wait for a product of a store; `in_stock` when there is nothing to wait for."""
    most = services.settings.stores.alerts_per_customer

    async def use_case(conn: AsyncConnection) -> Reply:
        return Reply(
            201, await watch.sign_up(conn, actor.user_id, body.store_id, body.sku_id, most)
        )

    return await write(request, services, actor, use_case)


@router.delete("/{alert_id}")
async def give_up(
    alert_id: IdText, actor: Shopper, services: ServicesDep, request: Request
) -> Response:
    """Wait no longer."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await watch.give_up(conn, actor.user_id, alert_id)
        return Reply(200, {"id": alert_id})

    return await write(request, services, actor, use_case)
