"""Reading the ledger: the trial balance, a statement of any account, everything as rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import load

_TRIAL_BALANCE = load("ledger", "trial_balance")
_STATEMENT = load("ledger", "statement")
_OPENING = load("ledger", "opening")
_EXPORT = load("ledger", "export")

EXPORT_COLUMNS = (
    "day", "at", "transaction_id", "n", "kind", "key", "order_id", "account", "party", "currency",
    "debit_minor", "credit_minor",
)  # fmt: skip
_EXPORT_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One posting with the balance after it; debits are positive."""

    day: date
    at: datetime
    transaction_id: str
    n: int
    kind: str
    order_id: str | None
    party: str | None
    amount_minor: int
    balance_minor: int


@dataclass(frozen=True, slots=True)
class Statement:
    """An account, or one party's share of it, in one currency, over a stretch of days."""

    account: str
    party: str | None
    currency: str
    opening_minor: int
    closing_minor: int
    lines: tuple[StatementLine, ...]
    truncated: bool


async def trial_balance(conn: AsyncConnection, at: date | None = None) -> dict[str, dict[str, int]]:
    """Per currency, the balance of every account at the end of a day (None: now).

    Each currency sums to zero.  Closed days are read from their fixed balances, open ones from
    their postings.
    """
    balances: dict[str, dict[str, int]] = {}
    for row in await _TRIAL_BALANCE.all(conn, at):
        balances.setdefault(row.currency, {})[row.account] = row.balance_minor
    return balances


async def statement(
    conn: AsyncConnection,
    account: str,
    *,
    party: str | None = None,
    from_day: date | None = None,
    to_day: date | None = None,
    limit: int = 10_000,
) -> list[Statement]:
    """Statements of an account, one a currency; both days are included."""
    opening = {
        row.currency: row.balance_minor
        for row in await _OPENING.all(conn, account, party, from_day)
    }
    rows = await _STATEMENT.all(conn, account, party, from_day, to_day, limit + 1)
    by_currency: dict[str, list[Any]] = {currency: [] for currency in sorted(opening)}
    for row in rows[:limit]:
        by_currency.setdefault(row.currency, []).append(row)
    return [
        _with_balances(account, party, currency, opening.get(currency, 0), found, len(rows) > limit)
        for currency, found in by_currency.items()
    ]


def _with_balances(
    account: str, party: str | None, currency: str, opening: int, rows: list[Any], truncated: bool
) -> Statement:
    lines = []
    balance = opening
    for row in rows:
        balance += row.amount_minor
        lines.append(
            StatementLine(
                row.day, row.at, row.transaction_id, row.n, row.kind, row.order_id, row.party,
                row.amount_minor, balance,
            )
        )  # fmt: skip
    return Statement(account, party, currency, opening, balance, tuple(lines), truncated)


async def export(
    conn: AsyncConnection, from_day: date | None = None, to_day: date | None = None
) -> AsyncIterator[tuple[Any, ...]]:
    """Every posting as a row of ``EXPORT_COLUMNS``, oldest transaction first."""
    after, after_n = "", 0
    while True:
        rows = await _EXPORT.all(conn, from_day, to_day, after, after_n, _EXPORT_BATCH)
        for row in rows:
            yield tuple(row)
        if len(rows) < _EXPORT_BATCH:
            return
        after, after_n = rows[-1].transaction_id, rows[-1].n
