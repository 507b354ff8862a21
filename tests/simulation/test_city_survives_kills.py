"""A living city whose server, dispatcher and relay are killed in turn."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import orjson
import psutil
import pytest

from kit.engines import engines, running_instance

ROOT = Path(__file__).resolve().parents[2]
VICTIMS = ("serve", "worker dispatcher", "worker outbox_relay")
START_TIMEOUT_S = 120.0
RESTART_TIMEOUT_S = 30.0
SPEED = 20
STUCK_S = 60.0
# Between two steps of an order, or after the last one of an order that is still open.
LONGEST_STANDSTILL = """
    WITH steps AS (
        SELECT order_id, at, lead(at) OVER (PARTITION BY order_id ORDER BY seq) AS next_at
        FROM order_history
    ), ended AS (SELECT max(at) AS at FROM order_history)
    SELECT extract(epoch FROM max(coalesce(s.next_at, ended.at) - s.at))::float8
    FROM steps s JOIN orders o ON o.id = s.order_id CROSS JOIN ended
    WHERE s.next_at IS NOT NULL OR o.delivery_status NOT IN ('done', 'failed', 'cancelled')
"""


def _victim(parent: psutil.Process, command: str) -> psutil.Process | None:
    for child in parent.children():
        if f"-m server.cli {command}" in " ".join(child.cmdline()):
            return child
    return None


async def _find(parent: psutil.Process, command: str, timeout_s: float) -> psutil.Process:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                found = _victim(parent, command)
            except psutil.NoSuchProcess:
                found = None
            if found is not None:
                return found
            await asyncio.sleep(0.05)


async def _orders_placed(data_dir: Path) -> bool:
    """Whether the city has come to life."""
    found = running_instance(data_dir)
    if found is None:
        return False
    conn = await asyncpg.connect(found.database_url)
    try:
        return bool(await conn.fetchval("SELECT count(*) > 5 FROM orders"))
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await conn.close()


async def _longest_standstill_s(data_dir: Path) -> float:
    """The longest real time for which an order that was not over yet made no step."""
    async with engines(data_dir) as running:
        conn = await asyncpg.connect(running.database_url)
        try:
            virtual_s = await conn.fetchval(LONGEST_STANDSTILL)
        finally:
            await conn.close()
    return float(virtual_s) / SPEED


@pytest.mark.timeout(300)
async def test_kills_of_server_dispatcher_and_relay_leave_nothing_broken(tmp_path: Path) -> None:
    """Each is killed with SIGKILL under load and comes back; at the end every invariant holds,
    no order is stuck, and no client saw a gap in its stream."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "simulate", "--minutes", "9", "--speed", str(SPEED),
        "--seed", "11", "--orders-per-hour", "240", "--data-dir", str(tmp_path), "--json",
        cwd=ROOT, env={**os.environ, "DARKSTORE_DATA_DIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        parent = psutil.Process(process.pid)
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _orders_placed(tmp_path):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.2)
        for command in VICTIMS:
            victim = await _find(parent, command, RESTART_TIMEOUT_S)
            os.kill(victim.pid, signal.SIGKILL)
            await asyncio.to_thread(psutil.wait_procs, [victim], timeout=10)
            again = await _find(parent, command, RESTART_TIMEOUT_S)
            assert again.pid != victim.pid
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    result = orjson.loads(output.strip().splitlines()[-1])
    broken = [check for check in result["verify"]["checks"] if check["broken_rows"]]
    assert broken == []
    assert result["stream"]["gaps"] == 0
    assert result["stream"]["state_mismatches"] == 0
    assert result["orders"]["delivered"] >= 10
    assert await _longest_standstill_s(tmp_path) < STUCK_S
    assert process.returncode == 0
