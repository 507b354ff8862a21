"""What ops see of dispatch: what holds, what calls for them, what waits, how riders answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from kit.sql import load
from kit.wire import rfc3339
from orders import controlling, dispatch_alerts, dispatch_controls
from server import audit
from server.api.access import CityOps, ServicesDep, in_own_city
from server.api.audit import cities_of, json_of
from server.api.paging import PagingDep
from server.api.schemas import IdText, ReasonIn, RequestModel, ShortText
from server.api.writes import Reply, write
from stores.tables import stores, zones

router = APIRouter(prefix="/v1/ops", tags=["ops"])

_WAITING = load("orders", "waiting_orders")
_ANSWERS = load("riders", "answers")


class ReleaseIn(RequestModel):
    reason: ShortText | None = None


@router.get("/dispatch/controls")
async def list_controls(
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    over: Annotated[bool, Query(description="Those that are over too")] = False,
) -> dict[str, object]:
    """What ops have said about dispatch in the caller's cities, newest first."""
    async with services.database.begin() as conn:
        rows = await dispatch_controls.rows(
            conn, cities_of(actor), over=over, before=page.after, limit=page.fetch
        )
    return page.body(rows, dispatch_controls.shape)


@router.post("/dispatch/controls/{control_id}/release")
async def release(
    control_id: IdText,
    request: Request,
    services: ServicesDep,
    actor: CityOps,
    body: ReleaseIn | None = None,
) -> Response:
    """End a control before its time, whoever set it.  Saying it twice is fine."""
    reason = (body or ReleaseIn()).reason

    async def use_case(conn: AsyncConnection) -> Reply:
        before = await dispatch_controls.read(conn, control_id)
        in_own_city(actor, before["city_id"], "control")
        row = await controlling.release(conn, control_id, actor.user_id, reason)
        if before["released_at"] is None:
            deed = Deed(
                "control.release", "control", control_id, row["city_id"], row["store_id"], reason,
                before=dispatch_controls.shape(before), after=dispatch_controls.shape(row),
            )  # fmt: skip
            await audit.record(conn, actor, deed)
        return Reply(200, dispatch_controls.shape(row))

    return await write(request, services, actor, use_case)


@router.get("/dispatch/alerts")
async def list_alerts(
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    resolved: Annotated[bool, Query(description="Resolved ones too")] = False,
) -> dict[str, object]:
    """Orders that need a person, newest first."""
    async with services.database.begin() as conn:
        rows = await dispatch_alerts.rows(
            conn, cities_of(actor), resolved=resolved, before=page.after, limit=page.fetch
        )
    return page.body(rows, dispatch_alerts.shape)


@router.post("/dispatch/alerts/{alert_id}/resolve")
async def resolve_alert(
    alert_id: IdText, body: ReasonIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Say what became of an alert.  The first word stands."""

    async def use_case(conn: AsyncConnection) -> Reply:
        before = await dispatch_alerts.read(conn, alert_id)
        in_own_city(actor, before["city_id"], "alert")
        row = await dispatch_alerts.close(conn, alert_id, actor.user_id, body.reason)
        if before["resolved_at"] is None:
            deed = Deed(
                "alert.resolve", "alert", alert_id, row["city_id"], row["store_id"], body.reason,
                after={"order_id": row["order_id"], "kind": row["kind"]},
            )  # fmt: skip
            await audit.record(conn, actor, deed)
        return Reply(200, dispatch_alerts.shape(row))

    return await write(request, services, actor, use_case)


@router.get("/cities/{city_id}/zones")
async def list_zones(city_id: IdText, services: ServicesDep, actor: CityOps) -> dict[str, object]:
    """The zones of a city, by the store that serves them: what can be paused."""
    in_own_city(actor, city_id)
    async with services.database.begin() as conn:
        rows = await conn.execute(
            select(zones.c.id, zones.c.store_id, stores.c.name, zones.c.polygon)
            .join(stores, stores.c.id == zones.c.store_id)
            .where(stores.c.city_id == city_id)
            .order_by(zones.c.id)
        )
        items = [
            {
                "id": row.id,
                "store_id": row.store_id,
                "store_name": row.name,
                "polygon": row.polygon,
            }
            for row in rows
        ]
    return {"items": items, "next_cursor": None}


@router.get("/cities/{city_id}/held-orders")
async def list_held(city_id: IdText, services: ServicesDep, actor: CityOps) -> dict[str, object]:
    """Orders without a rider that a control keeps from being planned, and which one."""
    in_own_city(actor, city_id)
    territory = await services.territory.get()
    async with services.database.begin() as conn:
        controls = await dispatch_controls.read_controls(conn, city_id)
        rows = await _WAITING.all(conn, city_id)
    applied = dispatch_controls.apply(controls, territory.zones, {row.id: row for row in rows}, {})
    items: list[dict[str, object]] = [
        {
            "order_id": order_id,
            "why": "held",
            "control_id": held.control_id,
            "reason": held.reason,
            "until": rfc3339(held.until),
        }
        for order_id, held in sorted(applied.held.items())
    ]
    pins = {row["order_id"]: row for row in controls.rows if row["kind"] == "pin"}
    items += [
        {
            "order_id": order_id,
            "why": "pinned",
            "control_id": pins[order_id]["id"],
            "reason": pins[order_id]["reason"],
            "until": rfc3339(pins[order_id]["until"]),
            "rider_id": rider_id,
        }
        for order_id, rider_id in sorted(applied.pins.items())
        if order_id in applied.orders
    ]
    return {"items": items, "next_cursor": None}


@router.get("/cities/{city_id}/riders/answers")
async def list_answers(
    city_id: IdText,
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    days: Annotated[int, Query(ge=1, le=90)] = 7,
) -> dict[str, object]:
    """How each rider answered offers in the last days.

    `acceptance` is what was taken of what was asked: neither offers that were withdrawn nor those
    that were taken without asking count.
    """
    in_own_city(actor, city_id)
    since = services.clock.now() - timedelta(days=days)
    async with services.database.begin() as conn:
        rows = await _ANSWERS.dicts(conn, city_id, since, page.after, page.fetch)
    return page.body(rows, _answers_out, lambda row: (row["rider_id"],))


def _answers_out(row: Mapping[str, Any]) -> dict[str, object]:
    asked = row["accepted"] + row["declined"] + row["expired"]
    return {
        "rider_id": row["rider_id"],
        "name": row["name"],
        "auto_accept": row["auto_accept"],
        "paused": row["paused"],
        "offers": row["offers"],
        "accepted": row["accepted"],
        "accepted_unasked": row["accepted_unasked"],
        "declined": row["declined"],
        "not_answered": row["expired"],
        "withdrawn": row["withdrawn"],
        "acceptance": None if not asked else round(row["accepted"] / asked, 4),
        "answer_s": row["answer_s"],
        "decline_reasons": json_of(row["decline_reasons"]),
    }
