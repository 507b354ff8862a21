"""How the provider misbehaves: by the token of one payment, or by settings for all.

Which requests a rate hits depends on the seed and the request's idempotency key alone, so a run
with the same keys has the same faults in any order of arrival.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from simulator.provider.model import PaymentStatus

SLOW_ANSWER_S = 8.0
HELD_CONNECTION_S = 30.0

TOKEN_OK = "tok_ok"  # noqa: S105 - public names of test behaviours, not secrets
TOKEN_SLOW = "tok_slow"  # noqa: S105
TOKEN_TIMEOUT_CHARGED = "tok_timeout_charged"  # noqa: S105
TOKEN_TIMEOUT_FAILED = "tok_timeout_failed"  # noqa: S105
TOKEN_DUPLICATE_WEBHOOK = "tok_duplicate_webhook"  # noqa: S105

_DECLINES = {"tok_declined": "card_declined", "tok_insufficient_funds": "insufficient_funds"}
_GOOD = {TOKEN_OK, TOKEN_SLOW, TOKEN_TIMEOUT_CHARGED, TOKEN_DUPLICATE_WEBHOOK}

Rate = Field(default=0.0, ge=0.0, le=1.0)


class Control(BaseModel):
    """Faults for every payment, as posted to ``/v1/_control``; the default is none.

    ``timeout_charged_rate`` takes effect and never answers; ``timeout_failed_rate`` takes no
    effect and never answers, once for a key; ``outage`` answers 503 to everything and sends no
    webhook.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    delay_ms: int = Field(default=0, ge=0, le=60_000)
    decline_rate: float = Rate
    timeout_charged_rate: float = Rate
    timeout_failed_rate: float = Rate
    duplicate_rate: float = Rate
    outage: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AuthorisePlan:
    """What is to become of one authorisation."""

    status: PaymentStatus
    code: str | None = None
    settle_after_s: float = 0.0
    unanswered: bool = False
    duplicates: bool = False


def hits(control: Control, fault: str, rate: float, key: str) -> bool:
    """Whether a fault with this rate (0 to 1) strikes the request with this idempotency key."""
    if rate <= 0:
        return False
    digest = hashlib.sha256(f"{control.seed}:{fault}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < rate * 2**64


def plan_authorise(token: str, key: str, control: Control) -> AuthorisePlan:
    """The fate of an authorisation with this token under these settings."""
    duplicates = token == TOKEN_DUPLICATE_WEBHOOK or hits(
        control, "duplicate", control.duplicate_rate, key
    )
    if code := _DECLINES.get(token):
        return AuthorisePlan(PaymentStatus.DECLINED, code, duplicates=duplicates)
    if token == TOKEN_TIMEOUT_FAILED:
        return AuthorisePlan(PaymentStatus.FAILED, "processing_error", unanswered=True)
    if token not in _GOOD:
        return AuthorisePlan(PaymentStatus.DECLINED, "invalid_token")
    if hits(control, "timeout_failed", control.timeout_failed_rate, key):
        return AuthorisePlan(PaymentStatus.FAILED, "processing_error", unanswered=True)
    if hits(control, "decline", control.decline_rate, key):
        return AuthorisePlan(PaymentStatus.DECLINED, "card_declined", duplicates=duplicates)
    return AuthorisePlan(
        PaymentStatus.AUTHORISED,
        settle_after_s=SLOW_ANSWER_S if token == TOKEN_SLOW else 0.0,
        unanswered=token == TOKEN_TIMEOUT_CHARGED
        or hits(control, "timeout_charged", control.timeout_charged_rate, key),
        duplicates=duplicates,
    )
