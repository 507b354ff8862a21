"""The yardstick of commits: pgbench's TPC-B on the same cluster, in a database of its own.

The program comes with the embedded engine.  Where it does not (``DATABASE_URL``), its exact
statements run over asyncpg with prepared statements, which is slower by what Python costs.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from pathlib import Path

import asyncpg

from kit.engines.binaries import postgres_home
from kit.engines.errors import EngineError

# Branches: as many as clients at least, or they would wait for each other's row.
SCALE = 20
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)

# pgbench -b tpcb-like, as documented; $1 aid, $2 bid, $3 tid, $4 delta.
_SCRIPT = (
    "UPDATE pgbench_accounts SET abalance = abalance + $2 WHERE aid = $1",
    "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
    "UPDATE pgbench_tellers SET tbalance = tbalance + $2 WHERE tid = $1",
    "UPDATE pgbench_branches SET bbalance = bbalance + $2 WHERE bid = $1",
    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)"
    " VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
)
_TABLES = """
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)) WITH (fillfactor=100);
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor=100);
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor=100);
"""  # noqa: E501


def pgbench_program() -> Path | None:
    """The program, if the embedded engine's package brings it."""
    try:
        program = postgres_home() / "bin" / "pgbench"
    except EngineError:
        return None
    return program if program.exists() else None


async def prepare(url: str, program: Path | None) -> None:
    """Fill the tables of database ``url``."""
    if program is not None:
        await _run(program, "--initialize", "--quiet", f"--scale={SCALE}", url)
        return
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(_TABLES)
        for statement, rows in (
            ("pgbench_branches SELECT n, 0, ''", SCALE),
            ("pgbench_tellers SELECT n, (n - 1) / 10 + 1, 0, ''", SCALE * 10),
            ("pgbench_accounts SELECT n, (n - 1) / 100000 + 1, 0, ''", SCALE * 100_000),
        ):
            await conn.execute(f"INSERT INTO {statement} FROM generate_series(1, $1) n", rows)
    finally:
        await conn.close()


async def transactions_a_second(
    url: str, program: Path | None, connections: int, seconds: float
) -> float:
    """One round of TPC-B."""
    if program is None:
        return await _with_asyncpg(url, connections, seconds)
    output = await _run(
        program, "--no-vacuum", "--protocol=prepared", "--builtin=tpcb-like",
        f"--client={connections}", "--jobs=2", f"--time={max(1, round(seconds))}", url,
    )  # fmt: skip
    found = _TPS.search(output)
    if found is None:
        raise ValueError(f"pgbench said nothing of its rate: {output[-300:]}")
    return float(found[1])


async def _run(program: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise ValueError(f"pgbench failed: {text[-500:]}")
    return text


async def _with_asyncpg(url: str, connections: int, seconds: float) -> float:
    until = time.perf_counter() + seconds
    done = 0

    async def client() -> None:
        nonlocal done
        conn = await asyncpg.connect(url)
        try:
            steps = [await conn.prepare(statement) for statement in _SCRIPT]
            while time.perf_counter() < until:
                aid = random.randint(1, SCALE * 100_000)
                bid, tid = random.randint(1, SCALE), random.randint(1, SCALE * 10)
                delta = random.randint(-5000, 5000)
                async with conn.transaction():
                    await steps[0].fetch(aid, delta)
                    await steps[1].fetch(aid)
                    await steps[2].fetch(tid, delta)
                    await steps[3].fetch(bid, delta)
                    await steps[4].fetch(tid, bid, aid, delta)
                done += 1
        finally:
            await conn.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return done / (time.perf_counter() - started)
