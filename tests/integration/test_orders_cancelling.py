"""Who may cancel an order at each stage, and what becomes of money, goods and rider."""

from __future__ import annotations

import pytest

from kit.db import Database
from kit.errors import IllegalTransition
from orders import offers, picking
from orders.cancellation import cancel_as_customer, cancel_as_staff
from orders.errors import (
    OfferExpired,
)
from orders.model import PaymentMethod
from orders.picking import NothingToPick
from tests.order_support import Shop, open_shop

FEE = 2_000


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    return await open_shop(judged_database)


@pytest.mark.parametrize(
    ("stage", "fee"), [("confirmed", 0), ("picking", FEE)], ids=["confirmed", "picking"]
)
async def test_a_customer_cancels_until_it_is_packed(shop: Shop, stage: str, fee: int) -> None:
    """Free before picking; while it is picked the fee is captured and the rest released."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at(stage, {product.sku_id: 2})
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    await shop.settle_all()
    paid = "captured" if fee else "voided"
    assert await shop.states(order_id) == ("cancelled", "cancelled", paid)
    assert await shop.stock_of(product.sku_id) == (20, 0)
    if fee:
        assert await shop.balances(order_id) == {
            "gateway_clearing": FEE, "cancellation_fees": -FEE,
        }  # fmt: skip
    else:
        assert await shop.balances(order_id) == {}
    await shop.relay()
    with pytest.raises(NothingToPick):
        async with shop.database.begin() as conn:
            await picking.claim(conn, shop.place.store.id, shop.picker_id, None)


async def test_cash_costs_nothing_to_cancel(shop: Shop) -> None:
    """There is nothing to take a fee from."""
    order_id = await shop.order_at("picking", method=PaymentMethod.COD)
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.balances(order_id) == {}


async def test_after_packing_only_staff_cancels_and_the_bag_goes_back(shop: Shop) -> None:
    """The customer is refused; staff voids the money, restocks the bag and frees the rider."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("at_store", {product.sku_id: 3})
    assert await shop.stock_of(product.sku_id) == (17, 0)
    trip = await shop.trip(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, order_id, "usr_staff", "spilled")
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.stock_of(product.sku_id) == (20, 0)
    rows = await shop.rows("SELECT status FROM trips WHERE id = :id", id=trip.id)
    assert rows == [{"status": "cancelled"}]


@pytest.mark.parametrize("stage", ["collected", "at_door", "delivered"])
async def test_nobody_cancels_what_has_left_the_store(shop: Shop, stage: str) -> None:
    """From the handover on only the rider can end it otherwise."""
    order_id = await shop.order_at(stage)
    before = await shop.order(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, order_id, "usr_staff", "no")
    assert await shop.order(order_id) == before


async def test_cancelling_an_offered_order_closes_the_offer(shop: Shop) -> None:
    """The rider is free again and taking the offer is too late."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, order_id, "usr_staff", "no")
    with pytest.raises(OfferExpired):
        async with shop.database.begin() as conn:
            await offers.accept(conn, trip.rider_id, trip.offer_id or "")
    assert await shop.order_at("assigned")
