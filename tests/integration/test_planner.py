"""The engine in its own processes: whatever becomes of them, there is a plan."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import psutil
import pytest

from dispatch.parameters import Parameters
from dispatch.snapshot import Snapshot
from dispatch.travel import TravelTimes
from server.planner import Planner
from tests.plan_support import on_the_line, order, rider
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
# So that a solver on a busy machine is not taken for one that hangs.
PATIENT_S = 60.0


def small() -> Snapshot:
    """One order that is packed, and one rider at the store."""
    return on_the_line([order("ord_1")], [rider("rdr_1")], Parameters(), deadline_s=0.3)


async def warm(planner: Planner, besides: Collection[int] = ()) -> int:
    """The process id of a solver that is ready, other than some."""
    async with asyncio.timeout(120):
        while not (found := set(planner.pids) - set(besides)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return found.pop()


async def test_before_the_first_solver_is_ready_the_fallback_answers() -> None:
    """A dispatcher that has just started does not wait for imports and compilers."""
    async with Planner() as planner:
        answer = await planner.plan(small())
        assert [trip.order_ids for trip in answer.trips] == [("ord_1",)]
        assert planner.fallbacks == 1
        await warm(planner)
        assert (await planner.plan(small())).trips
        assert planner.fallbacks == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hung"])
async def test_a_solver_that_is_gone_is_replaced(number: signal.Signals) -> None:
    """The plan that it had comes from the fallback, within the grace; the next from a new one."""
    async with Planner(grace_s=1.0) as planner:
        old = await warm(planner)
        os.kill(old, number)
        started_s = time.monotonic()
        answer = await planner.plan(small())
        assert time.monotonic() - started_s < 10.0
        assert [trip.rider_id for trip in answer.trips] == ["rdr_1"]
        assert (planner.fallbacks, planner.replaced) == (1, 1)
        await warm(planner, {old})
        assert (await planner.plan(small())).trips
        assert planner.fallbacks == 1


async def test_the_loop_goes_on_while_a_plan_is_made() -> None:
    """A hundred plans at once, and nobody else in the process waits for them."""
    async with Planner(solvers=2, grace_s=PATIENT_S) as planner:
        await warm(planner)
        longest_s, stop = 0.0, False

        async def tick() -> None:
            nonlocal longest_s
            while not stop:
                before_s = time.monotonic()
                await asyncio.sleep(0.005)
                longest_s = max(longest_s, time.monotonic() - before_s - 0.005)

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(planner.plan(small()) for _ in range(100)))
        stop = True
        await ticking
    assert all(answer.trips for answer in answers)
    assert longest_s < 1.0


async def test_a_question_that_the_engine_refuses_is_the_callers_error() -> None:
    """The solver is not to blame: it stays."""
    async with Planner(grace_s=PATIENT_S) as planner:
        pid = await warm(planner)
        question = small()
        broken = replace(question)
        object.__setattr__(
            broken, "travel", TravelTimes(np.zeros((0, 0)), np.zeros(0, dtype=np.int32))
        )
        with pytest.raises((ValueError, IndexError)):
            await planner.plan(broken)
        assert (await planner.plan(question)).trips
        assert planner.pids == [pid]
        assert planner.replaced == 0


async def test_nothing_is_left_of_a_planner_that_is_over() -> None:
    """Its processes end with it, those too that were still starting."""
    async with Planner(solvers=2) as planner:
        pid = await warm(planner)
        assert _lives(pid)
    await until(lambda: not _lives(pid))
    assert planner.pids == []


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
