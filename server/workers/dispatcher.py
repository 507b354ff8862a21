"""The dispatcher: on a tick, a snapshot of each city goes to the engine and its plan to riders.

The engine runs in a process of its own under a deadline, so a hard problem never blocks the loop.
A city belongs to the dispatcher that holds its lease.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import structlog
from sqlalchemy.exc import IntegrityError

from dispatch.plan import plan
from dispatch.result import Plan
from dispatch.snapshot import Snapshot
from kit.engines.launch import die_with_parent
from orders import deliveries, dispatching
from orders.errors import LeaseLost, StaleAssignment
from orders.territory import Territory
from riders import leases
from server.wiring import Services
from server.workers.loop import run_rounds

log = structlog.get_logger(__name__)

# Virtual seconds between two looks at a city, and the least real time between them.
TICK_S = 5.0
LEAST_TICK_S = 0.15
# Real seconds.  A stopped dispatcher is replaced this long after its last renewal.
LEASE_S = 4.0
PLAN_DEADLINE_S = 0.5
PLAN_TIMEOUT_S = 5.0
# The first plan waits for a new process to import the solver.
START_TIMEOUT_S = 30.0


class Planner:
    """``dispatch.plan`` in a worker process that is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self._pool = self._start()
        self._warm = False

    @staticmethod
    def _start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=get_context("spawn"),
            initializer=die_with_parent,
            initargs=(os.getpid(), signal.SIGKILL),
        )

    async def plan(self, snapshot: Snapshot) -> Plan:
        """Raises TimeoutError when the engine does not keep its deadline by far."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PLAN_TIMEOUT_S if self._warm else START_TIMEOUT_S):
                answer = await loop.run_in_executor(self._pool, plan, snapshot)
            self._warm = True
            return answer
        except (TimeoutError, BrokenProcessPool) as error:
            self.close()
            self._pool, self._warm = self._start(), False
            raise TimeoutError("the dispatch engine was restarted") from error

    def close(self) -> None:
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Dispatch every city whose lease is to be had, until ``stopping``."""
    dispatcher = Dispatcher(services, f"{socket.gethostname()}:{os.getpid()}")
    try:
        await run_rounds("dispatcher", stopping, dispatcher.round)
    finally:
        await dispatcher.close()


class Dispatcher:
    """One dispatcher process.  ``holder`` is its name in the leases."""

    def __init__(self, services: Services, holder: str) -> None:
        self._services = services
        self._holder = holder
        self._planner = Planner()

    async def close(self) -> None:
        """Give the leases back and end the engine's process."""
        self._planner.close()
        territory = await self._services.territory.get()
        async with self._services.database.begin() as conn:
            for city_id in self._cities(territory):
                await leases.release(conn, city_id, self._holder)

    async def round(self) -> float:
        """Look at every city once; returns the real seconds until the next look."""
        territory = await self._services.territory.get()
        for city_id in self._cities(territory):
            if await self._lease(city_id) is not None:
                await self._dispatch(territory, city_id)
        return max(LEAST_TICK_S, self._services.clock.real_s(TICK_S))

    async def _lease(self, city_id: str) -> int | None:
        """The city's epoch, with the lease renewed; None while another dispatcher has it."""
        async with self._services.database.begin() as conn:
            return await leases.acquire(conn, city_id, self._holder, LEASE_S)

    @staticmethod
    def _cities(territory: Territory) -> list[str]:
        return sorted({store.city_id for store in territory.stores.values()})

    async def _dispatch(self, territory: Territory, city_id: str) -> None:
        await self._expire_offers(city_id)
        services = self._services
        async with services.database.begin() as conn:
            orders, riders = await dispatching.read_world(conn, city_id)
        if not orders or not riders:
            return
        fixes = await services.locations.read(city_id, list(riders))
        world = dispatching.World(city_id, orders, riders, fixes)
        snapshot = dispatching.snapshot(
            world, territory, services.settings.riders, services.clock.now(), TICK_S,
            PLAN_DEADLINE_S,
        )  # fmt: skip
        answer = await self._planner.plan(snapshot)
        offered = await self._commit(territory, city_id, answer)
        log.debug(
            "dispatched", city_id=city_id, orders=len(orders), riders=len(fixes), offered=offered,
            held=len(answer.held), unassigned=len(answer.unassigned),
        )  # fmt: skip

    async def _commit(self, territory: Territory, city_id: str, answer: Plan) -> int:
        """Offer the plan's trips; returns how many were offered."""
        services = self._services
        offered, epoch, renewed_at = 0, None, float("-inf")
        for trip in answer.trips:
            if time.monotonic() - renewed_at > LEASE_S / 4:
                # Planning and a long list of trips may take longer than a lease lives.
                epoch, renewed_at = await self._lease(city_id), time.monotonic()
            if epoch is None:
                log.warning("lease_lost", city_id=city_id)
                return offered
            try:
                async with services.database.begin() as conn:
                    await dispatching.commit_trip(
                        conn, territory, services.settings.riders, services.clock, city_id, epoch,
                        trip,
                    )  # fmt: skip
                offered += 1
            except LeaseLost:
                log.warning("lease_lost", city_id=city_id, epoch=epoch)
                return offered
            except (StaleAssignment, IntegrityError) as error:
                # The world moved on while the engine thought; the next tick plans anew.
                log.info("assignment_stale", order_ids=trip.order_ids, error=type(error).__name__)
        return offered

    async def _expire_offers(self, city_id: str) -> None:
        async with self._services.database.begin() as conn:
            expired = await dispatching.expired_offers(conn, city_id)
        for trip_id in expired:
            async with self._services.database.begin() as conn:
                await deliveries.expire(conn, trip_id)
