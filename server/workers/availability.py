"""The live availability follows the stock.

``AvailabilityFollower``: what the relay has relayed, Redis shows a moment later.  ``DriftWatch``:
what is wrong there nevertheless is found, counted and put right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from kit.redis import RedisError
from kit.relay import BATCH, OutboxEvent
from kit.sql import load
from server.availability_metrics import count_drifts
from server.wiring import Services
from stores import availability_drift, availability_lag, availability_redis
from stores import repository as stores
from stores.availability_drift import Suspects
from stores.availability_lag import LagCounts

log = structlog.get_logger(__name__)

# All availability is written again this often, and this soon after Redis was away.
MEND_S = 60.0
RETRY_S = 2.0
# How often the measurements leave this process: a round trip of its own, so not with every round.
TELL_S = 0.5

_TOUCHED = load("server", "touched_stock")
# Order states at which units are promised, given back or returned.
_STATES = frozenset({"placed", "cancelled", "payment_failed", "returned"})


class AvailabilityFollower:
    """Keeps the live availability in Redis behind the truth by one relay round.

    What a refresh misses (Redis was away, this process died after its commit) is mended by
    writing all of it again now and then; only what is newer is taken.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._mend_at = 0.0
        self._behind = False
        self._observed = LagCounts()
        self._tell_at = 0.0

    async def follow(self, events: Sequence[OutboxEvent], began_s: float) -> None:
        """Show what ``events`` changed; ``began_s``: when their round began, in POSIX seconds."""
        try:
            if time.monotonic() >= self._mend_at:
                await self._mend()
            await self._refresh(events)
            # A full batch may have left older events behind.
            drained = len(events) < BATCH and not self._behind
            await self._tell(began_s if drained else None)
        except (RedisError, TimeoutError) as error:
            log.warning("availability_behind", error=type(error).__name__)
            self._behind = True
            self._mend_at = time.monotonic() + RETRY_S

    async def _mend(self) -> None:
        async with self._services.database.begin() as conn:
            for store in await stores.list_stores(conn):
                await availability_redis.rebuild(conn, self._services.redis, store.id)
        self._mend_at = time.monotonic() + MEND_S
        self._behind = False

    async def _refresh(self, events: Sequence[OutboxEvent]) -> None:
        moved = [event for event in events if _moves_stock(event)]
        if not moved:
            return
        touched: dict[str, set[str]] = {}
        order_ids: set[str] = set()
        for event in moved:
            kind, _, owner = event.stream.partition(":")
            if kind == "order":
                order_ids.add(owner)
            else:
                touched.setdefault(owner, set()).add(str(event.data["sku_id"]))
        async with self._services.database.begin() as conn:
            if order_ids:
                for row in await _TOUCHED.all(conn, sorted(order_ids)):
                    touched.setdefault(row.store_id, set()).update(row.sku_ids)
            for store_id, sku_ids in touched.items():
                await availability_redis.refresh(conn, self._services.redis, store_id, sku_ids)
        clock = self._services.clock
        now = clock.now()
        self._observed.observe(
            [max(0.0, clock.real_s((now - event.at).total_seconds())) for event in moved]
        )

    async def _tell(self, watermark_s: float | None) -> None:
        if time.monotonic() < self._tell_at:
            return
        observed, self._observed = self._observed, LagCounts()
        self._tell_at = time.monotonic() + TELL_S
        await availability_lag.record(self._services.redis, observed, watermark_s)


def _moves_stock(event: OutboxEvent) -> bool:
    if event.type in ("order.line", "stock.changed"):
        return True
    return event.type == "order.status" and event.data.get("to") in _STATES


class DriftWatch:
    """Looks at one store a round; what is still wrong at the next round has drifted.

    Between two rounds lies the patience: a change has that long to get into Redis.
    """

    def __init__(self) -> None:
        self._round = 0
        self._suspects: tuple[str, Suspects] | None = None

    async def __call__(self, services: Services) -> None:
        """A round.  Raises ``RedisError``."""
        if self._suspects is not None:
            store_id, suspects = self._suspects
            self._suspects = None
            await self._mend(services, store_id, suspects)
        async with services.database.begin() as conn:
            store_ids = [store.id for store in await stores.list_stores(conn)]
        if store_ids:
            store_id = store_ids[self._round % len(store_ids)]
            self._round += 1
            found = await availability_drift.look(services.database, services.redis, store_id)
            self._suspects = (store_id, found)

    async def _mend(self, services: Services, store_id: str, suspects: Suspects) -> None:
        drifts = await availability_drift.confirm(
            services.database, services.redis, store_id, suspects
        )
        if drifts:
            log.warning("availability_drifted", store_id=store_id, products=len(drifts))
            await count_drifts(services.redis, [drift.kind for drift in drifts])
            await availability_drift.repair(services.database, services.redis, drifts)
