"""The chart of accounts.  Debits are positive, credits negative."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    ASSET = "asset"
    LIABILITY = "liability"
    REVENUE = "revenue"
    EXPENSE = "expense"


class Account(StrEnum):
    """Codes of the accounts; a posting may add a *party* (a rider, a store) to an account."""

    CUSTOMER_RECEIVABLE = "customer_receivable"
    GATEWAY_CLEARING = "gateway_clearing"
    RIDER_CASH = "rider_cash"
    STORE_REVENUE = "store_revenue"
    DELIVERY_FEES = "delivery_fees"
    SMALL_ORDER_FEES = "small_order_fees"
    CANCELLATION_FEES = "cancellation_fees"
    TAX_PAYABLE = "tax_payable"
    DISCOUNTS = "discounts"
    REFUNDS = "refunds"
    TIPS_PAYABLE = "tips_payable"
    RIDER_PAYABLE = "rider_payable"
    RIDER_COST = "rider_cost"
    RIDER_INCENTIVES = "rider_incentives"
    WALLET = "wallet"
    STORE_CREDIT = "store_credit"
    BANK = "bank"
    STORE_CASH = "store_cash"
    GATEWAY_FEES = "gateway_fees"
    CHARGEBACKS_RECEIVABLE = "chargebacks_receivable"
    CHARGEBACKS = "chargebacks"
    CHARGEBACK_FEES = "chargeback_fees"
    PAYOUTS_IN_TRANSIT = "payouts_in_transit"


@dataclass(frozen=True, slots=True)
class ChartEntry:
    code: Account
    title: str
    kind: Kind

    def as_row(self) -> dict[str, object]:
        return {"code": self.code.value, "title": self.title, "kind": self.kind.value}


CHART = (
    ChartEntry(Account.CUSTOMER_RECEIVABLE, "Owed by customers for deliveries", Kind.ASSET),
    ChartEntry(Account.GATEWAY_CLEARING, "Captured, not yet paid out by gateways", Kind.ASSET),
    ChartEntry(Account.RIDER_CASH, "Cash in riders' hands (party: rider)", Kind.ASSET),
    ChartEntry(Account.STORE_REVENUE, "Goods sold, before tax (party: store)", Kind.REVENUE),
    ChartEntry(Account.DELIVERY_FEES, "Delivery fees", Kind.REVENUE),
    ChartEntry(Account.SMALL_ORDER_FEES, "Small-order fees", Kind.REVENUE),
    ChartEntry(Account.CANCELLATION_FEES, "Cancellation fees", Kind.REVENUE),
    ChartEntry(Account.TAX_PAYABLE, "Tax collected (party: rate)", Kind.LIABILITY),
    ChartEntry(Account.DISCOUNTS, "Discounts given (party: who pays for them)", Kind.EXPENSE),
    ChartEntry(Account.REFUNDS, "Goods refunded, before tax (party: store)", Kind.EXPENSE),
    ChartEntry(Account.TIPS_PAYABLE, "Tips held for riders", Kind.LIABILITY),
    ChartEntry(Account.RIDER_PAYABLE, "Earned by riders, not yet paid out", Kind.LIABILITY),
    ChartEntry(Account.RIDER_COST, "Pay for deliveries", Kind.EXPENSE),
    ChartEntry(Account.RIDER_INCENTIVES, "Incentives for riders (party: rider)", Kind.EXPENSE),
    ChartEntry(Account.WALLET, "Customers' wallets (party: user)", Kind.LIABILITY),
    ChartEntry(Account.STORE_CREDIT, "Credit given away (party: reason)", Kind.EXPENSE),
    ChartEntry(Account.BANK, "Money at the bank (party: where from)", Kind.ASSET),
    ChartEntry(Account.STORE_CASH, "Cash in stores' tills (party: store)", Kind.ASSET),
    ChartEntry(Account.GATEWAY_FEES, "Fees of gateways (party: gateway)", Kind.EXPENSE),
    ChartEntry(
        Account.CHARGEBACKS_RECEIVABLE, "Disputed, not yet decided (party: gateway)", Kind.ASSET
    ),
    ChartEntry(Account.CHARGEBACKS, "Disputes that were lost (party: gateway)", Kind.EXPENSE),
    ChartEntry(Account.CHARGEBACK_FEES, "Fees for disputes (party: gateway)", Kind.EXPENSE),
    ChartEntry(
        Account.PAYOUTS_IN_TRANSIT, "Paid out, not yet confirmed (party: rider)", Kind.LIABILITY
    ),
)
