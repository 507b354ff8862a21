"""What a substitute costs its customer, in integers.  Pure.

Never more than the units that it stands in for: what is dearer is our cost, what is cheaper lowers
the price.  A coupon's share is kept, and tax is the substitute's own.
"""

from __future__ import annotations

from kit.money import portion
from orders.pricing import LineRefund, PricedLine, refund_for


def agreed_price(
    line: PricedLine, quantity: int, unit_price_minor: int, tax_rate_bp: int
) -> LineRefund:
    """The price of ``quantity`` units of a substitute for as many missing units of ``line``.

    The cap is counted from the line's first unit, so that the caps of several substitutes never
    add up to more than what all missing units gave back (a sum of floors is at most the floor).
    """
    cap = refund_for(line, quantity)
    paid_minor = line.line_total_minor - line.discount_minor
    own_minor = unit_price_minor * quantity
    if line.line_total_minor:
        own_minor = own_minor * paid_minor // line.line_total_minor
    items_minor = min(own_minor, cap.items_minor)
    tax_minor = portion(items_minor, tax_rate_bp)
    if items_minor + tax_minor <= cap.total_minor:
        return LineRefund(items_minor, tax_minor)
    if tax_rate_bp == line.tax_rate_bp:
        return LineRefund(items_minor, cap.total_minor - items_minor)
    # Taxed higher than the original: the customer's price stays, and contains the tax.
    items_minor = cap.total_minor * 10_000 // (10_000 + tax_rate_bp)
    return LineRefund(items_minor, cap.total_minor - items_minor)


def share(whole: LineRefund, units: int, of: int) -> LineRefund:
    """The first ``units`` of a price for ``of`` units, rounded down; all of them are all of it."""
    assert 0 <= units <= of
    return LineRefund(whole.items_minor * units // of, whole.tax_minor * units // of)


def difference(after: LineRefund, before: LineRefund) -> LineRefund:
    """What came on top between two cumulative amounts."""
    return LineRefund(after.items_minor - before.items_minor, after.tax_minor - before.tax_minor)
