"""Instances: locks, notes, crashes and restarts, over real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.engines import RunningInstance, engines, instance, running_instance
from kit.engines.errors import DataDirectoryBusy
from tests.waiting import until

_REPOSITORY = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux can tie a child to its parent's life"
)
# Runs engines on argv[1] and says where, then waits to be killed.
_PARENT = """
import asyncio, json, sys
from pathlib import Path
from kit.engines import engines
async def main():
    async with engines(Path(sys.argv[1])) as running:
        print(json.dumps({"database_url": running.database_url, "redis_url": running.redis_url,
            "pids": [running.postgres.pid, running.valkey.pid]}), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@asynccontextmanager
async def _parent(data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT, str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
        cwd=_REPOSITORY,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _said(process: asyncio.subprocess.Process) -> dict[str, object]:
    """The JSON line that the parent program prints (its log lines are skipped)."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            said: dict[str, object] = json.loads(line)
            return said
    raise AssertionError("the parent ended without a word")


def _parents() -> dict[int, int]:
    """The parent of every process here that is not a zombie."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found[int(path.parent.name)] = int(ppid)
    return found


def _descendants(pid: int) -> set[int]:
    parents = _parents()
    found, fresh = set[int](), {pid}
    while fresh:
        found |= fresh
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
    return found - {pid}


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A temporary directory that everybody may enter (pytest's own are closed)."""
    path = Path(tempfile.mkdtemp(prefix="darkstore-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@linux_only
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["closed", "open"])
async def test_kill_9_of_the_parent_leaves_no_process_and_no_damage(
    open_dir: Path, empty_cluster: Path, mode: int
) -> None:
    """Under load: all gone within 5 s, started again at once, every committed row there.

    As root a closed directory means a namespace, an open one the user nobody: the tie to the
    parent's life has to survive either change of rights.
    """
    open_dir.chmod(mode)
    data_dir = open_dir / "a data dir"
    shutil.copytree(empty_cluster, data_dir / "postgres")
    async with _parent(data_dir) as parent:
        said = await _said(parent)
        tree = _descendants(parent.pid)
        connection = await asyncpg.connect(str(said["database_url"]))
        await connection.execute("CREATE TABLE kept (n int PRIMARY KEY)")
        committed = 0

        async def write() -> None:
            nonlocal committed
            while True:
                await connection.execute("INSERT INTO kept VALUES ($1)", committed)
                committed += 1

        writing = asyncio.ensure_future(write())
        await until(lambda: committed >= 50)
        parent.kill()
        with pytest.raises((ConnectionError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await asyncio.wait_for(writing, 5.0)
        connection.terminate()
        # The postmaster, its background processes, and Valkey.
        assert len(tree) >= 6
        await until(lambda: not tree & _parents().keys(), within_s=5.0)
    assert running_instance(data_dir) is None
    async with engines(data_dir) as running:
        connection = await asyncpg.connect(running.database_url)
        rows = await connection.fetchval("SELECT count(*) FROM kept")
        await connection.close()
    # One more may have been committed without our hearing of it.
    assert committed <= rows <= committed + 1


@linux_only
async def test_kill_9_during_initdb_leaves_nothing_half(tmp_path: Path) -> None:
    """Killed in the middle of the very first start, the second one is a whole one."""
    async with _parent(tmp_path) as parent:
        await until(lambda: any(tmp_path.glob(".postgres.initdb-*/PG_VERSION")), 20.0)
        tree = _descendants(parent.pid)
        assert tree
        parent.kill()
        await until(lambda: not tree & _parents().keys())
    assert not (tmp_path / "postgres").exists()
    async with engines(tmp_path) as running:
        connection = await asyncpg.connect(running.database_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert not list(tmp_path.glob(".postgres.initdb-*"))


async def test_a_second_instance_is_refused_and_the_first_ends_cleanly(
    tmp_path: Path, empty_cluster: Path
) -> None:
    """DataDirectoryBusy names the holder, which goes on, and on SIGINT shuts down in order."""
    shutil.copytree(empty_cluster, tmp_path / "postgres")
    async with _parent(tmp_path) as parent:
        said = await _said(parent)
        with pytest.raises(DataDirectoryBusy, match=f"in use by process {parent.pid}:") as caught:
            async with engines(tmp_path):
                raise AssertionError("two instances on one directory")
        assert caught.value.pid == parent.pid
        found = running_instance(tmp_path)
        assert found is not None
        assert (found.pid, found.database_url) == (parent.pid, said["database_url"])
        connection = await asyncpg.connect(found.database_url)
        await connection.close()
        tree = _descendants(parent.pid)
        parent.send_signal(signal.SIGINT)
        await asyncio.wait_for(parent.wait(), 30.0)
    assert not tree & _parents().keys()
    assert "database system is shut down" in (tmp_path / "log" / "postgres.log").read_text()
    assert running_instance(tmp_path) is None


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A DATABASE_URL that is taken unchecked: without Postgres an instance starts faster."""

    async def unchecked(url: str) -> None:
        assert url

    monkeypatch.setattr(instance, "check_database", unchecked)
    return "postgresql://elsewhere/shop"


async def test_a_note_counts_while_its_writer_lives(tmp_path: Path, elsewhere: str) -> None:
    """The note is there (mode 0600) while the engines run; an old note counts for nothing."""
    assert running_instance(tmp_path / "nowhere") is None
    assert running_instance(tmp_path) is None
    note = tmp_path / "run.json"
    async with engines(tmp_path, elsewhere) as running:
        expected = RunningInstance(os.getpid(), elsewhere, running.redis_url)
        assert running_instance(tmp_path) == expected
        assert note.stat().st_mode & 0o777 == 0o600
        left = note.read_text()
        note.write_text(left.replace(str(os.getpid()), "1"))
        assert running_instance(tmp_path) is None
    assert not note.exists()
    note.write_text(left)
    assert running_instance(tmp_path) is None


async def test_looking_does_not_disturb_a_start(tmp_path: Path, elsewhere: str) -> None:
    """A start succeeds while others look at the directory all the time."""
    done, seen = asyncio.Event(), set[RunningInstance | None]()

    async def look() -> None:
        while not done.is_set():
            seen.add(running_instance(tmp_path))
            await asyncio.sleep(0)

    looking = asyncio.ensure_future(look())
    async with engines(tmp_path, elsewhere) as running:
        await until(lambda: len(seen) == 2)
    done.set()
    await looking
    assert seen == {None, RunningInstance(os.getpid(), elsewhere, running.redis_url)}


async def test_engines_that_die_come_back_at_their_address(
    tmp_path: Path, empty_cluster: Path
) -> None:
    """kill -9 of the postmaster and of Valkey: both answer again, rows kept, Valkey empty."""
    shutil.copytree(empty_cluster, tmp_path / "postgres")
    async with engines(tmp_path) as running:
        assert running.postgres is not None
        assert running.valkey is not None
        connection = await asyncpg.connect(running.database_url)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        connection.terminate()
        async with Redis.from_url(running.redis_url) as client:
            await client.set("key", "value")
        os.kill(running.postgres.pid, signal.SIGKILL)
        os.kill(running.valkey.pid, signal.SIGKILL)
        assert await _first_answer(running.database_url) == 7
        assert await _first_key(running.redis_url) is None


async def _first_answer(url: str) -> int:
    async with asyncio.timeout(15):
        while True:
            try:
                connection = await asyncpg.connect(url)
                value: int = await connection.fetchval("SELECT n FROM kept")
                await connection.close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.02)
            else:
                return value


async def _first_key(url: str) -> object:
    async with asyncio.timeout(15):
        while True:
            try:
                async with Redis.from_url(url) as client:
                    value: object = await client.get("key")
            except (OSError, RedisError):
                await asyncio.sleep(0.02)
            else:
                return value
