"""Judging trips by what is known of them: silence, lateness, and our own deafness."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from geo.distances import METRES_PER_DEGREE, Point
from orders.trip_watch import Memory, Verdict, WatchedTrip, judge, sooner
from riders.locations import RiderFix
from riders.settings import WatchRules
from riders.waiting import standing

RULES = WatchRules()
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
STORE = Point(12.0, 77.0)


def trip(n: int = 1, **changes: object) -> WatchedTrip:
    """Accepted at the start, to be at the store a minute later."""
    known = WatchedTrip(
        trip_id=f"trp_{n}", rider_id=f"rdr_{n}", order_id=f"ord_{n}", acted_at=START,
        carries=False, at_store=False, called=False, excused=False, store=STORE,
        store_at=START + timedelta(seconds=60), late_before=0,
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]  # names of its fields


def fix(seconds: float, north_m: float = 2_000.0, n: int = 1) -> RiderFix:
    """Seen so many seconds after the start, so far north of the store."""
    t_ms = round((START.timestamp() + seconds) * 1000)
    return RiderFix(f"rdr_{n}", "cty_1", t_ms, 12.0 + north_m / METRES_PER_DEGREE, 77.0)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def look(
    seconds: float, watched: WatchedTrip, seen: RiderFix | None, memory: Memory | None = None
) -> Verdict:
    fixes = {} if seen is None else {watched.rider_id: seen}
    return judge([watched], fixes, memory or Memory(), RULES, at(seconds))


def test_a_rider_who_is_heard_is_left_alone() -> None:
    """A fresh position is enough, and so is a fresh action with an old position."""
    assert not look(1_000, trip(), fix(990, 100.0)).silent
    assert not look(1_000, trip(acted_at=at(990)), fix(0)).silent


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    """Both position and action have to be old; the verdict says since when."""
    limit = RULES.lost_after_s
    assert not look(limit + 99, trip(), fix(100)).silent
    ((_, since),) = look(limit + 101, trip(), fix(100)).silent
    assert since == at(100)


def test_who_carries_or_stands_in_the_store_is_given_longer() -> None:
    """A phone in a pocket at the counter is no reason to send somebody else."""
    seconds = RULES.lost_after_s + 1
    assert look(seconds, trip(), fix(0)).silent
    for patient in (trip(carries=True), trip(at_store=True)):
        assert not look(seconds, patient, fix(0)).silent
        assert look(RULES.carrying_lost_after_s + 1, patient, fix(0)).silent


def test_lost_positions_are_no_silence() -> None:
    """After Redis was emptied a rider is looked for as long again before being given up."""
    memory = Memory()
    old = trip(acted_at=START)
    assert not look(5_000, old, None, memory).silent
    assert not look(5_000 + RULES.lost_after_s - 1, old, None, memory).silent
    assert look(5_000 + RULES.lost_after_s + 1, old, None, memory).silent
    # Seen in between: it begins anew.
    assert not look(5_400, old, fix(5_400), memory).silent
    assert not look(5_401, old, None, memory).silent


def test_a_city_that_falls_silent_together_is_not_judged() -> None:
    """When most riders vanish at once it is our ears; a few among many are judged."""
    trips = [trip(n, store_at=None, store=None) for n in range(10)]
    gone = {t.rider_id: fix(0, n=n) for n, t in enumerate(trips)}
    verdict = judge(trips, gone, Memory(), RULES, at(1_000))
    assert (verdict.deaf, verdict.silent) == (True, ())
    some = {t.rider_id: fix(0 if n < 4 else 990, n=n) for n, t in enumerate(trips)}
    verdict = judge(trips, some, Memory(), RULES, at(1_000))
    assert (verdict.deaf, len(verdict.silent)) == (False, 4)


def test_ops_are_called_once_and_told_when_somebody_is_there_again() -> None:
    """While they are called, or have just said that all is well, nobody calls again."""
    lost = RULES.carrying_lost_after_s + 1
    assert look(lost, trip(carries=True), fix(0)).silent
    assert not look(lost, trip(carries=True, called=True), fix(0)).silent
    assert not look(lost, trip(carries=True, excused=True), fix(0)).silent
    assert look(lost, trip(carries=True, called=True), fix(lost - 5)).heard_again
    # A watcher that has just started knows nothing of a rider without a position.
    assert not look(lost, trip(carries=True, called=True), None).heard_again


def test_late_is_who_is_overdue_and_comes_no_nearer() -> None:
    """Measured over some minutes: a rider who still rides towards the store is left alone."""
    memory = Memory()
    overdue = 60 + RULES.late_s + 1
    assert not look(overdue, trip(), fix(overdue), memory).late
    soon = overdue + RULES.no_nearer_s - 1
    assert not look(soon, trip(), fix(soon), memory).late
    then = overdue + RULES.no_nearer_s
    assert look(then, trip(), fix(then, 1_990.0), memory).late
    # From there on it is measured anew, and 500 m nearer is nearer.
    later = then + RULES.no_nearer_s
    assert not look(later, trip(), fix(later, 1_490.0), memory).late


def test_late_is_nobody_who_has_reached_the_store_or_is_on_time() -> None:
    """Nor an order that has changed hands often enough."""
    for known in (
        trip(store_at=None, store=None),
        trip(store_at=at(10_000)),
        trip(carries=True),
        trip(late_before=RULES.late_most),
    ):
        memory = Memory(marks={known.trip_id: (0.0, 1_000.0)})
        assert not look(2_000, known, fix(2_000), memory).late
        assert memory.marks == {}


def test_what_is_over_is_forgotten() -> None:
    """The memory holds no more than the trips that are ridden."""
    memory = Memory({"rdr_9": 1.0}, {"trp_9": (1.0, 2.0)})
    judge([], {}, memory, RULES, at(0))
    assert (memory.missing_since_s, memory.marks) == ({}, {})


def test_sooner_is_who_is_sooner_by_enough() -> None:
    """The soonest, and only if the change is worth it."""
    assert sooner(600.0, {"rdr_b": 300.0, "rdr_a": 200.0}, 120.0) == "rdr_a"
    assert sooner(600.0, {"rdr_b": 500.0}, 120.0) is None
    assert sooner(600.0, {}, 120.0) is None


def test_who_stands_at_a_store() -> None:
    """Within the distance; who stood there before may wander twice as far, and no farther."""
    stores = {"sto_a": STORE, "sto_b": Point(12.0, 77.01)}

    def north(metres: float) -> Point:
        return Point(12.0 + metres / METRES_PER_DEGREE, 77.0)

    places = {"rdr_1": north(79.0), "rdr_2": north(81.0), "rdr_3": Point(12.0, 77.0101)}
    assert standing({}, places, stores, 80.0) == {"rdr_1": "sto_a", "rdr_3": "sto_b"}
    stood = {"rdr_2": "sto_a", "rdr_4": "sto_a"}
    assert standing(stood, places | {"rdr_4": north(161.0)}, stores, 80.0) == {
        "rdr_1": "sto_a", "rdr_2": "sto_a", "rdr_3": "sto_b",
    }  # fmt: skip
