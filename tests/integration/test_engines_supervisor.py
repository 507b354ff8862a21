"""The supervisor, over real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kit.engines.backoff import Backoff
from kit.engines.errors import ChildNotReady
from kit.engines.supervisor import ChildCommand, ChildState, Supervisor
from tests.waiting import until

# Tells when it is up and when it ends, in one file for all children.
_POLITE = """
import pathlib, signal, sys
name, journal = sys.argv[1:]
def tell(word):
    with open(journal, "a") as file:
        file.write(f"{word} {name}\\n")
def end(*_):
    tell("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
tell("up")
while True:
    signal.pause()
"""
_DEAF = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2]).write_text("up")
while True:
    signal.pause()
"""


def _command(name: str, program: str, journal: Path, **options: object) -> ChildCommand:
    argv = (sys.executable, "-I", "-S", "-c", program, name, str(journal))
    return ChildCommand(name, argv, **options)  # type: ignore[arg-type]  # the fields, by name


def _says(journal: Path, line: str) -> Callable[[], bool]:
    return lambda: journal.exists() and line in journal.read_text().splitlines()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_child_is_back_at_once(tmp_path: Path) -> None:
    """kill -9 of a worker: another process within a second, and one restart counted."""
    journal = tmp_path / "journal"
    async with Supervisor([_command("worker", _POLITE, journal)]) as supervisor:
        await until(_says(journal, "up worker"))
        (before,) = supervisor.status()
        assert before.state is ChildState.RUNNING
        assert before.pid is not None
        journal.unlink()
        os.kill(before.pid, signal.SIGKILL)
        took_s = await until(_says(journal, "up worker"))
        (after,) = supervisor.status()
        assert after.state is ChildState.RUNNING
        assert after.pid not in (None, before.pid)
        assert (before.restarts, after.restarts) == (0, 1)
        assert took_s < 1.0


async def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    """Each starts when the one before is ready; the last one started ends first."""
    journal = tmp_path / "journal"
    names = ["provider", "server", "worker"]

    def ready(name: str) -> Callable[[], object]:
        async def up() -> bool:
            return _says(journal, f"up {name}")()

        return up

    commands = [_command(name, _POLITE, journal, ready=ready(name)) for name in names]
    async with Supervisor(commands) as supervisor:
        assert [child.state for child in supervisor.status()] == [ChildState.RUNNING] * 3
    assert journal.read_text().splitlines() == [
        *("up provider", "up server", "up worker"),
        *("end worker", "end server", "end provider"),
    ]
    assert [child.state for child in supervisor.status()] == [ChildState.STOPPED] * 3


async def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    """After its time to drain, and not before, a child that ignores SIGTERM gets SIGKILL."""
    journal = tmp_path / "journal"
    supervisor = Supervisor([_command("deaf", _DEAF, journal, stop_timeout_s=0.3)])
    await supervisor.start()
    await until(_says(journal, "up"))
    pid = supervisor.status()[0].pid
    assert pid is not None
    started_s = time.monotonic()
    await supervisor.stop()
    assert 0.3 <= time.monotonic() - started_s < 2.0
    assert not _alive(pid)


async def test_a_crash_loop_is_reported_and_goes_on(tmp_path: Path) -> None:
    """A child that dies at once is tried again and again, with its last words in the log."""
    program = "import sys; sys.exit('no such table: orders')"
    command = _command("broken", program, tmp_path / "none", log_path=tmp_path / "broken.log")
    with capture_logs() as events:
        async with Supervisor([command], Backoff(first_s=0.01, cap_s=0.02)) as supervisor:
            await until(lambda: supervisor.status()[0].restarts >= 4)
    names = [event["event"] for event in events if event["event"].startswith("child_")]
    assert names.count("child_died") == 2
    loops = [event for event in events if event["event"] == "child_crash_loop"]
    assert len(loops) >= 2
    assert loops[0]["exit_code"] == 1
    assert loops[0]["tail"] == "no such table: orders"


async def test_a_neighbour_of_a_crash_loop_is_left_alone(tmp_path: Path) -> None:
    """One child's crash loop restarts no other."""
    journal = tmp_path / "journal"
    broken = _command("broken", "import sys; sys.exit(1)", journal)
    commands = [_command("server", _POLITE, journal), broken]
    async with Supervisor(commands, Backoff(first_s=0.01, cap_s=0.02)) as supervisor:
        await until(lambda: supervisor.status()[1].restarts >= 3)
        assert supervisor.status()[0].restarts == 0


async def test_a_child_that_is_never_ready_stops_everything(tmp_path: Path) -> None:
    """The start fails with a sentence that names the child, and leaves no process."""
    journal = tmp_path / "journal"

    async def never() -> bool:
        return False

    supervisor = Supervisor(
        [
            _command("provider", _POLITE, journal),
            _command("server", _POLITE, journal, ready=never, ready_timeout_s=0.3),
            _command("worker", _POLITE, journal),
        ]
    )
    starting = asyncio.ensure_future(supervisor.start())
    await until(_says(journal, "up server"))
    pids = [child.pid for child in supervisor.status() if child.pid is not None]
    with pytest.raises(ChildNotReady, match=r"^server was not ready within 0\.3 s"):
        await starting
    assert len(pids) == 2
    assert not any(map(_alive, pids))
    assert "up worker" not in journal.read_text()


async def test_the_processes_of_a_dead_child_end_with_it(tmp_path: Path) -> None:
    """What a killed child had started in its group does not stay behind."""
    note = tmp_path / "pid"
    program = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path(sys.argv[2]).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    async with Supervisor([_command("pool", program, note)]) as supervisor:
        await until(lambda: note.exists() and note.read_text().isdecimal())
        grandchild = int(note.read_text())
        pid = supervisor.status()[0].pid
        assert pid is not None
        assert _alive(grandchild)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not _alive(grandchild) or _is_zombie(grandchild))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_children_of_a_killed_supervisor_die(tmp_path: Path) -> None:
    """kill -9 of the program that supervises ends its children, even one deaf to SIGTERM."""
    if sys.platform != "linux":
        pytest.skip("only Linux can tie a child to its parent's life")
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from kit.engines import ChildCommand, Supervisor\n"
        "async def main():\n"
        "    command = ChildCommand('deaf', tuple(sys.argv[2:]), log_path=Path(sys.argv[1]))\n"
        "    async with Supervisor([command]) as supervisor:\n"
        "        print(supervisor.status()[0].pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    journal = tmp_path / "journal"
    deaf = (sys.executable, "-I", "-S", "-c", _DEAF, "-", str(journal))
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path / "log"), *deaf),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert parent.stdout is not None
        async for line in parent.stdout:
            if line.strip().isdigit():
                break
        pid = int(line)
        await until(_says(journal, "up"))
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not _alive(pid) or _is_zombie(pid))
