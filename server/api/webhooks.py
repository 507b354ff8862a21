"""Where gateways report: signed, in any order, any number of times."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from fastapi import APIRouter, Request

from kit.errors import Invalid, NotFound
from orders.payment_flow import settle
from payments import operations
from payments.webhooks import (
    SANDBOX_SIGNATURE_HEADER,
    WebhookEvent,
    verify_signature,
)
from server.api.access import PROBE, ServicesDep
from server.metrics import WEBHOOKS
from server.wiring import Services

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class WebhookMismatch(Invalid):
    code = "webhook_mismatch"
    title = "The event does not fit our operation"


# The signature is the access rule; a gateway's bursts must not be refused by address.
@router.post("/payments/{gateway}", dependencies=[PROBE])
async def payment_webhook(
    gateway: str, request: Request, services: ServicesDep
) -> dict[str, object]:
    """One event of a payment gateway.  A repeat answers like the first."""
    if gateway != "sandbox":
        raise NotFound("There is no such gateway.")
    secret = services.settings.payments.sandbox_webhook_secret.get_secret_value()
    event = verify_signature(
        await request.body(),
        request.headers.get(SANDBOX_SIGNATURE_HEADER, ""),
        secret,
        # The gateway lives in real time, whatever the speed of a simulated day.
        datetime.now(UTC),
    )
    return {"received": True, "repeated": not await _take(services, gateway, event)}


async def _take(services: Services, gateway: str, event: WebhookEvent) -> bool:
    """False for a repeat.  Raises WebhookMismatch for an amount or an order that is not ours."""
    async with services.database.begin() as conn:
        operation = await operations.find_or_none(conn, event.operation_key)
        if operation is None:
            log.warning("webhook_unknown_operation", gateway=gateway, type=event.type)
            WEBHOOKS.labels(gateway, "unknown").inc()
            return True
        fits = event.order_id == operation.order_id and (
            event.outcome.amount is None
            or (event.outcome.amount.amount_minor, event.outcome.amount.currency)
            == (operation.amount_minor, operation.currency)
            or event.outcome.code is not None
        )
        if not fits:
            log.error("webhook_mismatch", gateway=gateway, operation_id=operation.id)
            WEBHOOKS.labels(gateway, "mismatch").inc()
            raise WebhookMismatch("The event's order or amount is not that of our operation.")
        payload = {"type": event.type, "reference": event.reference, "status": event.status}
        new = await operations.remember_webhook(conn, gateway, event.event_id, event.type, payload)
        if new:
            await settle(conn, services.gateways.settings, operation.id, event.outcome)
        WEBHOOKS.labels(gateway, "taken" if new else "repeated").inc()
    return new
