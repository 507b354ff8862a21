"""The price of a basket, in integers.  Pure.

``total = items_total + tax + delivery_fee + small_order_fee - discount + tip``.  Tax is computed
line by line on the price after the line's share of the discount, halves rounded up, so that the
tax of a refunded line is known exactly.  Fees and tips are not taxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kit.money import portion
from orders.settings import FeeSettings


@dataclass(frozen=True, slots=True)
class BasketLine:
    """One product of a basket at today's price, before discount and tax."""

    sku_id: str
    name: str
    quantity: int
    unit_price_minor: int
    tax_rate_bp: int
    weight_g: int


@dataclass(frozen=True, slots=True)
class PricedLine:
    sku_id: str
    name: str
    quantity: int
    unit_price_minor: int
    line_total_minor: int
    discount_minor: int
    tax_rate_bp: int
    tax_minor: int
    weight_g: int


@dataclass(frozen=True, slots=True)
class Totals:
    items_total_minor: int
    tax_minor: int
    delivery_fee_minor: int
    small_order_fee_minor: int
    discount_minor: int
    tip_minor: int

    @property
    def total_minor(self) -> int:
        return (
            self.items_total_minor
            + self.tax_minor
            + self.delivery_fee_minor
            + self.small_order_fee_minor
            - self.discount_minor
            + self.tip_minor
        )


@dataclass(frozen=True, slots=True)
class Coupon:
    """``percent_bp`` of the items, at most ``max_discount_minor``."""

    code: str
    percent_bp: int
    max_discount_minor: int
    min_items_minor: int
    # 'platform', 'store' or 'supplier:…'.
    funded_by: str = "platform"


def split(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Share an amount in proportion to weights, without losing a unit.

    The largest remainders get the units that rounding left over (Hamilton's method); of equal
    remainders the first.  All zero weights share nothing.
    """
    whole = sum(weights)
    if whole == 0:
        assert amount_minor == 0, "an amount needs somebody to carry it"
        return [0] * len(weights)
    shares = [amount_minor * weight // whole for weight in weights]
    remainders = [amount_minor * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: amount_minor - sum(shares)]:
        shares[i] += 1
    return shares


def price(
    basket: Sequence[BasketLine], fees: FeeSettings, tip_minor: int, coupon: Coupon | None
) -> tuple[tuple[PricedLine, ...], Totals]:
    """Price a basket.  The lines come back in the order in which they went in."""
    line_totals = [line.quantity * line.unit_price_minor for line in basket]
    items_total = sum(line_totals)
    discount = 0
    if coupon is not None:
        discount = min(portion(items_total, coupon.percent_bp), coupon.max_discount_minor)
    shares = split(discount, line_totals)
    lines = tuple(
        PricedLine(
            line.sku_id,
            line.name,
            line.quantity,
            line.unit_price_minor,
            line_total,
            share,
            line.tax_rate_bp,
            portion(line_total - share, line.tax_rate_bp),
            line.weight_g,
        )
        for line, line_total, share in zip(basket, line_totals, shares, strict=True)
    )
    free = items_total >= fees.free_delivery_from_minor
    small = items_total < fees.small_order_below_minor
    totals = Totals(
        items_total_minor=items_total,
        tax_minor=sum(line.tax_minor for line in lines),
        delivery_fee_minor=0 if free else fees.delivery_fee_minor,
        small_order_fee_minor=fees.small_order_fee_minor if small else 0,
        discount_minor=discount,
        tip_minor=tip_minor,
    )
    assert sum(line.discount_minor for line in lines) == discount
    return lines, totals


@dataclass(frozen=True, slots=True)
class LineRefund:
    """What a customer gets back for units that were not delivered."""

    items_minor: int
    tax_minor: int

    @property
    def total_minor(self) -> int:
        return self.items_minor + self.tax_minor


def refund_for(line: PricedLine, missing: int, already_missing: int = 0) -> LineRefund:
    """The refund for ``missing`` more units of a line of which some are missing already.

    Computed as the difference of two cumulative amounts, so that refunds of one unit after
    another add up to exactly what the whole line cost.
    """
    assert 0 < missing <= line.quantity - already_missing
    before, after = (
        _cumulative_refund(line, units) for units in (already_missing, already_missing + missing)
    )
    return LineRefund(after.items_minor - before.items_minor, after.tax_minor - before.tax_minor)


def _cumulative_refund(line: PricedLine, units: int) -> LineRefund:
    paid = line.line_total_minor - line.discount_minor
    return LineRefund(paid * units // line.quantity, line.tax_minor * units // line.quantity)
