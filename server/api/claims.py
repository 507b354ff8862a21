"""Claims on delivered orders: made by customers, decided by a rule or by support."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.errors import Invalid
from orders import claims
from orders.access import visible_order
from orders.claim_rules import ClaimKind, ClaimState
from orders.claim_views import adjustments_view, claim_view, claims_of_order, queue, shape_claim
from orders.claims import Claim
from orders.refund_split import RefundTo
from server import audit
from server.api.access import ServicesDep, allow
from server.api.paging import PagingDep
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write

router = APIRouter(prefix="/v1", tags=["claims"])

Shopper = Annotated[Actor, allow(Role.CUSTOMER, Role.GUEST)]
AnyRole = Annotated[Actor, allow(*Role)]
Support = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]

# An upload of ours, or a place on the web; the photo itself never comes here.
PHOTO_PATTERN = r"^(upl_[0-9A-Za-z]{16,64}|https://[A-Za-z0-9.-]{3,200}/[A-Za-z0-9._~/%-]{1,200})$"


class ItemIn(RequestModel):
    """Units of a line, or of the substitute that came instead."""

    line_id: IdText
    quantity: int = Field(default=1, ge=1, le=1000)
    substitution_id: IdText | None = None


class IssueIn(RequestModel):
    """`line_id` alone is one unit of that line."""

    kind: ClaimKind
    items: list[ItemIn] = Field(default_factory=list, max_length=100)
    line_id: IdText | None = None
    comment: str | None = Field(default=None, max_length=1000, pattern=r"^[^\x00]*$")
    photo: str | None = Field(default=None, max_length=410, pattern=PHOTO_PATTERN)

    def claim(self) -> Claim:
        """Raises Invalid when something is named twice."""
        items = list(self.items)
        if self.line_id is not None:
            items.append(ItemIn(line_id=self.line_id))
        named = [(item.substitution_id or item.line_id, item.quantity) for item in items]
        if len({item_id for item_id, _ in named}) < len(named):
            raise Invalid("Name each product once: add up its quantities.")
        return Claim(self.kind, tuple(named), self.comment, self.photo)


class ApproveIn(RequestModel):
    """Without an amount: all that the goods cost."""

    refund_to: RefundTo = RefundTo.ORIGINAL
    amount_minor: int | None = Field(default=None, ge=1)
    reason: ShortText = Field(min_length=1)


class RejectIn(RequestModel):
    reason: ShortText = Field(min_length=1)


@router.post("/orders/{order_id}/issues", status_code=201)
async def report_issue(
    order_id: IdText, body: IssueIn, request: Request, services: ServicesDep, actor: Shopper
) -> Response:
    """Say what was wrong with a delivered order; small claims are paid back at once."""
    settings = services.settings.orders.claims
    claim = body.claim()

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        claim_id = await claims.make(conn, settings, order_id, actor.user_id, claim)
        made = await claims_of_order(conn, order_id)
        return Reply(201, next(each for each in made if each["id"] == claim_id))

    return await write(request, services, actor, use_case)


@router.get("/orders/{order_id}/issues")
async def list_issues(order_id: IdText, services: ServicesDep, actor: AnyRole) -> dict[str, object]:
    """What was claimed on an order, and what became of it."""
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        return {"items": await claims_of_order(conn, order_id), "next_cursor": None}


@router.get("/orders/{order_id}/adjustments")
async def list_adjustments(
    order_id: IdText, services: ServicesDep, actor: AnyRole
) -> dict[str, object]:
    """Everything that changed the price since the order was confirmed; its totals never do."""
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        return {"items": await adjustments_view(conn, order_id), "next_cursor": None}


@router.get("/ops/claims")
async def list_claims(
    services: ServicesDep,
    actor: Support,
    page: PagingDep,
    status: Annotated[list[ClaimState] | None, Query()] = None,
) -> dict[str, object]:
    """Claims in the caller's scope, oldest first; without a status those that are open."""
    async with services.database.begin() as conn:
        rows = await queue(conn, actor, status or [ClaimState.OPEN], page.after, page.fetch)
    return page.body(rows, lambda row: shape_claim(row, for_staff=True))


@router.get("/ops/claims/{claim_id}")
async def read_claim(claim_id: IdText, services: ServicesDep, actor: Support) -> dict[str, object]:
    """One claim with all that was decided."""
    async with services.database.begin() as conn:
        return await claim_view(conn, actor, claim_id)


@router.post("/ops/claims/{claim_id}/approve")
async def approve(
    claim_id: IdText, body: ApproveIn, request: Request, services: ServicesDep, actor: Support
) -> Response:
    """Give back what the goods cost, or a part of it, to the card or as store credit."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await claim_view(conn, actor, claim_id)
        await claims.approve(
            conn, claim_id, actor.user_id, reason=body.reason, to=body.refund_to,
            amount_minor=body.amount_minor,
        )  # fmt: skip
        return Reply(200, await _decided(conn, actor, claim_id, "claim.approve", body.reason))

    return await write(request, services, actor, use_case)


@router.post("/ops/claims/{claim_id}/reject")
async def reject(
    claim_id: IdText, body: RejectIn, request: Request, services: ServicesDep, actor: Support
) -> Response:
    """Give nothing back, and say why."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await claim_view(conn, actor, claim_id)
        await claims.reject(conn, claim_id, actor.user_id, reason=body.reason)
        return Reply(200, await _decided(conn, actor, claim_id, "claim.reject", body.reason))

    return await write(request, services, actor, use_case)


async def _decided(
    conn: AsyncConnection, actor: Actor, claim_id: str, action: str, reason: str | None
) -> dict[str, object]:
    """The claim as it stands now, with the decision in the audit log."""
    view = await claim_view(conn, actor, claim_id)
    after = {"claim_id": claim_id, "status": view["status"]}
    await audit.of_order(conn, actor, action, str(view["order_id"]), reason, after=after)
    return view
