"""The documents point at what exists."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from server.platform import WORKERS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    """Every link that is not to another site is a file here."""
    for target in _LINK.findall(document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_every_named_test_exists() -> None:
    """A promise in docs/reliability.md names a test that is there."""
    named = _TEST.findall((ROOT / "docs/reliability.md").read_text("utf-8"))
    assert len(named) > 30
    for file, function in named:
        assert f"def {function}(" in (ROOT / file).read_text("utf-8"), f"{file}::{function}"


def test_every_decision_is_listed() -> None:
    """Decision pages have numbers without gaps, four parts each, and a line in the index."""
    folder = ROOT / "docs/decisions"
    pages = sorted(folder.glob("0*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04d}" for n in range(1, len(pages) + 1)]
    index = (folder / "README.md").read_text("utf-8")
    for page in pages:
        assert f"]({page.name})" in index
        text = page.read_text("utf-8")
        for part in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"**{part}.**" in text, f"{page.name} has no {part}"


def test_every_package_and_worker_is_described() -> None:
    """The folder map names every folder that is imported, the architecture every process."""
    readme = (ROOT / "README.md").read_text("utf-8")
    for package in sorted(path.parent.name for path in ROOT.glob("*/__init__.py")):
        assert f"| `{package}/` |" in readme, package
    architecture = (ROOT / "docs/architecture.md").read_text("utf-8")
    for worker in WORKERS:
        assert f"`darkstore worker {worker}`" in architecture


def test_every_table_has_an_owner() -> None:
    """docs/architecture.md lists every table of the code, once."""
    from kit.db import metadata
    from server.migrate import TABLE_MODULES

    assert TABLE_MODULES
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = text.partition("## Tables, by owner")[2].partition("\n## ")[0]
    listed = re.findall(r"`(\w+)`", section.partition("Only the owner")[0])
    assert sorted(listed) == sorted(metadata.tables)


def test_every_edge_is_drawn() -> None:
    """The drawn state machines are those of the code."""
    from orders.model import edges

    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    drawings = re.findall(r"stateDiagram-v2\n(.+?)```", text, re.DOTALL)
    assert len(drawings) == 3
    drawn = set()
    for machine, drawing in zip(("order", "delivery", "payment"), drawings, strict=True):
        drawn |= {(machine, a, b) for a, b in re.findall(r"^ +(\w+) --> (\w+)$", drawing, re.M)}
    assert drawn == edges()


def test_pictures_are_well_formed() -> None:
    """An SVG has to be XML to be shown, and says what it shows to who cannot see it."""
    for path in (ROOT / "docs").glob("*.svg"):
        tree = ElementTree.parse(path)
        tags = {child.tag.rpartition("}")[2] for child in tree.getroot()}
        assert {"title", "desc"} <= tags
