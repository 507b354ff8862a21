"""What has to happen now and then: one process runs every periodic job of the system.

A job that fails is tried again at its next turn and holds up no other; what it has not done is
still there to be done, because every job reads what is due from the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text

from identity import service as identity
from kit import idempotency
from kit.sql import load
from ledger import days, settlement
from notify import repository as webhook_deliveries
from orders import substitutions
from orders.picking import queue_next_due
from orders.transitions import SYSTEM
from payments import reconciler
from payments.gateway import GatewayUnavailable
from server.supply import SupplyRounds, forget_old_supply
from server.wiring import Services
from server.workers.availability import DriftWatch
from server.workers.loop import PASSING, run_rounds
from server.workers.trip_watch import TripWatch, close_controls, watch_orders, watch_queues
from stores import shelf_life, watch

log = structlog.get_logger(__name__)

# Not through riders.decisions, which brings the engine with it.
_FORGET_DECISIONS = load("riders", "forget_decisions")

POLL_S = 0.5
# A minute of a large city makes far fewer; the rest is left to the next minute.
DECISIONS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is looked at every ``every_s`` real seconds."""

    name: str
    every_s: float
    run: Callable[[Services], Awaitable[object]]


async def forget_old_rows(services: Services) -> None:
    """Forget old idempotency keys, ended log-ins and quotes that became nothing."""
    async with services.database.begin() as conn:
        await idempotency.sweep(conn)
        await identity.sweep(conn)
        await conn.execute(
            text(
                "DELETE FROM quotes WHERE order_id IS NULL"
                " AND expires_at < darkstore_now() - interval '1 day'"
            )
        )


async def forget_delivered_webhooks(services: Services) -> None:
    """What receivers took a month ago is of no use any more."""
    async with services.database.begin() as conn:
        await webhook_deliveries.forget_delivered(conn)


async def forget_old_decisions(services: Services) -> None:
    """What dispatch decided long ago; its files go by themselves (``server.decision_log``)."""
    async with services.database.begin() as conn:
        await _FORGET_DECISIONS.run(
            conn, services.settings.decision_log.max_age_s, DECISIONS_AT_ONCE
        )


async def queue_scheduled_orders(services: Services) -> None:
    """Scheduled orders whose time has come join the pick queue, each in its own transaction."""
    while True:
        async with services.database.begin() as conn:
            if await queue_next_due(conn) is None:
                return


async def block_expiring_lots(services: Services) -> None:
    """Lots that have come too near their date are no longer sold."""
    await shelf_life.block_expiring(services.database)


async def watch_stock(services: Services) -> None:
    """Stores hear what has run low, customers what is back."""
    await watch.look(services.database)


async def answer_for_customers(services: Services) -> None:
    """Proposed substitutes that nobody answered in time: do what the proposal said."""
    async with services.database.begin() as conn:
        due = await substitutions.overdue(conn)
    for order_id, substitution_id in due:
        async with services.database.begin() as conn:
            await substitutions.apply_default(conn, order_id, substitution_id)


async def reconcile_payments(services: Services) -> None:
    """Each gateway's log, as far as it is new, against ours; one that is away holds up no other."""
    for name, log_ in services.gateways.logs().items():
        try:
            run = await reconciler.reconcile(
                services.database, name, log_, reconciler.Scope.INCREMENTAL
            )
        except GatewayUnavailable as error:
            log.warning("reconciliation_put_off", gateway=name, detail=error.detail)
            continue
        for difference in run.new:
            log.error("reconciliation_difference", gateway=name, detail=difference.sentence())


async def close_ledger_days(services: Services) -> None:
    """Days that have been over for a while are closed: their balances are fixed."""
    over = days.last_over(services.clock, services.settings.ledger.close_after_s)
    async with services.database.begin() as conn:
        closed = await days.closed_until(conn)
        if closed is None or closed < over:
            await days.close(conn, over, SYSTEM)


async def settle_with_riders(services: Services) -> None:
    """Pay riders what they were owed at the last closed day, if that is due."""
    settings = services.settings.ledger
    if not settings.settle_every_days:
        return
    async with services.database.begin() as conn:
        closed = await days.closed_until(conn)
        last = await settlement.settled_until(conn)
        if closed is None or (
            last is not None and (closed - last).days < settings.settle_every_days
        ):
            return
        run_id = await settlement.open_run(conn, closed, SYSTEM)
    while True:
        async with services.database.begin() as conn:
            if not await settlement.settle_batch(conn, run_id, deduct_cash=settings.deduct_cash):
                return


JOBS: Sequence[Job] = (
    Job("close_ledger_days", 30.0, close_ledger_days),
    Job("settle_with_riders", 60.0, settle_with_riders),
    Job("reconcile_payments", 120.0, reconcile_payments),
    Job("answer_for_customers", 0.5, answer_for_customers),
    Job("watch_trips", 1.0, TripWatch()),
    Job("watch_queues", 1.0, watch_queues),
    Job("watch_orders", 2.0, watch_orders),
    Job("close_controls", 1.0, close_controls),
    Job("watch_stock", 5.0, watch_stock),
    Job("block_expiring_lots", 30.0, block_expiring_lots),
    Job("mend_availability", 5.0, DriftWatch()),
    Job("balance_supply", 0.5, SupplyRounds()),
    Job("forget_old_supply", 600.0, forget_old_supply),
    Job("queue_scheduled_orders", 1.0, queue_scheduled_orders),
    Job("forget_old_rows", 60.0, forget_old_rows),
    Job("forget_delivered_webhooks", 600.0, forget_delivered_webhooks),
    Job("forget_old_decisions", 60.0, forget_old_decisions),
)


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Run every job when its turn comes, until ``stopping``."""
    due_at = dict.fromkeys((job.name for job in JOBS), 0.0)

    async def round_() -> float:
        for job in JOBS:
            if time.monotonic() >= due_at[job.name] and not stopping.is_set():
                due_at[job.name] = time.monotonic() + job.every_s
                await _attempt(job, services)
        return POLL_S

    await run_rounds("housekeeping", stopping, round_)


async def _attempt(job: Job, services: Services) -> None:
    try:
        await job.run(services)
    except PASSING as error:
        log.warning("job_failed", job=job.name, error=type(error).__name__, detail=str(error)[:300])
