"""What any gateway's webhook says, once its signature was found good."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from kit.errors import Denied, Invalid
from kit.money import Money
from payments.gateway import GatewayOutcome, OperationKind

DEFAULT_TOLERANCE_S: Final = 300
MAX_BODY_BYTES: Final = 64 * 1024


class WebhookSignatureInvalid(Denied):
    """Signed by nobody we know, or too long ago (or ahead): forged, replayed, or a wrong secret."""

    code = "webhook_signature_invalid"
    title = "The webhook's signature is not valid"


class WebhookMalformed(Invalid):
    """Rightly signed, and yet not an event."""

    code = "webhook_malformed"
    title = "The webhook is not an event"


class WebhookKind(StrEnum):
    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"


class DisputeStatus(StrEnum):
    """``closed`` ends a dispute that was never a chargeback (an inquiry): nothing was taken."""

    OPEN = "open"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class DisputeNotice:
    """A payer asks the bank for money back.  ``amount`` is what is disputed, not always all."""

    dispute_id: str
    status: DisputeStatus
    amount: Money
    reason: str
    respond_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event with the state of its payment, as far as the gateway tells it.

    ``event_id`` is the same for every delivery of one event, and covered by the signature, so it
    is what repeats are known by.  ``operation_key`` is that of the operation which caused the
    event, and ``outcome`` what became of that operation; where the gateway does not carry our key
    it is empty, and ``reference`` with ``operation_kind`` find the operation.  An outcome that is
    unknown changes nothing: the operation is still to be looked up.  ``version`` never falls while
    a payment changes: an event with a lower one than was seen before is old news.

    ``order_id`` is empty, ``captured`` and ``refunded`` are None where the event does not say.
    ``dispute`` is there for disputes alone; ``amount`` is then the disputed amount.
    """

    event_id: str
    type: str
    occurred_at: datetime
    operation_key: str
    outcome: GatewayOutcome
    reference: str
    order_id: str
    status: str
    version: int
    amount: Money
    captured: Money | None = None
    refunded: Money | None = None
    kind: WebhookKind = WebhookKind.PAYMENT
    operation_kind: OperationKind | None = None
    dispute: DisputeNotice | None = None


@dataclass(frozen=True, slots=True)
class UnwantedEvent:
    """Rightly signed, and about nothing that we act on: thank and forget."""

    event_id: str
    type: str


class WebhookParser(Protocol):
    """One gateway's events."""

    def parse(
        self,
        raw_body: bytes,
        headers: Mapping[str, str],
        secrets: Sequence[str],
        now: datetime,
    ) -> WebhookEvent | UnwantedEvent:
        """The event in a body that the gateway signed.

        ``headers`` are looked up in lower case.  Any of ``secrets`` will do: two while one is
        being rotated.  ``now`` is the aware *real* time: gateways do not live in simulated time.
        Raises WebhookSignatureInvalid and WebhookMalformed.
        """
        ...


def require_signed(signed: bytes, signatures: Sequence[str], secrets: Sequence[str]) -> None:
    """Refuse unless one of ``signatures`` is the hex HMAC-SHA256 of ``signed`` by one secret.

    Every pair is compared, so that the time taken tells nothing of which one fits.
    """
    if not secrets or not all(secrets):
        raise ValueError("an empty secret would let anybody sign")
    matches = [
        hmac.compare_digest(hexdigest(secret, signed), candidate.encode())
        for secret in secrets
        for candidate in signatures
    ]
    if not any(matches):
        raise WebhookSignatureInvalid("The signature does not fit the body.")


def hexdigest(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()


def timestamped_signatures(header: str) -> tuple[int, list[str]]:
    """The parts of ``t=<POSIX seconds>,v1=<hex>[,v1=<hex>…]``; other schemes are passed over."""
    parts = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    if len(timestamps) != 1 or not signatures:
        raise WebhookSignatureInvalid("The signature header is missing or not understood.")
    # At most twelve digits: int() of a header of megabytes would be somebody's fun.
    if not (timestamps[0].isascii() and timestamps[0].isdecimal() and len(timestamps[0]) <= 12):
        raise WebhookSignatureInvalid("The signature header has no time.")
    return int(timestamps[0]), signatures


def require_timestamped(
    raw_body: bytes, header: str, secrets: Sequence[str], now: datetime, tolerance_s: int
) -> None:
    """The scheme that Stripe made common: HMAC over ``t``, a full stop and the body as it came."""
    timestamp, signatures = timestamped_signatures(header)
    require_signed(f"{timestamp}.".encode() + raw_body, signatures, secrets)
    if abs(now.timestamp() - timestamp) > tolerance_s:
        raise WebhookSignatureInvalid("The signature is too old, or from the future.")
    require_length(raw_body)


def require_length(raw_body: bytes) -> None:
    if len(raw_body) > MAX_BODY_BYTES:
        raise WebhookMalformed("The event is too long.")
