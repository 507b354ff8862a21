"""``dispatch.plan`` in processes of its own, so that no plan ever holds up an event loop.

A solver that hangs or dies is replaced.  Until the new one has imported and compiled what it
needs, the engine's fallback (``deadline_s=0``) answers in a thread: worse plans, never none.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from types import TracebackType
from typing import Final, Self

import structlog

from dispatch.plan import plan
from dispatch.result import Plan
from dispatch.snapshot import Snapshot
from kit.engines.launch import die_with_parent

log = structlog.get_logger(__name__)

# A new process imports the solver and compiles its kernels; a busy machine takes its time.
START_TIMEOUT_S: Final = 180.0
RESTART_CAP_S: Final = 10.0
# A plan without a deadline of its own is given up after so long.
LONGEST_PLAN_S: Final = 60.0


def _warm_up() -> None:
    """What a solver does first, in its own process."""
    from dispatch import rolling

    rolling.warm_up()


class _Solver:
    """One worker process."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=get_context("spawn"),
            initializer=die_with_parent,
            initargs=(os.getpid(), signal.SIGKILL),
        )

    async def warm_up(self) -> None:
        """Raises TimeoutError, BrokenProcessPool."""
        async with asyncio.timeout(START_TIMEOUT_S):
            await asyncio.get_running_loop().run_in_executor(self._pool, _warm_up)

    async def plan(self, snapshot: Snapshot, limit_s: float) -> Plan:
        """Raises TimeoutError, BrokenProcessPool, and whatever the engine raises."""
        async with asyncio.timeout(limit_s):
            return await asyncio.get_running_loop().run_in_executor(self._pool, plan, snapshot)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in (self._pool._processes or {}).values() if process.pid]

    def kill(self) -> None:
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


class Planner:
    """Solvers and their fallback; an async context manager that owns the processes.

    ``fallbacks`` counts plans that the fallback made, ``replaced`` solvers that hung or died.
    """

    def __init__(self, solvers: int = 1, grace_s: float = 2.0) -> None:
        self._count = solvers
        self._grace_s = grace_s
        self._idle: asyncio.Queue[_Solver] = asyncio.Queue()
        self._warm = 0
        self._running: set[_Solver] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self.fallbacks = 0
        self.replaced = 0

    async def __aenter__(self) -> Self:
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    @property
    def pids(self) -> list[int]:
        """Process ids of the solvers that are warm."""
        return [pid for solver in self._running for pid in solver.pids]

    async def plan(self, snapshot: Snapshot) -> Plan:
        """The engine's answer, at the latest ``grace_s`` after the snapshot's deadline.

        Raises what the engine itself raises for a snapshot that it does not understand.
        """
        limit_s = min(snapshot.deadline_s, LONGEST_PLAN_S) + self._grace_s
        solver = await self._take(limit_s)
        if solver is None:
            return await self._fallback(snapshot)
        try:
            answer = await solver.plan(snapshot, limit_s)
        except (TimeoutError, BrokenProcessPool) as error:
            log.warning("solver_replaced", error=type(error).__name__)
            self.replaced += 1
            solver.broken.set()
            return await self._fallback(snapshot)
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next question.
            solver.broken.set()
            raise
        except BaseException:
            self._idle.put_nowait(solver)
            raise
        self._idle.put_nowait(solver)
        return answer

    async def _take(self, limit_s: float) -> _Solver | None:
        """A warm solver that is idle, waited for while there is one; None when none is warm."""
        if not self._warm:
            return None
        try:
            async with asyncio.timeout(limit_s):
                return await self._idle.get()
        except TimeoutError:
            return None

    async def _fallback(self, snapshot: Snapshot) -> Plan:
        self.fallbacks += 1
        return await asyncio.to_thread(plan, replace(snapshot, deadline_s=0.0))

    async def _keep(self) -> None:
        """Start a solver, and another one whenever it breaks, until cancelled."""
        failures = 0
        while True:
            solver = _Solver()
            try:
                await solver.warm_up()
                failures = 0
                self._warm += 1
                self._running.add(solver)
                self._idle.put_nowait(solver)
                try:
                    await solver.broken.wait()
                finally:
                    self._warm -= 1
                    self._running.discard(solver)
            except (TimeoutError, BrokenProcessPool, OSError) as error:
                failures += 1
                log.warning("solver_not_started", error=type(error).__name__, failures=failures)
                await asyncio.sleep(min(RESTART_CAP_S, 0.2 * 2**failures) * random.uniform(0.5, 1))
            finally:
                solver.kill()
