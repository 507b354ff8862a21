"""The parts of the engines that need no engine."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit.engines import binaries, launch, logs
from kit.engines.backoff import Backoff
from kit.engines.errors import BinaryMissing, DataDirectoryUnusable, DiskFull, file_errors
from kit.engines.external import without_password


def test_backoff_answers_the_first_death_at_once_and_stays_below_its_cap() -> None:
    """The first delay is at most 0.2 s, delays grow, and none exceeds the cap."""
    backoff = Backoff()
    assert all(0.1 <= backoff.delay_s(1) <= 0.2 for _ in range(100))
    assert all(0.4 <= backoff.delay_s(3) <= 0.8 for _ in range(100))
    assert all(5.0 <= backoff.delay_s(failures) <= 10.0 for failures in (7, 50, 100_000))


def test_backoff_forgets_after_a_healthy_run() -> None:
    """A death after a long run counts as the first one, a quick one as one more."""
    backoff = Backoff(stable_after_s=10.0)
    assert backoff.failures_after(5, uptime_s=0.1) == 6
    assert backoff.failures_after(5, uptime_s=10.0) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:s3cret@db:5432/shop", "postgresql://ada:***@db:5432/shop"),
        ("postgresql://ada:a%40b@db/shop", "postgresql://ada:***@db/shop"),
        ("postgresql://ada@db/shop", "postgresql://ada@db/shop"),
        ("redis://:s3cret@cache/0", "redis://:***@cache/0"),
        ("redis://cache/0?password=s3cret&db=1", "redis://cache/0?password=***&db=1"),
        ("postgresql://ada:s3@cret@db/shop", "postgresql://ada:***@db/shop"),
        ("postgresql://[bad/shop", "an address that cannot be read"),
    ],
)
def test_addresses_are_shown_without_their_password(url: str, shown: str) -> None:
    """Whatever is told about an address never holds its password."""
    assert without_password(url) == shown


def test_a_log_beyond_its_bound_moves_aside_under_its_writer(tmp_path: Path) -> None:
    """The writer's open descriptor goes on in the emptied file; the past is in ``.1``."""
    path = tmp_path / "log" / "engine.log"
    descriptor = logs.open_log(path)
    os.write(descriptor, b"old\n" * 10)
    logs.bound_log(path, limit_bytes=39)
    os.write(descriptor, b"new\n")
    os.close(descriptor)
    assert path.read_text() == "new\n"
    assert (tmp_path / "log" / "engine.log.1").read_text() == "old\n" * 10
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_within_its_bound_stays(tmp_path: Path) -> None:
    """Reaching the bound exactly moves nothing."""
    path = tmp_path / "engine.log"
    path.write_text("x" * 10)
    logs.bound_log(path, limit_bytes=10)
    assert path.read_text() == "x" * 10


def test_read_since_gives_only_this_run(tmp_path: Path) -> None:
    """What an earlier run wrote is left out, unless the file was truncated since."""
    path = tmp_path / "engine.log"
    path.write_text("before")
    start_byte = logs.size_bytes(path)
    path.write_text("before, after")
    assert logs.read_since(path, start_byte) == ", after"
    path.write_text("new")
    assert logs.read_since(path, start_byte) == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_told_as_a_full_disk(number: int) -> None:
    """ENOSPC and EDQUOT become DiskFull."""
    with pytest.raises(DiskFull, match="disk is full"), file_errors(Path("/data")):
        raise OSError(number, os.strerror(number))


def test_a_refused_write_names_the_directory() -> None:
    """Any other OSError becomes DataDirectoryUnusable with the path."""
    with pytest.raises(DataDirectoryUnusable, match="/data"), file_errors(Path("/data")):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_platform_without_a_binary_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package has no Valkey, the sentence names the platform and REDIS_URL."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(BinaryMissing, match=r"riscv64.*REDIS_URL"):
        binaries.valkey_server()


def _launch(parent_pid: int, *argv: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-I", "-S", launch.__file__]
    rights = [str(parent_pid), str(int(signal.SIGKILL)), "self", "0", "0", "--"]
    return subprocess.run([*program, *rights, *argv], capture_output=True, text=True, check=False)


def test_a_child_whose_parent_died_before_it_was_tied_ends_itself() -> None:
    """A launch that finds another parent than the one that started it executes nothing."""
    ended = _launch(os.getpid() + 1, "echo", "started")
    assert (ended.returncode, ended.stdout) == (launch.PARENT_GONE, "")


def test_a_launch_becomes_its_command() -> None:
    """With the right parent the command runs, with the default action for SIGPIPE."""
    ended = _launch(os.getpid(), "sh", "-c", "kill -PIPE $$; echo ignored")
    assert (ended.returncode, ended.stdout) == (-signal.SIGPIPE, "")


def test_a_command_that_does_not_exist_is_told() -> None:
    """Exit code 127 and the reason on standard error."""
    ended = _launch(os.getpid(), "/no/such/program")
    assert ended.returncode == launch.EXEC_FAILED
    assert "/no/such/program: No such file" in ended.stderr
