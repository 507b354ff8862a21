"""What dispatchers count, kept in Postgres: any server process shows it, and a restart or a
takeover loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from kit.db import Database
from kit.sql import json_parameter, load
from orders.dispatch_world import Partition

_ADD = load("server", "add_dispatch_figures")

# Upper bounds in seconds, as Prometheus has them; one more bucket holds the rest.
DECISION_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# What is counted, and nothing else: these become label values.
OUTCOMES: Final = ("offered", "extended", "not_free_yet", "left_behind", "offers_expired")
STALE_REASONS: Final = (
    "order_changed", "rider_changed", "rider_busy", "trip_changed", "capacity", "order_taken",
    "contention", "changed",
)  # fmt: skip
OTHER: Final = ("looks", "fallbacks", "solvers_replaced", "failed_looks")


@dataclass
class Figures:
    """Of one partition, since they were written last."""

    decision_buckets: list[int] = field(default_factory=lambda: [0] * (len(DECISION_BOUNDS_S) + 1))
    decision_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    orders_held: int = 0
    orders_unassigned: int = 0
    riders_missing: int = 0

    def decided(self, seconds: float) -> None:
        self.decision_buckets[bisect_left(DECISION_BOUNDS_S, seconds)] += 1
        self.decision_s += seconds

    def stale(self, reason: str) -> None:
        self.counts[f"stale_{reason if reason in STALE_REASONS else 'changed'}"] += 1


async def add(database: Database, partition: Partition, epoch: int, figures: Figures) -> None:
    """Add to the partition's row, if ``epoch`` still is the lease's; one statement."""
    await database.pool.execute(
        _ADD.text,
        partition.id,
        partition.city_id,
        epoch,
        figures.decision_buckets,
        figures.decision_s,
        json_parameter(dict(figures.counts)),
        figures.orders_held,
        figures.orders_unassigned,
        figures.riders_missing,
    )
