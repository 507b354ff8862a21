"""What city ops and support call: orders and riders of their scope, and the hand on the wheel."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.sql import load
from kit.wire import rfc3339
from ledger.reports import trial_balance
from orders import returns
from orders.access import visible_order
from orders.model import OrderState
from orders.returns import Disposition
from orders.views import shape_order
from server import audit
from server.api.access import CityOps, ServicesDep, allow, in_own_city
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel
from server.api.writes import Reply, write

router = APIRouter(prefix="/v1/ops", tags=["ops"])

Staff = Annotated[Actor, allow(Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)]

_ORDERS = load("orders", "city_orders")
_RIDERS = load("orders", "city_riders")


class ReturnedIn(RequestModel):
    sku_id: IdText
    disposition: Disposition


class ReturnIn(RequestModel):
    """`lines` say what becomes of single products; the rest is decided by `restock`."""

    restock: bool = Field(
        default=True,
        description="False: all is thrown away. True: what is still fit goes back on the shelf",
    )
    lines: list[ReturnedIn] = Field(default_factory=list, max_length=500)


@router.get("/orders")
async def list_orders(
    services: ServicesDep,
    actor: Staff,
    page: PagingDep,
    status: Annotated[list[OrderState] | None, Query()] = None,
) -> dict[str, object]:
    """Orders of the stores and cities that the caller looks after, newest first."""
    wanted = None if status is None else [state.value for state in status]
    async with services.database.begin() as conn:
        ids = await _ORDERS.all(
            conn, sorted(actor.store_ids), sorted(actor.city_ids), actor.role is Role.ADMIN,
            wanted, page.after, page.fetch,
        )  # fmt: skip
        rows = [await services.tracking.order_record(conn, row.id) for row in ids]
    return page.body(rows, lambda row: shape_order(row, with_code=False))


@router.get("/cities/{city_id}/riders")
async def list_riders(city_id: IdText, services: ServicesDep, actor: CityOps) -> dict[str, object]:
    """A city's riders: on shift or not, on a trip or not, and where they were seen last."""
    in_own_city(actor, city_id)
    async with services.database.begin() as conn:
        rows = await _RIDERS.all(conn, city_id)
    fixes = await services.locations.read(city_id, [row.id for row in rows])
    items = []
    for row in rows:
        fix = fixes.get(row.id)
        items.append(
            {
                "rider_id": row.id,
                "name": row.name,
                "vehicle": row.vehicle,
                "on_shift": row.started_at is not None,
                "shift_ends_at": rfc3339(row.ends_at),
                "trip_id": row.trip_id,
                "trip_status": row.trip_status,
                "position": None if fix is None else {"lat": fix.lat, "lon": fix.lon},
            }
        )
    return {"items": items, "next_cursor": None}


@router.post("/orders/{order_id}/return")
async def take_back(
    order_id: IdText, body: ReturnIn, request: Request, services: ServicesDep, actor: Staff
) -> Response:
    """An undeliverable order is back in the store; `returned` tells what became of its goods.

    What has to stay cold and was out for too long is thrown away.
    """
    settings = services.settings.orders.returns

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        decided = await returns.take_back(
            conn, settings, order_id, actor.user_id, restock=body.restock,
            dispositions={line.sku_id: line.disposition for line in body.lines},
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        returned = {sku_id: disposition.value for sku_id, disposition in decided.items()}
        await audit.of_order(conn, actor, "order.return", order_id, None, after=returned)
        return Reply(200, {**shape_order(order, with_code=False), "returned": returned})

    return await write(request, services, actor, use_case)


@router.get("/ledger/trial-balance")
async def read_trial_balance(
    services: ServicesDep, actor: Annotated[Actor, allow(Role.ADMIN)], at: date | None = None
) -> dict[str, object]:
    """Every account's balance, now or at the end of a day (UTC); each currency sums to zero."""
    async with services.database.begin() as conn:
        balances = await trial_balance(conn, at)
    return {
        "currencies": [
            {
                "currency": currency,
                "accounts": accounts,
                "sum_minor": sum(accounts.values()),
            }
            for currency, accounts in balances.items()
        ]
    }
