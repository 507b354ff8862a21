"""How patiently gateways are asked.  Durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, Field, SecretStr, model_validator


class StripeBlock(BaseModel):
    """``payments.stripe``: keys from the dashboard; the secret is the webhook endpoint's own."""

    enabled: bool = False
    base_url: str = "https://api.stripe.com"
    api_key: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    # Still believed while the secret is being rotated.
    previous_webhook_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require_when(self.enabled, "stripe", self.api_key, self.webhook_secret)
        return self


class RazorpayBlock(BaseModel):
    """``payments.razorpay``: the key pair and the webhook's secret."""

    enabled: bool = False
    base_url: str = "https://api.razorpay.com"
    key_id: str = ""
    key_secret: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    previous_webhook_secret: SecretStr = SecretStr("")
    # Razorpay wants a contact with each payment; ours, because we do not pass on customers'.
    email: str = "payments@example.com"
    contact: str = "+910000000000"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _require_when(
            self.enabled, "razorpay", SecretStr(self.key_id), self.key_secret, self.webhook_secret
        )
        return self


def _require_when(enabled: bool, name: str, *secrets: SecretStr) -> None:
    if enabled and not all(secret.get_secret_value() for secret in secrets):
        raise ValueError(f"payments.{name} is enabled without its keys and webhook secret")


class BreakerSettings(BaseModel):
    """When a gateway that does not answer is left alone.  Real seconds."""

    window_s: float = Field(30.0, gt=0)
    # Below so many calls in the window, a failure is an accident.
    min_calls: int = Field(8, ge=1)
    failure_rate: float = Field(0.5, gt=0, le=1)
    # Doubled with each probe that fails.
    open_s: float = Field(5.0, gt=0)
    open_max_s: float = Field(60.0, gt=0)


class PaymentSettings(BaseModel):
    """All real time: a network does not hurry for a simulated day."""

    # Which gateways take a method, in the order in which they are asked, where a city says nothing.
    gateways: Mapping[str, tuple[str, ...]] = {
        "card": ("sandbox",),
        "upi": ("sandbox",),
        "wallet": ("sandbox",),
    }
    # A token belongs to a gateway.  The sandbox's are taken by all of them; switch this off where
    # real ones are asked, and only gateways for which a token was sent are fallen back to.
    shared_tokens: bool = True

    sandbox_url: str = "http://127.0.0.1:0"
    sandbox_api_key: SecretStr = SecretStr("")
    sandbox_webhook_secret: SecretStr = SecretStr("")
    stripe: StripeBlock = StripeBlock()
    razorpay: RazorpayBlock = RazorpayBlock()
    deadline_s: float = Field(6.0, gt=0, le=30)
    # A request that timed out may still be on its way, so the first look waits a little.
    first_lookup_s: float = Field(5.0, gt=0)
    backoff_cap_s: float = Field(300.0, gt=0)
    # An authorisation that nobody can resolve for this long is given up: the order fails, and a
    # late success is voided by the webhook that reports it.
    give_up_after_attempts: int = Field(12, ge=2)
    # Outlasts a lookup and a request, so that two workers never ask at once.
    claim_lease_s: float = Field(20.0, gt=0)
    # While no gateway can be reached, an order waits with its stock held, and is tried so often.
    authorise_patience_s: float = Field(90.0, gt=0)
    authorise_retry_s: float = Field(2.0, gt=0)
    authorise_retry_cap_s: float = Field(15.0, gt=0)
    # Calls of one worker to one gateway at a time: one that hangs must not hold up the others.
    concurrency_per_gateway: int = Field(20, ge=1)
    breaker: BreakerSettings = BreakerSettings()
    # What a gateway charges for a dispute that is lost, in minor units.
    dispute_fee_minor: int = Field(1_500, ge=0)

    @property
    def checkout_deadline_s(self) -> float:
        """All gateways of one checkout together."""
        return 1.5 * self.deadline_s

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.claim_lease_s <= 2 * self.deadline_s:
            raise ValueError("claim_lease_s must outlast two gateway calls (2 x deadline_s)")
        return self

    def webhook_secrets(self, gateway: str) -> tuple[str, ...]:
        """The secrets that may sign a gateway's webhooks; none when it is not in use."""
        match gateway:
            case "sandbox":
                secrets = [self.sandbox_webhook_secret]
            case "stripe" if self.stripe.enabled:
                secrets = [self.stripe.webhook_secret, self.stripe.previous_webhook_secret]
            case "razorpay" if self.razorpay.enabled:
                secrets = [self.razorpay.webhook_secret, self.razorpay.previous_webhook_secret]
            case _:
                secrets = []
        return tuple(text for secret in secrets if (text := secret.get_secret_value()))
