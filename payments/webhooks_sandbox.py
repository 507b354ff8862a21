"""Events of the sandbox provider's own wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from payments.gateway import OperationKind
from payments.sandbox_wire import EventBody, outcome_of
from payments.webhook_event import (
    DEFAULT_TOLERANCE_S,
    DisputeNotice,
    DisputeStatus,
    WebhookEvent,
    WebhookKind,
    WebhookMalformed,
    require_timestamped,
)

SANDBOX_SIGNATURE_HEADER: Final = "Darkstore-Sandbox-Signature"

_OPERATION_OF: Final = {
    "payment.authorised": OperationKind.AUTHORISE,
    "payment.declined": OperationKind.AUTHORISE,
    "payment.captured": OperationKind.CAPTURE,
    "payment.voided": OperationKind.VOID,
    "payment.refunded": OperationKind.REFUND,
}


class SandboxWebhooks:
    """See :class:`payments.webhook_event.WebhookParser`."""

    def parse(
        self,
        raw_body: bytes,
        headers: Mapping[str, str],
        secrets: Sequence[str],
        now: datetime,
        tolerance_s: int = DEFAULT_TOLERANCE_S,
    ) -> WebhookEvent:
        header = headers.get(SANDBOX_SIGNATURE_HEADER.lower(), "")
        require_timestamped(raw_body, header, secrets, now, tolerance_s)
        try:
            return _event(msgspec.json.decode(raw_body, type=EventBody))
        except msgspec.MsgspecError as error:
            raise WebhookMalformed("The body is not an event of this gateway.") from error


def verify_signature(
    raw_body: bytes,
    header: str,
    secret: str,
    now: datetime,
    tolerance_s: int = DEFAULT_TOLERANCE_S,
) -> WebhookEvent:
    """The event in a body that the sandbox provider signed, for a header that is at hand."""
    headers = {SANDBOX_SIGNATURE_HEADER.lower(): header}
    return SandboxWebhooks().parse(raw_body, headers, (secret,), now, tolerance_s)


def _event(body: EventBody) -> WebhookEvent:
    payment, dispute = body.payment, body.dispute
    kind = WebhookKind.REFUND if body.type == "payment.refunded" else WebhookKind.PAYMENT
    notice = None
    if dispute is not None:
        kind = WebhookKind.DISPUTE
        notice = DisputeNotice(
            dispute_id=dispute.id,
            status=DisputeStatus(dispute.status),
            amount=payment.money(dispute.amount_minor),
            reason=dispute.reason,
        )
    return WebhookEvent(
        event_id=body.id,
        type=body.type,
        occurred_at=body.created_at,
        operation_key=body.idempotency_key,
        outcome=outcome_of(payment, body.idempotency_key),
        reference=payment.id,
        order_id=payment.order_reference,
        status=payment.status,
        version=payment.version,
        amount=payment.money(payment.amount_minor) if notice is None else notice.amount,
        captured=payment.money(payment.captured_minor),
        refunded=payment.money(payment.refunded_minor),
        kind=kind,
        operation_kind=_OPERATION_OF.get(body.type),
        dispute=notice,
    )
