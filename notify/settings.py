"""What an operator may tune about telling others."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, SecretStr, model_validator


class WebhookSettings(BaseModel):
    """Outgoing webhooks.  Durations are seconds of real time: receivers live outside."""

    # Every endpoint's signing secret is derived from it, so none is stored.  None: no webhooks.
    master_secret: SecretStr | None = Field(None, min_length=32)
    # Private addresses and plain http, for a development machine whose receiver is a neighbour.
    allow_private: bool = False
    # The whole of one attempt, name resolution included.
    deadline_s: float = Field(10.0, gt=0, le=60)
    max_attempts: int = Field(12, ge=1, le=50)
    first_retry_s: float = Field(5.0, gt=0)
    # 5 s, 20 s, 80 s … then every six hours: twelve attempts span a night and a day.
    retry_cap_s: float = Field(6 * 3600.0, gt=0)
    # An endpoint that has answered nothing well for this long is switched off.
    disable_after_s: float = Field(3 * 86_400.0, gt=0)
    # After a rotation both secrets sign for this long, so that a receiver can change over.
    rotation_overlap_s: float = Field(86_400.0, ge=0)
    max_in_flight: int = Field(40, ge=1)
    # One slow receiver must not take every place in the queue.
    max_in_flight_per_endpoint: int = Field(4, ge=1)
    max_endpoints_per_city: int = Field(20, ge=1)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.max_in_flight_per_endpoint > self.max_in_flight:
            raise ValueError("max_in_flight_per_endpoint must not exceed max_in_flight")
        return self


class NotifySettings(BaseModel):
    """Everything about telling others."""

    webhooks: WebhookSettings = WebhookSettings()
