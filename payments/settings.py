"""How patiently gateways are asked.  Durations are seconds."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, SecretStr, model_validator


class PaymentSettings(BaseModel):
    """All real time: a network does not hurry for a simulated day."""

    sandbox_url: str = "http://127.0.0.1:0"
    sandbox_api_key: SecretStr = SecretStr("")
    sandbox_webhook_secret: SecretStr = SecretStr("")
    deadline_s: float = Field(6.0, gt=0, le=30)
    # A request that timed out may still be on its way, so the first look waits a little.
    first_lookup_s: float = Field(5.0, gt=0)
    backoff_cap_s: float = Field(300.0, gt=0)
    # An authorisation that nobody can resolve for this long is given up: the order fails, and a
    # late success is voided by the webhook that reports it.
    give_up_after_attempts: int = Field(12, ge=2)
    # Outlasts a lookup and a request, so that two workers never ask at once.
    claim_lease_s: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.claim_lease_s <= 2 * self.deadline_s:
            raise ValueError("claim_lease_s must outlast two gateway calls (2 x deadline_s)")
        return self
