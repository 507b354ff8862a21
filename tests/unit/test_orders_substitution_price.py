"""What a substitute costs: worked out by hand."""

from __future__ import annotations

import pytest

from orders.pricing import LineRefund, PricedLine
from orders.substitution_price import agreed_price, share


def line(quantity: int = 2, discount_minor: int = 0, rate_bp: int = 500) -> PricedLine:
    """Units at 60.00."""
    whole = 6_000 * quantity
    tax = (whole - discount_minor) * rate_bp // 10_000
    return PricedLine("sku_1", "Milk", quantity, 6_000, whole, discount_minor, rate_bp, tax, 100)


@pytest.mark.parametrize(
    ("unit_price", "rate_bp", "items", "tax"),
    [
        (6_000, 500, 6_000, 300),
        # Dearer: the price of what is missing, the rest is our cost.
        (9_900, 500, 6_000, 300),
        # Cheaper: its own price with its own tax.
        (4_000, 500, 4_000, 200),
        (4_000, 1_800, 4_000, 720),
        # Dearer and taxed higher: 63.00 in all, of which 18/118 is tax.
        (9_900, 1_800, 5_338, 962),
        # Taxed lower: no more than its own tax.
        (9_900, 0, 6_000, 0),
    ],
)
def test_one_of_two_units(unit_price: int, rate_bp: int, items: int, tax: int) -> None:
    """A unit at 60.00 with 5 % tax is missing."""
    assert agreed_price(line(), 1, unit_price, rate_bp) == LineRefund(items, tax)


def test_a_coupon_s_share_is_kept() -> None:
    """A quarter off the line is a quarter off its substitute."""
    assert agreed_price(line(2, 3_000), 2, 4_000, 500) == LineRefund(6_000, 300)


def test_pieces_make_the_whole() -> None:
    """Two of three, then the third, are all three."""
    whole = LineRefund(10_001, 502)
    assert share(whole, 2, 3) == LineRefund(6_667, 334)
    assert share(whole, 3, 3) == whole
    assert share(whole, 0, 3) == LineRefund(0, 0)
