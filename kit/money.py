"""Money is an integer count of minor units in one currency.  There are no floats here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from kit.errors import Invalid

_CURRENCY = re.compile(r"^[A-Z]{3}$")


class CurrencyMismatch(Invalid):
    code = "currency_mismatch"


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount: ``amount_minor`` (paise, cents; may be negative) of an ISO 4217 ``currency``."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        assert type(self.amount_minor) is int, "money is an integer of minor units"
        assert _CURRENCY.match(self.currency), "a currency is three capital letters"

    def __add__(self, other: Self) -> Money:
        self._same_currency(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: Self) -> Money:
        self._same_currency(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def __mul__(self, quantity: int) -> Money:
        return Money(self.amount_minor * quantity, self.currency)

    def _same_currency(self, other: Self) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be added.")


def portion(amount_minor: int, rate_bp: int) -> int:
    """``rate_bp`` basis points of an amount, halves rounded away from zero.

    Integer arithmetic, so that 5 % of 10 is 1 everywhere and for ever.
    """
    sign = -1 if amount_minor < 0 else 1
    return sign * ((abs(amount_minor) * rate_bp + 5_000) // 10_000)
