"""Setting up: lock files without a registry, described targets, one sentence for a wrong Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-setup.lock")
SENTENCE = "Darkstore needs Python 3.11 or newer"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_registry(name: str) -> None:
    """Packages come from whichever index the machine is set up for."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links)\b", text, re.M)


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_with_hashes(name: str) -> None:
    """Every requirement is one exact version with at least one SHA-256."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^\s;]+", line), line
        assert "--hash=sha256:" in line, line


def test_every_dependency_is_locked() -> None:
    """Whatever pyproject.toml asks for by name is in the lock."""
    section = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[0]
    wanted = {name.lower() for name in re.findall(r'^    "([A-Za-z0-9-]+)', section, re.M)}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    assert len(wanted) > 40
    assert wanted <= locked


def targets() -> set[str]:
    """The phony targets of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    found = re.search(r"^\.PHONY: (.+)$", text, re.M)
    assert found
    return set(found[1].split())


def test_targets_describe_themselves() -> None:
    """``make`` alone lists every target with a description."""
    done = make("help")
    listed = {line.split()[0] for line in done.stdout.splitlines() if len(line.split()) > 1}
    assert listed == targets()


def test_documents_name_only_targets_that_exist() -> None:
    """A ``make x`` in README or docs is a target."""
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"`make ([a-z]+)", path.read_text("utf-8")):
            assert target in targets(), f"{path.name}: make {target}"


def make(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program is not None
    # A make that runs us would hand its flags down.
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=kept | environment,
    )


@pytest.fixture
def bare_tree(tmp_path: Path) -> Path:
    """The files that ``make setup`` looks at, in a path with a space, and no environment yet."""
    tree = tmp_path / "a path"
    tree.mkdir()
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tree / name)
    return tree


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a person reads, without make's own line about the failed recipe."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line and not re.match(r"make(\[\d+\])?: ", line)]


def test_too_old_python_is_one_sentence(bare_tree: Path) -> None:
    """A Python that is too old is named, with what to do, and nothing is created."""
    old = script(bare_tree / "python-old", "exit 1")
    done = make("setup", f"PYTHON={old.name}", cwd=bare_tree, PATH=f"{bare_tree}:/usr/bin:/bin")
    assert done.returncode != 0
    assert len(sentences(done)) == 1
    assert SENTENCE in sentences(done)[0]
    assert not (bare_tree / ".venv").exists()


def test_missing_python_is_one_sentence(bare_tree: Path) -> None:
    """Without any Python the same: one sentence, no list of failed commands."""
    bin_dir = bare_tree / "bin"
    bin_dir.mkdir()
    for tool in ("sh", "make", "test", "grep", "sed", "expand", "touch"):
        found = shutil.which(tool)
        if found is not None:
            (bin_dir / tool).symlink_to(found)
    done = make("setup", cwd=bare_tree, PATH=str(bin_dir))
    assert done.returncode != 0
    assert len(sentences(done)) == 1
    assert SENTENCE in sentences(done)[0]


def test_a_python_named_by_a_wrong_path_is_one_sentence(bare_tree: Path) -> None:
    """``make PYTHON=/nowhere`` is no different."""
    done = make("setup", "PYTHON=/nowhere/python3", cwd=bare_tree)
    assert done.returncode != 0
    assert SENTENCE in " ".join(sentences(done))
    assert not (bare_tree / ".venv").exists()


def test_prepared_environment_is_left_alone(bare_tree: Path) -> None:
    """Once set up, ``make setup`` runs nothing, so it needs no network and no Python."""
    stamp = bare_tree / ".venv" / ".ready"
    stamp.parent.mkdir()
    stamp.write_text(f"{bare_tree}\n")
    done = make("setup", "PYTHON=/nowhere/python3", cwd=bare_tree)
    assert done.returncode == 0, done.stderr


def test_a_moved_tree_sets_up_again(bare_tree: Path) -> None:
    """An environment that was made elsewhere holds paths that are gone: it is made anew."""
    stamp = bare_tree / ".venv" / ".ready"
    stamp.parent.mkdir()
    stamp.write_text("/where/it/was/before\n")
    done = make("--dry-run", "setup", cwd=bare_tree)
    assert "--require-hashes" in done.stdout


def test_a_changed_lock_sets_up_again(bare_tree: Path) -> None:
    """A lock file newer than the environment is installed before anything runs."""
    stamp = bare_tree / ".venv" / ".ready"
    stamp.parent.mkdir()
    stamp.write_text(f"{bare_tree}\n")
    os.utime(stamp, (1, 1))
    done = make("--dry-run", "setup", cwd=bare_tree)
    assert "--require-hashes" in done.stdout


def test_continuous_integration_runs_the_documented_command() -> None:
    """.ci/run ends with the README's test command, so pytest's closing line is printed last."""
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
    assert "`make test`" in (ROOT / "README.md").read_text("utf-8")
    for part in ("make lint", "make types", "make contracts"):
        assert part in lines
    assert os.access(ROOT / ".ci/run", os.X_OK)
