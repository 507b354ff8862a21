"""docs/problems.md lists every code that a refusal can have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBLEMS = ROOT / "docs/problems.md"
_CODE = re.compile(r"^    code(?:: ClassVar\[str\])? = \"(\w+)\"", re.MULTILINE)
# The root of the tree is never raised.
_ABSTRACT = {"error"}


def codes_in_the_tree() -> dict[str, Path]:
    """Every ``code = "…"`` of a class, by reading the source."""
    tracked = (path for path in ROOT.glob("*/**/*.py") if ".venv" not in path.parts)
    ours = (path for path in tracked if path.relative_to(ROOT).parts[0] not in ("tests", "docs"))
    return {code: path for path in ours for code in _CODE.findall(path.read_text("utf-8"))}


def test_every_code_is_listed() -> None:
    """A code that a client may have to switch on stands in the document."""
    found = codes_in_the_tree()
    assert len(found) > 50
    listed = set(re.findall(r"^\| `(\w+)` \|", PROBLEMS.read_text("utf-8"), re.MULTILINE))
    provider = {c for c, path in found.items() if path.is_relative_to(ROOT / "simulator")}
    missing = set(found) - listed - _ABSTRACT - provider
    assert not missing, f"run docs/generate_problems.py: {sorted(missing)}"


def test_the_file_is_up_to_date() -> None:
    """The committed file is what the generator writes today.

    In a process of its own: tests of this one define error classes of their own.
    """
    code = "import generate_problems as g; print(g.render(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == PROBLEMS.read_text("utf-8"), "run docs/generate_problems.py"
