"""Sends outgoing webhooks: many receivers side by side, none of them able to hold up the others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpcore
import structlog

from notify import repository
from notify.guarded_http import AddressRefused, Answer, GuardedHttp
from notify.repository import DueDelivery
from notify.settings import WebhookSettings
from notify.webhooks import (
    DELIVERY_ID_HEADER,
    EVENT_ID_HEADER,
    SIGNATURE_HEADER,
    retry_after_s,
    secret_of,
    sign,
)
from server.wiring import Services
from server.workers.loop import PASSING, run_rounds

log = structlog.get_logger(__name__)

POLL_S = 0.25
# A sender that dies while it sends leaves its claim to run out.
LEASE_SLACK_S = 20.0
GONE = 410
_UNREACHABLE = (OSError, TimeoutError, httpcore.NetworkError, httpcore.ProtocolError,
                httpcore.TimeoutException, httpcore.UnsupportedProtocol)  # fmt: skip


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Send until ``stopping``; what is in flight is finished, within its deadline."""
    settings = services.settings.notify.webhooks
    async with GuardedHttp(
        allow_private=settings.allow_private, connections=settings.max_in_flight
    ) as http:
        async with asyncio.TaskGroup() as tasks:
            sender = Sender(services, http, settings)

            async def round_() -> float:
                claimed = await sender.claim()
                for delivery in claimed:
                    tasks.create_task(sender.send(delivery))
                return 0.0 if claimed else POLL_S

            await run_rounds("webhook_sender", stopping, round_)


async def send_due(services: Services) -> int:
    """Send what is due now and wait for it; returns how many were tried.  For tests and tools."""
    settings = services.settings.notify.webhooks
    tried = 0
    async with GuardedHttp(
        allow_private=settings.allow_private, connections=settings.max_in_flight
    ) as http:
        sender = Sender(services, http, settings)
        while claimed := await sender.claim():
            async with asyncio.TaskGroup() as tasks:
                for delivery in claimed:
                    tasks.create_task(sender.send(delivery))
            tried += len(claimed)
    return tried


@dataclass(slots=True)
class Sender:
    """Claims and sends; knows how much of each endpoint is in flight in this process."""

    services: Services
    http: GuardedHttp
    settings: WebhookSettings
    in_flight: Counter[str] = field(default_factory=Counter)

    async def claim(self) -> list[DueDelivery]:
        """What is due and fits; each is counted as in flight from here on."""
        free = self.settings.max_in_flight - self.in_flight.total()
        if free <= 0:
            return []
        share = self.settings.max_in_flight_per_endpoint
        busy = [name for name, count in self.in_flight.items() if count > 0]
        async with self.services.database.begin() as conn:
            claimed = await repository.claim(
                conn, free, share, self.settings.deadline_s + LEASE_SLACK_S, busy
            )
        self.in_flight.update(delivery.endpoint_id for delivery in claimed)
        return claimed

    async def send(self, delivery: DueDelivery) -> None:
        """One attempt, written down."""
        try:
            began = time.monotonic()
            answer, error = await self._attempt(delivery)
            await self._record(delivery, answer, error, round((time.monotonic() - began) * 1000))
        except PASSING as trouble:
            # The claim runs out and the delivery comes up again.
            log.warning(
                "webhook_not_recorded", delivery_id=delivery.id, error=type(trouble).__name__
            )
        finally:
            self.in_flight[delivery.endpoint_id] -= 1

    async def _attempt(self, delivery: DueDelivery) -> tuple[Answer | None, str | None]:
        versions = [delivery.secret_version]
        if delivery.overlap:
            versions.append(delivery.secret_version - 1)
        keys = [secret_of(self.settings, delivery.endpoint_id, n) for n in versions]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Darkstore-Webhooks/1",
            EVENT_ID_HEADER: delivery.event_id,
            DELIVERY_ID_HEADER: delivery.id,
            SIGNATURE_HEADER: sign(keys, delivery.body, int(time.time())),
        }
        try:
            answer = await self.http.post(
                delivery.url, headers, delivery.body, self.settings.deadline_s
            )
        except AddressRefused as refusal:
            return None, f"refused: {refusal}"
        except _UNREACHABLE as trouble:
            return None, type(trouble).__name__
        return answer, None

    async def _record(
        self, delivery: DueDelivery, answer: Answer | None, error: str | None, duration_ms: int
    ) -> None:
        well = answer is not None and 200 <= answer.status < 300
        spent = delivery.attempts >= self.settings.max_attempts
        gone = answer is not None and answer.status == GONE
        status = "delivered" if well else "dead" if spent or gone else "waiting"
        asked_s = answer.retry_after_s if answer else None
        async with self.services.database.begin() as conn:
            switched_off = await repository.record_attempt(
                conn,
                delivery,
                duration_ms=duration_ms,
                status_code=answer.status if answer else None,
                error=error,
                answer=answer.text[:500] if answer and not well else None,
                status=status,
                again_in_s=retry_after_s(self.settings, delivery.attempts, asked_s),
                disable_after_s=self.settings.disable_after_s,
            )
            if gone:
                await repository.change_endpoint(
                    conn, delivery.endpoint_id,
                    {"active": False, "disabled_reason": "the receiver says that it is gone"},
                )  # fmt: skip
        if switched_off or gone:
            log.warning("webhook_endpoint_switched_off", endpoint_id=delivery.endpoint_id)
