"""A child process that cannot outlive its parent.

Every child starts through `kit.engines.launch` in a session of its own: Ctrl-C in a terminal
reaches the supervisor alone, which then decides the order in which things stop. On Linux the
kernel signals the child when the *thread* that started it ends, even by SIGKILL: start children
from the event loop of a thread that lives as long as the program, not from a worker thread. On
systems without prctl a child may outlive a parent that was killed with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from kit.engines import logs
from kit.engines.accounts import Account, own_account

_log = structlog.get_logger(__name__)
_LAUNCH = Path(__file__).with_name("launch.py")
_LOG_CHECK_S = 15.0


def _launch_command(
    argv: Sequence[str], account: Account, death_signal: signal.Signals
) -> list[str]:
    return [
        *(sys.executable, "-I", "-S", str(_LAUNCH)),
        *(str(os.getpid()), str(int(death_signal))),
        *(account.way.value, str(account.uid), str(account.gid), "--", *argv),
    ]


async def run(
    argv: Sequence[str],
    *,
    account: Account,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run ``argv`` to its end and return its exit code and output.

    The output comes through a pipe, because a log on the disk that just filled up would not hold
    the reason. Cancelled, it kills the command.
    """
    process = await asyncio.create_subprocess_exec(
        *_launch_command(argv, account, signal.SIGKILL),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        # The group may outlive a command that was cut short.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
    return code, output.decode("utf-8", "replace")


class ChildProcess:
    """A running child; made by `ChildProcess.start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        name: str,
        log_path: Path | None,
        log_start_byte: int,
        stop_signal: signal.Signals,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process
        self._log_start_byte = log_start_byte
        self._stop_signal = stop_signal
        self._swept = False

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        name: str | None = None,
        log_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> ChildProcess:
        """Start ``argv``; output goes to ``log_path``, or where ours goes when that is None.

        ``death_signal`` is what the child gets when this process dies, ``stop_signal`` what
        `stop` sends first. A command that cannot be executed ends with code 127, and refused
        rights with 126 (see `kit.engines.launch`). Raises OSError for a log or cwd that cannot be
        opened.
        """
        command = _launch_command(argv, account or own_account(), death_signal)
        log_start_byte, descriptor = 0, None
        if log_path is not None:
            descriptor = logs.open_log(log_path)
            log_start_byte = logs.size_bytes(log_path)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return cls(process, name or Path(argv[0]).name, log_path, log_start_byte, stop_signal)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when one ended it."""
        return self._process.returncode

    def output(self) -> str:
        """What this run wrote to its log, the last 64 KiB at most; empty without a log."""
        return "" if self.log_path is None else logs.read_since(self.log_path, self._log_start_byte)

    def tail(self, lines: int = 20) -> str:
        """The last ``lines`` lines of `output`."""
        return "\n".join(self.output().splitlines()[-lines:])

    async def wait(self) -> int:
        """Wait for the end (keeping the log within its bound) and return the exit code."""
        while True:
            try:
                code = await asyncio.wait_for(self._process.wait(), _LOG_CHECK_S)
                break
            except TimeoutError:
                if self.log_path is not None:
                    await asyncio.to_thread(logs.bound_log, self.log_path)
        self._sweep()
        return code

    async def stop(self, timeout_s: float) -> int:
        """Ask the child to stop; after ``timeout_s`` seconds kill it and its group.

        Returns the exit code; does nothing to a child that has ended. Cancelled, it kills at once.
        """
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._stop_signal)
            try:
                return await asyncio.wait_for(self.wait(), timeout_s)
            except TimeoutError:
                _log.warning("child_killed", name=self.name, pid=self.pid, timeout_s=timeout_s)
                self.kill()
            except asyncio.CancelledError:
                self.kill()
                raise
        return await self.wait()

    def kill(self) -> None:
        """SIGKILL to the child and to what it started in its own group."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _sweep(self) -> None:
        """End what a dead child left running in its group, such as a pool's processes."""
        if not self._swept:
            self._swept = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
