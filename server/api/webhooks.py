"""Where gateways report: signed, in any order, any number of times.

An event whose signature is good is answered 200 whatever became of it: Stripe and Razorpay send
again for days, and in the end give the address up, on anything else; an event that does not fit is
kept and told to people instead.  A bad signature is refused, which is what their guides ask for.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from fastapi import APIRouter, Request

from kit.errors import NotFound
from orders.webhook_intake import Intake, take
from payments.webhooks import WEBHOOKS as PARSERS
from server.api.access import PROBE, ServicesDep
from server.metrics import PAYMENT_ALERTS, WEBHOOKS

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


# The signature is the access rule; a gateway's bursts must not be refused by address.
@router.post("/payments/{gateway}", dependencies=[PROBE])
async def payment_webhook(
    gateway: str, request: Request, services: ServicesDep
) -> dict[str, object]:
    """One event of a payment gateway.  A repeat answers like the first."""
    parser = PARSERS.get(gateway)
    secrets = services.settings.payments.webhook_secrets(gateway)
    if parser is None or not secrets:
        raise NotFound("There is no such gateway.")
    event = parser.parse(
        await request.body(),
        request.headers,
        secrets,
        # The gateway lives in real time, whatever the speed of a simulated day.
        datetime.now(UTC),
    )
    taken = await services.webhook_intake.take_authorised(gateway, event)
    if taken is None:
        async with services.database.begin() as conn:
            taken = await take(conn, services.settings.payments, gateway, event)
    WEBHOOKS.labels(gateway, taken.intake.value).inc()
    if taken.alert is not None:
        PAYMENT_ALERTS.labels(gateway, taken.alert.value).inc()
    if taken.intake is Intake.REJECTED:
        log.error(
            "webhook_rejected", gateway=gateway, type=event.type, reason=str(taken.reason),
            event_id=event.event_id,
        )  # fmt: skip
    return {"received": True, "repeated": taken.intake is Intake.REPEATED}
