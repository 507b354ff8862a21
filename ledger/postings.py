"""Writing to the ledger: transactions of postings that sum to zero, each posted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import new_id
from kit.sql import json_parameter, load
from ledger.chart import Account

_POST = load("ledger", "post")


@dataclass(frozen=True, slots=True)
class Posting:
    """One movement.  Debits are positive, credits negative; ``party`` is whose share it is."""

    account: Account
    amount_minor: int
    party: str | None = None


def debit(account: Account, amount_minor: int, party: str | None = None) -> Posting:
    return Posting(account, amount_minor, party)


def credit(account: Account, amount_minor: int, party: str | None = None) -> Posting:
    return Posting(account, -amount_minor, party)


async def post(
    conn: AsyncConnection,
    key: str,
    kind: str,
    currency: str,
    postings: Sequence[Posting],
    order_id: str | None = None,
    at: datetime | None = None,
) -> bool:
    """Post a transaction once per ``key``; False when it was posted before.

    Postings of nothing are left out.  A sum other than zero is a bug: it is asserted here, and a
    constraint trigger refuses the commit.  ``at`` is when it happened, if that was not now: it
    counts for that day, or for the first open one when that is closed.
    """
    kept = [posting for posting in postings if posting.amount_minor != 0]
    assert sum(posting.amount_minor for posting in kept) == 0, f"{kind} does not balance: {kept}"
    if not kept:
        return False
    rows = [
        {"n": n, "account": p.account.value, "party": p.party, "amount_minor": p.amount_minor}
        for n, p in enumerate(kept, start=1)
    ]
    row = await _POST.first(
        conn, new_id("txn"), key, kind, order_id, currency, json_parameter(rows), len(rows), at
    )
    return row is not None
