"""The books: what a transaction must be, the daily close, reports that agree with the postings."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kit.db import Database
from kit.ids import new_id
from ledger import days, reports
from ledger.chart import Account
from ledger.errors import DayNotOver
from ledger.postings import credit, debit, post
from server.verify import verify_database
from tests.support import next_day, today


async def execute(database: Database, *statements: str, **parameters: object) -> None:
    async with database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


async def move_money(
    database: Database, amount_minor: int, party: str = "sto_1", at: datetime | None = None
) -> str:
    """From a store's till to the bank; the key."""
    key = new_id("key")
    async with database.begin() as conn:
        assert await post(
            conn, key, "banked", "INR",
            [debit(Account.BANK, amount_minor), credit(Account.STORE_CASH, amount_minor, party)],
            at=at,
        )  # fmt: skip
    return key


async def close(database: Database, day: date) -> int:
    async with database.begin() as conn:
        return await days.close(conn, day, "test")


async def in_order(database: Database) -> None:
    checks = await verify_database(database, None)
    assert {c.name: c.examples for c in checks if c.broken_rows} == {}


POSTING = (
    "INSERT INTO ledger_postings (transaction_id, n, account, amount_minor) VALUES"
    " (:id, 1, 'bank', 5), (:id, 2, 'store_cash', :other)"
)
TRANSACTION = (
    "INSERT INTO ledger_transactions (id, key, kind, currency, at, size)"
    " VALUES (:id, :id, 'test', 'INR', now(), :size)"
)


@pytest.mark.parametrize(
    ("size", "other", "postings"),
    [(2, -4, 1), (3, -5, 1), (2, -5, 0)],
    ids=["unbalanced", "one is missing", "none at all"],
)
async def test_a_transaction_that_does_not_balance_is_not_committed(
    fresh_database: Database, size: int, other: int, postings: int
) -> None:
    """The database itself sums up at commit, whoever wrote the rows."""
    with pytest.raises(DBAPIError, match="is off by"):
        await execute(
            fresh_database, TRANSACTION, *[POSTING] * postings, id="txn_1", size=size, other=other
        )


async def test_nothing_is_added_to_a_transaction_later(fresh_database: Database) -> None:
    """Not even two postings that balance."""
    await execute(fresh_database, TRANSACTION, POSTING, id="txn_1", size=2, other=-5)
    with pytest.raises(DBAPIError, match="has all of its postings"):
        await execute(
            fresh_database,
            "INSERT INTO ledger_postings (transaction_id, n, account, amount_minor) VALUES"
            " ('txn_1', 3, 'bank', 7), ('txn_1', 4, 'store_cash', -7)",
        )


async def test_a_closed_day_keeps_its_balances_and_takes_no_more_postings(
    fresh_database: Database,
) -> None:
    """What comes late counts for the first open day, and keeps its own time."""
    first = await today(fresh_database)
    await move_money(fresh_database, 700)
    await move_money(fresh_database, 300, "sto_2")
    with pytest.raises(DayNotOver):
        await close(fresh_database, first)
    await next_day(fresh_database)
    assert await close(fresh_database, first) == 1
    assert await close(fresh_database, first) == 0

    happened = datetime.combine(first, datetime.min.time(), UTC) + timedelta(hours=1)
    late = await move_money(fresh_database, 50, at=happened)
    async with fresh_database.begin() as conn:
        row = (
            await conn.execute(
                text("SELECT at, day FROM ledger_transactions WHERE key = :key"), {"key": late}
            )
        ).one()
        assert (row.at, row.day) == (happened, first + timedelta(days=1))
        assert (await reports.trial_balance(conn, first))["INR"] == {
            "bank": 1_000, "store_cash": -1_000,
        }  # fmt: skip
        assert (await reports.trial_balance(conn))["INR"] == {"bank": 1_050, "store_cash": -1_050}
    await in_order(fresh_database)


async def test_balances_run_on_from_day_to_day(fresh_database: Database) -> None:
    """Over days without postings too; what an account had before is carried along."""
    first = await today(fresh_database)
    for amount in (700, 0, 200, -900):
        if amount:
            await move_money(fresh_database, amount)
        await next_day(fresh_database)
    assert await close(fresh_database, first + timedelta(days=1)) == 2
    assert await close(fresh_database, first + timedelta(days=3)) == 2
    async with fresh_database.begin() as conn:
        rows = await conn.execute(
            text(
                "SELECT day, moved_minor, balance_minor FROM ledger_day_balances"
                " WHERE account = 'bank' ORDER BY day"
            )
        )
        assert [(row.day - first, row.moved_minor, row.balance_minor) for row in rows] == [
            (timedelta(0), 700, 700), (timedelta(2), 200, 900), (timedelta(3), -900, 0),
        ]  # fmt: skip
        for ago, bank in ((0, 700), (1, 700), (2, 900), (3, 0)):
            balances = await reports.trial_balance(conn, first + timedelta(days=ago))
            assert balances["INR"] == {"bank": bank, "store_cash": -bank}
    await in_order(fresh_database)


async def test_a_close_waits_for_postings_on_their_way(fresh_database: Database) -> None:
    """A posting that was not committed yet is in the day, or the day is not closed."""
    first = await today(fresh_database)
    async with fresh_database.begin() as conn:
        await post(
            conn, "slow", "banked", "INR",
            [debit(Account.BANK, 5), credit(Account.STORE_CASH, 5)],
        )  # fmt: skip
        await next_day(fresh_database)
        closing = asyncio.create_task(close(fresh_database, first))
        await asyncio.wait({closing}, timeout=0.3)
        assert not closing.done()
    assert await closing == 1
    async with fresh_database.begin() as conn:
        assert (await reports.trial_balance(conn, first))["INR"]["bank"] == 5
    await in_order(fresh_database)


async def test_a_ledger_that_does_not_balance_is_not_closed(fresh_database: Database) -> None:
    """Somebody got past the triggers: the close finds it."""
    first = await today(fresh_database)
    await move_money(fresh_database, 700)
    await execute(
        fresh_database,
        "ALTER TABLE ledger_postings DISABLE TRIGGER ledger_postings_append_only",
        "UPDATE ledger_postings SET amount_minor = 701 WHERE account = 'bank'",
    )
    await next_day(fresh_database)
    with pytest.raises(DBAPIError, match="does not sum to zero"):
        await close(fresh_database, first)


async def test_a_statement_runs_from_its_opening_to_its_closing_balance(
    fresh_database: Database,
) -> None:
    """Of a whole account or one party's share, for all days or some of them."""
    first = await today(fresh_database)
    await move_money(fresh_database, 700)
    await move_money(fresh_database, 40, "sto_2")
    await next_day(fresh_database)
    await move_money(fresh_database, 300)
    async with fresh_database.begin() as conn:
        (whole,) = await reports.statement(conn, "store_cash")
        (share,) = await reports.statement(
            conn, "store_cash", party="sto_1", from_day=first + timedelta(days=1)
        )
        nothing = await reports.statement(conn, "rider_cash")
        rows = [row async for row in reports.export(conn)]
    assert [line.balance_minor for line in whole.lines] == [-700, -740, -1_040]
    assert (whole.opening_minor, whole.closing_minor) == (0, -1_040)
    assert (share.opening_minor, share.closing_minor, len(share.lines)) == (-700, -1_000, 1)
    assert nothing == []
    assert len(rows) == 6
    debits, credits_ = (reports.EXPORT_COLUMNS.index(n) for n in ("debit_minor", "credit_minor"))
    assert sum(row[debits] for row in rows) == sum(row[credits_] for row in rows) == 1_040
