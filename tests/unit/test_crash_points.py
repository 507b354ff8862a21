"""Crash points: nothing without a folder, one death an arming with one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit import crash_points

PROGRAM = """
import sys
from pathlib import Path
from kit import crash_points
crash_points.configure(Path(sys.argv[1]))
crash_points.reached("mid_way")
print("still here")
"""


@pytest.fixture(autouse=True)
def _off() -> None:
    crash_points.configure(None)


def test_without_a_folder_a_point_does_nothing(tmp_path: Path) -> None:
    """Production: no file is looked for, whoever armed the point."""
    crash_points.arm(tmp_path, "mid_way")
    crash_points.reached("mid_way")
    assert crash_points.victim(tmp_path, "mid_way") is None


def test_the_first_to_reach_an_armed_point_dies_and_the_next_lives(tmp_path: Path) -> None:
    """SIGKILL for one process; the arming is spent by it."""
    crash_points.arm(tmp_path, "mid_way")
    assert crash_points.victim(tmp_path, "mid_way") is None
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert (first.communicate()[0], first.returncode) == (b"", -signal.SIGKILL)
    assert crash_points.victim(tmp_path, "mid_way") == first.pid
    second = subprocess.run(command, capture_output=True, check=False)
    assert (second.returncode, second.stdout) == (0, b"still here\n")
    assert crash_points.disarm(tmp_path, "mid_way")


def test_an_arming_that_nobody_reached_is_taken_back(tmp_path: Path) -> None:
    """Then it does not count as a fault, and nobody dies of it later."""
    crash_points.arm(tmp_path, "mid_way")
    assert not crash_points.disarm(tmp_path, "mid_way")
    crash_points.configure(tmp_path)
    crash_points.reached("mid_way")


def test_a_point_can_put_a_process_to_sleep(tmp_path: Path) -> None:
    """It stops at that line, and goes on when it is told to."""
    crash_points.arm(tmp_path, "mid_way", stop=True)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    sleeper = subprocess.Popen(command, stdout=subprocess.PIPE)
    _pid, status = os.waitpid(sleeper.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert crash_points.victim(tmp_path, "mid_way") == sleeper.pid
    sleeper.send_signal(signal.SIGCONT)
    assert (sleeper.communicate()[0], sleeper.returncode) == (b"still here\n", 0)
