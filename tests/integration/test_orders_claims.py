"""Claims: what may be claimed, who decides, and that no cent goes back twice."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.errors import DarkstoreError, IllegalTransition, Invalid
from orders import claims
from orders.claim_rules import ClaimKind
from orders.errors import ClaimDecided, ClaimOpen, ClaimWindowClosed, RefundTooLarge, TooMany
from orders.model import PaymentMethod, Substitution
from orders.refund_split import RefundTo
from orders.settings import ClaimSettings
from tests.exits_support import (
    claim,
    claim_row,
    fetch,
    finish,
    in_order,
    line_row,
    offer,
    picking_order,
    substitution,
)
from tests.order_support import Shop, open_shop

PHOTO = "upl_0123456789abcdef"
BY_RULE = ClaimSettings()


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def approve(
    shop: Shop, claim_id: str, amount: int | None = None, to: RefundTo = RefundTo.ORIGINAL
) -> None:
    async with shop.database.begin() as conn:
        await claims.approve(
            conn, claim_id, "usr_support", reason="sorry", to=to, amount_minor=amount
        )


async def reject(shop: Shop, claim_id: str) -> None:
    async with shop.database.begin() as conn:
        await claims.reject(conn, claim_id, "usr_support", reason="it was in the bag")


async def refunds(shop: Shop) -> list[int]:
    return [e.amount.amount_minor for e in shop.gateway.log if e.kind.value == "refund"]


async def two_units(shop: Shop, **options: object) -> str:
    """A delivered and settled order of two units at 60.00 with 5 % tax."""
    (product,) = await shop.stock(20)
    return await shop.order_at("settled", {product.sku_id: 2}, **options)  # type: ignore[arg-type]


async def test_a_small_claim_is_paid_back_at_once(shop: Shop) -> None:
    """Its unit with its tax, to the card, as a posted adjustment; the totals stay."""
    order_id = await two_units(shop)
    before = await shop.order(order_id)
    claim_id = await claim(shop, order_id, {"lin_1": 1}, settings=BY_RULE)
    await shop.settle_all()
    found = await claim_row(shop, claim_id)
    assert (found["status"], found["decided_by"], found["refunded_minor"]) == (
        "approved", "system", 6_300,
    )  # fmt: skip
    assert await refunds(shop) == [6_300]
    order = await shop.order(order_id)
    assert order["total_minor"] == before["total_minor"]
    assert (order["refunded_minor"], order["payment_status"]) == (6_300, "partially_refunded")
    balances = await shop.balances(order_id)
    assert balances["refunds"] == 6_000
    assert "customer_receivable" not in balances
    await in_order(shop)


async def test_the_rest_waits_for_support(shop: Shop) -> None:
    """Large claims, damage without a photo, and customers who claim often are looked at."""
    small = ClaimSettings(auto_approve_minor=6_299)
    once = ClaimSettings(auto_approve_claims=1)
    first, second = await two_units(shop), await two_units(shop)
    assert (await claim_row(shop, await claim(shop, first, {"lin_1": 1}, settings=small)))[
        "status"
    ] == "open"
    damaged = await claim(shop, second, {"lin_1": 1}, ClaimKind.DAMAGED, settings=BY_RULE)
    assert (await claim_row(shop, damaged))["status"] == "open"
    third, fourth = await two_units(shop), await two_units(shop)
    shown = await claim(shop, third, {"lin_1": 1}, ClaimKind.DAMAGED, photo=PHOTO, settings=BY_RULE)
    assert (await claim_row(shop, shown))["status"] == "approved"
    again = await claim(shop, fourth, {"lin_1": 1}, settings=once)
    assert (await claim_row(shop, again))["status"] == "open"
    await in_order(shop)


async def test_support_decides_once(shop: Shop) -> None:
    """An approval at the goods' price, a part of it, or a reason why not; then it stands."""
    order_id = await two_units(shop)
    claim_id = await claim(shop, order_id, {"lin_1": 1})
    with pytest.raises(RefundTooLarge):
        await approve(shop, claim_id, 6_301)
    await approve(shop, claim_id, 1_000)
    for step in (approve, reject):
        with pytest.raises(ClaimDecided):
            await step(shop, claim_id)
    rest = await claim(shop, order_id, {"lin_1": 1})
    await reject(shop, rest)
    assert (await claim_row(shop, rest))["reason"] == "it was in the bag"
    # What was rejected may be claimed again; what was refunded may not.
    await approve(shop, await claim(shop, order_id, {"lin_1": 1}))
    with pytest.raises(TooMany):
        await claim(shop, order_id, {"lin_1": 1})
    assert (await shop.order(order_id))["refunded_minor"] == 7_300
    await in_order(shop)


async def test_what_cannot_be_claimed(shop: Shop) -> None:
    """Before the delivery, after the window, twice at once, more than came, or what is unknown."""
    early = await shop.order_at("packed")
    with pytest.raises(IllegalTransition):
        await claim(shop, early, {"lin_1": 1})
    order_id = await two_units(shop)
    for items, kind in (({}, ClaimKind.DAMAGED), ({"lin_9": 1}, ClaimKind.MISSING),
                        ({"lin_1": 1}, ClaimKind.LATE)):  # fmt: skip
        with pytest.raises(Invalid):
            await claim(shop, order_id, items, kind)
    with pytest.raises(TooMany):
        await claim(shop, order_id, {"lin_1": 3})
    open_claim = await claim(shop, order_id, {"lin_1": 1})
    with pytest.raises(ClaimOpen) as refused:
        await claim(shop, order_id, {"lin_1": 1}, ClaimKind.WRONG)
    assert refused.value.extra == {"claim_id": open_claim}
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE orders SET delivered_at = delivered_at - interval '3 days' WHERE id = :id"
            ),
            {"id": order_id},
        )
    with pytest.raises(ClaimWindowClosed):
        await claim(shop, order_id, {"lin_1": 1})


async def test_a_late_order_gives_its_delivery_fee_back_once(shop: Shop) -> None:
    """By rule when it came after its promise; otherwise somebody has to see a reason."""
    on_time, late = await two_units(shop), await two_units(shop)
    waiting = await claim(shop, on_time, kind=ClaimKind.LATE, settings=BY_RULE)
    assert (await claim_row(shop, waiting))["status"] == "open"
    with pytest.raises(Invalid):
        await approve(shop, waiting)
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE orders SET promised_high_at = delivered_at - interval '1 second',"
                " promised_low_at = delivered_at - interval '2 seconds' WHERE id = :id"
            ),
            {"id": late},
        )
    paid = await claim(shop, late, kind=ClaimKind.LATE, settings=BY_RULE)
    assert (await claim_row(shop, paid))["refunded_minor"] == 2_500
    with pytest.raises(ClaimOpen):
        await claim(shop, late, kind=ClaimKind.LATE, settings=BY_RULE)
    await in_order(shop)


async def test_a_claim_on_a_substitute_gives_back_what_it_cost(shop: Shop) -> None:
    """Not its own price, and not that of what it stood in for, but what was really paid."""
    wanted, cheaper = await shop.stock(20, 6_000, 4_000)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 3})
    offered = await offer(shop, order_id, wanted, cheaper, 2)
    await fetch(shop, order_id, wanted, 2)
    await finish(shop, order_id)
    paid_back = (await shop.order(order_id))["refunded_minor"]
    await approve(shop, await claim(shop, order_id, {offered: 1, "lin_1": 1}))
    assert (await shop.order(order_id))["refunded_minor"] == paid_back + 4_200 + 6_300
    with pytest.raises(TooMany):
        await claim(shop, order_id, {offered: 2})
    await approve(shop, await claim(shop, order_id, {offered: 1}))
    found = await substitution(shop, offered)
    assert (found["charged_minor"], found["refunded_minor"]) == (8_400, 8_400)
    order = await shop.order(order_id)
    assert order["refunded_minor"] == order["items_total_minor"] + order["tax_minor"]
    await in_order(shop)


async def test_cash_comes_back_as_credit(shop: Shop) -> None:
    """There is no card to send it to."""
    order_id = await two_units(shop, method=PaymentMethod.COD)
    await approve(shop, await claim(shop, order_id, {"lin_1": 2}))
    assert await shop.wallet() == (12_600, 0)
    assert await refunds(shop) == []
    await in_order(shop)


async def test_store_credit_on_request_and_the_card_first_otherwise(shop: Shop) -> None:
    """A split payment gets back on the card what the card paid, the rest in the wallet."""
    await shop.credit(5_000)
    order_id = await two_units(shop, use_wallet=True)
    await approve(shop, await claim(shop, order_id, {"lin_1": 1}), 2_000, to=RefundTo.STORE_CREDIT)
    assert await shop.wallet() == (2_000, 0)
    await approve(shop, await claim(shop, order_id, {"lin_1": 1}))
    await shop.settle_all()
    assert await refunds(shop) == [6_300]
    await in_order(shop)


async def test_a_claim_before_the_capture_is_paid_back_behind_it(shop: Shop) -> None:
    """The card is captured whole, then gets everything back that is due, once."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("delivered", {product.sku_id: 3}, missing={product.sku_id: 1})
    await approve(shop, await claim(shop, order_id, {"lin_1": 1}))
    await shop.settle_all()
    assert sum(await refunds(shop)) == 12_600
    assert (await shop.order(order_id))["refunded_minor"] == 12_600
    await in_order(shop)


async def test_two_claims_at_once_and_two_decisions_at_once(shop: Shop) -> None:
    """One claim stands and is paid once, whoever presses first."""
    order_id = await two_units(shop)
    made = await asyncio.gather(
        *(claim(shop, order_id, {"lin_1": 2}, settings=BY_RULE) for _ in range(3)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, str) for each in made) == 1
    second = await two_units(shop)
    claim_id = await claim(shop, second, {"lin_1": 2})
    ends = await asyncio.gather(
        approve(shop, claim_id), approve(shop, claim_id, to=RefundTo.STORE_CREDIT),
        reject(shop, claim_id), return_exceptions=True,
    )  # fmt: skip
    assert sum(end is None for end in ends) == 1
    assert all(end is None or isinstance(end, DarkstoreError) for end in ends)
    await in_order(shop)


async def test_a_refund_that_arrives_while_a_claim_is_approved(shop: Shop) -> None:
    """Each posts its own; together they are what the order says."""
    order_id = await two_units(shop)
    await approve(shop, await claim(shop, order_id, {"lin_1": 1}))
    (pending,) = await shop.rows(
        "SELECT id FROM payment_operations WHERE order_id = :id AND kind = 'refund'", id=order_id
    )
    claim_id = await claim(shop, order_id, {"lin_1": 1})
    await asyncio.gather(shop.settle_one(pending["id"]), approve(shop, claim_id))
    await shop.settle_all()
    assert sorted(await refunds(shop)) == [6_300, 6_300]
    assert (await line_row(shop, order_id))["claimed_quantity"] == 2
    await in_order(shop)


async def test_adjustments_are_added_and_never_edited(shop: Shop) -> None:
    """The database refuses it, and so it does for the totals of a confirmed order."""
    order_id = await two_units(shop)
    await claim(shop, order_id, {"lin_1": 1}, settings=BY_RULE)
    for statement in (
        "UPDATE order_adjustments SET items_minor = 1 WHERE order_id = :id",
        "DELETE FROM order_adjustments WHERE order_id = :id",
        "UPDATE orders SET total_minor = total_minor + 1, tip_minor = tip_minor + 1 WHERE id = :id",
    ):
        with pytest.raises(Exception, match=r"append-only|snapshot"):
            async with shop.database.begin() as conn:
                await conn.execute(text(statement), {"id": order_id})
