"""Prices by hand: fees at their limits, a coupon, tax after discount, refunds."""

from __future__ import annotations

import pytest

from orders.pricing import BasketLine, Coupon, price, refund_for, split
from orders.settings import FeeSettings

FEES = FeeSettings(
    delivery_fee_minor=2_500,
    free_delivery_from_minor=30_000,
    small_order_fee_minor=1_500,
    small_order_below_minor=10_000,
)


def line(quantity: int, unit_price_minor: int, tax_rate_bp: int = 500) -> BasketLine:
    return BasketLine(
        f"sku_{quantity}_{unit_price_minor}", "Milk", quantity, unit_price_minor, tax_rate_bp, 1000
    )


@pytest.mark.parametrize(
    ("items_minor", "delivery", "small"),
    [
        (9_999, 2_500, 1_500),
        (10_000, 2_500, 0),
        (29_999, 2_500, 0),
        (30_000, 0, 0),
    ],
)
def test_fees_end_where_they_say(items_minor: int, delivery: int, small: int) -> None:
    """A basket at a limit pays what the limit says, one paisa below what it said before."""
    _, totals = price([line(1, items_minor, 0)], FEES, 0, None)
    assert (totals.delivery_fee_minor, totals.small_order_fee_minor) == (delivery, small)
    assert totals.total_minor == items_minor + delivery + small


def test_tax_is_on_what_is_left_after_the_discount() -> None:
    """10 % off 20000 is shared 3 : 1; each line is taxed at its own rate on the rest."""
    coupon = Coupon("TEN", 1_000, 5_000, 0)
    basket = [line(3, 5_000, 500), line(1, 5_000, 1_800)]
    lines, totals = price(basket, FEES, 700, coupon)
    assert [one.discount_minor for one in lines] == [1_500, 500]
    assert [one.tax_minor for one in lines] == [675, 810]
    assert totals.total_minor == 20_000 + 1_485 + 2_500 - 2_000 + 700


def test_a_discount_stops_at_its_cap() -> None:
    """Half off, but at most 1000."""
    _, totals = price([line(1, 20_000)], FEES, 0, Coupon("HALF", 5_000, 1_000, 0))
    assert totals.discount_minor == 1_000


def test_the_first_of_equal_remainders_gets_the_odd_unit() -> None:
    """A hundred among three equal lines."""
    assert split(100, [1, 1, 1]) == [34, 33, 33]
    assert split(0, [0, 0]) == [0, 0]


def test_one_unit_after_another_comes_back_whole() -> None:
    """Three refunds of one unit of a line of 100 with 5 of tax."""
    (priced,), _ = price([BasketLine("sku_1", "Tea", 3, 33, 500, 10)], FEES, 0, None)
    refunds = [refund_for(priced, 1, gone) for gone in range(3)]
    assert [one.items_minor for one in refunds] == [33, 33, 33]
    assert [one.tax_minor for one in refunds] == [1, 2, 2]
