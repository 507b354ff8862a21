"""The sweeper: holds on stock whose time is over."""

from __future__ import annotations

import asyncio

from kit.sql import load
from orders.cancellation import cancel
from orders.transitions import SYSTEM
from server.wiring import Services
from server.workers.loop import run_rounds

BATCH = 50
POLL_S = 1.0

_EXPIRED = load("server", "expired_reservations")


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Sweep until ``stopping``."""

    async def round_() -> float:
        expired = await expire_reservations(services)
        return 0.0 if expired == BATCH else POLL_S

    await run_rounds("reservation_expiry", stopping, round_)


async def expire_reservations(services: Services) -> int:
    """Cancel orders whose reservation has expired; returns how many.

    A payment that succeeds afterwards is voided when its answer comes (orders.payment_flow).
    """
    expired = 0
    while expired < BATCH:
        # One order a transaction: two of them at once would lock stock rows out of their order.
        async with services.database.begin() as conn:
            row = await _EXPIRED.first(conn)
            if row is None:
                break
            await cancel(conn, row.id, SYSTEM, "reservation_expired", fee_minor=0)
        expired += 1
    return expired
