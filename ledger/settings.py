"""What an operator may tune about the books and what is paid out of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LedgerSettings(BaseModel):
    """Durations are seconds of virtual time, amounts minor units of the city's currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A day is closed this long after its end (midnight UTC): what comes in late counts for the
    # next one.
    close_after_s: float = Field(3_600.0, ge=0)
    # Riders are paid as often (0: only when somebody asks for it).
    settle_every_days: int = Field(0, ge=0, le=92)
    # A settlement lets riders keep the cash that they hold as part of what they are owed.
    deduct_cash: bool = True
    # The most credit that one call of a role may give a customer.
    support_credit_max_minor: int = Field(50_000, ge=0)
    ops_credit_max_minor: int = Field(500_000, ge=0)
    incentive_max_minor: int = Field(1_000_000, ge=0)
