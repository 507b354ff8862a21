"""How a server process places orders: at once, or onto its disk while Postgres does not answer.

``Checkouts`` is the ordinary way.  ``QueuedCheckouts`` goes that way first.  If the database is
down, or goes down meanwhile, the checkout is queued (``orders.spool``), provided that its quote is
known to be good: every quote leaves a short mark in Redis for that.  Whether the ordinary way had
succeeded after all nobody knows then; the idempotency key does, so placing it again is safe.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import orjson
import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy import select

from kit.db import DatabaseUnavailable
from kit.errors import Busy, DarkstoreError
from kit.idempotency import InProgress, StoredAnswer, idempotency_keys
from kit.redis import RedisError, line_of
from orders.checkout import CheckoutAnswer, CheckoutRequest, place_order
from orders.queued import CheckoutTooLate, queued_view, record_placed, record_refused
from orders.spool import CheckoutSpool, QueuedCheckout, SpoolFull
from server.database_watch import DatabaseWatch
from server.errors import translate
from server.wiring import Services
from server.workers.loop import PASSING

log = structlog.get_logger(__name__)

ACCEPTED = 202
# Placed side by side once the database is back.
AT_ONCE = 8
POLL_S = 0.5
_MARK_DEADLINE_S = 0.2

WAITING = Gauge("darkstore_queued_checkouts", "Checkouts on this machine's disk.")
OLDEST_S = Gauge(
    "darkstore_queued_checkout_oldest_seconds", "Age of the oldest queued checkout, virtual time."
)
QUEUED = Counter("darkstore_checkouts_queued_total", "Checkouts that were queued.")
NOT_QUEUED = Counter(
    "darkstore_checkouts_not_queued_total", "Checkouts that could not be queued.", ("reason",)
)
ENDED = Counter(
    "darkstore_queued_checkouts_ended_total", "Queued checkouts by what became of them.", ("how",)
)


class Checkouts:
    """The ordinary way to an order."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def place(self, request: CheckoutRequest) -> CheckoutAnswer:
        """Place an order.  Raises what ``orders.checkout.place_order`` raises."""
        services = self._services
        return await place_order(
            services.database,
            services.gateways,
            services.settings.orders,
            services.clock,
            request,
            services.committer,
            services.confirmer,
        )

    async def remember_quote(self, quote_id: str, user_id: str) -> None:
        """A quote was made: nothing to do where nothing is queued."""

    async def waiting(self, checkout_id: str, user_id: str) -> dict[str, object] | None:
        """A customer's checkout that still waits; None when there is none."""
        return None


class QueuedCheckouts(Checkouts):
    """The ordinary way, and the disk behind it."""

    def __init__(self, services: Services, spool: CheckoutSpool, watch: DatabaseWatch) -> None:
        super().__init__(services)
        self._spool = spool
        self._watch = watch

    async def place(self, request: CheckoutRequest) -> CheckoutAnswer:
        """An order, or a queued checkout (202).

        Raises what the ordinary way raises; DatabaseUnavailable when the quote is not known to be
        good; SpoolFull.
        """
        if not self._watch.is_down:
            placed = await self._unless_down(request)
            if placed is not None:
                return placed
        return await self._queue(request)

    async def _unless_down(self, request: CheckoutRequest) -> CheckoutAnswer | None:
        """The ordinary answer; None when the database went away before there was one."""
        placing = asyncio.ensure_future(super().place(request))
        down = asyncio.ensure_future(self._watch.until_down())
        try:
            await asyncio.wait({placing, down}, return_when=asyncio.FIRST_COMPLETED)
            return placing.result() if placing.done() else None
        except Exception as error:
            if not isinstance(translate(error), DatabaseUnavailable):
                raise
            self._watch.report()
            return None
        finally:
            down.cancel()
            if not placing.done():
                placing.cancel()
                # Nobody waits for it any more; what it ends with is told by its key.
                placing.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _queue(self, request: CheckoutRequest) -> CheckoutAnswer:
        if not await self._quote_is_good(request):
            NOT_QUEUED.labels("quote").inc()
            raise DatabaseUnavailable(
                "Our system does not answer at this moment; nothing was charged. Try again.",
                retry_after_s=5,
            )
        entry = QueuedCheckout(request.order_id, self._services.clock.now(), request)
        try:
            kept = await self._spool.add(entry)
        except SpoolFull:
            NOT_QUEUED.labels("full").inc()
            raise
        replayed = kept.order_id != entry.order_id
        if not replayed:
            QUEUED.inc()
        body = orjson.dumps(queued_view(kept))
        return CheckoutAnswer(StoredAnswer(ACCEPTED, body), replayed=replayed)

    async def remember_quote(self, quote_id: str, user_id: str) -> None:
        """Leave a mark for as long as the quote is good.

        Without Redis there is none, and this quote could not be queued.
        """
        services = self._services
        life_s = services.clock.real_s(services.settings.orders.quote_life_s)
        try:
            async with asyncio.timeout(_MARK_DEADLINE_S):
                await line_of(services.redis).send(
                    "SET", _mark(quote_id), user_id, "PX", max(1, round(life_s * 1000))
                )
        except (RedisError, TimeoutError) as error:
            log.warning("quote_not_marked", error=type(error).__name__)

    async def _quote_is_good(self, request: CheckoutRequest) -> bool:
        try:
            async with asyncio.timeout(_MARK_DEADLINE_S):
                owner = await self._services.redis.get(_mark(request.quote_id))
        except (RedisError, TimeoutError):
            return False
        return owner is not None and _text(owner) == request.user_id

    async def waiting(self, checkout_id: str, user_id: str) -> dict[str, object] | None:
        entry = await self._spool.find(checkout_id)
        if entry is None or entry.request.user_id != user_id:
            return None
        return queued_view(entry)

    async def run(self) -> None:
        """Watch the database, and place what waits whenever it answers; for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            tasks.create_task(self._drain())

    async def _drain(self) -> None:
        while True:
            await self._watch.until_up()
            try:
                ended = await self.drain_once()
            except PASSING as error:
                log.warning("queued_checkouts_wait", error=type(error).__name__)
                ended = 0
            if ended == 0:
                await asyncio.sleep(POLL_S)

    async def drain_once(self) -> int:
        """Place the oldest that wait, side by side; returns how many have ended."""
        waiting = await self._spool.waiting(AT_ONCE)
        ended = await asyncio.gather(*(self._end(entry) for entry in waiting))
        await self._measure()
        return sum(ended)

    async def _end(self, entry: QueuedCheckout) -> bool:
        """Whether it is known what became of it; if not, it goes on waiting."""
        try:
            order_id, refusal = await self._outcome(entry)
            async with self._services.database.begin() as conn:
                if refusal is not None:
                    await record_refused(conn, entry, refusal)
                else:
                    assert order_id is not None, "what is not refused is placed"
                    await record_placed(conn, entry, order_id)
        except (Busy, InProgress) as wait:
            log.info("queued_checkout_waits", order_id=entry.order_id, code=wait.code)
            return False
        await self._spool.remove(entry.order_id)
        ENDED.labels("placed" if refusal is None else "refused").inc()
        return True

    async def _outcome(self, entry: QueuedCheckout) -> tuple[str | None, DarkstoreError | None]:
        """(order id, None) or (None, the refusal).  Raises Busy and InProgress: ask again."""
        services = self._services
        oldest = services.clock.now() - timedelta(seconds=services.settings.spool.max_age_s)
        if entry.accepted_at < oldest:
            # The first attempt may have got through before the database went away.
            placed_as = await self._order_of_key(entry.request)
            if placed_as is not None:
                return placed_as, None
            return None, CheckoutTooLate(
                "Our system was away for too long; nothing was charged. Please order again."
            )
        try:
            placed = await super().place(replace(entry.request, accepted_at=entry.accepted_at))
        except Exception as error:
            refusal = translate(error)
            if refusal is None:
                raise
            if isinstance(refusal, Busy | InProgress):
                raise refusal from error
            return None, refusal
        return str(orjson.loads(placed.answer.body)["id"]), None

    async def _order_of_key(self, request: CheckoutRequest) -> str | None:
        table = idempotency_keys
        async with self._services.database.begin() as conn:
            found: str | None = await conn.scalar(
                select(table.c.order_id).where(
                    table.c.actor == request.user_id, table.c.key == request.key
                )
            )
        return found

    async def _measure(self) -> None:
        count = await self._spool.count()
        WAITING.set(count.waiting)
        now = self._services.clock.now()
        OLDEST_S.set((now - count.oldest_at).total_seconds() if count.oldest_at else 0.0)


def _mark(quote_id: str) -> str:
    return f"quote:{quote_id}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
