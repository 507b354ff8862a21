"""What an operator may tune about riders.  Durations are seconds of virtual time."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator


class RiderSettings(BaseModel):
    # Long enough to read an offer at a red light, short against the promise.
    offer_life_s: float = Field(30.0, gt=0)
    shift_max_s: float = Field(10 * 3600.0, gt=0)
    pay_base_minor: int = Field(2_000, ge=0)
    pay_per_km_minor: int = Field(600, ge=0)
    cash_limit_minor: int = Field(500_000, ge=0)
    # A rider whose phone has said nothing for this long gets no offers.
    silent_after_s: float = Field(120.0, gt=0)
    position_interval_s: float = Field(4.0, gt=0)
    # How often one wrong code may be entered at a door before support has to be called.
    delivery_code_tries: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.position_interval_s * 3 > self.silent_after_s:
            raise ValueError("silent_after_s must allow for three lost positions")
        return self
