"""What riders hold and earn besides their deliveries: cash in hand, and incentives."""

from __future__ import annotations

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.ids import new_id
from kit.wire import money
from ledger import rider_cash
from ledger.chart import Account
from ledger.postings import credit, debit, post
from riders.tables import earnings


async def cash_view(conn: AsyncConnection, rider_id: str, limit_minor: int) -> dict[str, object]:
    """The cash that a rider holds, and whether there may be more of it.

    Dispatch gives a rider only orders whose cash fits below the limit (``dispatch.snapshot``).
    """
    held = await rider_cash.held(conn, rider_id)
    over = any(amount >= limit_minor for amount in held.values())
    return {
        "held": [money(amount, currency) for currency, amount in sorted(held.items())],
        "limit_minor": limit_minor,
        "headroom_minor": max(0, limit_minor - sum(held.values())),
        "cash_orders": not over,
        "detail": (
            "You hold as much cash as you may: hand it in at a store to get cash orders again."
            if over
            else None
        ),
    }


async def tell_cash(conn: AsyncConnection, rider_id: str) -> None:
    """Put the rider's cash on the rider's channel.  Takes the channel's lock: do it last."""
    held = await rider_cash.held(conn, rider_id)
    await outbox.append(
        conn, f"rider:{rider_id}", "rider.cash",
        {"held": [money(amount, currency) for currency, amount in sorted(held.items())]},
    )  # fmt: skip


async def give_incentive(
    conn: AsyncConnection, rider_id: str, amount_minor: int, currency: str, reason: str
) -> str:
    """Owe a rider something extra, for no order; returns the earning's id."""
    earning_id = new_id("ern")
    await conn.execute(
        insert(earnings).values(
            id=earning_id, rider_id=rider_id, order_id=None, kind="incentive", note=reason,
            amount_minor=amount_minor, currency=currency, at=await database_now(conn),
        )
    )  # fmt: skip
    await post(
        conn, f"incentive:{earning_id}", "rider_incentive", currency,
        [
            debit(Account.RIDER_INCENTIVES, amount_minor, rider_id),
            credit(Account.RIDER_PAYABLE, amount_minor, rider_id),
        ],
    )  # fmt: skip
    return earning_id
