"""Which trips go wrong, judged from what is known of them.  No I/O.

A judgement of silence needs two things to be old: the newest position and the last action.  Redis
may have lost every position, and all phones may be cut off by a fault of ours, so a rider without
a position counts as silent only after having been looked for that long, and a city in which most
riders fall silent together is not judged at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from geo.distances import Point, distance_m
from riders.locations import RiderFix
from riders.settings import WatchRules

# Fixes of a phone that stands still wander by less than this.
NEARER_M = 30.0


@dataclass(frozen=True, slots=True)
class WatchedTrip:
    """A trip that is being ridden; ``store`` and ``store_at`` while it has still to be reached.

    called: ops are called for it. excused: they have just said that all is well.
    """

    trip_id: str
    rider_id: str
    order_id: str | None
    acted_at: datetime
    carries: bool
    at_store: bool
    called: bool
    excused: bool
    store: Point | None
    store_at: datetime | None
    late_before: int

    @classmethod
    def of(cls, row: Any) -> WatchedTrip:
        """From a row of ``watched_trips``."""
        store = None if row.store_at is None else Point(row.store_lat, row.store_lon)
        return cls(
            row.id, row.rider_id, row.order_id, row.acted_at, row.carries, row.at_store,
            row.called, row.excused, store, row.store_at, row.late_before,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """``silent``: with the moment since when; ``late``: with nobody asked yet who is sooner."""

    silent: Sequence[tuple[WatchedTrip, datetime]] = ()
    heard_again: Sequence[WatchedTrip] = ()
    late: Sequence[WatchedTrip] = ()
    deaf: bool = False


@dataclass(slots=True)
class Memory:
    """What one watcher remembers between looks; losing it only delays a judgement."""

    # When a rider without any position was looked for first.
    missing_since_s: dict[str, float] = field(default_factory=dict)
    # (when, how far from the store): where a late rider's way is measured from.
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)

    def forget_others(self, trips: Iterable[WatchedTrip]) -> None:
        """Keep only what concerns these trips."""
        watched = list(trips)
        riders = {trip.rider_id for trip in watched}
        ids = {trip.trip_id for trip in watched}
        self.missing_since_s = {k: v for k, v in self.missing_since_s.items() if k in riders}
        self.marks = {k: v for k, v in self.marks.items() if k in ids}


def judge(
    trips: Sequence[WatchedTrip],
    fixes: Mapping[str, RiderFix],
    memory: Memory,
    rules: WatchRules,
    now: datetime,
) -> Verdict:
    """Look at a city's trips at a moment of the virtual clock; ``memory`` is brought up to it."""
    memory.forget_others(trips)
    now_s = now.timestamp()
    silent: list[tuple[WatchedTrip, datetime]] = []
    heard_again: list[WatchedTrip] = []
    late: list[WatchedTrip] = []
    for trip in trips:
        fix = fixes.get(trip.rider_id)
        heard_s = max(_position_s(trip, fix, memory, now_s), trip.acted_at.timestamp())
        patient = trip.carries or trip.at_store
        allowed_s = rules.carrying_lost_after_s if patient else rules.lost_after_s
        if now_s - heard_s > allowed_s:
            if not (trip.called or trip.excused):
                silent.append((trip, datetime.fromtimestamp(heard_s, tz=now.tzinfo)))
        else:
            if trip.called and (fix is not None or trip.acted_at.timestamp() == heard_s):
                heard_again.append(trip)
            if _late(trip, fix, memory, rules, now_s):
                late.append(trip)
    deaf = len(silent) > rules.deaf_riders and len(silent) > rules.deaf_share * len(trips)
    if deaf:
        return Verdict(heard_again=heard_again, deaf=True)
    return Verdict(silent, heard_again, late)


def _position_s(trip: WatchedTrip, fix: RiderFix | None, memory: Memory, now_s: float) -> float:
    if fix is not None:
        memory.missing_since_s.pop(trip.rider_id, None)
        return fix.t_ms / 1000
    return memory.missing_since_s.setdefault(trip.rider_id, now_s)


def _late(
    trip: WatchedTrip, fix: RiderFix | None, memory: Memory, rules: WatchRules, now_s: float
) -> bool:
    """Whether the rider should be at the store by now, is not, and does not come nearer."""
    overdue = trip.store_at is not None and now_s - trip.store_at.timestamp() > rules.late_s
    if not overdue or trip.carries or fix is None or trip.late_before >= rules.late_most:
        memory.marks.pop(trip.trip_id, None)
        return False
    assert trip.store is not None, "a store that has still to be reached has a place"
    away_m = distance_m(Point(fix.lat, fix.lon), trip.store)
    since_s, before_m = memory.marks.setdefault(trip.trip_id, (now_s, away_m))
    if now_s - since_s < rules.no_nearer_s:
        return False
    memory.marks[trip.trip_id] = (now_s, away_m)
    return away_m > before_m - NEARER_M


def sooner(own_s: float, others_s: Mapping[str, float], sooner_by_s: float) -> str | None:
    """Who else would be at the store sooner by so much, the soonest first; None: nobody.

    own_s, others_s: seconds of riding to the store.
    """
    best = min(others_s, key=lambda rider_id: (others_s[rider_id], rider_id), default=None)
    if best is None or others_s[best] + sooner_by_s > own_s:
        return None
    return best
