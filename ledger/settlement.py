"""Settlement: paying riders what the postings up to a closed day say that they are owed.

A run has a line for each rider and currency, at most one for a day, and each line is one
transaction of the ledger: running it again, or two at once, pays once.  It works a batch of riders
at a time, so that a run that dies is finished by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.ids import new_id
from kit.sql import load
from ledger import rider_cash
from ledger.chart import Account
from ledger.days import closed_until
from ledger.errors import DayNotClosed
from ledger.postings import Posting, credit, debit, post
from ledger.tables import settlement_lines, settlement_runs

BATCH = 100

_OWED = load("ledger", "owed_to_riders")
_STATEMENT = load("ledger", "pay_statement")
# One run at a time: what is owed is read once.
_LOCK = text("SELECT pg_advisory_xact_lock(1936028777)")


@dataclass(frozen=True, slots=True)
class PayLine:
    """What one rider was paid by one run; minor units.

    ``cash_minor`` of it the rider keeps of the cash in hand, ``paid_minor`` is paid out.
    """

    id: str
    run_id: str
    rider_id: str
    currency: str
    from_day: date
    until_day: date
    pay_minor: int
    tips_minor: int
    incentives_minor: int
    cash_minor: int
    paid_minor: int
    at: datetime


_LINE = [
    settlement_lines.c[name]
    for name in (
        "id", "run_id", "rider_id", "currency", "from_day", "until_day", "pay_minor",
        "tips_minor", "incentives_minor", "cash_minor", "paid_minor", "at",
    )
]  # fmt: skip


async def open_run(conn: AsyncConnection, until: date, actor: str) -> str:
    """The run for a day, made if need be.  Raises DayNotClosed."""
    closed = await closed_until(conn)
    if closed is None or until > closed:
        raise DayNotClosed(
            f"Close {until.isoformat()} first: until then its postings may still change."
        )
    await conn.execute(
        upsert(settlement_runs)
        .values(id=new_id("set"), until_day=until, actor=actor, at=await database_now(conn))
        .on_conflict_do_nothing(index_elements=["until_day"])
    )
    found = await conn.scalar(
        select(settlement_runs.c.id).where(settlement_runs.c.until_day == until)
    )
    assert found is not None
    return str(found)


async def settled_until(conn: AsyncConnection) -> date | None:
    """The day of the last run; None before the first."""
    found: date | None = await conn.scalar(select(func.max(settlement_runs.c.until_day)))
    return found


async def settle_batch(
    conn: AsyncConnection, run_id: str, *, deduct_cash: bool, rider_ids: Sequence[str] | None = None
) -> int:
    """Pay up to ``BATCH`` riders who are still owed something; returns how many."""
    await conn.execute(_LOCK)
    until = await conn.scalar(
        select(settlement_runs.c.until_day).where(settlement_runs.c.id == run_id)
    )
    rows = await _OWED.all(conn, until, None if rider_ids is None else list(rider_ids), BATCH)
    now = await database_now(conn)
    for row in rows:
        await _pay(conn, run_id, row, now, deduct_cash=deduct_cash)
    return len(rows)


async def _pay(
    conn: AsyncConnection, run_id: str, row: Any, now: datetime, *, deduct_cash: bool
) -> None:
    owed: int = row.owed_minor
    cash = 0
    if deduct_cash:
        cash = min(owed, await rider_cash.lock_held(conn, row.rider_id, row.currency))
    key = f"payout:{row.until_day.isoformat()}:{row.rider_id}:{row.currency}"
    await conn.execute(
        insert(settlement_lines).values(
            id=new_id("sln"), run_id=run_id, rider_id=row.rider_id, currency=row.currency,
            from_day=row.from_day, until_day=row.until_day,
            pay_minor=owed - row.tips_minor - row.incentives_minor, tips_minor=row.tips_minor,
            incentives_minor=row.incentives_minor, cash_minor=cash, paid_minor=owed - cash,
            transaction_key=key, at=now,
        )
    )  # fmt: skip
    await post(
        conn, key, "rider_payout", row.currency, payout(row.rider_id, owed, cash)
    )  # fmt: skip


def payout(rider_id: str, owed_minor: int, cash_minor: int) -> list[Posting]:
    """What the rider is owed is settled by cash that they keep, and by a payment on its way."""
    return [
        debit(Account.RIDER_PAYABLE, owed_minor, rider_id),
        credit(Account.RIDER_CASH, cash_minor, rider_id),
        credit(Account.PAYOUTS_IN_TRANSIT, owed_minor - cash_minor, rider_id),
    ]


async def confirm_payouts(conn: AsyncConnection, run_id: str) -> int:
    """The bank has paid a run: each line once; returns how many were not confirmed before."""
    confirmed = 0
    for line in await lines(conn, run_id=run_id):
        confirmed += await post(
            conn, f"paid:{line.id}", "payout_paid", line.currency,
            [
                debit(Account.PAYOUTS_IN_TRANSIT, line.paid_minor, line.rider_id),
                credit(Account.BANK, line.paid_minor, "riders"),
            ],
        )  # fmt: skip
    return confirmed


async def lines(
    conn: AsyncConnection,
    *,
    run_id: str | None = None,
    rider_id: str | None = None,
    limit: int = 10_000,
) -> list[PayLine]:
    """Lines of a run, or of a rider, newest first."""
    query = select(*_LINE).order_by(settlement_lines.c.until_day.desc(), settlement_lines.c.id)
    if run_id is not None:
        query = query.where(settlement_lines.c.run_id == run_id)
    if rider_id is not None:
        query = query.where(settlement_lines.c.rider_id == rider_id)
    return [PayLine(*row) for row in await conn.execute(query.limit(limit))]


async def pay_statement(conn: AsyncConnection, line: PayLine) -> list[dict[str, Any]]:
    """What a line is made of: each delivery, tip, incentive and movement of cash, by time.

    Rows of {at, kind, order_id, amount_minor}; ``amount_minor`` of cash is what the rider took
    (positive) or handed in (negative).
    """
    return await _STATEMENT.dicts(conn, line.rider_id, line.currency, line.from_day, line.until_day)
