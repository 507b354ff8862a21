"""kill -9 of each process, a crash at a named line, a dispatcher stopped past its lease."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

import asyncpg

from kit import crash_points
from loadtests.chaos.faults.base import Fault, NotStruck
from loadtests.chaos.system import SECOND_DISPATCHER, System

LANE = "processes"
# Longer than anything that a point waits for (a capture comes minutes after its order).
CRASH_PATIENCE_S = 45.0
FAILOVER_PATIENCE_S = 20.0
DISPATCHERS = ("dispatcher", SECOND_DISPATCHER)

POINTS = (
    "checkout_placed",  # stock held, order written, gateway not yet asked
    "after_authorise",  # the gateway said yes, nobody has written it down
    "checkout_committed",  # all written down, nobody has told the customer
    "between_commit_and_answer",  # the same for every other write
    "after_capture",  # the money has moved, nobody has written it down
    "relay_before_commit",  # consumers have run, their transaction is open
    "relay_before_publication",  # consumers' work is committed, no client has heard of it
)


class KillProcess(Fault):
    """SIGKILL; struck when the process id is gone and another one runs in its place."""

    lane = LANE

    def __init__(self, process: str) -> None:
        self.process = process
        self.name = f"kill -9 of {process}"

    async def strike(self, system: System, rng: random.Random) -> str:
        try:
            # Another fault may have ended it a moment ago.
            await system.new_pid(self.process, None)
            old = system.kill(self.process)
        except (ProcessLookupError, TimeoutError):
            raise NotStruck("it was not running") from None
        started_s = time.monotonic()
        new = await system.new_pid(self.process, old)
        return f"pid {old} -> {new} in {time.monotonic() - started_s:.1f} s"


class CrashAt(Fault):
    """Whoever reaches a named line next dies there."""

    lane = LANE

    def __init__(self, point: str) -> None:
        self.point = point
        self.name = f"crash at {point}"

    async def strike(self, system: System, rng: random.Random) -> str:
        names = self._names(system)
        crash_points.arm(system.crash_points, self.point)
        deadline_s = time.monotonic() + CRASH_PATIENCE_S
        while (pid := crash_points.victim(system.crash_points, self.point)) is None:
            if time.monotonic() > deadline_s:
                raise NotStruck("nobody came by")
            # Whoever dies there may have been started a moment ago.
            names |= self._names(system)
            await asyncio.sleep(0.02)
        name = names[pid]
        system.expect_death(name)
        await system.new_pid(name, pid)
        return f"{name} (pid {pid}) died there"

    @staticmethod
    def _names(system: System) -> dict[int | None, str]:
        return {child.pid: child.name for child in system.supervisor.status()}

    async def heal(self, system: System) -> None:
        crash_points.disarm(system.crash_points, self.point)


class StopLeaseHolder(Fault):
    """Two dispatchers: the one with the lease is stopped past its end, and wakes up again.

    What it planned before it fell asleep must not be written over what the other one did since.
    """

    name = "dispatcher stopped past its lease"
    lane = LANE
    lasts_s = 10.0

    def __init__(self) -> None:
        self.failovers_s: list[float] = []
        self._stopped: int | None = None

    async def strike(self, system: System, rng: random.Random) -> str:
        async with asyncio.timeout(FAILOVER_PATIENCE_S):
            # One that was killed a moment ago is still written down as the holder.
            found = await self._holder(system)
            while system.name_of(found[0]) not in DISPATCHERS:
                await asyncio.sleep(0.2)
                found = await self._holder(system)
        pid, epoch = found
        # Not always at the same point of its tick.
        await asyncio.sleep(rng.uniform(0.0, 0.4))
        self._stopped = pid
        os.kill(pid, signal.SIGSTOP)
        started_s = time.monotonic()
        while time.monotonic() < started_s + FAILOVER_PATIENCE_S:
            try:
                other, later = await self._holder(system)
            except NotStruck:
                continue
            if other != pid and later > epoch:
                took_s = time.monotonic() - started_s
                self.failovers_s.append(took_s)
                await asyncio.sleep(2.0)
                return f"pid {pid} slept, pid {other} took over after {took_s:.1f} s"
            await asyncio.sleep(0.1)
        raise NotStruck("nobody took over")

    async def _holder(self, system: System) -> tuple[int, int]:
        try:
            rows = await system.sql("SELECT holder, epoch FROM dispatch_leases LIMIT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotStruck("the database was away") from error
        if not rows:
            raise NotStruck("there is no lease")
        return int(rows[0]["holder"].rpartition(":")[2]), int(rows[0]["epoch"])

    async def heal(self, system: System) -> None:
        stopped, self._stopped = self._stopped, None
        if stopped is not None and system.name_of(stopped) is not None:
            os.kill(stopped, signal.SIGCONT)
