"""The books for those who keep them: settlements, and statements of any account."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.errors import NotFound
from kit.wire import money
from ledger import days, reports, settlement
from ledger.chart import Account
from ledger.errors import UnknownAccount
from server.api.access import ServicesDep, allow
from server.api.rider_money import line_out
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write

router = APIRouter(prefix="/v1", tags=["books"])

Bookkeeper = Annotated[Actor, allow(Role.ADMIN)]


class SettleIn(RequestModel):
    until: date


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
        "lines": [line_out(line) for line in found],
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
