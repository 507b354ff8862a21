"""Two dispatchers under traffic: one goes away, the other takes over; the woken one is silent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Generous: how fast it is on a machine that runs tests beside is not what this is about.
LONGEST_S = 25.0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_woken_dispatcher_writes_nothing() -> None:
    """Stopped with a plan in its hands, stopped while the next one is stopped too, or killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.failover", "--rounds", "3", "--seed", "7",
        "--way", "plan_made", "--way", "both", "--way", "kill",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    found = orjson.loads(output.strip().splitlines()[-1])
    assert found["rounds"] == 3, output.decode()
    assert (found["woken_writes"], found["orders_with_two_riders"]) == (0, 0)
    assert (found["verify"], found["stuck"]) == ({}, [])
    assert found["failover_max_s"] < LONGEST_S
