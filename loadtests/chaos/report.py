"""The outcome, for people (a table) and for scripts (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.chaos.judge import Finding
from loadtests.chaos.runner import Ran


def as_json(options: dict[str, Any], ran: Ran, findings: Sequence[Finding]) -> dict[str, Any]:
    """``{"options", "clean", "faults": {name: count}, "findings", "traffic", "strikes"}``."""
    return {
        "options": options,
        "clean": not any(finding.broken for finding in findings),
        "faults": ran.fired(),
        "not_possible_here": ran.not_possible,
        "failover_s": [round(s, 2) for s in ran.failovers_s],
        "findings": [asdict(finding) for finding in findings],
        "traffic": ran.traffic,
        "strikes": [asdict(strike) for strike in ran.strikes],
    }


def write(path: Path, outcome: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(outcome, option=orjson.OPT_INDENT_2))


def show(outcome: dict[str, Any]) -> None:
    """Options, the count of each fault, each check."""
    console = Console(width=140)
    console.print(f"\n[bold]chaos[/bold] {outcome['options']}")
    faults = Table("fault", "struck", box=None, pad_edge=False)
    for name, count in sorted(outcome["faults"].items()):
        faults.add_row(name, str(count) if count else "[red]never[/red]")
    for name, reason in outcome["not_possible_here"].items():
        faults.add_row(name, f"not possible here: {reason}")
    console.print(faults)
    counts = Table("clients", "", box=None, pad_edge=False)
    for name, count in outcome["traffic"].get("clients", {}).items():
        counts.add_row(name, str(count))
    console.print(counts)
    if outcome["failover_s"]:
        console.print(f"failover of the dispatcher: {outcome['failover_s']} s")
    checks = Table("check", "holds", "looked at", "broken by", box=None, pad_edge=False)
    held = 0
    for finding in outcome["findings"]:
        if finding["name"].startswith("verify: ") and not finding["broken"]:
            held += 1
            continue
        holds = "[red]no[/red]" if finding["broken"] else "yes"
        shown = "\n".join(finding["broken"][:6])
        checks.add_row(finding["name"], holds, finding["detail"], shown)
    checks.add_row(
        "darkstore verify", "yes" if held else "[red]no[/red]", f"{held} checks hold", ""
    )
    console.print(checks)
    console.print("[green]clean[/green]" if outcome["clean"] else "[red]broken[/red]")
