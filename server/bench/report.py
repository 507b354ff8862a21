"""What a benchmark found, and how it is told: progress on standard error, one JSON object last."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import orjson


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure against its goal.  ``at_most``: smaller is better."""

    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(slots=True)
class Report:
    """``figures`` are what was measured, ``ratios`` what was promised about them."""

    bench: str
    figures: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    context: dict[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return all(ratio.met for ratio in self.ratios.values())

    def as_json(self) -> dict[str, object]:
        return {
            "bench": self.bench,
            "figures": {name: _short(value) for name, value in self.figures.items()},
            "ratios": {
                name: {"value": _short(one.value), "goal": one.goal, "met": one.met}
                for name, one in self.ratios.items()
            },
            "context": self.context,
        }


def print_report(report: Report, *, as_json: bool) -> None:
    """A table for people unless ``as_json``; the last line is the JSON object either way."""
    if not as_json:
        for name, value in report.figures.items():
            _say(f"  {name:<44} {_short(value):>12}")
        for name, one in report.ratios.items():
            sign = "<=" if one.at_most else ">="
            verdict = "met" if one.met else "MISSED"
            _say(f"  {name:<44} {_short(one.value):>12}   goal {sign} {one.goal:g}: {verdict}")
    _say(orjson.dumps(report.as_json()).decode())


def progress(text: str) -> None:
    """One line for whoever waits."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def environment(packages: Sequence[str]) -> dict[str, object]:
    """The machine and the versions that a figure depends on."""
    versions: Mapping[str, str] = {name: version(name) for name in packages}
    return {
        "cores": os.cpu_count() or 1,
        "load_average_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": dict(versions),
    }


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; 0 of none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def _short(value: float) -> float:
    """Four significant digits: more would claim what a shared machine cannot give."""
    return float(f"{value:.4g}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
