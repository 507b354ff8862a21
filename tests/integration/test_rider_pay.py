"""Riders' money: cash taken and handed in, incentives, and settlements that pay once."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from sqlalchemy import text

from kit.clock import load_clock
from kit.db import Database
from ledger import days, rider_cash, settlement
from ledger.errors import DayNotClosed, MoreThanHeld
from ledger.settlement import PayLine
from orders import dispatch_snapshot, dispatch_world
from orders.model import PaymentMethod
from orders.rider_pay import cash_view, give_incentive
from server.verify import verify_database
from tests.order_support import Shop, open_shop
from tests.support import next_day, today

CASH = 15_100  # what order_at's default basket costs
TIP = 1_000


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def in_order(shop: Shop) -> None:
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway)
    assert {c.name: c.examples for c in checks if c.broken_rows} == {}


async def deposit(shop: Shop, amount_minor: int, reference: str = "slip 1") -> str:
    async with shop.database.begin() as conn:
        return await rider_cash.deposit(
            conn, shop.rider_id, shop.place.store.id, amount_minor, "INR", reference, "manager"
        )


async def cash(shop: Shop) -> int:
    async with shop.database.begin() as conn:
        return (await rider_cash.held(conn, shop.rider_id)).get("INR", 0)


async def end_of_day(shop: Shop) -> date:
    """The clock passes midnight, and the day is closed."""
    day = await today(shop.database)
    await next_day(shop.database)
    async with shop.database.begin() as conn:
        shop.clock = await load_clock(conn)
        await days.close(conn, day, "test")
    return day


async def settle(shop: Shop, until: date, *, deduct_cash: bool = True) -> int:
    """How many riders were paid."""
    async with shop.database.begin() as conn:
        run_id = await settlement.open_run(conn, until, "test")
        return await settlement.settle_batch(conn, run_id, deduct_cash=deduct_cash)


async def paid(shop: Shop) -> list[PayLine]:
    async with shop.database.begin() as conn:
        return await settlement.lines(conn, rider_id=shop.rider_id)


async def test_cash_is_handed_in_and_never_more_than_there_is(shop: Shop) -> None:
    """The till has what the rider no longer has."""
    await shop.order_at("settled", method=PaymentMethod.COD)
    assert await cash(shop) == CASH
    await deposit(shop, 10_000)
    with pytest.raises(MoreThanHeld) as refused:
        await deposit(shop, CASH)
    assert refused.value.extra["held"] == {"amount_minor": CASH - 10_000, "currency": "INR"}
    await deposit(shop, CASH - 10_000)
    assert await cash(shop) == 0
    await in_order(shop)


async def test_two_deposits_at_once_take_what_is_there_once(shop: Shop) -> None:
    """Of ten that race for the same cash, those that fit pass."""
    await shop.order_at("settled", method=PaymentMethod.COD)
    answers = await asyncio.gather(
        *(deposit(shop, 4_000, f"slip {n}") for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(answer, str) for answer in answers) == CASH // 4_000
    assert all(isinstance(answer, str | MoreThanHeld) for answer in answers)
    assert await cash(shop) == CASH % 4_000
    await in_order(shop)


async def test_a_rider_at_the_limit_gets_no_cash_orders(shop: Shop) -> None:
    """Dispatch sees no headroom; the rider is told why, until the cash is handed in."""
    await shop.order_at("settled", method=PaymentMethod.COD)
    limited = shop.rider_settings.model_copy(update={"cash_limit_minor": CASH})
    await shop.start_shift()

    async def headroom() -> tuple[int, bool]:
        async with shop.database.begin() as conn:
            rows = await dispatch_world._RIDERS.all(conn, shop.place.city.id)
            (row,) = [row for row in rows if row.id == shop.rider_id]
            view = await cash_view(conn, shop.rider_id, CASH)
        rider = dispatch_snapshot.rider_of(row, 0, limited, 0.0)
        assert view["headroom_minor"] == rider.cash_headroom_minor
        assert (view["detail"] is None) is view["cash_orders"]
        return rider.cash_headroom_minor, bool(view["cash_orders"])

    assert await headroom() == (0, False)
    await deposit(shop, CASH)
    assert await headroom() == (CASH, True)


async def test_a_settlement_pays_what_is_owed_less_the_cash(shop: Shop) -> None:
    """Pay, tip and incentive, of which the rider keeps the cash in hand; once."""
    first = await shop.order_at("settled", tip_minor=TIP)
    async with shop.database.begin() as conn:
        await give_incentive(conn, shop.rider_id, 2_500, "INR", "rain")
    pay = -(await shop.balances(first))["rider_payable"] - TIP
    day = await end_of_day(shop)
    second = await shop.order_at("settled", method=PaymentMethod.COD)
    assert await settle(shop, day) == 1
    assert await settle(shop, day) == 0
    (line,) = await paid(shop)
    owed = pay + TIP + 2_500
    kept = min(CASH, owed)
    assert (line.pay_minor, line.tips_minor, line.incentives_minor) == (pay, TIP, 2_500)
    assert (line.cash_minor, line.paid_minor) == (kept, owed - kept)
    assert await cash(shop) == CASH - kept
    async with shop.database.begin() as conn:
        rows = await settlement.pay_statement(conn, line)
    assert [(row["kind"], row["order_id"], row["amount_minor"]) for row in rows] == [
        ("delivery", first, pay), ("tip", first, TIP), ("incentive", None, 2_500),
    ]  # fmt: skip
    await in_order(shop)

    # The next day's run pays what came since, and has the cash of both days on its statement.
    later = await end_of_day(shop)
    assert await settle(shop, later, deduct_cash=False) == 1
    newest, _oldest = await paid(shop)
    assert (newest.from_day, newest.until_day, newest.cash_minor) == (later, later, 0)
    async with shop.database.begin() as conn:
        rows = await settlement.pay_statement(conn, newest)
        assert await settlement.confirm_payouts(conn, newest.run_id) == 1
        assert await settlement.confirm_payouts(conn, newest.run_id) == 0
    assert {row["kind"] for row in rows} == {"delivery", "cash_taken", "cash_kept"}
    assert {row["order_id"] for row in rows} == {second, None}
    await in_order(shop)


async def test_runs_at_once_pay_once(shop: Shop) -> None:
    """Five of them, for the same day."""
    await shop.order_at("settled", tip_minor=TIP)
    day = await end_of_day(shop)
    assert sum(await asyncio.gather(*(settle(shop, day) for _ in range(5)))) == 1
    assert len(await paid(shop)) == 1
    await in_order(shop)


async def test_an_older_day_is_not_paid_again(shop: Shop) -> None:
    """A run for a day before the last one finds it paid; a later posting waits for its own day."""
    await shop.order_at("settled", tip_minor=TIP)
    first = await end_of_day(shop)
    await shop.order_at("settled", tip_minor=TIP)
    second = await end_of_day(shop)
    assert await settle(shop, second) == 1
    assert await settle(shop, first) == 0
    await in_order(shop)


async def test_an_open_day_is_not_settled(shop: Shop) -> None:
    """Its postings may still change."""
    with pytest.raises(DayNotClosed):
        await settle(shop, await today(shop.database))


async def pay_a_rider_twice(shop: Shop) -> set[str]:
    """A second line for the same days, and the postings for it."""
    await execute(
        shop,
        "INSERT INTO settlement_runs SELECT 'set_again', until_day - 1, actor, at"
        " FROM settlement_runs",
        "INSERT INTO settlement_lines SELECT 'sln_again', 'set_again', rider_id, currency,"
        " from_day - 1, until_day - 1, pay_minor, tips_minor, incentives_minor, cash_minor,"
        " paid_minor, 'again', at FROM settlement_lines",
        "UPDATE settlement_lines SET from_day = from_day - 1 WHERE id <> 'sln_again'",
    )
    return {"settlements_match_ledger", "rider_money_matches_ledger"}


async def lose_a_deposit(shop: Shop) -> set[str]:
    """A deposit that is written down and never booked."""
    await execute(
        shop,
        "INSERT INTO rider_deposits (id, rider_id, amount_minor, currency, reference, actor, at,"
        " transaction_key) SELECT 'dep_x', rider_id, 5, currency, 'x', 'x', now(), 'x'"
        " FROM rider_cash",
    )
    return {"rider_money_matches_ledger"}


async def forget_the_cash(shop: Shop) -> set[str]:
    """A projection that missed a posting."""
    await execute(shop, "UPDATE rider_cash SET cash_minor = cash_minor + 1")
    return {"rider_money_matches_ledger"}


async def change_a_closed_day(shop: Shop) -> set[str]:
    """A posting that is moved from one party to another, past the trigger."""
    await execute(
        shop,
        "ALTER TABLE ledger_postings DISABLE TRIGGER ledger_postings_append_only",
        "UPDATE ledger_postings SET party = 'sto_other' WHERE account = 'store_revenue'",
    )
    return {"closed_days_unchanged"}


async def fill_a_wallet(shop: Shop) -> set[str]:
    """A balance that nobody posted."""
    await shop.credit(500)
    await execute(shop, "UPDATE wallets SET balance_minor = balance_minor + 1")
    return {"wallets_match_ledger"}


async def forget_a_hold(shop: Shop) -> set[str]:
    """A cancelled order that keeps its customer's money."""
    await shop.credit(50_000)
    order_id = await shop.order_at("confirmed", method=PaymentMethod.WALLET)
    await execute(
        shop,
        "ALTER TABLE orders DISABLE TRIGGER orders_check_edges",
        "UPDATE orders SET status = 'cancelled' WHERE id = :id",
        id=order_id,
    )
    return {"wallets_match_ledger"}


async def execute(shop: Shop, *statements: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


BUGS = (
    pay_a_rider_twice, lose_a_deposit, forget_the_cash, change_a_closed_day, fill_a_wallet,
    forget_a_hold,
)  # fmt: skip


@pytest.mark.embedded_only
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_a_seeded_bug_in_the_books_turns_verify_red(shop: Shop, bug: object) -> None:
    """All was clean before."""
    await shop.order_at("settled", tip_minor=TIP)
    await shop.order_at("settled", method=PaymentMethod.COD)
    assert await settle(shop, await end_of_day(shop)) == 1
    await in_order(shop)
    expected = await bug(shop)  # type: ignore[operator]  # one of BUGS
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway)
    assert {check.name for check in checks if check.broken_rows} >= expected
