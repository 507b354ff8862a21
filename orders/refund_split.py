"""Who pays, and who gets back: an order's total split between its gateway and the wallet.  Pure.

The wallet pays first and the gateway gets back first.  So what is kept of an order (a fee, or the
goods that were there) is taken from the wallet as far as that goes, and money that goes back goes
to the card that it came from before it turns into credit.  Cash cannot be sent back: after the
door, it becomes credit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RefundTo(StrEnum):
    ORIGINAL = "original"
    STORE_CREDIT = "store_credit"


@dataclass(frozen=True, slots=True)
class Split:
    """Minor units of one amount."""

    gateway_minor: int
    wallet_minor: int

    @property
    def total_minor(self) -> int:
        return self.gateway_minor + self.wallet_minor


def paid_by(total_minor: int, wallet_minor: int) -> Split:
    """How an order is paid: ``wallet_minor`` from the wallet, the rest through the gateway."""
    assert 0 <= wallet_minor <= total_minor
    return Split(total_minor - wallet_minor, wallet_minor)


def kept(amount_minor: int, paid: Split) -> Split:
    """The shares of what is kept of a payment; the rest of each is free again or goes back."""
    assert 0 <= amount_minor <= paid.total_minor
    wallet = min(amount_minor, paid.wallet_minor)
    return Split(amount_minor - wallet, wallet)


def back(amount_minor: int, gateway_left_minor: int, to: RefundTo = RefundTo.ORIGINAL) -> Split:
    """The shares of a refund; ``gateway_left_minor`` is what the gateway can still send back.

    The whole of a refund can always go to the wallet, so nothing is ever left over.
    """
    assert amount_minor >= 0
    assert gateway_left_minor >= 0
    gateway = 0 if to is RefundTo.STORE_CREDIT else min(amount_minor, gateway_left_minor)
    return Split(gateway, amount_minor - gateway)
