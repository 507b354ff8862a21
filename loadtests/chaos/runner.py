"""One run: traffic on, faults by the plan, traffic to its end."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from loadtests.chaos.faults import all_faults
from loadtests.chaos.faults.base import Fault, NotPossible, NotStruck
from loadtests.chaos.plan import Plan, make_plan
from loadtests.chaos.proxy import Mode
from loadtests.chaos.system import System
from server.platform import ROOT

# What clients do that is a fault of its own; counted by them.
FAULTS_OF_CLIENTS: Final = (
    "double clicks",
    "two tabs with one quote",
    "hot-product floods",
    "wallet races",
)
# Traffic goes on for so long after the last fault, and before the first.
MARGIN_S: Final = 8.0
# Real seconds after the last customer has come in which the last order has to be delivered.
TRAFFIC_TIMEOUT_S: Final = 420.0
ORDERS_PER_HOUR: Final = 150.0


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that was tried; ``evidence`` is None when it did not strike (``reason``)."""

    fault: str
    from_s: float
    to_s: float
    evidence: str | None
    reason: str | None = None


@dataclass
class Ran:
    """What happened, for judge and report.  Moments are POSIX seconds."""

    plan: Plan
    faults: Sequence[str]
    started_s: float
    journal: Path
    strikes: list[Strike] = field(default_factory=list)
    not_possible: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, Any] = field(default_factory=dict)
    failovers_s: list[float] = field(default_factory=list)

    @property
    def least_delivered(self) -> int:
        return max(3, int(self.plan.length_s / 60))

    def fired(self) -> dict[str, int]:
        """How often each fault struck; those that this machine does not allow are left out."""
        struck = Counter(strike.fault for strike in self.strikes if strike.evidence is not None)
        counts = self.traffic.get("clients", {})
        return {fault: struck[fault] for fault in self.faults if fault not in self.not_possible} | {
            fault: counts.get(fault, 0) for fault in FAULTS_OF_CLIENTS
        }


async def run(
    system: System, *, seed: int, minutes: float, only: str | None, rounds: int | None,
    journal: Path,
) -> Ran:  # fmt: skip
    """Everything from the first customer to the last; judge it afterwards."""
    faults = {
        fault.name: fault
        for fault in all_faults(system.processes())
        if only is None or only in fault.name
    }
    lanes: dict[str, list[tuple[str, float]]] = {}
    for fault in faults.values():
        lanes.setdefault(fault.lane, []).append((fault.name, fault.lasts_s))
    plan = make_plan(seed, minutes * 60.0 - MARGIN_S, lanes, rounds)
    last_s = max((strike.at_s + strike.lasts_s for strike in plan.strikes), default=0.0)
    traffic_s = max(minutes * 60.0, last_s) + MARGIN_S
    process = await start_traffic(system, seed, traffic_s, journal)
    ran = Ran(plan, list(faults), time.time(), journal)
    ended = asyncio.create_task(process.communicate())
    try:
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(_lane(system, ran, faults, lane, traffic_s - MARGIN_S))
        for link in system.links.values():
            await link.become(Mode.PASS)
        _say(ran, "the faults are over; waiting for the traffic to end")
        demand_s = max(0.0, ran.started_s + traffic_s - time.time())
        try:
            async with asyncio.timeout(demand_s + TRAFFIC_TIMEOUT_S):
                output, _ = await ended
            ran.traffic = _last_line(output)
        except TimeoutError:
            _say(ran, "the traffic does not end")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for fault in faults.values():
        ran.failovers_s += getattr(fault, "failovers_s", [])
    return ran


async def start_traffic(
    system: System, seed: int, seconds: float, journal: Path
) -> asyncio.subprocess.Process:
    """Start it and wait until its city lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.chaos.traffic", "--base-url", system.traffic_url,
        "--stream-url", system.stream_url, "--log-ins", str(system.log_ins),
        "--journal", str(journal), "--seed", str(seed), "--seconds", str(seconds),
        "--orders-per-hour", str(ORDERS_PER_HOUR),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(60):
        if not await process.stdout.readline():
            raise RuntimeError("the traffic did not start")
    return process


async def _lane(
    system: System, ran: Ran, faults: dict[str, Fault], lane: str, until_s: float
) -> None:
    """The lane's faults at their times; then once more what has not struck yet."""
    rng = random.Random(f"{ran.plan.seed}:{lane}:strikes")
    planned = ran.plan.of_lane(lane)
    for strike in planned:
        await asyncio.sleep(max(0.0, ran.started_s + strike.at_s - time.time()))
        await _strike(system, ran, faults[strike.fault], rng)
    names = dict.fromkeys(strike.fault for strike in planned)
    for _ in range(2):
        for name in names:
            late = time.time() > ran.started_s + until_s
            if not late and not ran.fired().get(name, 1):
                await _strike(system, ran, faults[name], rng)


async def _strike(system: System, ran: Ran, fault: Fault, rng: random.Random) -> None:
    if fault.name in ran.not_possible:
        return
    from_s = time.time()
    evidence = reason = None
    try:
        try:
            evidence = await fault.strike(system, rng)
        finally:
            await fault.heal(system)
    except NotPossible as error:
        ran.not_possible[fault.name] = reason = str(error)
    except (NotStruck, TimeoutError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
    ran.strikes.append(Strike(fault.name, from_s, time.time(), evidence, reason))
    _say(ran, f"{fault.name}: {evidence if evidence is not None else f'did not strike ({reason})'}")


def _say(ran: Ran, line: str) -> None:
    sys.stdout.write(f"{time.time() - ran.started_s:7.1f} s  {line}\n")
    sys.stdout.flush()


def _last_line(output: bytes) -> dict[str, Any]:
    lines = output.strip().splitlines()
    return dict(orjson.loads(lines[-1])) if lines else {}
