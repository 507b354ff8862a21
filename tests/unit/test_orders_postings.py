"""What an order means in the ledger: every kind of transaction balances, with any amounts."""

from __future__ import annotations

import pytest

from ledger.postings import Posting
from orders import postings

SOLD = postings.Sale(
    store_id="sto_1",
    rider_id="rdr_1",
    items_minor=20_000,
    discount_minor=2_000,
    delivery_fee_minor=2_500,
    small_order_fee_minor=1_500,
    tip_minor=700,
    total_minor=20_000 + 1_485 + 2_500 + 1_500 - 2_000 + 700,
    tax_by_rate={500: 675, 1_800: 810},
)


@pytest.mark.parametrize(
    "entries",
    [
        postings.sale(SOLD),
        postings.short_delivery("sto_1", 5_000, {500: 225}),
        postings.cancellation_fee(2_000),
        postings.capture(25_000, "sandbox"),
        postings.cash_collected(25_000, "rdr_1"),
        postings.refund(5_225, "sandbox"),
        postings.rider_earning("rdr_1", 2_300, 700),
    ],
    ids=["sale", "short", "fee", "capture", "cash", "refund", "earning"],
)
def test_it_balances(entries: list[Posting]) -> None:
    """Debits equal credits."""
    assert sum(entry.amount_minor for entry in entries) == 0


def test_an_order_and_its_payment_leave_the_customer_owing_nothing() -> None:
    """Sale, what was short, capture of the whole and the refund cancel out on the receivable."""
    entries = [
        *postings.sale(SOLD),
        *postings.short_delivery("sto_1", 5_000, {500: 225}),
        *postings.capture(SOLD.total_minor, "sandbox"),
        *postings.refund(5_225, "sandbox"),
    ]
    owed = sum(e.amount_minor for e in entries if e.account.value == "customer_receivable")
    assert owed == 0
