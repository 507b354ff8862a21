"""What the embedded engines share: an account, a port, a start that explains itself, a healer."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path

import structlog

from kit.engines import accounts
from kit.engines.accounts import Account, Way
from kit.engines.backoff import Backoff
from kit.engines.errors import (
    DataDirectoryUnusable,
    DiskFull,
    EngineError,
    EngineStartFailed,
    PortUnavailable,
    file_errors,
)
from kit.engines.orphans import end_orphan
from kit.engines.process import ChildProcess, run
from kit.ports import free_port

_log = structlog.get_logger(__name__)
PORT_ATTEMPTS = 5
_POLL_S = 0.02
# Postgres refuses paths of MAXPGPATH (1024 bytes), with room here for the names below.
_PATH_LIMIT_BYTES = 900
# Less than what a start writes (a lock file, some statistics): full.
_FULL_BELOW_BYTES = 256 * 1024
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
_REFUSED_TEXTS = ("Permission denied", "Read-only file system", "Operation not permitted")


class EmbeddedEngine(ABC):
    """A server run as a child of this process, on loopback, with its data in ``data_dir``.

    The port is chosen at the first start and kept for the object's life, so that an engine that
    died comes back at the address its clients know.
    """

    name: str
    stop_signal: signal.Signals
    death_signal: signal.Signals
    start_timeout_s: float

    def __init__(self, data_dir: Path, log_path: Path | None = None) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))
        self.log_path = log_path or self.data_dir.parent / "log" / f"{self.name}.log"
        self._account: Account | None = None
        self._port: int | None = None
        self._process: ChildProcess | None = None

    @property
    def port(self) -> int:
        assert self._port is not None, "not started yet"
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started yet"
        return self._process.pid

    @property
    def account(self) -> Account:
        """Whose rights the engine has; known once it has started."""
        assert self._account is not None, "not started yet"
        return self._account

    async def start(self) -> None:
        """Start the engine and return once it answers. Raises `EngineError` kinds."""
        assert self._process is None or self._process.returncode is not None, "already running"
        if len(os.fsencode(self.data_dir)) > _PATH_LIMIT_BYTES:
            raise DataDirectoryUnusable(
                f"The path of the data directory is longer than {_PATH_LIMIT_BYTES} bytes: choose "
                "a shorter one."
            )
        with file_errors(self.data_dir):
            self.data_dir.parent.mkdir(parents=True, exist_ok=True)
            if self._account is None:
                self._account = await self._choose_account()
            await self._prepare()
            await end_orphan(self._pid_path(), self._marker(), self.death_signal)
            await self._start_on_a_port()

    async def stop(self, timeout_s: float = 30.0) -> None:
        """Stop cleanly; after ``timeout_s`` seconds by SIGKILL (Postgres recovers from that)."""
        if self._process is not None:
            await self._process.stop(timeout_s)

    async def wait(self) -> int:
        """Wait until the engine has ended and return its exit code."""
        assert self._process is not None, "not started yet"
        return await self._process.wait()

    def tail(self) -> str:
        """The end of what the engine wrote to its log since its start."""
        return "" if self._process is None else self._process.tail()

    @abstractmethod
    def reachable_paths(self) -> list[Path]:
        """Files of the installation that the engine's account must be able to read."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Have ``data_dir`` ready for a start, owned by the account."""

    @abstractmethod
    def _command(self, port: int) -> list[str]: ...

    @abstractmethod
    async def _answers(self, port: int) -> bool:
        """Whether this very engine, not another server, serves on ``port`` by now."""

    @abstractmethod
    def _pid_path(self) -> Path: ...

    @abstractmethod
    def _marker(self) -> str:
        """What stands in the command line of every process that uses this data directory."""

    def environment(self) -> dict[str, str]:
        """Ours, with messages in English (they are matched) and without libpq's defaults."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        return {**inherited, "LC_ALL": "C", "TZ": "UTC"}

    def failure(self, output: str) -> EngineError:
        """The error that ``output`` of a start that failed tells of."""
        # On a full disk the log often lacks the line that would say so.
        if any(text in output for text in _FULL_TEXTS) or _is_full(self.data_dir.parent):
            return DiskFull(self.data_dir)
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        grave = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
        last = (grave or lines or ["it wrote nothing"])[-1]
        if any(text in last for text in _REFUSED_TEXTS):
            return DataDirectoryUnusable(
                f"{self.name} cannot use the data directory {self.data_dir} ({last}): give this "
                "user the right to write there, or choose another data directory."
            )
        return EngineStartFailed(f"{self.name} did not start ({last}): see {self.log_path}.")

    async def _choose_account(self) -> Account:
        choices = accounts.candidates()
        for account in choices:
            if account.way is Way.SELF or await self._account_works(account):
                _log.debug("engine_account", engine=self.name, way=account.way, uid=account.uid)
                return account
        raise EngineStartFailed(
            f"{self.name} refuses to run as root, and neither the user nobody nor a user namespace "
            f"can reach {self.data_dir.parent}: run as an ordinary user, or choose a data "
            "directory that everybody may enter, such as one below /var/lib."
        )

    async def _account_works(self, account: Account) -> bool:
        """Try it: rights depend on folders above, access lists, and mount options."""
        trial = accounts.trial_directory(self.data_dir.parent, account)
        if trial is None:
            return False
        try:
            paths = [str(path) for path in (*self.reachable_paths(), trial)]
            code, _ = await run(["--reachable", *paths], account=account, cwd=Path("/"))
            return code == 0
        finally:
            trial.rmdir()

    async def _start_on_a_port(self) -> None:
        attempts = PORT_ATTEMPTS if self._port is None else 1
        for _ in range(attempts):
            port = self._port or free_port()
            process = await ChildProcess.start(
                self._command(port),
                name=self.name,
                log_path=self.log_path,
                env=self.environment(),
                cwd=self.data_dir,
                account=self.account,
                death_signal=self.death_signal,
                stop_signal=self.stop_signal,
            )
            try:
                if await self._serves(process, port):
                    self._process, self._port = process, port
                    return
            except BaseException:
                process.kill()
                await process.wait()
                raise
            output = process.output()
            if "Address already in use" not in output:
                raise self.failure(output)
            _log.info("engine_port_taken", engine=self.name, port=port)
        raise PortUnavailable(
            f"{self.name} found its port taken by another program {attempts} times: try again."
        )

    async def _serves(self, process: ChildProcess, port: int) -> bool:
        """True once the engine answers, False when it has ended instead."""
        answering = asyncio.ensure_future(self._until_it_answers(port))
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait(
                (answering, ended),
                timeout=self.start_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not ended.done() and not answering.done():
                raise EngineStartFailed(
                    f"{self.name} did not answer within {self.start_timeout_s:.0f} s: "
                    f"see {self.log_path}."
                )
            return not ended.done() and answering.result()
        finally:
            answering.cancel()
            ended.cancel()
            await asyncio.gather(answering, ended, return_exceptions=True)

    async def _until_it_answers(self, port: int) -> bool:
        while True:
            if await self._answers(port):
                return True
            await asyncio.sleep(_POLL_S)


def _is_full(folder: Path) -> bool:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize < _FULL_BELOW_BYTES


async def keep_alive(engine: EmbeddedEngine, backoff: Backoff) -> None:
    """Start ``engine`` again, at its address, whenever it dies; runs until cancelled.

    A failed restart (a full disk, a taken port) is logged and tried again, at the backoff's cap in
    the end.
    """
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        started_s = clock()
        code = await engine.wait()
        failures = backoff.failures_after(failures, clock() - started_s)
        _log.error("engine_died", engine=engine.name, exit_code=code, tail=engine.tail())
        while True:
            await asyncio.sleep(backoff.delay_s(failures))
            try:
                await engine.start()
            except EngineError as error:
                failures += 1
                _log.error("engine_restart_failed", engine=engine.name, reason=str(error))
            else:
                _log.info("engine_restarted", engine=engine.name, pid=engine.pid)
                break
