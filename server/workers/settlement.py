"""Payments in the background: captures, voids, refunds, and authorisations left unanswered."""

from __future__ import annotations

import asyncio

import structlog

from orders.payment_flow import ask, settle
from payments import operations
from payments.operations import Operation
from server.wiring import Services
from server.workers.loop import PASSING, run_rounds

log = structlog.get_logger(__name__)

BATCH = 20
POLL_S = 0.1


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Carry out due operations until ``stopping``."""

    async def round_() -> float:
        done = await settle_due(services)
        return 0.0 if done == BATCH else POLL_S

    await run_rounds("settlement", stopping, round_)


async def settle_due(services: Services) -> int:
    """Take the operations that are due, ask their gateways side by side, write down the answers.

    The lease outlasts the gateway's deadline, so no other worker asks meanwhile; if this one dies,
    the operation comes up again and the gateway knows its key.
    """
    settings = services.gateways.settings
    async with services.database.begin() as conn:
        due = await operations.claim_due(conn, BATCH, settings.claim_lease_s)
    async with asyncio.TaskGroup() as tasks:
        for operation in due:
            tasks.create_task(_carry_out(services, operation))
    return len(due)


async def _carry_out(services: Services, operation: Operation) -> None:
    try:
        outcome = await ask(services.gateways, operation)
        async with services.database.begin() as conn:
            await settle(conn, services.gateways.settings, operation.id, outcome)
    except PASSING as error:
        # The lease runs out and the operation is asked about again.
        log.warning(
            "operation_not_settled", operation_id=operation.id, order_id=operation.order_id,
            error=type(error).__name__,
        )  # fmt: skip
