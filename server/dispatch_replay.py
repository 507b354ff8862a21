"""The report of ``darkstore replay``: two policies over recorded decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dispatch.decision import Decision
from dispatch.overrides import parse_overrides, with_overrides
from dispatch.parameters import Parameters
from dispatch.recorded_day import Day, rebuild
from dispatch.replay import (
    MEASURES,
    Delivery,
    compare,
    given,
    live,
    planned_click_to_door_s,
    replan,
)
from dispatch.result import Plan
from server import decision_files

Tell = Callable[[str], None]


def run(
    place: Path,
    overrides: Sequence[str],
    against: Sequence[str],
    *,
    every_s: float | None,
    one_by_one: bool,
    day: bool,
    deadline_s: float,
    tell: Tell,
) -> dict[str, object]:
    """Raises ValueError (a log or a parameter that cannot be) and OSError."""
    tried, base = parse_overrides(overrides), parse_overrides(against)
    # A wrong name is found before an hour of planning, not after it.
    with_overrides(Parameters(), tried | base)

    def decisions() -> Iterator[Decision]:
        return (entry.decision for entry in decision_files.read_all(place, tell))

    opened = None
    if one_by_one:
        opened = _open(decisions(), lambda p: with_overrides(p, base),
                       lambda p: with_overrides(p, tried), deadline_s)  # fmt: skip
    closed = None
    if day:
        closed = [
            _closed(one, with_overrides(one.first.parameters, base),
                    with_overrides(one.first.parameters, tried), every_s)
            for one in rebuild(decisions())
        ]  # fmt: skip
    return {
        "log": str(place),
        "policies": {"a": _name(against), "b": _name(overrides)},
        "open": opened,
        "closed": closed,
    }


def _name(overrides: Sequence[str]) -> str:
    return ", ".join(overrides) or "as recorded"


@dataclass
class _Counts:
    assigned: int = 0
    held: int = 0
    unassigned: int = 0
    planned_s: list[float] = field(default_factory=list)

    def add(self, plan: Plan, decision: Decision) -> None:
        self.assigned += len(given(plan))
        self.held += len(plan.held)
        self.unassigned += len(plan.unassigned)
        self.planned_s += planned_click_to_door_s(plan, decision.snapshot)

    def shape(self) -> dict[str, object]:
        planned = self.planned_s
        return {
            "assigned": self.assigned,
            "held": self.held,
            "unassigned": self.unassigned,
            "planned_click_to_door_s": sum(planned) / len(planned) if planned else None,
        }


def _open(
    decisions: Iterator[Decision],
    first: Callable[[Parameters], Parameters],
    second: Callable[[Parameters], Parameters],
    deadline_s: float,
) -> dict[str, object]:
    a, b = _Counts(), _Counts()
    count = reproduced = same = 0
    for decision in decisions:
        recorded = decision.snapshot.parameters
        policies = {"a": first(recorded), "b": second(recorded)}
        (answers,) = replan([decision], policies, deadline_s)
        count += 1
        reproduced += given(answers.plans["a"]) == given(decision.plan)
        same += given(answers.plans["a"]) == given(answers.plans["b"])
        a.add(answers.plans["a"], decision)
        b.add(answers.plans["b"], decision)
    return {
        "decisions": count, "reproduced": reproduced, "same": same,
        "a": a.shape(), "b": b.shape(),
    }  # fmt: skip


def _closed(
    day: Day, first: Parameters, second: Parameters, every_s: float | None
) -> dict[str, object]:
    a, b = live(day, first, every_s), live(day, second, every_s)
    found = compare(a, b)
    return {
        "city_id": day.city_id,
        "orders": found.orders,
        "from_s": day.moments_s[0],
        "to_s": day.moments_s[-1],
        "orders_per_trip": {"a": _orders_a_trip(a), "b": _orders_a_trip(b)},
        "measures": {
            name: {
                "a": one.control, "b": one.treatment, "difference": one.difference,
                "low": one.low, "high": one.high, "blocks": one.pairs,
                "verdict": one.verdict.value,
            }
            for name in MEASURES
            for one in [found.measures[name]]
        },
    }  # fmt: skip


def _orders_a_trip(deliveries: Sequence[Delivery]) -> float:
    trips = math.fsum(one.trip_share for one in deliveries)
    done = sum(one.delivered_at_s is not None for one in deliveries)
    return done / trips if trips else 0.0
