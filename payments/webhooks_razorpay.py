"""Razorpay's events: ``X-Razorpay-Signature`` and what the entities in them mean to us.

Taken from razorpay.com/docs/webhooks (validate-test; payloads/payments, refunds, disputes): the
signature is the hex HMAC-SHA256 of the raw body, without a time of its own.  So the window is kept
by ``created_at`` inside the body: Razorpay repeats a delivery for 24 hours, and nothing older is
believed.  ``x-razorpay-event-id`` is not covered by the signature and could be changed on a caught
event; a digest of the signed body, which repeats share, is the event's id instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from kit.money import Money
from payments.gateway import GatewayOutcome, OperationKind, OutcomeCode, OutcomeStatus
from payments.razorpay_wire import (
    CAPTURE_KEY,
    OPERATION_KEY,
    ORDER_ID,
    REST_SUFFIX,
    Dispute,
    Event,
    Payment,
    Refund,
    authorisation_of,
    refund_of,
)
from payments.webhook_event import (
    DEFAULT_TOLERANCE_S,
    DisputeNotice,
    DisputeStatus,
    UnwantedEvent,
    WebhookEvent,
    WebhookKind,
    WebhookMalformed,
    WebhookSignatureInvalid,
    require_length,
    require_signed,
)

RAZORPAY_SIGNATURE_HEADER: Final = "X-Razorpay-Signature"
# A day of Razorpay's own retries, and an hour for the last of them to arrive.
OLDEST_S: Final = 25 * 3600

_AUTHORISATIONS: Final = frozenset({"payment.authorized", "payment.failed"})
_REFUNDS: Final = frozenset({"refund.created", "refund.processed", "refund.failed"})
_DISPUTE_STATUS: Final = {
    "open": DisputeStatus.OPEN,
    "action_required": DisputeStatus.OPEN,
    "under_review": DisputeStatus.UNDER_REVIEW,
    "won": DisputeStatus.WON,
    "lost": DisputeStatus.LOST,
    "closed": DisputeStatus.CLOSED,
}


class RazorpayWebhooks:
    """See :class:`payments.webhook_event.WebhookParser`."""

    def parse(
        self,
        raw_body: bytes,
        headers: Mapping[str, str],
        secrets: Sequence[str],
        now: datetime,
    ) -> WebhookEvent | UnwantedEvent:
        signature = headers.get(RAZORPAY_SIGNATURE_HEADER.lower(), "")
        require_signed(raw_body, (signature,), secrets)
        require_length(raw_body)
        event_id = "rzp_" + hashlib.sha256(raw_body).hexdigest()[:40]
        try:
            event = msgspec.json.decode(raw_body, type=Event)
            age_s = now.timestamp() - event.created_at
            if age_s > OLDEST_S or age_s < -DEFAULT_TOLERANCE_S:
                raise WebhookSignatureInvalid("The event is too old, or from the future.")
            return _read(event, event_id)
        except (msgspec.MsgspecError, KeyError, OverflowError) as error:
            raise WebhookMalformed("The body is not an event of this gateway.") from error


def _read(event: Event, event_id: str) -> WebhookEvent | UnwantedEvent:
    payload = event.payload
    if payload.dispute is not None and event.event.startswith("payment.dispute."):
        return _dispute_event(event, event_id, payload.dispute.entity)
    payment = payload.payment.entity if payload.payment else None
    if payload.refund is not None and event.event in _REFUNDS:
        refund = payload.refund.entity
        if not (refund.receipt or "").endswith(REST_SUFFIX):
            return _refund_event(event, event_id, refund, payment)
    elif payment is not None and event.event in _AUTHORISATIONS:
        return _payment_event(
            event, event_id, payment, OperationKind.AUTHORISE, payment.note(OPERATION_KEY),
            authorisation_of(payment),
        )  # fmt: skip
    elif payment is not None and event.event == "payment.captured":
        return _payment_event(
            event, event_id, payment, OperationKind.CAPTURE, payment.note(CAPTURE_KEY),
            _captured(payment),
        )  # fmt: skip
    return UnwantedEvent(event_id, event.event)


def _captured(payment: Payment) -> GatewayOutcome:
    """A whole capture is done.  Of a partial one the rest still has to go back: look it up."""
    wanted = payment.wanted_minor
    if wanted is not None and wanted < payment.amount:
        return GatewayOutcome(OutcomeStatus.UNKNOWN, payment.id, OutcomeCode.PROCESSING)
    return GatewayOutcome(OutcomeStatus.SUCCEEDED, payment.id, amount=payment.money)


def _payment_event(
    event: Event, event_id: str, payment: Payment, kind: OperationKind, key: str,
    outcome: GatewayOutcome,
) -> WebhookEvent:  # fmt: skip
    captured = payment.amount if payment.captured else 0
    return WebhookEvent(
        event_id=event_id,
        type=event.event,
        occurred_at=_time(event.created_at),
        operation_key=key,
        outcome=outcome,
        reference=payment.id,
        order_id=payment.note(ORDER_ID),
        status=payment.status,
        version=event.created_at,
        amount=payment.money,
        captured=Money(captured, payment.currency),
        refunded=Money(payment.amount_refunded, payment.currency),
        operation_kind=kind,
    )


def _refund_event(
    event: Event, event_id: str, refund: Refund, payment: Payment | None
) -> WebhookEvent:
    return WebhookEvent(
        event_id=event_id,
        type=event.event,
        occurred_at=_time(event.created_at),
        operation_key=refund.receipt or "",
        outcome=refund_of(refund),
        reference=refund.payment_id,
        order_id=payment.note(ORDER_ID) if payment else "",
        status=refund.status,
        version=event.created_at,
        amount=Money(refund.amount, refund.currency),
        kind=WebhookKind.REFUND,
        operation_kind=OperationKind.REFUND,
    )


def _dispute_event(event: Event, event_id: str, dispute: Dispute) -> WebhookEvent:
    amount = Money(dispute.amount, dispute.currency)
    due = dispute.respond_by
    return WebhookEvent(
        event_id=event_id,
        type=event.event,
        occurred_at=_time(event.created_at),
        operation_key="",
        outcome=GatewayOutcome(OutcomeStatus.UNKNOWN, dispute.payment_id, OutcomeCode.NOT_FOUND),
        reference=dispute.payment_id,
        order_id="",
        status=dispute.status,
        version=event.created_at,
        amount=amount,
        kind=WebhookKind.DISPUTE,
        dispute=DisputeNotice(
            dispute_id=dispute.id,
            status=_DISPUTE_STATUS[dispute.status],
            amount=amount,
            reason=dispute.reason_code,
            respond_by=None if due is None else _time(due),
        ),
    )


def _time(posix_s: int) -> datetime:
    return datetime.fromtimestamp(posix_s, UTC)
