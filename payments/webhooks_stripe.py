"""Stripe's events: ``Stripe-Signature`` and what the objects in them mean to us.

Taken from docs.stripe.com/webhooks (signatures: HMAC-SHA256 of ``t``, a full stop and the raw body;
default tolerance 300 s; several ``v1`` while a secret is rotated) and /api/events/types.  Events of
a kind that we did not ask for are unwanted; Stripe sends what its endpoint is subscribed to:
``payment_intent.amount_capturable_updated``, ``.succeeded``, ``.canceled``, ``.payment_failed``,
``refund.created``, ``refund.updated``, ``charge.dispute.created``, ``.updated``, ``.closed``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from payments.gateway import GatewayOutcome, OperationKind, OutcomeCode, OutcomeStatus
from payments.stripe_wire import (
    CAPTURE_KEY,
    OPERATION_KEY,
    ORDER_ID,
    Dispute,
    Event,
    Intent,
    Refund,
    authorisation_of,
    capture_of,
    money,
    refund_of,
    void_of,
)
from payments.webhook_event import (
    DEFAULT_TOLERANCE_S,
    DisputeNotice,
    DisputeStatus,
    UnwantedEvent,
    WebhookEvent,
    WebhookKind,
    WebhookMalformed,
    require_timestamped,
)

STRIPE_SIGNATURE_HEADER: Final = "Stripe-Signature"

_OPERATION_OF: Final = {
    "payment_intent.amount_capturable_updated": OperationKind.AUTHORISE,
    "payment_intent.payment_failed": OperationKind.AUTHORISE,
    "payment_intent.succeeded": OperationKind.CAPTURE,
    "payment_intent.canceled": OperationKind.VOID,
}
_REFUND_EVENTS: Final = frozenset({"refund.created", "refund.updated", "refund.failed"})
_DISPUTE_EVENTS: Final = frozenset(
    {"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"}
)
# An inquiry (``warning_…``) has not taken any money yet.
_DISPUTE_STATUS: Final = {
    "warning_needs_response": DisputeStatus.OPEN,
    "warning_under_review": DisputeStatus.UNDER_REVIEW,
    "warning_closed": DisputeStatus.CLOSED,
    "needs_response": DisputeStatus.OPEN,
    "under_review": DisputeStatus.UNDER_REVIEW,
    "won": DisputeStatus.WON,
    "lost": DisputeStatus.LOST,
    "prevented": DisputeStatus.CLOSED,
}


class StripeWebhooks:
    """See :class:`payments.webhook_event.WebhookParser`."""

    def parse(
        self,
        raw_body: bytes,
        headers: Mapping[str, str],
        secrets: Sequence[str],
        now: datetime,
        tolerance_s: int = DEFAULT_TOLERANCE_S,
    ) -> WebhookEvent | UnwantedEvent:
        header = headers.get(STRIPE_SIGNATURE_HEADER.lower(), "")
        require_timestamped(raw_body, header, secrets, now, tolerance_s)
        try:
            event = msgspec.json.decode(raw_body, type=Event)
            return _read(event)
        except (msgspec.MsgspecError, KeyError) as error:
            raise WebhookMalformed("The body is not an event of this gateway.") from error


def _read(event: Event) -> WebhookEvent | UnwantedEvent:
    if event.name in _OPERATION_OF:
        return _intent_event(event, event.subject(Intent))
    if event.name in _REFUND_EVENTS:
        return _refund_event(event, event.subject(Refund))
    if event.name in _DISPUTE_EVENTS:
        return _dispute_event(event, event.subject(Dispute))
    return UnwantedEvent(event.id, event.name)


def _intent_event(event: Event, intent: Intent) -> WebhookEvent:
    kind = _OPERATION_OF[event.name]
    match kind:
        case OperationKind.AUTHORISE:
            key = intent.metadata.get(OPERATION_KEY, "")
            outcome = authorisation_of(intent)
        case OperationKind.CAPTURE:
            key = intent.metadata.get(CAPTURE_KEY, "")
            outcome = capture_of(intent, key)
        case _:
            # Cancelling takes no metadata, so that the event cannot carry our key.
            key = ""
            outcome = void_of(intent)
    return WebhookEvent(
        event_id=event.id,
        type=event.name,
        occurred_at=_time(event.created),
        operation_key=key,
        outcome=outcome,
        reference=intent.id,
        order_id=intent.metadata.get(ORDER_ID, ""),
        status=intent.status,
        version=event.created,
        amount=money(intent.amount, intent.currency),
        captured=money(intent.amount_received, intent.currency),
        operation_kind=kind,
    )


def _refund_event(event: Event, refund: Refund) -> WebhookEvent:
    return WebhookEvent(
        event_id=event.id,
        type=event.name,
        occurred_at=_time(event.created),
        operation_key=refund.metadata.get(OPERATION_KEY, ""),
        outcome=refund_of(refund),
        reference=refund.reference,
        order_id=refund.metadata.get(ORDER_ID, ""),
        status=refund.status or "",
        version=event.created,
        amount=money(refund.amount, refund.currency),
        kind=WebhookKind.REFUND,
        operation_kind=OperationKind.REFUND,
    )


def _dispute_event(event: Event, dispute: Dispute) -> WebhookEvent:
    amount = money(dispute.amount, dispute.currency)
    due_by = dispute.evidence_details.due_by if dispute.evidence_details else None
    return WebhookEvent(
        event_id=event.id,
        type=event.name,
        occurred_at=_time(event.created),
        operation_key="",
        outcome=GatewayOutcome(
            OutcomeStatus.UNKNOWN, dispute.payment_intent, OutcomeCode.NOT_FOUND
        ),
        reference=dispute.payment_intent or "",
        order_id="",
        status=dispute.status,
        version=event.created,
        amount=amount,
        kind=WebhookKind.DISPUTE,
        dispute=DisputeNotice(
            dispute_id=dispute.id,
            status=_DISPUTE_STATUS[dispute.status],
            amount=amount,
            reason=dispute.reason,
            respond_by=None if due_by is None else _time(due_by),
        ),
    )


def _time(posix_s: int) -> datetime:
    return datetime.fromtimestamp(posix_s, UTC)
