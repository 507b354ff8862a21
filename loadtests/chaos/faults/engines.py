"""Postgres and Valkey: killed, stopped, emptied, without room on their disk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import asyncpg
import httpx
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtests.chaos.faults.base import Fault, NotPossible, NotStruck
from loadtests.chaos.proxy import Mode
from loadtests.chaos.system import System

LANE = "engines"
BACK_TIMEOUT_S = 60.0
STOPPED_S = 20.0
FULL_S = 8.0
# A file may not grow beyond this where no small disk could be mounted.
FILE_LIMIT_BYTES = 64 * 1024


async def _back(system: System, old: int | None) -> tuple[int, float]:
    """Wait until Postgres answers (under another process id than ``old``)."""
    started_s = time.monotonic()
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while True:
            try:
                pid = system.postmaster().pid
                if pid != old:
                    await system.sql("SELECT 1")
                    return pid, time.monotonic() - started_s
            except (OSError, ValueError, IndexError, TimeoutError, psutil.Error,
                    asyncpg.PostgresError, asyncpg.InterfaceError):  # fmt: skip
                pass
            await asyncio.sleep(0.1)


def _tree(system: System) -> list[psutil.Process]:
    try:
        postmaster = system.postmaster()
        return [postmaster, *postmaster.children(recursive=True)]
    except (psutil.Error, OSError, ValueError, IndexError) as error:
        raise NotStruck("Postgres was not running") from error


def _signal(processes: list[psutil.Process], number: signal.Signals) -> int:
    """Send a signal to all that still live; returns how many."""
    sent = 0
    for process in processes:
        try:
            process.send_signal(number)
            sent += 1
        except psutil.NoSuchProcess:
            continue
    return sent


class KillPostgres(Fault):
    """Every process of it at once, so that nobody can write out what is in memory."""

    name = "kill -9 of Postgres"
    lane = LANE
    lasts_s = 5.0

    async def strike(self, system: System, rng: random.Random) -> str:
        processes = _tree(system)
        # Backends first stopped: a killed postmaster would let them end in good order.
        _signal(processes, signal.SIGSTOP)
        killed = _signal(processes, signal.SIGKILL)
        pid, took_s = await _back(system, processes[0].pid)
        return f"{killed} processes, postmaster {processes[0].pid} -> {pid}, back in {took_s:.1f} s"


class KillBackend(Fault):
    """One backend dies; Postgres then throws out all others and recovers."""

    name = "kill -9 of a Postgres backend"
    lane = LANE

    async def strike(self, system: System, rng: random.Random) -> str:
        try:
            rows = await system.sql(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name LIKE 'darkstore %' AND backend_type = 'client backend'"
                " ORDER BY (state = 'active') DESC, random() LIMIT 1"
            )
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise NotStruck("Postgres was away") from error
        if not rows:
            raise NotStruck("nobody was connected")
        os.kill(int(rows[0]["pid"]), signal.SIGKILL)
        _, took_s = await _back(system, None)
        return f"backend {rows[0]['pid']}, all back in {took_s:.1f} s"


class StopPostgres(Fault):
    """It does not answer, and does not hang up either."""

    name = "Postgres stopped for 20 s"
    lane = LANE
    lasts_s = STOPPED_S + 2

    def __init__(self) -> None:
        self._stopped: list[psutil.Process] = []

    async def strike(self, system: System, rng: random.Random) -> str:
        self._stopped = _tree(system)
        stopped = _signal(self._stopped, signal.SIGSTOP)
        if self._stopped[0].status() != psutil.STATUS_STOPPED:
            raise NotStruck("it did not stop")
        await asyncio.sleep(STOPPED_S)
        return f"{stopped} processes slept for {STOPPED_S:g} s"

    async def heal(self, system: System) -> None:
        _signal(self._stopped, signal.SIGCONT)
        await _back(system, None)


class ShutPostgres(Fault):
    """A fast shutdown, as an operator does it: clients are told to go."""

    name = "Postgres shut down and started"
    lane = LANE
    lasts_s = 5.0

    async def strike(self, system: System, rng: random.Random) -> str:
        postmaster = _tree(system)[0]
        postmaster.send_signal(signal.SIGINT)
        pid, took_s = await _back(system, postmaster.pid)
        return f"postmaster {postmaster.pid} -> {pid}, back in {took_s:.1f} s"


class KillValkey(Fault):
    """It keeps nothing on disk, so it comes back empty."""

    name = "kill -9 of Valkey, back empty"
    lane = LANE

    async def strike(self, system: System, rng: random.Random) -> str:
        try:
            process = system.valkey()
        except (OSError, ValueError, psutil.Error) as error:
            raise NotStruck("Valkey was not running") from error
        before = await _keys(system)
        process.kill()
        async with asyncio.timeout(BACK_TIMEOUT_S):
            while True:
                try:
                    if (pid := system.valkey().pid) != process.pid:
                        return f"pid {process.pid} -> {pid}; {before} keys lost"
                except (OSError, ValueError, psutil.Error):
                    pass
                await asyncio.sleep(0.05)


class EmptyValkey(Fault):
    """Everything in it is gone, and no connection notices."""

    name = "Valkey emptied under its clients"
    lane = LANE
    lasts_s = 1.0

    async def strike(self, system: System, rng: random.Random) -> str:
        keys = await _keys(system)
        client = Redis.from_url(system.place.environment["REDIS_URL"])
        try:
            await client.flushall()
        finally:
            await client.aclose()
        if not keys:
            raise NotStruck("it was empty already")
        return f"{keys} keys"


async def _keys(system: System) -> int:
    client = Redis.from_url(system.place.environment["REDIS_URL"], socket_timeout=2.0)
    try:
        return int(await client.dbsize())
    except (RedisError, OSError) as error:
        raise NotStruck("Valkey was away") from error
    finally:
        await client.aclose()


class FullDisk(Fault):
    """No byte left where Postgres writes; struck when it says so itself.

    On a small file system of its own if one could be mounted; else by a limit on the size of its
    files, which Postgres takes for the same (it ignores SIGXFSZ for that reason).
    """

    name = "disk full for Postgres"
    lane = LANE
    lasts_s = FULL_S + 4

    def __init__(self) -> None:
        self._ballast: Path | None = None

    async def strike(self, system: System, rng: random.Random) -> str:
        processes = _tree(system)
        if system.small_disk is not None:
            self._ballast = system.small_disk / "ballast"
            how = f"{await asyncio.to_thread(_fill, self._ballast)} MB of ballast"
        else:
            _limit(processes, FILE_LIMIT_BYTES)
            how = f"files limited to {FILE_LIMIT_BYTES // 1024} KB"
        refused = 0
        until_s = time.monotonic() + FULL_S
        while time.monotonic() < until_s:
            refused += await _refuses_to_write(system)
            await asyncio.sleep(0.25)
        if not refused:
            raise NotStruck("Postgres still found room")
        return f"{how}; {refused} writes refused"

    async def heal(self, system: System) -> None:
        if self._ballast is not None:
            self._ballast.unlink(missing_ok=True)
        else:
            _limit(_tree(system), None)
        await _back(system, None)
        await system.sql("DROP TABLE IF EXISTS chaos_ballast")


class FullSpool(Fault):
    """No Postgres, and no room on the disk on which checkouts would wait for it.

    Struck when the server says that it could not queue a checkout.
    """

    name = "disk full for the spool"
    lane = LANE
    lasts_s = FULL_S + 4

    def __init__(self) -> None:
        self._ballast: Path | None = None

    async def strike(self, system: System, rng: random.Random) -> str:
        if system.small_disk is None:
            raise NotPossible("no file system can be mounted here")
        before = await _not_queued(system)
        self._ballast = system.small_disk / "ballast"
        filled_mb = await asyncio.to_thread(_fill, self._ballast)
        await system.links["postgres"].become(Mode.REFUSE)
        refused = 0.0
        until_s = time.monotonic() + 2 * FULL_S
        while not refused and time.monotonic() < until_s:
            await asyncio.sleep(0.5)
            refused = await _not_queued(system) - before
        if refused <= 0:
            raise NotStruck("no checkout came by")
        return f"{filled_mb} MB of ballast; {refused:.0f} checkouts could not be queued"

    async def heal(self, system: System) -> None:
        if self._ballast is not None:
            self._ballast.unlink(missing_ok=True)
        await system.links["postgres"].become(Mode.PASS)
        await _back(system, None)


async def _not_queued(system: System) -> float:
    """How many checkouts this server process could not queue for want of room."""
    try:
        async with httpx.AsyncClient(timeout=3.0, trust_env=False) as client:
            text = (await client.get(f"{system.base_url}/metrics")).text
    except httpx.HTTPError as error:
        raise NotStruck("the server was away") from error
    prefix = 'darkstore_checkouts_not_queued_total{reason="full"}'
    found = [line for line in text.splitlines() if line.startswith(prefix)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def _fill(path: Path) -> int:
    """Take all the room there is; returns megabytes."""
    size = 0
    step = 1 << 26
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, size, step)
                size += step
            except OSError:
                step //= 2
    finally:
        os.close(descriptor)
    return size >> 20


def _limit(processes: list[psutil.Process], limit_bytes: int | None) -> None:
    for process in processes:
        try:
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (limit_bytes or hard, hard))
        except psutil.NoSuchProcess:
            continue


async def _refuses_to_write(system: System) -> bool:
    """Whether Postgres says that there is no room, or fell over because of it."""
    try:
        await system.sql(
            "CREATE TABLE IF NOT EXISTS chaos_ballast AS"
            " SELECT repeat(md5(n::text), 50) AS t FROM generate_series(1, 2000) AS n"
        )
        await system.sql("INSERT INTO chaos_ballast SELECT t FROM chaos_ballast LIMIT 5000")
    except asyncpg.DiskFullError:
        return True
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return "No space left" in str(error) or "File too large" in str(error)
    return False
