"""Events from gateways: who sent them, when, and what they say.

A signature proves the sender and the moment, nothing else.  Events come in any order and any
number of times, so the reader dedupes by ``event_id``, compares amount, currency and order with
its own attempt, and treats ``outcome`` as one more answer for ``operation_key``.

``WEBHOOKS[gateway].parse(raw_body, headers, secrets, now)`` is the one way in; each gateway's
scheme is a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from payments.webhook_event import (
    DEFAULT_TOLERANCE_S,
    MAX_BODY_BYTES,
    DisputeNotice,
    DisputeStatus,
    UnwantedEvent,
    WebhookEvent,
    WebhookKind,
    WebhookMalformed,
    WebhookParser,
    WebhookSignatureInvalid,
)
from payments.webhooks_razorpay import RAZORPAY_SIGNATURE_HEADER, RazorpayWebhooks
from payments.webhooks_sandbox import SANDBOX_SIGNATURE_HEADER, SandboxWebhooks, verify_signature
from payments.webhooks_stripe import STRIPE_SIGNATURE_HEADER, StripeWebhooks

WEBHOOKS: Final[Mapping[str, WebhookParser]] = {
    "sandbox": SandboxWebhooks(),
    "stripe": StripeWebhooks(),
    "razorpay": RazorpayWebhooks(),
}

__all__ = [
    "DEFAULT_TOLERANCE_S",
    "MAX_BODY_BYTES",
    "RAZORPAY_SIGNATURE_HEADER",
    "SANDBOX_SIGNATURE_HEADER",
    "STRIPE_SIGNATURE_HEADER",
    "WEBHOOKS",
    "DisputeNotice",
    "DisputeStatus",
    "UnwantedEvent",
    "WebhookEvent",
    "WebhookKind",
    "WebhookMalformed",
    "WebhookParser",
    "WebhookSignatureInvalid",
    "verify_signature",
]
