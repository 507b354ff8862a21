"""docs/reliability.md lists every bug that is seeded, and what must catch it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loadtests.chaos.bugs import BUGS, CAUGHT_BY

ROOT = Path(__file__).parents[2]


def test_the_table_is_up_to_date() -> None:
    """The committed table is what the generator writes today."""
    code = (
        "import generate_seeded_bugs as g; d = g.TARGET.read_text('utf-8');"
        " assert g.inserted(d) == d; print(len(g.bugs()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run docs/generate_seeded_bugs.py: {done.stderr}"
    assert int(done.stdout) >= 20


def test_every_bug_of_the_harness_says_what_catches_it() -> None:
    """A bug that no check is expected to find would prove nothing."""
    assert {bug.__name__ for bug in BUGS} == set(CAUGHT_BY)
    assert all(CAUGHT_BY.values())
