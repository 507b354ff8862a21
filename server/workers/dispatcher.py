"""The dispatcher: it looks at the partitions whose lease it has, on wake-ups and on a tick.

Each partition has a task of its own, so that a large city does not hold up a small one.  Leases
are renewed beside them (``server.lease_keeper``), plans are made in processes of their own
(``server.planner``), and one look is ``server.dispatch_look``.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Mapping
from typing import Final

import structlog

from orders.dispatch_world import Partition, partitions
from orders.errors import LeaseLost
from server.decision_log import DecisionLog
from server.dispatch_look import Lookout, Outcome
from server.lease_keeper import LeaseKeeper
from server.planner import Planner
from server.policies import Policies
from server.wakeups import listen
from server.wiring import Services
from server.workers.loop import BACKOFF_CAP_S, PASSING

log = structlog.get_logger(__name__)

# A look that takes long is followed by a rest of half its length: wake-ups that come faster than
# plans can be made must not take a whole processor.
REST_SHARE: Final = 0.5
# Real seconds between two looks at a partition without open orders, whatever the clock's speed: an
# order wakes us, and this is what a lost wake-up costs.
IDLE_S: Final = 3.0
# Real seconds between two looks where nobody is on shift: what a rider who comes waits at most.
UNMANNED_S: Final = 0.5
# Real seconds between two looks at which stores and parts there are.
SURVEY_S: Final = 0.5
RELEASE_ERRORS = (*PASSING, OSError)


async def run(services: Services, stopping: asyncio.Event) -> None:
    """Dispatch every partition whose lease is to be had, until ``stopping``."""
    settings = services.settings
    policies = Policies(services.database)
    async with (
        DecisionLog.open(settings.decision_log, services.database) as decisions,
        Planner(settings.dispatch.solvers, settings.dispatch.plan_grace_s) as planner,
    ):
        lookout = Lookout(services, planner, decisions, policies)
        await Dispatcher(services, lookout, f"{socket.gethostname()}:{os.getpid()}").run(stopping)


class Dispatcher:
    """One dispatcher process.  ``holder`` is its name in the leases."""

    def __init__(self, services: Services, lookout: Lookout, holder: str) -> None:
        self._services = services
        self._settings = services.settings.dispatch
        self._lookout = lookout
        self._known: Mapping[str, Partition] = {}
        self.leases = LeaseKeeper(services.database, self._settings, holder, lambda: self._known)
        self._wakes: dict[str, asyncio.Event] = {}
        self._attended: dict[str, asyncio.Task[None]] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks under way are finished, then the leases go back."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._survey()),
                tasks.create_task(self.leases.run()),
                tasks.create_task(listen(self._services.redis, self._wake)),
            ]
            while not stopping.is_set():
                self._attend_all(tasks, stopping)
                await _either(self.leases.changed, stopping)
                self.leases.changed.clear()
            for event in self._wakes.values():
                event.set()
            if self._attended:
                await asyncio.wait(self._attended.values())
            for task in background:
                task.cancel()
        try:
            await self.leases.release()
        except RELEASE_ERRORS as error:
            # They run out by themselves in a moment.
            log.warning("leases_not_released", error=type(error).__name__)

    async def _survey(self) -> None:
        """Keep the territory fresh, so that neither a lease nor a look waits for it."""
        while True:
            try:
                territory = await self._services.territory.get()
                self._known = {partition.id: partition for partition in partitions(territory)}
            except PASSING as error:
                log.warning("territory_not_read", error=type(error).__name__)
            await asyncio.sleep(SURVEY_S)

    def _wake(self, city_ids: set[str]) -> None:
        for partition_id, event in self._wakes.items():
            if partition_id.partition("/")[0] in city_ids:
                event.set()

    def _attend_all(self, tasks: asyncio.TaskGroup, stopping: asyncio.Event) -> None:
        """Start a task for each partition that is new here; those that were lost end themselves."""
        for partition_id in self.leases.held:
            task = self._attended.get(partition_id)
            if task is None or task.done():
                self._wakes[partition_id] = asyncio.Event()
                self._attended[partition_id] = tasks.create_task(
                    self._attend(partition_id, stopping)
                )

    async def _attend(self, partition_id: str, stopping: asyncio.Event) -> None:
        """Look at a partition for as long as it is ours."""
        woken, failures = self._wakes[partition_id], 0
        while not stopping.is_set():
            epoch = self.leases.held.get(partition_id)
            if epoch is None:
                break
            woken.clear()
            started_s = time.monotonic()
            try:
                outcome = await self._look(partition_id, epoch)
            except LeaseLost:
                self.leases.forget(partition_id)
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                # One city that cannot be planned must not stop the others.
                failures += 1
                self._report(partition_id, failures, error)
                ceiling_s = min(BACKOFF_CAP_S, 0.1 * 2**failures)
                await asyncio.sleep(random.uniform(ceiling_s / 2, ceiling_s))
                continue
            failures = 0
            took_s = time.monotonic() - started_s
            await self._rest(woken, outcome, took_s)
        self._lookout.forget(partition_id)

    async def _look(self, partition_id: str, epoch: int) -> Outcome:
        territory = await self._services.territory.get()
        partition = self._known.get(partition_id)
        if partition is None:
            # The city has been put together again, or its last store is gone.
            return Outcome(None, stale=False)
        return await self._lookout.look(territory, partition, epoch)

    @staticmethod
    def _report(partition_id: str, failures: int, error: Exception) -> None:
        if isinstance(error, PASSING):
            log.warning(
                "look_failed", partition_id=partition_id, failures=failures,
                error=type(error).__name__, detail=str(error)[:300],
            )  # fmt: skip
        else:
            log.error("look_failed", partition_id=partition_id, failures=failures, exc_info=error)

    async def _rest(self, woken: asyncio.Event, outcome: Outcome, took_s: float) -> None:
        """Until the tick, the moment at which a held order is due, or a wake-up."""
        clock = self._services.clock
        gap_s = max(self._settings.least_gap_s, REST_SHARE * took_s)
        if outcome.unmanned:
            gap_s = max(gap_s, UNMANNED_S)
        until_s = clock.real_s(self._settings.tick_s)
        if outcome.idle:
            until_s = max(until_s, IDLE_S)
        if outcome.look_again_at_s is not None:
            until_s = min(until_s, clock.real_s(outcome.look_again_at_s - clock.now_s()))
        if outcome.stale:
            until_s = 0.0
        await asyncio.sleep(gap_s)
        try:
            async with asyncio.timeout(max(0.0, until_s - gap_s)):
                await woken.wait()
        except TimeoutError:
            return


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Until one of two events is set."""
    waits = [asyncio.create_task(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
