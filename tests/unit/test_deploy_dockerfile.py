"""deploy/Dockerfile: pinned, small steps in the right order, no root, nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name.upper(), " ".join(rest.split())) for name, _, rest in pairs]


def arguments_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def hadolint() -> str | None:
    """The linter beside this Python, or on the path."""
    beside = Path(sys.executable).parent / "hadolint"
    return str(beside) if beside.exists() else shutil.which("hadolint")


def test_lint_finds_nothing() -> None:
    """hadolint has nothing to say."""
    program = hadolint()
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_two_stages_of_one_pinned_image() -> None:
    """The builder and the runtime have the same Python, to the patch release."""
    images = [arguments.split()[0] for arguments in arguments_of("FROM")]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", images[0])


def test_runs_as_nobody_special() -> None:
    """The last word on who runs it is a numeric user that is not root."""
    users = arguments_of("USER")
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_packages_before_code() -> None:
    """Packages come from the locks, with their hashes, before the code is copied."""
    steps = instructions()
    install = next(i for i, (_, rest) in enumerate(steps) if "--require-hashes" in rest)
    locks = steps.index(("COPY", "requirements-setup.lock requirements.lock ./"))
    code = steps.index(("COPY", ". ."))
    assert locks < install < code
    assert steps[install][1].count("--require-hashes") == 2


def test_takes_nothing_from_elsewhere() -> None:
    """No ADD, no downloads: what is not in the locks or the tree is not in the image."""
    assert not arguments_of("ADD")
    for command in arguments_of("RUN"):
        assert not re.search(r"\bcurl\b|\bwget\b|https?://", command)


def test_context_leaves_out_what_is_private() -> None:
    """Version control, data, environments and .env files are not sent to the builder."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ".*" in ignored
    assert "*.env" in ignored
    for needed in ("migrations", "deploy", "server"):
        assert needed not in ignored
