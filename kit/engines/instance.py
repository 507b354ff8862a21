"""One instance: a locked data directory, its engines, and the note by which others find it.

A data directory holds::

    lock        held (flock) by the supervisor while it lives; contains its process id
    run.json    addresses and process id, mode 0600; there while the engines answer
    postgres/   the cluster          valkey/   working folder          log/   their logs
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from kit.engines.backoff import Backoff
from kit.engines.engine import EmbeddedEngine, keep_alive
from kit.engines.errors import DataDirectoryBusy, file_errors
from kit.engines.external import check_database, check_redis
from kit.engines.postgres import EmbeddedPostgres
from kit.engines.valkey import EmbeddedValkey

_log = structlog.get_logger(__name__)
_LOCK = "lock"
_NOTE = "run.json"
# `running_instance` holds the lock for an instant when it looks.
_LOCK_PATIENCE_S = 0.5
_LOCK_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """The note of an instance that runs: its supervisor's process id and its addresses."""

    pid: int
    database_url: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Engines:
    """Addresses to use, and the embedded engines behind them (None where an URL was given)."""

    database_url: str
    redis_url: str
    postgres: EmbeddedPostgres | None
    valkey: EmbeddedValkey | None

    @property
    def embedded(self) -> bool:
        """Whether at least one of the two is embedded."""
        return self.postgres is not None or self.valkey is not None


@asynccontextmanager
async def engines(
    data_dir: Path, database_url: str | None = None, redis_url: str | None = None
) -> AsyncIterator[Engines]:
    """Postgres and Redis for the time of the context: those given, else embedded ones.

    Given URLs are checked first. Embedded engines are started again at their address when they
    die, and stopped at the end. With both URLs given ``data_dir`` is not touched. Raises
    `EngineError` kinds. Enter it in a thread that lives as long as the program
    (see `kit.engines.process`).
    """
    if database_url is not None:
        await check_database(database_url)
    if redis_url is not None:
        await check_redis(redis_url)
    if database_url is not None and redis_url is not None:
        yield Engines(database_url, redis_url, None, None)
        return
    data_dir = Path(os.path.abspath(data_dir))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_locked(data_dir))
        valkey = postgres = None
        if redis_url is None:
            valkey = EmbeddedValkey(data_dir / "valkey")
            await stack.enter_async_context(_running(valkey))
            redis_url = valkey.url
        if database_url is None:
            postgres = EmbeddedPostgres(data_dir / "postgres")
            await stack.enter_async_context(_running(postgres))
            database_url = postgres.url
        note = RunningInstance(os.getpid(), database_url, redis_url)
        stack.enter_context(_noted(data_dir, note))
        _log.info("engines_ready", postgres=postgres is not None, valkey=valkey is not None)
        yield Engines(database_url, redis_url, postgres, valkey)


def running_instance(data_dir: Path) -> RunningInstance | None:
    """The instance that runs on ``data_dir``, or None.

    The note counts only while its writer holds the lock, so a note left by a kill -9 is ignored.
    None as well while an instance is still starting. Raises `DataDirectoryUnusable` when the
    directory may not be read.
    """
    with file_errors(data_dir):
        try:
            descriptor = os.open(data_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(data_dir)
        else:
            return None
        finally:
            os.close(descriptor)
        try:
            note = RunningInstance(**json.loads((data_dir / _NOTE).read_text()))
        except FileNotFoundError:
            return None
    return note if note.pid == holder else None


@asynccontextmanager
async def _locked(data_dir: Path) -> AsyncIterator[None]:
    """Hold the lock of ``data_dir`` (created as needed), or raise `DataDirectoryBusy`.

    The lock belongs to the open file, so a child made by a bare fork would keep it: worker
    processes are spawned.
    """
    with file_errors(data_dir):
        # Others may enter: an engine that runs as nobody has to. What is inside is closed to them.
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with file_errors(data_dir):
            await _lock(descriptor, data_dir)
            # Left by one that was killed; its engines are gone.
            (data_dir / _NOTE).unlink(missing_ok=True)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _lock(descriptor: int, data_dir: Path) -> None:
    deadline_s = asyncio.get_running_loop().time() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise DataDirectoryBusy(data_dir, _holder(data_dir)) from None
        await asyncio.sleep(_LOCK_POLL_S)


def _holder(data_dir: Path) -> int | None:
    """The process id in the lock file; None when it is not written yet."""
    text = (data_dir / _LOCK).read_text().strip()
    return int(text) if text.isdecimal() else None


@asynccontextmanager
async def _running(engine: EmbeddedEngine) -> AsyncIterator[None]:
    """``engine`` started and kept alive; stopped at the end."""
    try:
        await engine.start()
        healer = asyncio.create_task(keep_alive(engine, Backoff()), name=f"keep {engine.name}")
        try:
            yield
        finally:
            healer.cancel()
            await asyncio.wait([healer])
            if not healer.cancelled():
                # It never ends by itself: this raises the bug that ended it.
                healer.result()
    finally:
        await engine.stop()


@contextmanager
def _noted(data_dir: Path, note: RunningInstance) -> Iterator[None]:
    """Write run.json in one step; remove it at the end."""
    path, fresh = data_dir / _NOTE, data_dir / f".{_NOTE}.new"
    with file_errors(data_dir):
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            json.dump(asdict(note), file)
        fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
