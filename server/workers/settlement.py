"""Payments in the background: captures, voids, refunds, and authorisations left unanswered.

Each gateway has its own number of calls at a time, so one that hangs holds up none of the others;
one whose circuit is open gets a probe now and then.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from orders.payment_flow import carry_out
from payments import operations
from payments.operations import Operation
from server.wiring import Services
from server.workers.loop import PASSING, run_rounds

log = structlog.get_logger(__name__)

POLL_S = 0.1


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Carry out due operations until ``stopping``; those under way are finished first."""
    settlement = Settlement(services)

    async def round_() -> float:
        full = await settlement.start_due()
        await settlement.wait_a_little(POLL_S if full else 0.0)
        return 0.0 if full else POLL_S

    try:
        await run_rounds("settlement", stopping, round_)
    finally:
        await settlement.finish()


class Settlement:
    """Operations under way, by gateway.

    The lease outlasts the gateway's deadline, so no other worker asks meanwhile; if this one dies,
    the operation comes up again and the gateway knows its key.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._busy: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_due(self) -> bool:
        """Claim what is due and there is room for; whether more may be due than there was room."""
        self._raise_bugs()
        free = self._free()
        if not free:
            return True
        services = self._services
        async with services.database.begin() as conn:
            due = await operations.claim_due(conn, free, services.gateways.settings.claim_lease_s)
        for operation in due:
            self._busy[operation.gateway] += 1
            self._tasks.add(asyncio.create_task(self._carry_out(operation)))
        claimed = Counter(operation.gateway for operation in due)
        return any(claimed[gateway] == room for gateway, room in free.items())

    async def wait_a_little(self, seconds: float) -> None:
        """Until something under way ends, at most so many real seconds."""
        if seconds and self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        elif seconds:
            await asyncio.sleep(seconds)

    async def finish(self) -> None:
        """Wait for everything that is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._raise_bugs()

    @property
    def idle(self) -> bool:
        return not self._tasks

    def _free(self) -> dict[str, int]:
        gateways = self._services.gateways
        room = {
            name: gateways.settings.concurrency_per_gateway - self._busy[name]
            for name in gateways.by_name
        }
        for name in room:
            passes = gateways.breakers.of(name).free
            if passes is not None:
                room[name] = min(room[name], passes)
        return {name: calls for name, calls in room.items() if calls > 0}

    def _raise_bugs(self) -> None:
        done = {task for task in self._tasks if task.done()}
        self._tasks -= done
        for task in done:
            task.result()

    async def _carry_out(self, operation: Operation) -> None:
        try:
            await carry_out(self._services.database, self._services.gateways, operation)
        except PASSING as error:
            # The lease runs out and the operation is asked about again.
            log.warning(
                "operation_not_settled", operation_id=operation.id, order_id=operation.order_id,
                error=type(error).__name__,
            )  # fmt: skip
        finally:
            self._busy[operation.gateway] -= 1
