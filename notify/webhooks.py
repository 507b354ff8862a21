"""Outgoing webhooks: what may be subscribed to, how it is signed, when it is tried again.  No I/O.

A delivery carries ``Darkstore-Event-Id`` (the same at every repeat and for every endpoint),
``Darkstore-Delivery-Id`` and ``Darkstore-Signature: t=<POSIX seconds>,v1=<hex>``: HMAC-SHA256 over
``t``, a full stop and the body as sent, keyed with the endpoint's secret; two ``v1`` for a day
after a rotation.  Deliveries come at least once and in any order; ``data.object.version`` tells
which state is the newer one.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from kit.errors import Invalid
from kit.wire import rfc3339
from notify.errors import WebhooksNotConfigured
from notify.settings import WebhookSettings

SIGNATURE_HEADER = "Darkstore-Signature"
EVENT_ID_HEADER = "Darkstore-Event-Id"
DELIVERY_ID_HEADER = "Darkstore-Delivery-Id"

PING = "ping"
_FAMILIES = ("order", "delivery", "payment")
_PATTERN = re.compile(rf"\*|({'|'.join(_FAMILIES)})\.(\*|[a-z_]{{1,40}})")


def parse_events(wanted: Sequence[str]) -> list[str]:
    """Subscriptions without repeats, in order.  Raises ``Invalid`` on field ``events``."""
    wrong = [pattern for pattern in wanted if not _PATTERN.fullmatch(pattern)]
    if wrong or not wanted:
        raise Invalid(
            "Subscribe to '*', to a family such as 'order.*', or to an event such as"
            " 'order.delivered'; the families are order, delivery and payment.",
            errors=[{"field": "events", "detail": f"unknown event {text}"} for text in wrong],
        )
    return list(dict.fromkeys(wanted))


def patterns_of(event_type: str) -> list[str]:
    """Every subscription that asks for this type of event."""
    return ["*", f"{event_type.partition('.')[0]}.*", event_type]


def event_body(
    event_id: str, event_type: str, at: datetime, kind: str, thing: Mapping[str, object]
) -> bytes:
    """What is sent: the event with the full state of the object that it is about."""
    return orjson.dumps(
        {
            "id": event_id,
            "type": event_type,
            "created_at": rfc3339(at),
            "data": {"kind": kind, "object": thing},
        }
    )


def secret_of(settings: WebhookSettings, endpoint_id: str, version: int) -> str:
    """An endpoint's signing secret: derived, so that no copy of the database holds it.

    Raises WebhooksNotConfigured.
    """
    if settings.master_secret is None:
        raise WebhooksNotConfigured(
            "Set DARKSTORE_NOTIFY__WEBHOOKS__MASTER_SECRET and start again."
        )
    key = settings.master_secret.get_secret_value().encode()
    digest = hmac.new(key, f"webhook:{endpoint_id}:{version}".encode(), hashlib.sha256).digest()
    return "whsec_" + urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(secrets: Sequence[str], body: bytes, at_s: int) -> str:
    """The value of the signature header, the newest secret first."""
    signed = str(at_s).encode() + b"." + body
    marks = [hmac.new(key.encode(), signed, hashlib.sha256).hexdigest() for key in secrets]
    return ",".join([f"t={at_s}", *(f"v1={mark}" for mark in marks)])


def retry_after_s(settings: WebhookSettings, attempts: int, asked_s: float | None) -> float:
    """How long to wait after ``attempts`` failures, with a fifth of jitter.

    ``asked_s`` is the receiver's ``Retry-After``, believed up to the cap.
    """
    delay_s = min(settings.first_retry_s * 4.0 ** (attempts - 1), settings.retry_cap_s)
    if asked_s is not None:
        delay_s = max(delay_s, min(asked_s, settings.retry_cap_s))
    return delay_s * random.uniform(0.9, 1.1)
