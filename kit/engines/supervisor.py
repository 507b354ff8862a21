"""Keep a set of named commands running: the server, the workers, the payment provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import structlog

from kit.engines.backoff import Backoff
from kit.engines.errors import ChildNotReady
from kit.engines.process import ChildProcess

_log = structlog.get_logger(__name__)
# Deaths in a row from which on a child is reported as looping, not merely as having died.
_LOOP_AFTER = 3
_READY_POLL_S = 0.05


class ChildState(StrEnum):
    """``starting`` (not ready yet) → ``running`` → ``backoff`` → ``starting`` …, ``stopped``."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """What to run, and when it counts as ready and as stopped.

    ``ready`` is asked every 50 ms after a start until it says True; it has ``ready_timeout_s``
    seconds in all, else the child is killed and started again. ``stop_timeout_s`` is the time to
    drain after SIGTERM. Output goes to ``log_path`` (bounded), or where ours goes.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    log_path: Path | None = None
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """A child at this moment; ``pid`` is None between two lives, ``restarts`` counts deaths."""

    name: str
    pid: int | None
    restarts: int
    state: ChildState


@dataclass(slots=True)
class _Child:
    command: ChildCommand
    state: ChildState = ChildState.STARTING
    restarts: int = 0
    failures: int = 0
    process: ChildProcess | None = None
    last_tail: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def status(self) -> ChildStatus:
        alive = self.process is not None and self.process.returncode is None
        pid = self.process.pid if alive and self.process is not None else None
        return ChildStatus(self.command.name, pid, self.restarts, self.state)


class Supervisor:
    """Starts ``commands`` in order, starts again what dies, stops all in reverse order.

    Use it as an async context manager, or call `start` and `stop` from one task. A child that
    ends by itself, with whatever code, is started again: after at most 0.2 s the first time, then
    by ``backoff``.
    """

    def __init__(self, commands: Sequence[ChildCommand], backoff: Backoff | None = None) -> None:
        names = [command.name for command in commands]
        assert len(names) == len(set(names)), "child names are unique"
        self._children = [_Child(command) for command in commands]
        self._backoff = backoff or Backoff()
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start each child once the one before it is ready.

        Raises `ChildNotReady` (everything is stopped again) when one is not ready within its
        ``ready_timeout_s``, restarts included.
        """
        assert self._tasks is None, "started already"
        self._tasks = await asyncio.TaskGroup().__aenter__()
        try:
            for child in self._children:
                name = f"keep {child.command.name}"
                child.task = self._tasks.create_task(self._keep(child), name=name)
                await self._first_ready(child)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """SIGTERM in reverse order of start, each given its time to drain, SIGKILL after that."""
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return
        kept = [(child, child.task) for child in self._children if child.task is not None]
        try:
            for child, task in reversed(kept):
                child.stopping.set()
                await asyncio.wait([task])
        finally:
            # Only cut short (a second Ctrl-C) are there any left to kill.
            for _, task in kept:
                task.cancel()
            await tasks.__aexit__(None, None, None)

    def status(self) -> list[ChildStatus]:
        """Every child, in order of start."""
        return [child.status() for child in self._children]

    async def _first_ready(self, child: _Child) -> None:
        command = child.command
        try:
            await asyncio.wait_for(child.ready.wait(), command.ready_timeout_s)
        except TimeoutError:
            tail = child.process.tail() if child.process is not None else ""
            end = (tail or child.last_tail).strip().splitlines()[-1:]
            said = f" (it last wrote: {end[0].strip()})" if end else ""
            where = f": see {command.log_path}" if command.log_path is not None else ""
            raise ChildNotReady(
                f"{command.name} was not ready within {command.ready_timeout_s:g} s{said}{where}."
            ) from None

    async def _keep(self, child: _Child) -> None:
        """One child's whole life; alone in touching its process."""
        clock = asyncio.get_running_loop().time
        try:
            while not child.stopping.is_set():
                started_s = clock()
                child.state = ChildState.STARTING
                await self._live(child)
                if child.stopping.is_set():
                    break
                child.restarts += 1
                child.failures = self._backoff.failures_after(child.failures, clock() - started_s)
                child.state = ChildState.BACKOFF
                delay_s = self._backoff.delay_s(child.failures)
                self._report(child, delay_s)
                await _within(child.stopping.wait(), delay_s)
        finally:
            if child.process is not None:
                child.process.kill()
            child.state = ChildState.STOPPED

    async def _live(self, child: _Child) -> None:
        """Start the child and return when it has ended, by itself or by our wish."""
        command = child.command
        child.process = process = await ChildProcess.start(
            command.argv,
            name=command.name,
            env=command.env,
            cwd=command.cwd,
            log_path=command.log_path,
        )
        if await self._becomes_ready(child, process):
            child.state = ChildState.RUNNING
            child.ready.set()
            _log.info("child_running", child=command.name, pid=process.pid)
            await _first_of(process.wait(), child.stopping.wait())
        child.state = ChildState.STOPPING
        await process.stop(command.stop_timeout_s if child.stopping.is_set() else 0.0)

    async def _becomes_ready(self, child: _Child, process: ChildProcess) -> bool:
        """Whether the child got ready; False when it ended, is to stop, or took too long."""
        command = child.command
        if command.ready is None:
            return True
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + command.ready_timeout_s
        while process.returncode is None and not child.stopping.is_set():
            remaining_s = deadline_s - clock()
            if remaining_s <= 0:
                _log.error("child_not_ready", child=command.name, pid=process.pid)
                return False
            if await _within(command.ready(), remaining_s):
                return True
            await _within(child.stopping.wait(), _READY_POLL_S)
        return False

    def _report(self, child: _Child, delay_s: float) -> None:
        assert child.process is not None
        child.last_tail = child.process.tail()
        looping = child.failures >= _LOOP_AFTER
        report = _log.error if looping else _log.warning
        report(
            "child_crash_loop" if looping else "child_died",
            child=child.command.name,
            exit_code=child.process.returncode,
            restarts=child.restarts,
            restart_in_s=round(delay_s, 2),
            tail=child.last_tail,
        )


async def _within(awaitable: Awaitable[bool], timeout_s: float) -> bool:
    """What ``awaitable`` gives, or False when that takes longer than ``timeout_s``."""
    try:
        return await asyncio.wait_for(awaitable, timeout_s)
    except TimeoutError:
        return False


async def _first_of(*awaitables: Awaitable[object]) -> None:
    """Return when the first is done, having cancelled the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
