"""Claims: a customer says what was wrong, and gets their money back or a reason why not.

A claim is decided once, by a rule or by support; an approval is an adjustment of the order's price
(``orders.adjustments``) under the claim's id, so that it is paid back once.  The order's row is
locked first, so claims on one order are made and decided one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import IllegalTransition, Invalid
from kit.ids import new_id
from orders import substitution_rows
from orders.adjustments import Adjustment, AdjustmentKind, adjust
from orders.claim_rules import (
    ABOUT_GOODS,
    ClaimKind,
    ClaimState,
    DeliveredItem,
    adjustments_for,
    decided_at_once,
    in_time,
    late_worth_minor,
)
from orders.errors import (
    ClaimDecided,
    ClaimNotFound,
    ClaimOpen,
    ClaimWindowClosed,
    RefundTooLarge,
    TooMany,
)
from orders.lines import count_line, priced, read_lines
from orders.model import OrderState, PaymentState
from orders.pricing import LineRefund
from orders.refund_split import RefundTo
from orders.rows import OrderRow, lock_order
from orders.settings import ClaimSettings
from orders.substitution_price import share
from orders.tables import order_claim_lines, order_claims, order_substitutions
from orders.transitions import SYSTEM


@dataclass(frozen=True, slots=True)
class Claim:
    """What a customer says.  ``items``: units by line id, or by the id of a substitution."""

    kind: ClaimKind
    items: tuple[tuple[str, int], ...] = ()
    comment: str | None = None
    photo: str | None = None


async def delivered_items(conn: AsyncConnection, order_id: str) -> dict[str, DeliveredItem]:
    """What the customer got, by line or substitution id."""
    items = {
        row.line_id: DeliveredItem(
            row.line_id, row.line_id, row.picked_quantity, row.claimed_quantity, row.tax_rate_bp,
            line=priced(row), missing=row.missing_quantity,
        )
        for row in (await read_lines(conn, order_id)).values()
    }  # fmt: skip
    for row in await substitution_rows.of_order(conn, order_id):
        agreed = LineRefund(row.items_minor, row.tax_minor)
        items[row.id] = DeliveredItem(
            row.id, row.line_id, row.picked_quantity, row.claimed_quantity, row.tax_rate_bp,
            charged=share(agreed, row.picked_quantity, row.quantity),
        )  # fmt: skip
    return items


async def make(
    conn: AsyncConnection, settings: ClaimSettings, order_id: str, user_id: str, claim: Claim
) -> str:
    """Write a claim down, and approve it at once where the rule allows; returns its id.

    Raises IllegalTransition before the delivery, ClaimWindowClosed, Invalid, TooMany, ClaimOpen.
    """
    order = await lock_order(conn, order_id)
    now = await database_now(conn)
    if order.status != OrderState.DELIVERED:
        raise IllegalTransition("Claims are for what has been delivered.")
    if not in_time(settings, order.delivered_at, now):
        raise ClaimWindowClosed("Claims are possible for a limited time: ask support.")
    items = await _items(conn, order_id, claim)
    await _check_not_open(conn, order_id, claim)
    worth_minor = sum(item.worth(quantity).total_minor for item, quantity in items)
    if claim.kind is ClaimKind.LATE:
        worth_minor = late_worth_minor(
            order.delivered_at, order.promised_high_at, order.delivery_fee_minor
        )
    claim_id = new_id("clm")
    await _insert(conn, claim_id, order, user_id, claim, items, worth_minor, now)
    recent = await _recent(conn, user_id, now - timedelta(seconds=settings.recent_s))
    at_once = decided_at_once(
        settings, claim.kind, worth_minor, recent, has_photo=claim.photo is not None
    )
    fits = worth_minor <= order.total_minor - order.refunded_minor
    if at_once and fits and order.payment_status != PaymentState.DISPUTED:
        await approve(conn, claim_id, SYSTEM, reason="by rule")
    else:
        await _tell(conn, claim_id)
    return claim_id


async def _items(
    conn: AsyncConnection, order_id: str, claim: Claim
) -> list[tuple[DeliveredItem, int]]:
    if claim.kind in ABOUT_GOODS and not claim.items:
        raise Invalid("Say which products it is about.")
    if claim.kind is ClaimKind.LATE and claim.items:
        raise Invalid("A late delivery is about the whole order: name no products.")
    known = await delivered_items(conn, order_id)
    items = []
    for item_id, quantity in claim.items:
        item = known.get(item_id)
        if item is None:
            raise Invalid("The order has no such line.")
        left = item.delivered - item.claimed
        if quantity > left:
            raise TooMany(f"Only {left} of it were delivered and not refunded yet.")
        items.append((item, quantity))
    return items


async def _check_not_open(conn: AsyncConnection, order_id: str, claim: Claim) -> None:
    """Raises ClaimOpen: one open claim a line, and one about the order as a whole."""
    lines, claims = order_claim_lines, order_claims
    if claim.items:
        wanted = [item_id for item_id, _ in claim.items]
        statement = select(lines.c.claim_id).where(
            lines.c.order_id == order_id, lines.c.open, lines.c.item_id.in_(wanted)
        )
    else:
        statement = select(claims.c.id).where(
            claims.c.order_id == order_id,
            claims.c.kind == claim.kind.value,
            # The delay of an order is made good once.
            claims.c.status.in_(
                [ClaimState.OPEN, ClaimState.APPROVED]
                if claim.kind is ClaimKind.LATE
                else [ClaimState.OPEN]
            ),
        )
    found = await conn.scalar(statement.limit(1))
    if found is not None:
        raise ClaimOpen("You have told us already.", extra={"claim_id": found})


async def _insert(
    conn: AsyncConnection,
    claim_id: str,
    order: OrderRow,
    user_id: str,
    claim: Claim,
    items: Sequence[tuple[DeliveredItem, int]],
    worth_minor: int,
    now: datetime,
) -> None:
    await conn.execute(
        insert(order_claims).values(
            id=claim_id, order_id=order.id, user_id=user_id, kind=claim.kind.value,
            comment=claim.comment, photo=claim.photo, status=ClaimState.OPEN.value,
            worth_minor=worth_minor, at=now,
        )
    )  # fmt: skip
    if items:
        await conn.execute(
            insert(order_claim_lines),
            [
                {
                    "claim_id": claim_id, "item_id": item.item_id, "order_id": order.id,
                    "line_id": item.line_id, "quantity": quantity, "open": True,
                }
                for item, quantity in items
            ],
        )  # fmt: skip


async def _recent(conn: AsyncConnection, user_id: str, since: datetime) -> int:
    """How many claims of a customer were approved since a moment."""
    found = await conn.scalar(
        select(func.count()).where(
            order_claims.c.user_id == user_id,
            order_claims.c.at > since,
            order_claims.c.status == ClaimState.APPROVED,
        )
    )
    return int(found or 0)


async def approve(
    conn: AsyncConnection,
    claim_id: str,
    actor: str,
    *,
    reason: str,
    to: RefundTo = RefundTo.ORIGINAL,
    amount_minor: int | None = None,
) -> None:
    """Give the customer what the claim is worth, or a part of it.

    ``amount_minor`` is at most what the goods cost; without goods, what is left of the order.
    Raises ClaimNotFound, ClaimDecided, RefundTooLarge, Invalid, IllegalTransition.
    """
    claim, order = await _open(conn, claim_id)
    if order.payment_status == PaymentState.DISPUTED:
        raise IllegalTransition("The payment is disputed: the bank decides who gets the money.")
    items = await _claimed_items(conn, claim)
    worth_minor = sum(item.worth(quantity).total_minor for item, quantity in items)
    if items and amount_minor is not None and amount_minor > worth_minor:
        raise RefundTooLarge(
            "That is more than the goods cost.", extra={"worth_minor": worth_minor}
        )
    if items:
        adjustments = adjustments_for(items, amount_minor)
    else:
        given = claim.worth_minor if amount_minor is None else amount_minor
        if given == 0:
            raise Invalid("Say how much the customer gets back.")
        adjustments = [Adjustment(AdjustmentKind.GOODWILL, given)]
    back_minor = await adjust(
        conn, order.id, adjustments, actor=actor, reason=reason, source_id=claim_id, to=to
    )
    for (item, quantity), adjustment in zip(items, adjustments, strict=False):
        await _count_claimed(conn, claim, item, quantity, adjustment.amount_minor)
    await _close(
        conn, claim_id, actor, reason,
        status=ClaimState.APPROVED.value, refunded_minor=back_minor, refund_to=to.value,
    )  # fmt: skip


async def reject(conn: AsyncConnection, claim_id: str, actor: str, *, reason: str) -> None:
    """The customer gets nothing, and a reason.  Raises ClaimNotFound, ClaimDecided."""
    await _open(conn, claim_id)
    await _close(conn, claim_id, actor, reason, status=ClaimState.REJECTED.value)


async def _open(conn: AsyncConnection, claim_id: str) -> tuple[OrderRow, OrderRow]:
    """A claim that waits for a decision, and its order, locked."""
    order_id = await conn.scalar(
        select(order_claims.c.order_id).where(order_claims.c.id == claim_id)
    )
    if order_id is None:
        raise ClaimNotFound("There is no such claim.")
    order = await lock_order(conn, order_id)
    claim = (
        await conn.execute(
            select(order_claims).where(order_claims.c.id == claim_id).with_for_update()
        )
    ).one()
    if claim.status != ClaimState.OPEN:
        raise ClaimDecided(f"It is {claim.status} already.", extra={"status": claim.status})
    return claim, order


async def _claimed_items(conn: AsyncConnection, claim: OrderRow) -> list[tuple[DeliveredItem, int]]:
    known = await delivered_items(conn, claim.order_id)
    rows = await conn.execute(
        select(order_claim_lines)
        .where(order_claim_lines.c.claim_id == claim.id)
        .order_by(order_claim_lines.c.item_id)
    )
    return [(known[row.item_id], row.quantity) for row in rows]


async def _count_claimed(
    conn: AsyncConnection, claim: OrderRow, item: DeliveredItem, quantity: int, back_minor: int
) -> None:
    if item.is_substitute:
        await conn.execute(
            update(order_substitutions)
            .where(order_substitutions.c.id == item.item_id)
            .values(
                claimed_quantity=order_substitutions.c.claimed_quantity + quantity,
                refunded_minor=order_substitutions.c.refunded_minor + back_minor,
            )
        )
    else:
        await count_line(conn, claim.order_id, item.line_id, claimed=quantity)
    await conn.execute(
        update(order_claim_lines)
        .where(
            order_claim_lines.c.claim_id == claim.id, order_claim_lines.c.item_id == item.item_id
        )
        .values(refunded_minor=back_minor)
    )


async def _close(
    conn: AsyncConnection, claim_id: str, actor: str, reason: str, **values: object
) -> None:
    await conn.execute(
        update(order_claims)
        .where(order_claims.c.id == claim_id)
        .values(decided_by=actor, decided_at=await database_now(conn), reason=reason, **values)
    )
    await conn.execute(
        update(order_claim_lines).where(order_claim_lines.c.claim_id == claim_id).values(open=False)
    )
    await _tell(conn, claim_id)


async def _tell(conn: AsyncConnection, claim_id: str) -> None:
    row = (await conn.execute(select(order_claims).where(order_claims.c.id == claim_id))).one()
    data = {
        "id": row.id, "kind": row.kind, "status": row.status, "refund_to": row.refund_to,
        "refunded_minor": row.refunded_minor, "reason": row.reason,
    }  # fmt: skip
    await outbox.append(conn, f"order:{row.order_id}", "order.claim", data)
