"""Signing events and bringing them to the webhook address, at least once.

Each wire signs in its own way, anew for each attempt, and has an address of its own.  On the
provider's own wire the signature is ``t=<POSIX seconds>,v1=<hex HMAC-SHA256 of "t.raw_body">``.
The queue is the store's ``deliveries``, so a killed provider goes on where it was; an event in
flight at that moment is sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx
import structlog

from simulator.provider.engine import Engine
from simulator.provider.store import Delivery, Store
from simulator.provider.thread import StoreThread

SIGNATURE_HEADER = "Darkstore-Sandbox-Signature"
MAX_ATTEMPTS = 12  # with the back-off below, about eight minutes
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 120.0
ATTEMPT_TIMEOUT_S = 5.0
BATCH = 16
IDLE_S = 0.5  # how late a payment can be settled, and an outage be seen to end

_log = structlog.get_logger(__name__)


def sign(secret: str, timestamp_s: int, body: bytes) -> str:
    """The value of the signature header for this body at this time."""
    digest = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256)
    return f"t={timestamp_s},v1={digest.hexdigest()}"


def backoff_s(attempts: int, draw: float) -> float:
    """Seconds until the next attempt after ``attempts`` failed ones; ``draw`` is 0 to 1."""
    return min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** (attempts - 1)) * (0.5 + draw)


class Signer(Protocol):
    def __call__(self, event_id: str, body: bytes, now_s: int) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a wire's events go, and the headers that sign one."""

    url: str
    sign: Signer


class Courier:
    """Delivers what is due and settles what is overdue, until cancelled."""

    def __init__(
        self,
        thread: StoreThread,
        targets: Mapping[str, Target],
        *,
        time_scale: float = 1.0,
    ) -> None:
        self._thread = thread
        self._targets = targets
        self._time_scale = time_scale
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be something new to deliver."""
        self._wake.set()

    async def run(self) -> None:
        timeout = httpx.Timeout(ATTEMPT_TIMEOUT_S)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            while True:
                self._wake.clear()
                await self._thread.run(_settle_due, bounded=False)
                deliveries, pause_s = await self._thread.run(_due, bounded=False)
                if deliveries:
                    async with asyncio.TaskGroup() as group:
                        for delivery in deliveries:
                            group.create_task(self._deliver(client, delivery))
                    continue
                try:
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        target = self._targets.get(delivery.wire)
        try:
            if target is None:
                problem: str | None = "no_address"
            else:
                signed = target.sign(delivery.event_id, delivery.body, int(time.time()))
                headers = {"Content-Type": "application/json", **signed}
                response = await client.post(target.url, content=delivery.body, headers=headers)
                problem = None if response.is_success else f"status_{response.status_code}"
        except httpx.RequestError as error:
            problem = type(error).__name__
        if problem is None:
            await self._thread.run(
                lambda _, store: store.delivered(delivery.delivery_id), bounded=False
            )
            return
        attempts = delivery.attempts + 1
        retry_at_s = None
        if attempts < MAX_ATTEMPTS:
            retry_at_s = time.time() + backoff_s(attempts, random.random()) * self._time_scale
        _log.warning(
            "webhook_not_delivered",
            event_id=delivery.event_id,
            attempts=attempts,
            problem=problem,
            dead=retry_at_s is None,
        )
        await self._thread.run(
            lambda _, store: store.not_delivered(delivery.delivery_id, retry_at_s), bounded=False
        )


def _settle_due(engine: Engine, _store: Store) -> int:
    return engine.settle_due()


def _due(engine: Engine, store: Store) -> tuple[list[Delivery], float]:
    """What to send now, and how many seconds to rest if that is nothing."""
    if engine.control.outage:
        return [], IDLE_S
    now_s = time.time()
    deliveries = list(store.due(now_s, BATCH))
    next_due_s = store.next_due_s()
    if next_due_s is None:
        return deliveries, IDLE_S
    return deliveries, min(IDLE_S, max(0.01, next_due_s - now_s))
