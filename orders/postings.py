"""What the life of an order means in the ledger.  Pure: amounts in, postings out.

Goods are sold at delivery.  The customer's receivable is settled by the capture (card) or by the
cash in the rider's hand, and given back by refunds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.chart import Account
from ledger.postings import Posting, credit, debit


@dataclass(frozen=True, slots=True)
class Sale:
    """An order at delivery.  ``tax_by_rate`` is in minor units, by basis points."""

    store_id: str
    rider_id: str
    items_minor: int
    discount_minor: int
    delivery_fee_minor: int
    small_order_fee_minor: int
    tip_minor: int
    total_minor: int
    tax_by_rate: Mapping[int, int]
    # Whose expense the discount is: 'platform', a store or 'supplier:…'.
    discount_payer: str = "platform"


def _tax(rate_bp: int) -> str:
    return f"{rate_bp}bp"


def sale(sold: Sale) -> list[Posting]:
    """The customer owes the total; store, fees, tax and the rider's tip are owed by it."""
    return [
        debit(Account.CUSTOMER_RECEIVABLE, sold.total_minor),
        debit(Account.DISCOUNTS, sold.discount_minor, sold.discount_payer),
        credit(Account.STORE_REVENUE, sold.items_minor, sold.store_id),
        credit(Account.DELIVERY_FEES, sold.delivery_fee_minor),
        credit(Account.SMALL_ORDER_FEES, sold.small_order_fee_minor),
        credit(Account.TIPS_PAYABLE, sold.tip_minor),
        *(
            credit(Account.TAX_PAYABLE, amount, _tax(rate))
            for rate, amount in sold.tax_by_rate.items()
        ),
    ]


def short_delivery(
    store_id: str, items_minor: int, tax_by_rate: Mapping[int, int]
) -> list[Posting]:
    """Goods of the order that were not delivered: the customer owes that much less."""
    return [
        credit(Account.CUSTOMER_RECEIVABLE, items_minor + sum(tax_by_rate.values())),
        debit(Account.REFUNDS, items_minor, store_id),
        *(debit(Account.TAX_PAYABLE, amount, _tax(rate)) for rate, amount in tax_by_rate.items()),
    ]


def adjustment(store_id: str, items_minor: int, tax_by_rate: Mapping[int, int]) -> list[Posting]:
    """Goods that were sold are paid for no longer (a claim): the customer owes that much less."""
    return short_delivery(store_id, items_minor, tax_by_rate)


def cancellation_fee(amount_minor: int) -> list[Posting]:
    """A cancelled order's fee: the customer owes it."""
    return [
        debit(Account.CUSTOMER_RECEIVABLE, amount_minor),
        credit(Account.CANCELLATION_FEES, amount_minor),
    ]


def capture(amount_minor: int, gateway: str) -> list[Posting]:
    """The gateway took the customer's money and owes it to us."""
    return [
        debit(Account.GATEWAY_CLEARING, amount_minor, gateway),
        credit(Account.CUSTOMER_RECEIVABLE, amount_minor),
    ]


def cash_collected(amount_minor: int, rider_id: str) -> list[Posting]:
    """The rider took the customer's money and owes it to us."""
    return [
        debit(Account.RIDER_CASH, amount_minor, rider_id),
        credit(Account.CUSTOMER_RECEIVABLE, amount_minor),
    ]


def refund(amount_minor: int, gateway: str) -> list[Posting]:
    """The gateway gave money back to the customer."""
    return [
        debit(Account.CUSTOMER_RECEIVABLE, amount_minor),
        credit(Account.GATEWAY_CLEARING, amount_minor, gateway),
    ]


def rider_earning(rider_id: str, pay_minor: int, tip_minor: int) -> list[Posting]:
    """The rider's pay is our cost; the tip passes from the customer to the rider."""
    return [
        debit(Account.RIDER_COST, pay_minor, rider_id),
        debit(Account.TIPS_PAYABLE, tip_minor),
        credit(Account.RIDER_PAYABLE, pay_minor + tip_minor, rider_id),
    ]
