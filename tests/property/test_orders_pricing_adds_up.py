"""Whatever the basket: nothing is lost in shares, taxes and refunds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.money import portion
from orders.pricing import BasketLine, Coupon, price, refund_for, split
from orders.settings import FeeSettings

FEES = FeeSettings()

baskets = st.lists(
    st.builds(
        BasketLine,
        sku_id=st.uuids().map(str),
        name=st.just("Milk"),
        quantity=st.integers(1, 50),
        unit_price_minor=st.integers(1, 500_000),
        tax_rate_bp=st.sampled_from([0, 500, 1_200, 1_800, 2_800]),
        weight_g=st.integers(1, 5_000),
    ),
    min_size=1,
    max_size=20,
)
coupons = st.none() | st.builds(
    Coupon,
    code=st.just("ANY"),
    percent_bp=st.integers(1, 9_000),
    max_discount_minor=st.integers(0, 100_000),
    min_items_minor=st.just(0),
)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_a_split_adds_up_and_is_fair(amount: int, weights: list[int]) -> None:
    """Shares sum to the amount, none is off its exact part by a whole unit, none is for nothing."""
    if sum(weights) == 0:
        amount = 0
    shares = split(amount, weights)
    assert sum(shares) == amount
    whole = sum(weights) or 1
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share * whole - amount * weight) < whole
        assert weight or share == 0


@given(baskets, st.integers(0, 100_000), coupons)
def test_totals_are_the_sums_of_their_lines(
    basket: list[BasketLine], tip_minor: int, coupon: Coupon | None
) -> None:
    """Items, tax and discount of a quote are exactly those of its lines; all of it integers."""
    lines, totals = price(basket, FEES, tip_minor, coupon)
    assert totals.items_total_minor == sum(line.line_total_minor for line in lines)
    assert totals.tax_minor == sum(line.tax_minor for line in lines)
    assert totals.discount_minor == sum(line.discount_minor for line in lines)
    assert totals.total_minor > 0
    for line in lines:
        assert line.line_total_minor == line.quantity * line.unit_price_minor
        assert 0 <= line.discount_minor <= line.line_total_minor
        taxed = line.line_total_minor - line.discount_minor
        assert line.tax_minor == portion(taxed, line.tax_rate_bp)
        assert abs(line.tax_minor * 10_000 - taxed * line.tax_rate_bp) <= 5_000


@given(baskets, coupons, st.data())
def test_refunds_in_any_pieces_give_back_the_line(
    basket: list[BasketLine], coupon: Coupon | None, data: st.DataObject
) -> None:
    """However the units go missing, all of them together are what the line cost, never more."""
    lines, _ = price(basket, FEES, 0, coupon)
    line = data.draw(st.sampled_from(lines))
    gone = items = tax = 0
    while gone < line.quantity:
        missing = data.draw(st.integers(1, line.quantity - gone))
        back = refund_for(line, missing, gone)
        assert back.items_minor >= 0
        assert back.tax_minor >= 0
        gone, items, tax = gone + missing, items + back.items_minor, tax + back.tax_minor
        assert items <= line.line_total_minor - line.discount_minor
        assert tax <= line.tax_minor
    assert (items, tax) == (line.line_total_minor - line.discount_minor, line.tax_minor)
