"""Riders' money: the cash that they hold, incentives, and statements of what they were paid."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from identity.model import Actor, Role
from kit.errors import NotFound
from kit.sql import load
from kit.wire import money, rfc3339
from ledger import rider_cash, settlement
from ledger.errors import AboveYourLimit
from ledger.settlement import PayLine
from orders.rider_pay import cash_view, give_incentive, tell_cash
from riders.tables import riders
from server import audit
from server.api.access import CityOps, ServicesDep, allow
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write

router = APIRouter(prefix="/v1", tags=["books"])

RiderActor = Annotated[Actor, allow(Role.RIDER)]
Counter = Annotated[Actor, allow(Role.STORE_MANAGER, Role.OPS, Role.ADMIN)]

_PLACE = load("server", "rider_place")


class DepositIn(RequestModel):
    """``store_id`` left out: paid in at the bank (ops only)."""

    amount_minor: int = Field(ge=1, le=10**12)
    reference: ShortText = Field(min_length=1)
    store_id: IdText | None = None


class IncentiveIn(RequestModel):
    amount_minor: int = Field(ge=1, le=10**12)
    reason: ShortText = Field(min_length=1)


@router.get("/riders/me/cash")
async def read_cash(services: ServicesDep, actor: RiderActor) -> dict[str, object]:
    """The cash in the rider's hands, and whether there may be more cash orders."""
    async with services.database.begin() as conn:
        return await cash_view(conn, _rider_id(actor), services.settings.riders.cash_limit_minor)


def _rider_id(actor: Actor) -> str:
    if actor.rider_id is None:
        raise NotFound("There is no rider for this account.")
    return actor.rider_id


@router.post("/ops/riders/{rider_id}/deposits", status_code=201)
async def deposit(
    rider_id: IdText, body: DepositIn, request: Request, services: ServicesDep, actor: Counter
) -> Response:
    """A rider hands in cash; never more than the rider holds."""
    store_id = body.store_id
    if store_id is None and actor.role is Role.STORE_MANAGER and len(actor.store_ids) == 1:
        (store_id,) = actor.store_ids

    async def use_case(conn: AsyncConnection) -> Reply:
        currency = await _place(conn, actor, rider_id, store_id)
        deposit_id = await rider_cash.deposit(
            conn, rider_id, store_id, body.amount_minor, currency, body.reference, actor.user_id
        )
        view = await cash_view(conn, rider_id, services.settings.riders.cash_limit_minor)
        await tell_cash(conn, rider_id)
        return Reply(
            201,
            {
                "id": deposit_id,
                "rider_id": rider_id,
                "store_id": store_id,
                "amount": money(body.amount_minor, currency),
                "reference": body.reference,
                "cash": view,
            },
        )

    return await write(request, services, actor, use_case)


async def _place(conn: AsyncConnection, actor: Actor, rider_id: str, store_id: str | None) -> str:
    """The currency of the rider's city; NotFound unless the actor may act for both."""
    row = await _PLACE.first(conn, rider_id, store_id)
    if row is None:
        raise NotFound("There is no such rider.")
    if store_id is None:
        if not actor.may_act_in_city(row.city_id):
            raise NotFound("There is no such rider.")
    elif row.store_city_id != row.city_id or not (
        actor.may_act_in_store(store_id) or actor.may_act_in_city(row.city_id)
    ):
        raise NotFound("There is no such store.")
    return str(row.currency)


@router.post("/ops/riders/{rider_id}/incentives", status_code=201)
async def post_incentive(
    rider_id: IdText, body: IncentiveIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Pay a rider something extra, with the next settlement."""
    limit = services.settings.ledger.incentive_max_minor

    async def use_case(conn: AsyncConnection) -> Reply:
        currency = await _place(conn, actor, rider_id, None)
        if body.amount_minor > limit:
            raise AboveYourLimit(
                "That is more than an incentive may be.", extra={"limit": money(limit, currency)}
            )
        earning_id = await give_incentive(conn, rider_id, body.amount_minor, currency, body.reason)
        given = {"id": earning_id, "amount": money(body.amount_minor, currency)}
        city_id = await conn.scalar(select(riders.c.city_id).where(riders.c.id == rider_id))
        deed = Deed("rider.incentive", "rider", rider_id, city_id, reason=body.reason, after=given)
        await audit.record(conn, actor, deed)
        return Reply(
            201,
            {
                "id": earning_id,
                "rider_id": rider_id,
                "amount": money(body.amount_minor, currency),
                "reason": body.reason,
            },
        )

    return await write(request, services, actor, use_case)


@router.get("/riders/me/statements")
async def list_statements(services: ServicesDep, actor: RiderActor) -> dict[str, object]:
    """What the rider was paid, newest first."""
    async with services.database.begin() as conn:
        found = await settlement.lines(conn, rider_id=_rider_id(actor), limit=200)
    return {"items": [line_out(line) for line in found], "next_cursor": None}


@router.get("/riders/me/statements/{line_id}")
async def read_statement(
    line_id: IdText,
    services: ServicesDep,
    actor: RiderActor,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """One pay statement: every delivery, tip, incentive and movement of cash."""
    async with services.database.begin() as conn:
        found = await settlement.lines(conn, rider_id=_rider_id(actor))
        line = next((one for one in found if one.id == line_id), None)
        if line is None:
            raise NotFound("There is no such statement.")
        rows = await settlement.pay_statement(conn, line)
    return _statement(line, rows, form)


def line_out(line: PayLine) -> dict[str, object]:
    return {
        "id": line.id,
        "run_id": line.run_id,
        "rider_id": line.rider_id,
        "from": line.from_day.isoformat(),
        "until": line.until_day.isoformat(),
        **{
            name: money(getattr(line, f"{name}_minor"), line.currency)
            for name in ("pay", "tips", "incentives", "cash", "paid")
        },
        "at": rfc3339(line.at),
    }


def _statement(line: PayLine, rows: Sequence[dict[str, Any]], form: str) -> Response:
    if form == "csv":
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(("at", "kind", "order_id", "amount_minor", "currency"))
        for row in rows:
            table.writerow(
                (rfc3339(row["at"]), row["kind"], row["order_id"] or "", row["amount_minor"],
                 line.currency)
            )  # fmt: skip
        name = f'attachment; filename="{line.id}.csv"'
        return Response(out.getvalue(), 200, {"Content-Disposition": name}, "text/csv")
    items = [
        {
            "at": rfc3339(row["at"]),
            "kind": row["kind"],
            "order_id": row["order_id"],
            "amount": money(row["amount_minor"], line.currency),
        }
        for row in rows
    ]
    return _json({**line_out(line), "items": items})


def _json(body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), 200, None, "application/json")
