"""Write the table of seeded bugs into docs/reliability.md, from the tests and the fault harness.

    .venv/bin/python docs/generate_seeded_bugs.py

Reads source only: each bug is a function whose docstring is the bug and whose ``return {…}`` names
the checks of ``darkstore verify`` that must turn red.  ``tests/unit/test_docs_seeded_bugs.py``
fails when the document does not say what the code says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reliability.md"
HARNESS = ROOT / "loadtests" / "chaos" / "bugs.py"
BEGIN = "<!-- seeded bugs: written by docs/generate_seeded_bugs.py, do not edit -->\n"
END = "<!-- end of the seeded bugs -->\n"


@dataclass(frozen=True, slots=True)
class SeededBug:
    """``where`` is ``path::name`` of a test's bug, or of one of the fault harness."""

    what: str
    caught_by: tuple[str, ...]
    where: str


def bugs() -> list[SeededBug]:
    """Every bug, those of the tests first."""
    files = sorted((ROOT / "tests" / "integration").glob("test_verify_seeded*.py"))
    found = [bug for path in files for bug in _of_tests(path)]
    return found + list(_of_harness())


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _of_tests(path: Path) -> Iterator[SeededBug]:
    for function in _functions(path):
        checks = _returned(function)
        if function.name.startswith("test_") or not checks:
            continue
        where = f"{path.relative_to(ROOT)}::{function.name}"
        yield SeededBug(_first_sentence(function), checks, where)


def _of_harness() -> Iterator[SeededBug]:
    """Bugs of running processes; the checks stand in ``CAUGHT_BY``."""
    tree = ast.parse(HARNESS.read_text("utf-8"))
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "CAUGHT_BY"
    ]
    assert table is not None
    caught_by: dict[str, tuple[str, ...]] = ast.literal_eval(table)
    for function in _functions(HARNESS):
        if function.name in caught_by:
            where = f"{HARNESS.relative_to(ROOT)}::{function.name}"
            yield SeededBug(_first_sentence(function), caught_by[function.name], where)


def _returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    """The strings of ``return {…}`` or of ``return "…"``, sorted."""
    names: set[str] = set()
    if [argument.arg for argument in function.args.args] != ["shop"]:
        return ()
    for node in ast.walk(function):
        if not isinstance(node, ast.Return):
            continue
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            names.add(node.value.value)
        if isinstance(node.value, ast.Set):
            names |= {
                str(one.value)
                for one in node.value.elts
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
            if any(isinstance(one, ast.Name) for one in node.value.elts):
                # GATEWAY_CHECK, the one check that is made in Python.
                names.add("captures_agree_with_gateway")
    return tuple(sorted(names))


def _first_sentence(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = " ".join((ast.get_docstring(function) or function.name).split())
    return text.rstrip(".")


def render() -> str:
    """The table, with its markers."""
    lines = [BEGIN, "\n", "| bug | caught by | seeded in |\n", "| --- | --- | --- |\n"]
    for bug in bugs():
        checks = ", ".join(f"`{check}`" for check in bug.caught_by)
        lines.append(f"| {bug.what} | {checks} | `{bug.where}` |\n")
    return "".join([*lines, "\n", END])


def inserted(document: str) -> str:
    """``document`` with the table where its markers are.  Raises ValueError without them."""
    begin, end = document.index(BEGIN), document.index(END) + len(END)
    return document[:begin] + render() + document[end:]


if __name__ == "__main__":
    TARGET.write_text(inserted(TARGET.read_text("utf-8")), "utf-8")
