"""What two dispatch parameter sets made of the orders that were placed on their duty.

An order counts for the set that was on duty at its store when it was placed (``dispatch.compare``),
even if the other one gave it to a rider in the end; how many those were is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.compare import Difference, Experiment, Sums, paired_difference
from kit.sql import load

_OUTCOMES = load("orders", "comparison_outcomes")

# name: the columns of the total and of the count.
MEASURES: Final[Mapping[str, tuple[str, str]]] = {
    "promise_kept": ("kept", "known"),
    "click_to_door_s": ("click_to_door_s", "delivered"),
    "rider_s_per_order": ("rider_s", "ridden"),
    "orders_per_trip": ("ridden", "trips"),
}


@dataclass
class Arm:
    """One parameter set's orders. planned_by_other: those on a trip of the other set."""

    orders: int = 0
    delivered: int = 0
    planned_by_other: int = 0
    windows: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """measures: treatment against control."""

    control: Arm
    treatment: Arm
    measures: Mapping[str, Difference]


async def outcome(
    conn: AsyncConnection,
    city_id: str,
    experiment: Experiment,
    started_at: datetime,
    until: datetime,
) -> Outcome:
    """What the orders placed until then show."""  # fmt: skip
    rows = await _OUTCOMES.all(
        conn, city_id, started_at, until, round(experiment.window_s), round(experiment.washout_s)
    )
    return outcome_of(experiment, rows)


@dataclass
class _Pair:
    control: dict[str, Sums] = field(default_factory=dict)
    treatment: dict[str, Sums] = field(default_factory=dict)


def outcome_of(experiment: Experiment, rows: Iterable[Any]) -> Outcome:
    """From rows of sums by store, window and the set that planned."""
    arms = {False: Arm(), True: Arm()}
    seen: set[tuple[bool, str, int]] = set()
    pairs: dict[str, _Pair] = {}
    for row in rows:
        treated = experiment.treated(row.store_id, row.window)
        arm = arms[treated]
        arm.orders += row.orders
        arm.delivered += row.delivered
        on_duty = experiment.treatment if treated else experiment.control
        if row.parameter_set is not None and row.parameter_set != on_duty:
            arm.planned_by_other += row.orders
        key = experiment.pair(row.store_id, row.window)
        if (treated, key, row.window) not in seen:
            seen.add((treated, key, row.window))
            arm.windows += 1
        pair = pairs.setdefault(key, _Pair())
        side = pair.treatment if treated else pair.control
        for name, (total, count) in MEASURES.items():
            more = Sums(float(getattr(row, total)), float(getattr(row, count)))
            side[name] = side.get(name, Sums()) + more
    measures = {
        name: paired_difference(
            (pair.control.get(name, Sums()), pair.treatment.get(name, Sums()))
            for pair in pairs.values()
        )
        for name in MEASURES
    }
    return Outcome(arms[False], arms[True], measures)
