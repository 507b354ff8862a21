"""Embedded Postgres and Valkey: where they run, as whom, and what they say when they cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from kit.engines import engine as engine_module
from kit.engines.accounts import Way
from kit.engines.errors import (
    DataDirectoryUnusable,
    DiskFull,
    EngineStartFailed,
    PortUnavailable,
)
from kit.engines.postgres import EmbeddedPostgres
from kit.engines.process import run
from kit.engines.valkey import EmbeddedValkey

_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not _ROOT, reason="needs to be root")
_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A temporary directory that everybody may enter (pytest's own are closed)."""
    path = Path(tempfile.mkdtemp(prefix="darkstore-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def copied(cluster: Path, data_dir: Path) -> Path:
    """``data_dir``, with a cluster in it that has never been used."""
    shutil.copytree(cluster, data_dir)
    return data_dir


async def _works(postgres: EmbeddedPostgres) -> None:
    """Start, write, stop, start again, and find what was written."""
    await postgres.start()
    try:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('çay')")
        await connection.close()
        await postgres.stop()
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        assert await connection.fetchval("SELECT word FROM kept") == "çay"
        await connection.close()
    finally:
        await postgres.stop()


def _nobody_reaches(path: Path) -> bool:
    """Whether an ordinary user can read ``path`` (mode bits of it and the folders above)."""
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (path, *path.parents))


@needs_root
async def test_as_root_postgres_runs_as_nobody_while_it_can(open_dir: Path) -> None:
    """As nobody, who owns the cluster; in a namespace, rows kept, once nobody is shut off."""
    first = EmbeddedPostgres(open_dir / "postgres")
    if not all(_nobody_reaches(path.parent) for path in first.reachable_paths()):
        pytest.skip("the installed binaries cannot be reached by nobody here")
    await _works(first)
    assert first.account.way is Way.USER
    assert (open_dir / "postgres").stat().st_uid == first.account.uid != 0
    open_dir.chmod(0o700)
    second = EmbeddedPostgres(open_dir / "postgres")
    await second.start()
    try:
        assert second.account.way is Way.NAMESPACE
        connection = await asyncpg.connect(second.url)
        assert await connection.fetchval("SELECT word FROM kept") == "çay"
        await connection.close()
    finally:
        await second.stop()


@needs_root
async def test_as_root_in_a_closed_directory_postgres_runs_in_a_namespace(open_dir: Path) -> None:
    """Below a 0700 directory of root: a user namespace, and the files stay root's."""
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    postgres = EmbeddedPostgres(closed / "postgres")
    await _works(postgres)
    assert postgres.account.way is Way.NAMESPACE
    assert (closed / "postgres").stat().st_uid == 0


def _as_ordinary_user() -> list[str]:
    """What to put before a command so that it runs without being root; skips where it cannot."""
    if not _ROOT:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None or not _nobody_reaches(_REPOSITORY):
        pytest.skip("needs setpriv, and a checkout that an ordinary user can read")
    # Root's own Python may lie below /root: allow reading it, and nothing else.
    read = "+dac_read_search"
    limits = [
        "--bounding-set=-all,+dac_read_search",
        f"--inh-caps={read}",
        f"--ambient-caps={read}",
    ]
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *limits]


_ORDINARY = """
import asyncio, sys
from pathlib import Path
from kit.engines import engines
async def main():
    async with engines(Path(sys.argv[1])) as running:
        print(running.postgres.account.way, running.valkey.account.way)
asyncio.run(main())
"""


async def test_an_ordinary_user_runs_both_as_itself(open_dir: Path) -> None:
    """Without any privilege both engines start with the rights of their parent."""
    command = [*_as_ordinary_user(), sys.executable, "-c", _ORDINARY, str(open_dir / "data")]
    if _ROOT:
        os.chown(open_dir, 65534, 65534)
    parent = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=_REPOSITORY
    )
    output, errors = await parent.communicate()
    assert parent.returncode == 0, errors.decode()
    assert output.decode().splitlines()[-1] == "self self"


async def test_a_long_path_with_spaces_and_accents_works(tmp_path: Path) -> None:
    """No socket lies in the data directory, so its path may be far longer than a socket's."""
    folder = tmp_path.joinpath(*["a dark störe's $data"] * 25)
    assert len(os.fsencode(folder)) > 500
    await _works(EmbeddedPostgres(folder / "postgres"))
    valkey = EmbeddedValkey(folder / "valkey")
    await valkey.start()
    await valkey.stop()


async def test_postgres_is_durable_and_speaks_unicode(tmp_path: Path, empty_cluster: Path) -> None:
    """Durability settings are on, the locale is C.UTF-8, and the promised extensions exist."""
    postgres = EmbeddedPostgres(copied(empty_cluster, tmp_path / "postgres"))
    await postgres.start()
    try:
        connection = await asyncpg.connect(postgres.url)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval("SELECT current_setting($1)", setting) == "on"
        assert await connection.fetchval("SELECT lower('ÇİĞ ÉÀ')") != "ÇİĞ ÉÀ"
        for extension in ("pg_trgm", "unaccent", "btree_gist", "pg_stat_statements"):
            await connection.execute(f"CREATE EXTENSION {extension}")
        assert await connection.fetchval("SELECT count(*) > 0 FROM pg_stat_statements")
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.close()
        url = await postgres.create_database('odd "name"', template="darkstore")
        assert await postgres.create_database('odd "name"') == url
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()
    finally:
        await postgres.stop()


async def test_valkey_keeps_nothing_and_refuses_beyond_its_memory(tmp_path: Path) -> None:
    """No persistence, protected mode, the given bound, and an empty store after a restart."""
    valkey = EmbeddedValkey(tmp_path / "valkey", maxmemory_bytes=64 * 1024 * 1024)
    await valkey.start()
    async with Redis.from_url(valkey.url, decode_responses=True) as client:
        settings = await client.config_get("*")
        await client.set("key", "value")
    expected = {"appendonly": "no", "save": "", "protected-mode": "yes", "bind": "127.0.0.1"}
    assert expected.items() <= settings.items()
    assert settings["maxmemory"] == str(64 * 1024 * 1024)
    await valkey.stop()
    await valkey.start()
    async with Redis.from_url(valkey.url) as client:
        assert await client.get("key") is None
    await valkey.stop()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
async def test_a_stolen_port_is_given_up_for_another(
    kind: type[EmbeddedPostgres] | type[EmbeddedValkey],
    tmp_path: Path,
    empty_cluster: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ports taken between choosing and binding: another is tried, a few times."""
    with socket.create_server(("127.0.0.1", 0)) as thief:
        taken = thief.getsockname()[1]
        offers = iter([taken, taken, engine_module.free_port()])
        monkeypatch.setattr(engine_module, "free_port", lambda: next(offers))
        if kind is EmbeddedPostgres:
            copied(empty_cluster, tmp_path / "engine")
        engine = kind(tmp_path / "engine")
        await engine.start()
        assert engine.port != taken
        await engine.stop()
        monkeypatch.setattr(engine_module, "free_port", lambda: taken)
        with pytest.raises(PortUnavailable, match="taken by another program 5 times"):
            await kind(tmp_path / "engine").start()


async def test_a_killed_initdb_leaves_no_half_directory(tmp_path: Path) -> None:
    """Cut short in the middle: no cluster at the final path, and the next start is whole."""
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    starting = asyncio.ensure_future(postgres.start())
    while not list(tmp_path.glob(".postgres.initdb-*/PG_VERSION")):
        assert not starting.done()
        await asyncio.sleep(0.005)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not (tmp_path / "postgres").exists()
    stale = tmp_path / ".postgres.initdb-stale"
    stale.mkdir()
    await _works(postgres)
    assert not stale.exists()


async def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    """Files that are no cluster of this version are refused with a sentence, untouched."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataDirectoryUnusable, match="not a Postgres cluster"):
        await EmbeddedPostgres(tmp_path).start()
    (tmp_path / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(DataDirectoryUnusable, match=r"made by Postgres 9\.6"):
        await EmbeddedPostgres(tmp_path).start()
    assert (tmp_path / "notes.txt").read_text() == "mine"


async def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    """A path below a file (no right can make that a directory) is one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="file/postgres cannot be made because a file"):
        await EmbeddedPostgres(tmp_path / "file" / "postgres").start()
    with pytest.raises(DataDirectoryUnusable, match="longer than 900 bytes"):
        await EmbeddedPostgres(tmp_path.joinpath(*["x" * 200] * 5)).start()


async def test_a_damaged_cluster_is_told_with_its_log(tmp_path: Path, empty_cluster: Path) -> None:
    """An engine that ends at once: its own last grave line, and where the rest is."""
    postgres = EmbeddedPostgres(copied(empty_cluster, tmp_path / "postgres"))
    (tmp_path / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(EngineStartFailed, match=r"could not open file.*log/postgres\.log"):
        await postgres.start()


@pytest.fixture
def small_disk(open_dir: Path) -> Iterator[Path]:
    """A file system of 12 MB, less than a cluster needs."""
    mounted = _ROOT and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "darkstore-test", str(open_dir)],
        capture_output=True,
        check=False,
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield open_dir
    subprocess.run(["umount", str(open_dir)], check=True)


async def test_a_full_disk_is_told_at_the_first_start(small_disk: Path) -> None:
    """initdb without space: DiskFull, and nothing half made is left."""
    with pytest.raises(DiskFull, match="free some space"):
        await EmbeddedPostgres(small_disk / "postgres").start()
    assert [path.name for path in small_disk.iterdir() if path.name != "log"] == []


async def test_a_full_disk_is_told_at_a_later_start(small_disk: Path) -> None:
    """A disk that filled up since: DiskFull as well, and with space again all rows are there."""
    grow = await asyncio.create_subprocess_exec("mount", "-o", "remount,size=96m", small_disk)
    assert await grow.wait() == 0
    postgres = EmbeddedPostgres(small_disk / "postgres")
    await _works(postgres)
    ballast = small_disk / "ballast"
    await run(
        ["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], account=postgres.account, cwd=Path("/")
    )
    await run(["sh", "-c", f"cat /dev/zero > {ballast}"], account=postgres.account, cwd=Path("/"))
    with pytest.raises(DiskFull):
        await postgres.start()
    ballast.unlink()
    await postgres.start()
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SELECT word FROM kept") == "çay"
    await connection.close()
    await postgres.stop()
