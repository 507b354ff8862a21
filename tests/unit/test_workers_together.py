"""Several workers in one process: each fails and starts again alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from kit.engines.backoff import Backoff
from server.settings import SettingsError
from server.wiring import Services
from server.work import HEAVY, WORKERS, keep_running, work
from tests.http_support import make_services
from tests.waiting import until

AT_ONCE = Backoff(first_s=0.001, cap_s=0.001)


class Steady:
    """Works until it is told to stop."""

    def __init__(self) -> None:
        self.starts = 0

    async def run(self, services: Services, stopping: asyncio.Event) -> None:
        self.starts += 1
        await stopping.wait()


class Failing:
    """Fails so many times, then stops the whole."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    async def run(self, services: Services, stopping: asyncio.Event) -> None:
        if self.left:
            self.left -= 1
            raise RuntimeError("a bug")
        stopping.set()


async def test_a_failing_worker_starts_again_while_the_others_go_on() -> None:
    """Three bugs in one of them; its neighbour never notices."""
    services, stopping = make_services(), asyncio.Event()
    steady, failing = Steady(), Failing(3)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for name, worker in (("steady", steady), ("failing", failing)):
            tasks.create_task(keep_running(name, worker, services, stopping, AT_ONCE))
    assert failing.left == 0
    assert steady.starts == 1


async def test_a_worker_that_just_ends_is_started_again() -> None:
    """Only the signal to stop is a reason to end."""

    class Ending:
        starts = 0

        async def run(self, services: Services, stopping: asyncio.Event) -> None:
            self.starts += 1
            if self.starts == 3:
                stopping.set()

    worker = Ending()
    async with asyncio.timeout(30):
        await keep_running("ending", worker, make_services(), asyncio.Event(), AT_ONCE)
    assert worker.starts == 3


async def test_a_stop_does_not_wait_for_the_next_start() -> None:
    """A worker that waits after a failure leaves at once."""
    stopping, failing = asyncio.Event(), Failing(1)
    waiting = asyncio.create_task(
        keep_running("failing", failing, make_services(), stopping, Backoff(60.0, 60.0))
    )
    await until(lambda: failing.left == 0)
    stopping.set()
    async with asyncio.timeout(30):
        await waiting
    assert failing.left == 0


@pytest.mark.parametrize(
    "names", [[], ["nobody"], ["settlement", "settlement"], ["settlement", "nobody"]]
)
async def test_names_that_make_no_sense_are_refused(names: list[str]) -> None:
    """Before anything is connected."""
    with pytest.raises(SettingsError):
        await work(names)


def test_what_computes_has_a_process_of_its_own() -> None:
    """A plan of 200 ms must not hold up the relay."""
    assert set(WORKERS) >= HEAVY == {"dispatcher"}


@pytest.mark.parametrize("module", ["server.serve", "server.workers.housekeeping"])
def test_a_process_loads_no_solver_that_it_does_not_ask(module: str) -> None:
    """Each of them takes a second of every start, and tens of megabytes for ever."""
    heavy = ("scipy", "ortools", "numba", "sklearn")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert found.stdout.strip() == "[]"
