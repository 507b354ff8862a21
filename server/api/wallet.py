"""Customers' wallets: what is in them, and what staff put in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
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
from ledger import wallet
from ledger.errors import AboveYourLimit
from server import audit
from server.api.access import ServicesDep, allow
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from server.wiring import Services

router = APIRouter(prefix="/v1", tags=["books"])

Shopper = Annotated[Actor, allow(Role.CUSTOMER, Role.GUEST)]
Crediting = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]

_WALLET_LINES = load("ledger", "wallet_lines")


class CreditIn(RequestModel):
    amount_minor: int = Field(ge=1, le=10**12)
    currency: str = Field(default="INR", pattern="^[A-Z]{3}$")
    reason: Literal["goodwill", "late_delivery", "promotion", "correction"]
    note: ShortText | None = None


@router.get("/wallet")
async def read_wallet(
    services: ServicesDep,
    actor: Shopper,
    page: PagingDep,
) -> dict[str, object]:
    """Balances, what open orders hold of them, and every movement, newest first."""
    before = page.key(str, int) or ("", 0)
    async with services.database.begin() as conn:
        wallets = await wallet.read(conn, actor.user_id)
        rows = await _WALLET_LINES.dicts(conn, actor.user_id, before[0], before[1], page.fetch)
    shown = page.body(rows, _movement, lambda row: (row["transaction_id"], row["n"]))
    return {
        "balances": [
            {
                "balance": money(one.balance_minor, one.currency),
                "held": money(one.held_minor, one.currency),
                "available": money(one.free_minor, one.currency),
            }
            for one in wallets
        ],
        **shown,
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
