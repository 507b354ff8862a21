"""Whatever is short, replaced and claimed, in any pieces: exactly what was paid, and never more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orders.claim_rules import DeliveredItem, adjustments_for
from orders.pricing import BasketLine, Coupon, LineRefund, PricedLine, price, refund_for
from orders.settings import FeeSettings
from orders.substitution_price import agreed_price, difference, share

RATES = st.sampled_from([0, 500, 1_200, 1_800, 2_800])


@st.composite
def lines(draw: st.DrawFn) -> PricedLine:
    """A line of a basket of two, with or without a coupon."""
    basket = [
        BasketLine(f"sku_{n}", "Milk", draw(st.integers(1, 9)), draw(st.integers(1, 50_000)),
                   draw(RATES), 100)
        for n in range(2)
    ]  # fmt: skip
    coupon = draw(st.none() | st.builds(
        Coupon, code=st.just("ANY"), percent_bp=st.integers(1, 9_000),
        max_discount_minor=st.integers(0, 100_000), min_items_minor=st.just(0)))  # fmt: skip
    priced, _ = price(basket, FeeSettings(), 0, coupon)
    return priced[0]


def paid(line: PricedLine) -> int:
    return line.line_total_minor - line.discount_minor + line.tax_minor


@given(lines(), st.data())
def test_any_exits_of_a_line_add_up(line: PricedLine, data: st.DataObject) -> None:
    """Short units, substitutes in pieces, and claims on both: what stays with us is never
    negative, and nothing stays once everything has been claimed.
    """
    missing = data.draw(st.integers(0, line.quantity))
    refunded = refund_for(line, missing).total_minor if missing else 0
    charged: list[tuple[LineRefund, int, int]] = []  # (agreed, picked, offered)
    covered = 0
    while covered < missing and data.draw(st.booleans()):
        offered = data.draw(st.integers(1, missing - covered))
        rate, unit_price = data.draw(RATES), data.draw(st.integers(1, 100_000))
        agreed = agreed_price(line, offered, unit_price, rate)
        assert agreed.items_minor >= 0
        assert agreed.tax_minor >= 0
        assert agreed.total_minor <= refund_for(line, offered).total_minor
        picked = data.draw(st.integers(0, offered))
        one_by_one = [
            difference(share(agreed, n + 1, offered), share(agreed, n, offered)).total_minor
            for n in range(picked)
        ]
        assert min(one_by_one, default=0) >= 0
        assert sum(one_by_one) == share(agreed, picked, offered).total_minor
        refunded -= sum(one_by_one)
        assert refunded >= 0
        charged.append((agreed, picked, offered))
        covered += picked
    items = [DeliveredItem("lin_1", "lin_1", line.quantity - missing, 0, line.tax_rate_bp,
                           line=line, missing=missing)]  # fmt: skip
    items += [
        DeliveredItem(f"sub_{n}", "lin_1", picked, 0, 0, charged=share(agreed, picked, offered))
        for n, (agreed, picked, offered) in enumerate(charged)
        if picked
    ]
    for item in items:
        claimed = 0
        while claimed < item.delivered:
            part = data.draw(st.integers(1, item.delivered - claimed))
            now = DeliveredItem(
                item.item_id, item.line_id, item.delivered, claimed, item.tax_rate_bp,
                item.line, item.missing, item.charged,
            )  # fmt: skip
            (back,) = adjustments_for([(now, part)], None)
            assert back.items_minor >= 0
            assert back.tax_minor >= 0
            refunded, claimed = refunded + back.amount_minor, claimed + part
            assert refunded <= paid(line)
    assert refunded == paid(line)


@given(lines(), st.data())
def test_a_part_of_a_claim_is_shared_without_a_rest(line: PricedLine, data: st.DataObject) -> None:
    """The amount that support gives, exactly, over items and between goods and tax."""
    items = [
        (DeliveredItem(f"lin_{n}", f"lin_{n}", line.quantity, 0, line.tax_rate_bp, line=line),
         data.draw(st.integers(1, line.quantity)))
        for n in range(data.draw(st.integers(1, 3)))
    ]  # fmt: skip
    worth = sum(item.worth(quantity).total_minor for item, quantity in items)
    amount = data.draw(st.integers(0, worth))
    shares = adjustments_for(items, amount)
    assert sum(share.amount_minor for share in shares) == amount
    assert all(share.items_minor >= 0 and share.tax_minor >= 0 for share in shares)


@given(lines(), st.integers(1, 9), RATES)
def test_the_same_product_again_costs_the_same(line: PricedLine, units: int, rate: int) -> None:
    """A substitute of the same price and rate gives nothing back but what rounding left over."""
    quantity = min(units, line.quantity)
    agreed = agreed_price(line, quantity, line.unit_price_minor, line.tax_rate_bp)
    cap = refund_for(line, quantity)
    assert 0 <= cap.total_minor - agreed.total_minor <= 1 + quantity
    dearer = agreed_price(line, quantity, line.unit_price_minor * 2, rate)
    assert dearer.total_minor <= cap.total_minor
