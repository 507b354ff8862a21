"""What an operator may tune about quotes, checkout and the life of an order."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator


class FeeSettings(BaseModel):
    """Fees in minor units of the city's currency."""

    delivery_fee_minor: int = Field(2_500, ge=0)
    free_delivery_from_minor: int = Field(29_900, ge=0)
    small_order_fee_minor: int = Field(1_500, ge=0)
    small_order_below_minor: int = Field(9_900, ge=0)
    # Charged when a customer cancels while the order is being picked: the work is done by then.
    cancellation_fee_minor: int = Field(2_000, ge=0)


class OrderSettings(BaseModel):
    """Durations are seconds of virtual time."""

    fees: FeeSettings = FeeSettings()
    quote_life_s: float = Field(600.0, gt=0)
    # Longer than any gateway takes to say yes, shorter than the customer's patience.
    reservation_hold_s: float = Field(300.0, gt=0)
    # A checkout whose process died is picked up by the settlement worker after this long.
    recover_after_s: float = Field(30.0, gt=0)
    max_lines: int = Field(60, ge=1)
    max_quantity: int = Field(50, ge=1)
    max_tip_minor: int = Field(100_000, ge=0)
    # The furthest that a rider is sent, along the street.
    max_travel_s: float = Field(1_500.0, gt=0)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.recover_after_s >= self.reservation_hold_s:
            raise ValueError(
                "recover_after_s must be below reservation_hold_s:"
                " a payment has to be resolved before its stock is given away"
            )
        return self
