"""What a running system costs: CPU seconds by the part that spent them.  Linux: reads ``/proc``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from kit.engines import ChildStatus

_PROC = Path("/proc")
_ENGINES = ("postgres", "valkey-server")


def cpu_seconds(children: Sequence[ChildStatus], data_dir: Path) -> dict[str, float]:
    """User and system time so far: of each child with its own children, and of the engines."""
    table = _table()
    spent = {child.name: _tree(table, child.pid) for child in children if child.pid is not None}
    for pid in table:
        name = _engine(pid, data_dir)
        if name is not None:
            spent[name] = _tree(table, pid)
    return spent


def memory_mib(children: Sequence[ChildStatus]) -> dict[str, float]:
    """What each child with its own children holds; pages that several share are shared out."""
    table = _table()
    return {
        child.name: sum(_share_kib(pid) for pid in _family(table, child.pid)) / 1024
        for child in children
        if child.pid is not None
    }


def _share_kib(pid: int) -> int:
    """The proportional set size; 0 of a process that has just ended."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was spent in between."""
    return {name: spent - before.get(name, 0.0) for name, spent in after.items()}


def _table() -> dict[int, tuple[int, float]]:
    """Parent and seconds of every process; those of ended children count with who waited."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: dict[int, tuple[int, float]] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything; what follows it are numbers.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / ticks)
    return found


def _tree(table: Mapping[int, tuple[int, float]], root: int) -> float:
    return sum(table.get(pid, (0, 0.0))[1] for pid in _family(table, root))


def _family(table: Mapping[int, tuple[int, float]], root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, (parent, _) in table.items():
        children[parent].append(pid)
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _engine(pid: int, data_dir: Path) -> str | None:
    try:
        command = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    name = Path(os.fsdecode(command[0])).name
    mine = any(os.fsencode(data_dir) in part for part in command)
    return name if mine and name in _ENGINES else None
