"""Paying from the wallet: held with the order, spent at the door, free again on every other end."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.ids import new_id
from ledger import wallet
from orders.cancellation import cancel_as_customer, cancel_as_staff
from orders.errors import StockShort, WalletShort
from orders.model import PaymentMethod
from orders.paying import give_back
from orders.refund_split import RefundTo
from server.verify import verify_database
from tests.addresses import EMBEDDED
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED

# Two units at 60.00 with 5 % tax, and the delivery: what order_at's default basket costs.
TOTAL = 15_100


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def in_order(shop: Shop) -> None:
    """Nothing is wrong with any order, posting, wallet or hold."""
    await shop.settle_all()
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway, patience_s=30.0)
    assert {c.name: c.examples for c in checks if c.broken_rows} == {}


async def test_a_whole_order_is_held_when_placed_and_spent_when_delivered(shop: Shop) -> None:
    """No gateway hears of it."""
    await shop.credit(20_000)
    order_id = await shop.order_at("confirmed", method=PaymentMethod.WALLET)
    order = await shop.order(order_id)
    assert (order["gateway"], order["wallet_minor"]) == ("wallet", TOTAL)
    assert await shop.wallet() == (20_000, TOTAL)
    await shop.drive(order_id, "delivered")
    assert await shop.states(order_id) == ("delivered", "done", "captured")
    assert await shop.wallet() == (20_000 - TOTAL, 0)
    assert shop.gateway.asked == []
    assert "customer_receivable" not in await shop.balances(order_id)
    await in_order(shop)


async def test_an_order_that_the_wallet_cannot_pay_is_refused_and_holds_nothing(
    shop: Shop,
) -> None:
    """The refusal tells what is there; the same key may be used once there is more."""
    await shop.credit(5_000)
    (product,) = await shop.stock(5)
    quote_id = await shop.quote({product.sku_id: 2})
    with pytest.raises(WalletShort) as refused:
        await shop.check_out(quote_id, key="one", method=PaymentMethod.WALLET)
    assert refused.value.extra == {
        "balance": {"amount_minor": 5_000, "currency": "INR"},
        "total": {"amount_minor": TOTAL, "currency": "INR"},
    }
    assert await shop.wallet() == (5_000, 0)
    assert await shop.stock_of(product.sku_id) == (5, 0)
    await shop.credit(20_000)
    await shop.check_out(quote_id, key="one", method=PaymentMethod.WALLET)
    assert await shop.wallet() == (25_000, TOTAL)
    await in_order(shop)


async def test_a_card_pays_what_the_wallet_does_not(shop: Shop) -> None:
    """The gateway authorises and captures the rest alone; a shortage goes back to it first."""
    await shop.credit(5_000)
    (product,) = await shop.stock(20)
    order_id = await shop.order_at(
        "settled", {product.sku_id: 2}, missing={product.sku_id: 1}, use_wallet=True
    )
    log = [(entry.kind.value, entry.amount.amount_minor) for entry in shop.gateway.log]
    assert log == [("authorise", 10_100), ("capture", 10_100), ("refund", 6_300)]
    assert await shop.wallet() == (0, 0)
    assert await shop.states(order_id) == ("delivered", "done", "partially_refunded")
    assert "customer_receivable" not in await shop.balances(order_id)
    await in_order(shop)


async def test_a_shortage_beyond_the_card_s_part_stays_in_the_wallet(shop: Shop) -> None:
    """The card gets all of its part back, and the wallet is not asked for the rest."""
    await shop.credit(12_000)
    (product,) = await shop.stock(20)
    order_id = await shop.order_at(
        "settled", {product.sku_id: 2}, missing={product.sku_id: 1}, use_wallet=True
    )
    log = [(entry.kind.value, entry.amount.amount_minor) for entry in shop.gateway.log]
    assert log == [("authorise", 3_100), ("capture", 3_100), ("refund", 3_100)]
    assert await shop.wallet() == (12_000 - (TOTAL - 6_300), 0)
    assert "customer_receivable" not in await shop.balances(order_id)
    await in_order(shop)


@pytest.mark.parametrize(
    ("credit", "due", "balance"), [(5_000, 3_800, 0), (12_000, 0, 12_000 - (TOTAL - 6_300))]
)
async def test_the_rider_takes_only_what_the_wallet_leaves(
    shop: Shop, credit: int, due: int, balance: int
) -> None:
    """With a unit missing; where the wallet pays everything that is left, no cash is due at all."""
    await shop.credit(credit)
    (product,) = await shop.stock(20)
    order_id = await shop.order_at(
        "offered", {product.sku_id: 2}, missing={product.sku_id: 1}, method=PaymentMethod.COD,
        use_wallet=True,
    )  # fmt: skip
    assert (await shop.trip(order_id)).stops[1].cash_due_minor == due
    for step in (shop.accept(order_id), shop.arrive(order_id, 1), shop.hand_over(order_id)):
        await step
    await shop.arrive(order_id, 2)
    await shop.deliver(order_id)
    await shop.settle_all()
    assert await shop.states(order_id) == ("delivered", "done", "captured")
    assert (await shop.balances(order_id)).get("rider_cash", 0) == due
    assert await shop.wallet() == (balance, 0)
    await in_order(shop)


async def test_whoever_cancels_frees_the_hold(shop: Shop) -> None:
    """Before the gateway's part is voided, and for a whole wallet order without a gateway."""
    await shop.credit(20_000)
    for method, paid in ((PaymentMethod.CARD, "voided"), (PaymentMethod.WALLET, "voided")):
        order_id = await shop.order_at("packed", method=method, use_wallet=True)
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, order_id, "staff", "closed")
        await shop.settle_all()
        assert await shop.states(order_id) == ("cancelled", "cancelled", paid)
        assert await shop.wallet() == (20_000, 0)
    await in_order(shop)


@pytest.mark.parametrize(("credit", "from_card"), [(1_500, 500), (5_000, 0), (TOTAL, 0)])
async def test_a_fee_is_taken_from_the_wallet_first(
    shop: Shop, credit: int, from_card: int
) -> None:
    """What the wallet cannot pay of it is captured; the rest of the hold is free again."""
    await shop.credit(credit)
    order_id = await shop.order_at("picking", use_wallet=True)
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "changed my mind", 2_000)
    await shop.settle_all()
    captured = [e.amount.amount_minor for e in shop.gateway.log if e.kind.value == "capture"]
    assert captured == ([from_card] if from_card else [])
    assert await shop.wallet() == (credit - (2_000 - from_card), 0)
    balances = await shop.balances(order_id)
    assert balances["cancellation_fees"] == -2_000
    assert "customer_receivable" not in balances
    await in_order(shop)


async def test_a_declined_card_frees_the_wallet_s_part(shop: Shop) -> None:
    """The order ends as payment_failed and holds nothing."""
    await shop.credit(5_000)
    shop.gateway.script["authorise"] = [DECLINED]
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 2}, use_wallet=True)
    assert (await shop.order(order_id))["status"] == "payment_failed"
    assert await shop.wallet() == (5_000, 0)
    await in_order(shop)


async def test_a_checkout_that_fails_later_holds_nothing(shop: Shop) -> None:
    """The wallet is held before the stock is: a short line gives it back."""
    await shop.credit(50_000)
    (product,) = await shop.stock(2)
    quotes = [await shop.quote({product.sku_id: 2}) for _ in range(2)]
    await shop.check_out(quotes[0], method=PaymentMethod.WALLET)
    with pytest.raises(StockShort):
        await shop.check_out(quotes[1], method=PaymentMethod.WALLET)
    assert await shop.wallet() == (50_000, TOTAL)
    await in_order(shop)


async def claim(shop: Shop, order_id: str, amount: int, to: RefundTo) -> tuple[int, int]:
    """What a claim does with the order before its money goes back: count and post it."""
    key = new_id("clm")
    await shop.rows(
        "UPDATE orders SET refunded_minor = refunded_minor + :n WHERE id = :id RETURNING id",
        n=amount, id=order_id,
    )  # fmt: skip
    async with shop.database.begin() as conn:
        split = await give_back(conn, order_id, amount, key=key, to=to)
    await shop.settle_all()
    return split.gateway_minor, split.wallet_minor


async def test_a_refund_goes_to_the_card_before_the_wallet(shop: Shop) -> None:
    """And never more to the card than it paid, however many refunds there are."""
    await shop.credit(5_000)
    order_id = await shop.order_at("settled", use_wallet=True)
    assert await claim(shop, order_id, 8_000, RefundTo.ORIGINAL) == (8_000, 0)
    assert (await shop.states(order_id))[2] == "partially_refunded"
    assert await claim(shop, order_id, 4_000, RefundTo.ORIGINAL) == (2_100, 1_900)
    assert await claim(shop, order_id, TOTAL - 12_000, RefundTo.ORIGINAL) == (0, 3_100)
    assert (await shop.states(order_id))[2] == "refunded"
    assert await shop.wallet() == (5_000, 0)


@pytest.mark.parametrize("method", [PaymentMethod.CARD, PaymentMethod.COD])
async def test_store_credit_and_the_refund_of_cash_go_to_the_wallet(
    shop: Shop, method: PaymentMethod
) -> None:
    """Nobody carries cash back; a card is left alone when the customer prefers credit."""
    order_id = await shop.order_at("settled", method=method)
    to = RefundTo.STORE_CREDIT if method is PaymentMethod.CARD else RefundTo.ORIGINAL
    assert await claim(shop, order_id, 6_300, to) == (0, 6_300)
    assert (await shop.states(order_id))[2] == "partially_refunded"
    assert await shop.wallet() == (6_300, 0)


async def test_a_refund_before_the_capture_follows_it(shop: Shop) -> None:
    """The gateway has captured nothing yet, so that it is asked only afterwards, and once."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("delivered", {product.sku_id: 2}, missing={product.sku_id: 1})
    assert await claim(shop, order_id, 6_300, RefundTo.ORIGINAL) == (6_300, 0)
    refunds = [e.amount.amount_minor for e in shop.gateway.log if e.kind.value == "refund"]
    assert sum(refunds) == 12_600


async def test_fifty_checkouts_race_for_one_wallet(shop: Shop, engine_kind: str) -> None:
    """Exactly what fits is held; nobody is told that there was money when there was not."""
    fits, racers = 7, 50 if engine_kind == EMBEDDED else 20
    await shop.credit(fits * TOTAL + TOTAL // 2)
    (product,) = await shop.stock(200)
    quotes = [await shop.quote({product.sku_id: 2}) for _ in range(racers)]
    answers = await asyncio.gather(
        *(shop.check_out(quote, method=PaymentMethod.WALLET) for quote in quotes),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) - len(refused) == fits
    assert all(isinstance(one, WalletShort) for one in refused)
    assert await shop.wallet() == (fits * TOTAL + TOTAL // 2, fits * TOTAL)
    assert await shop.stock_of(product.sku_id) == (200, 2 * fits)
    await in_order(shop)


async def test_a_race_with_cards_splits_every_paisa_once(shop: Shop) -> None:
    """Some orders get all of the wallet, one the rest of it, the others none."""
    await shop.credit(2 * TOTAL + 4_000)
    (product,) = await shop.stock(200)
    quotes = [await shop.quote({product.sku_id: 2}) for _ in range(12)]
    await asyncio.gather(*(shop.check_out(quote, use_wallet=True) for quote in quotes))
    rows = await shop.rows("SELECT wallet_minor, gateway FROM orders ORDER BY wallet_minor DESC")
    assert [row["wallet_minor"] for row in rows] == [TOTAL, TOTAL, 4_000, *[0] * 9]
    assert [row["gateway"] for row in rows] == ["wallet", "wallet", *["sandbox"] * 10]
    assert await shop.wallet() == (2 * TOTAL + 4_000, 2 * TOTAL + 4_000)
    await in_order(shop)


async def test_a_wallet_cannot_fall_below_what_it_holds(shop: Shop) -> None:
    """The table itself refuses a posting that would: that is the backstop."""
    await shop.credit(TOTAL)
    await shop.order_at("confirmed", method=PaymentMethod.WALLET)
    with pytest.raises(Exception, match="ck_wallets_held"):
        async with shop.database.begin() as conn:
            await wallet.give_credit(conn, "back", shop.customer_id, "INR", -1, "mistake")


@pytest.mark.parametrize(
    ("funded_by", "party"),
    [("platform", "platform"), ("store", None), ("supplier:acme", "supplier:acme")],
)
async def test_a_discount_is_the_expense_of_whoever_funds_the_coupon(
    shop: Shop, funded_by: str, party: str | None
) -> None:
    """The platform, the selling store or a supplier; ``None`` stands for the store's id."""
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "INSERT INTO coupons (code, percent_bp, max_discount_minor, min_items_minor,"
                " starts_at, ends_at, funded_by)"
                " VALUES ('TEN', 1000, 5000, 0, now() - interval '1 day',"
                " now() + interval '1 day', :funded_by)"
            ),
            {"funded_by": funded_by},
        )
    (product,) = await shop.stock(5)
    quote_id = await shop.quote({product.sku_id: 2}, coupon="TEN")
    await shop.check_out(quote_id)
    (row,) = await shop.rows("SELECT id FROM orders")
    await shop.drive(row["id"], "settled")
    found = await shop.rows(
        "SELECT party, amount_minor FROM ledger_postings WHERE account = 'discounts'"
    )
    assert found == [{"party": party or shop.place.store.id, "amount_minor": 1_200}]
    await in_order(shop)
