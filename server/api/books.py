"""Money between people: customers' wallets, riders' cash and pay, and the books for ops."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from identity.model import Actor, Role
from identity.tables import users
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import load
from kit.wire import money, rfc3339
from ledger import days, reports, rider_cash, settlement, wallet
from ledger.chart import Account
from ledger.errors import AboveYourLimit, UnknownAccount
from ledger.settlement import PayLine
from orders.rider_pay import cash_view, give_incentive, tell_cash
from riders.tables import riders
from server import audit
from server.api.access import ServicesDep, allow
from server.api.schemas import (
    PAGE_LIMIT_DEFAULT,
    CursorText,
    IdText,
    PageLimit,
    PageOf,
    RequestModel,
    ShortText,
    decode_cursor,
)
from server.api.writes import Reply, write
from server.wiring import Services

router = APIRouter(prefix="/v1", tags=["books"])

Shopper = Annotated[Actor, allow(Role.CUSTOMER, Role.GUEST)]
RiderActor = Annotated[Actor, allow(Role.RIDER)]
Counter = Annotated[Actor, allow(Role.STORE_MANAGER, Role.OPS, Role.ADMIN)]
CityOps = Annotated[Actor, allow(Role.OPS, Role.ADMIN)]
Crediting = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]
Bookkeeper = Annotated[Actor, allow(Role.ADMIN)]

_WALLET_LINES = load("ledger", "wallet_lines")


class CreditIn(RequestModel):
    amount_minor: int = Field(ge=1, le=10**12)
    currency: str = Field(default="INR", pattern="^[A-Z]{3}$")
    reason: Literal["goodwill", "late_delivery", "promotion", "correction"]
    note: ShortText | None = None


class DepositIn(RequestModel):
    """``store_id`` left out: paid in at the bank (ops only)."""

    amount_minor: int = Field(ge=1, le=10**12)
    reference: ShortText = Field(min_length=1)
    store_id: IdText | None = None


class IncentiveIn(RequestModel):
    amount_minor: int = Field(ge=1, le=10**12)
    reason: ShortText = Field(min_length=1)


class SettleIn(RequestModel):
    until: date


# Customers: the wallet.


@router.get("/wallet")
async def read_wallet(
    services: ServicesDep,
    actor: Shopper,
    limit: PageLimit = PAGE_LIMIT_DEFAULT,
    cursor: CursorText | None = None,
) -> dict[str, object]:
    """Balances, what open orders hold of them, and every movement, newest first."""
    before = decode_cursor(cursor, str, int) if cursor else ("", 0)
    async with services.database.begin() as conn:
        wallets = await wallet.read(conn, actor.user_id)
        rows = await _WALLET_LINES.dicts(conn, actor.user_id, before[0], before[1], limit + 1)
    page = PageOf(rows, limit).body(_movement, lambda row: (row["transaction_id"], row["n"]))
    return {
        "balances": [
            {
                "balance": money(one.balance_minor, one.currency),
                "held": money(one.held_minor, one.currency),
                "available": money(one.free_minor, one.currency),
            }
            for one in wallets
        ],
        **page,
    }


def _movement(row: Any) -> dict[str, object]:
    return {
        "id": row["transaction_id"],
        "kind": row["kind"],
        "order_id": row["order_id"],
        "amount": money(row["amount_minor"], row["currency"]),
        "at": rfc3339(row["at"]),
    }


@router.post("/ops/users/{user_id}/wallet/credit", status_code=201)
async def credit_wallet(
    user_id: IdText, body: CreditIn, request: Request, services: ServicesDep, actor: Crediting
) -> Response:
    """Give a customer store credit; how much one may give depends on the role."""
    _check_limit(services, actor, body.amount_minor, body.currency)
    credit_id = new_id("crd")

    async def use_case(conn: AsyncConnection) -> Reply:
        role = await conn.scalar(select(users.c.role).where(users.c.id == user_id))
        if role not in (Role.CUSTOMER, Role.GUEST):
            raise NotFound("There is no such customer.")
        await wallet.give_credit(
            conn, f"{credit_id}:{actor.user_id}", user_id, body.currency, body.amount_minor,
            body.reason,
        )  # fmt: skip
        given = {"id": credit_id, "amount": money(body.amount_minor, body.currency)}
        deed = Deed("wallet.credit", "user", user_id, reason=body.reason, after=given)
        await audit.record(conn, actor, deed)
        (found,) = [w for w in await wallet.read(conn, user_id) if w.currency == body.currency]
        return Reply(
            201,
            {
                "id": credit_id,
                "user_id": user_id,
                "amount": money(body.amount_minor, body.currency),
                "balance": money(found.balance_minor, found.currency),
            },
        )

    return await write(request, services, actor, use_case)


def _check_limit(services: Services, actor: Actor, amount_minor: int, currency: str) -> None:
    settings = services.settings.ledger
    limit = {
        Role.SUPPORT: settings.support_credit_max_minor,
        Role.OPS: settings.ops_credit_max_minor,
    }.get(actor.role)
    if limit is not None and amount_minor > limit:
        raise AboveYourLimit(
            "Ask somebody who may give more.", extra={"limit": money(limit, currency)}
        )


# Riders: cash, incentives, pay.


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


_PLACE = load("server", "rider_place")


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
    return {"items": [_line(line) for line in found], "next_cursor": None}


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


def _line(line: PayLine) -> dict[str, object]:
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
    return _json({**_line(line), "items": items})


def _json(body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), 200, None, "application/json")


# Ops: settlement, days, statements of any account.


@router.post("/ops/settlements", status_code=201)
async def settle(
    body: SettleIn, request: Request, services: ServicesDep, actor: Bookkeeper
) -> Response:
    """Pay every rider what is owed at the end of a closed day; asking again pays nothing twice."""
    deduct = services.settings.ledger.deduct_cash

    async def use_case(conn: AsyncConnection) -> Reply:
        run_id = await settlement.open_run(conn, body.until, actor.user_id)
        while await settlement.settle_batch(conn, run_id, deduct_cash=deduct):
            pass
        return Reply(201, await _run(conn, run_id, body.until))

    return await write(request, services, actor, use_case)


async def _run(conn: AsyncConnection, run_id: str, until: date) -> dict[str, object]:
    found = await settlement.lines(conn, run_id=run_id)
    totals: dict[str, int] = {}
    for line in found:
        totals[line.currency] = totals.get(line.currency, 0) + line.paid_minor
    return {
        "id": run_id,
        "until": until.isoformat(),
        "paid": [money(amount, currency) for currency, amount in sorted(totals.items())],
        "lines": [_line(line) for line in found],
    }


@router.post("/ops/settlements/{run_id}/confirm")
async def confirm(
    run_id: IdText, request: Request, services: ServicesDep, actor: Bookkeeper
) -> Response:
    """The bank has made the payments of a run."""

    async def use_case(conn: AsyncConnection) -> Reply:
        if not await settlement.lines(conn, run_id=run_id, limit=1):
            raise NotFound("There is no such settlement.")
        confirmed = await settlement.confirm_payouts(conn, run_id)
        return Reply(200, {"id": run_id, "confirmed": confirmed})

    return await write(request, services, actor, use_case)


@router.get("/ops/ledger/statement")
async def account_statement(
    services: ServicesDep,
    actor: Bookkeeper,
    account: ShortText,
    party: ShortText | None = None,
    from_day: Annotated[date | None, Query(alias="from")] = None,
    to_day: Annotated[date | None, Query(alias="to")] = None,
) -> dict[str, object]:
    """Every posting on an account, or on one party's share of it, with the balance after it."""
    if account not in set(Account):
        raise UnknownAccount(f"There is no account {account!r}.")
    async with services.database.begin() as conn:
        found = await reports.statement(
            conn, account, party=party, from_day=from_day, to_day=to_day
        )
        closed = await days.closed_until(conn)
    return {
        "account": account,
        "party": party,
        "closed_until": closed and closed.isoformat(),
        "statements": [asdict(one) for one in found],
    }
