"""The rolling plan on instances small enough to check by hand.

All of them lie on one line: a place is a whole number of minutes from place 0.
"""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dispatch import (
    Backend,
    CurrentTrip,
    Demand,
    ExtensionParameters,
    GhostParameters,
    HeldReason,
    Plan,
    RollingParameters,
    Solver,
    UnassignedReason,
    plan,
    rolling,
)
from tests.plan_support import LINE, MINUTE, exact, on_the_line, order, rider

EXACT = exact(Solver.ROLLING)
snapshot = partial(on_the_line, parameters=EXACT)


def committed(answer: Plan) -> dict[str, list[tuple[str, ...]]]:
    """Rider id -> order ids of the trips to commit."""
    trips: dict[str, list[tuple[str, ...]]] = {}
    for trip in answer.trips:
        trips.setdefault(trip.rider_id, []).append(trip.order_ids)
    return trips


def test_neighbours_share_a_trip_when_riders_are_short() -> None:
    """One rider, two doors side by side: one trip of two, nearer door first."""
    orders = [order("a", place=21), order("b", place=20)]
    answer = plan(snapshot(orders, [rider()]))
    assert committed(answer) == {"r": [("b", "a")]}


def test_two_idle_riders_beat_a_shared_trip() -> None:
    """With a rider each nobody waits for the other's door."""
    orders = [order("a", place=20), order("b", place=0)]
    answer = plan(snapshot(orders, [rider("q"), rider("r")]))
    assert sorted(ids for trips in committed(answer).values() for ids in trips) == [("a",), ("b",)]


def test_second_trip_of_a_rider_is_meant_but_not_committed() -> None:
    """Opposite ways: the rider starts one trip now and has the other in mind."""
    orders = [order("a", place=12), order("b", store_id="t", place=42)]
    answer = plan(snapshot(orders, [rider()]))
    assert committed(answer) == {"r": [("a",)]}
    (later,) = answer.tentative
    assert (later.rider_id, later.order_ids) == ("r", ("b",))
    # 2 at the store, 2 on the way, 2 at the door; 28 minutes to store t.
    assert later.leave_at_s == 6 * MINUTE
    assert later.stops[0].planned_arrival_s == 34 * MINUTE
    (held,) = answer.held
    assert (held.order_id, held.reason) == ("b", HeldReason.RIDER_BUSY)
    assert answer.statistics.riders_missing == 1


@pytest.mark.parametrize(("minute", "starts"), [(3, False), (4, False), (5, True), (6, True)])
def test_trip_is_committed_at_the_last_moment(minute: int, starts: bool) -> None:
    """Ready at 10 min, rider 4 min away, handover 1 min after arrival: set out at minute 5."""
    now_s = minute * MINUTE
    answer = plan(
        snapshot([order(ready_at_s=10 * MINUTE)], [rider(place=14, free_at_s=0.0)], now_s=now_s)
    )
    assert bool(answer.trips) is starts
    if not starts:
        assert [(one.reason, one.look_again_at_s) for one in answer.held] == [
            (HeldReason.NOT_READY, 5 * MINUTE)
        ]


def test_order_joins_a_trip_only_when_its_pickup_is_due() -> None:
    """The rider reaches the store at minute 4: at minute 0 the order is held, at 4 it joins."""
    trip = CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=4 * MINUTE)
    riding = rider(place=14, trip=trip)
    world = snapshot([order()], [riding], trip_orders=(order("h", place=30),))
    early = plan(world)
    assert not early.trips
    assert [one.reason for one in early.held] == [HeldReason.JOINS_TRIP]
    (joined,) = plan(replace(world, now_s=4 * MINUTE, previous=early)).trips
    assert joined.extends
    assert joined.order_ids == ("a", "h")
    assert joined.stops[0].planned_arrival_s == 4 * MINUTE


def test_closed_trip_takes_nothing_but_another_may_follow() -> None:
    """A trip that must not grow is left alone; the order is planned after it."""
    trip = CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=4 * MINUTE, may_add=False)
    world = snapshot([order()], [rider(trip=trip)], trip_orders=(order("h", place=30),))
    answer = plan(world)
    assert not answer.trips
    assert [(one.rider_id, one.extends) for one in answer.tentative] == [("r", False)]


def test_no_pickup_after_the_shift() -> None:
    """The second trip would start after the end of the shift: the order has nobody."""
    orders = [order("a", place=50), order("b", place=0, placed_at_s=-60.0)]
    short = rider(shift_end_s=20 * MINUTE)
    parameters = replace(EXACT, extension=ExtensionParameters(enabled=False))
    answer = plan(snapshot(orders, [short], parameters=parameters))
    assert len(answer.trips) == 1
    assert [one.reason for one in answer.unassigned] == [UnassignedReason.RIDERS_BUSY]
    late = plan(snapshot([order()], [rider(shift_end_s=30.0)]))
    assert [one.reason for one in late.unassigned] == [UnassignedReason.SHIFT_END]


@pytest.mark.parametrize(
    ("order_changes", "rider_changes"),
    [
        ({"weight_g": 600}, {"capacity_g": 1000}),
        ({"volume_ml": 600}, {"capacity_ml": 1000}),
        ({"cash_due_minor": 600}, {}),
        ({}, {"capacity_orders": 1}),
    ],
)
def test_what_does_not_fit_needs_a_second_trip(
    order_changes: dict[str, object], rider_changes: dict[str, object]
) -> None:
    """Two neighbours that would share a trip but for one limit."""
    orders = [order("a", **order_changes), order("b", place=21, **order_changes)]
    answer = plan(snapshot(orders, [rider(**rider_changes)]))
    assert [len(trip.order_ids) for trip in (*answer.trips, *answer.tentative)] == [1, 1]


@pytest.mark.parametrize("solver", [Solver.ROLLING, Solver.MATCHING])
def test_pinned_order_goes_to_its_rider(solver: Solver) -> None:
    """However near the others are; and to nobody when that rider is not there."""
    parameters = replace(EXACT, solver=solver)
    riders = [rider("near"), rider("far", place=30)]
    answer = plan(snapshot([order(pinned_rider="far")], riders, parameters=parameters))
    assert committed(answer) == {"far": [("a",)]}
    gone = plan(snapshot([order(pinned_rider="gone")], riders, parameters=parameters))
    assert [one.reason for one in gone.unassigned] == [UnassignedReason.PINNED]


def test_pinned_order_does_not_join_anothers_trip() -> None:
    """Neither solver adds it to the trip of a rider who is not the one."""
    trip = CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=0.0)
    riders = [rider("q", trip=trip), rider("r", place=50)]
    for solver in (Solver.ROLLING, Solver.MATCHING):
        answer = plan(
            snapshot(
                [order(pinned_rider="r")],
                riders,
                trip_orders=(order("h"),),
                parameters=replace(EXACT, solver=solver),
            )
        )
        assert committed(answer) == {"r": [("a",)]}


def test_explanation_names_the_second_choice() -> None:
    """The nearer rider is chosen; the other would have cost the four minutes more."""
    (trip,) = plan(snapshot([order()], [rider("far", place=14), rider("near")])).trips
    assert trip.rider_id == "near"
    assert trip.explanation.runner_up_rider_id == "far"
    assert trip.explanation.runner_up_cost is not None
    more_s = trip.explanation.runner_up_cost - trip.cost
    assert more_s == pytest.approx(4 * MINUTE * (1 + EXACT.rolling.riding_weight))


def test_room_is_left_for_what_is_expected() -> None:
    """Two riders at s, equal but for the place: where orders keep coming the rider stays.

    Store t has had an order a minute for half an hour. The one order of s may be served by the
    rider at s or, as quickly, by the one half-way to t: it takes the former.
    """
    recent = tuple(
        Demand(
            order_id=f"p{n}",
            store_id="t",
            place=42,
            placed_at_s=-30 * MINUTE + n * MINUTE,
            ready_at_s=-30 * MINUTE + n * MINUTE,
        )
        for n in range(1, 30)
    )
    riders = [rider("half_way", place=25), rider("beyond", place=0, free_at_s=-MINUTE)]
    far = order(ready_at_s=20 * MINUTE, place=5)
    answer = plan(snapshot([far], riders, recent=recent))
    assert [trip.rider_id for trip in (*answer.trips, *answer.tentative)] == ["beyond"]
    assert answer.statistics.ghosts > 0


def test_ghosts_never_appear_in_an_answer() -> None:
    """They are in the short form from which the next plan starts, and nowhere else."""
    recent = (
        Demand(order_id="p", store_id="s", place=21, placed_at_s=-60.0, ready_at_s=0.0),
        Demand(order_id="a", store_id="s", place=20, placed_at_s=0.0, ready_at_s=0.0),
    )
    answer = plan(snapshot([order()], [rider()], recent=recent))
    named = {one for trip in (*answer.trips, *answer.tentative) for one in trip.order_ids}
    named |= {one.order_id for one in (*answer.held, *answer.unassigned)}
    assert named == {"a"}
    assert answer.statistics.ghosts == 2
    without = replace(EXACT, ghosts=GhostParameters(enabled=False))
    assert plan(snapshot([order()], [rider()], recent=recent, parameters=without)).trips


def test_no_time_left_answers_with_the_fallback() -> None:
    """A deadline of nothing is the matching; its plan is what MATCHING says."""
    world = snapshot([order("a"), order("b", place=21)], [rider()], deadline_s=0.0)
    answer = plan(world)
    assert answer.statistics.backend in set(Backend)
    by_matching = replace(EXACT, solver=Solver.MATCHING)
    assert answer.trips == plan(replace(world, parameters=by_matching)).trips


def test_cold_engine_answers_in_time_with_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a deadline nothing is compiled on the way: until warm the matching answers."""
    monkeypatch.setattr(rolling, "_warm", False)
    world = snapshot([order()], [rider()], deadline_s=0.5)
    assert plan(world).statistics.backend in set(Backend)
    rolling.warm_up()
    assert rolling.is_warm()
    assert plan(world).statistics.backend == Solver.ROLLING


def test_more_rounds_are_no_worse_and_the_same_seed_is_the_same_plan() -> None:
    """Twelve orders over three riders: the objective never rises with the rounds asked for."""
    orders = [
        order(f"o{n}", place=3 * n, store_id="st"[n % 2], ready_at_s=n * MINUTE) for n in range(12)
    ]
    riders = [rider("q"), rider("r", place=40), rider("p", place=25)]
    fixed = [
        replace(EXACT, rolling=RollingParameters(least_iterations=n, most_iterations=n))
        for n in (1, 1000)
    ]
    short, long = (plan(snapshot(orders, riders, parameters=one)) for one in fixed)
    assert long.statistics.objective <= short.statistics.objective
    assert short.statistics.objective <= short.statistics.fallback_objective
    assert plan(snapshot(orders, riders, parameters=fixed[1])) == long


def test_importing_the_engine_loads_no_compiler() -> None:
    """The server starts without numba; only a plan that rolls pays for it."""
    code = "import sys, dispatch, dispatch.stdio; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_read_only_package_keeps_its_cache_elsewhere(tmp_path: "os.PathLike[str]") -> None:
    """The kernel's cache goes where ``NUMBA_CACHE_DIR`` says when that is set."""
    code = "from dispatch import kernel; print(kernel.put._cache._impl.locator.get_cache_path())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(str(tmp_path))


def test_way_that_leads_over_an_expected_order_alone_is_no_way() -> None:
    """From the rider no road leads to s, from the door of an order that is expected one does."""
    seconds = LINE.seconds.copy()
    seconds[50, 10] = np.inf
    recent = tuple(
        Demand(order_id=f"p{n}", store_id="t", place=41, placed_at_s=-n, ready_at_s=-n)
        for n in range(1, 10)
    )
    answer = plan(
        snapshot(
            [order(ready_at_s=40 * MINUTE)],
            [rider(place=50)],
            recent=recent,
            travel=replace(LINE, seconds=seconds),
        )
    )
    assert not answer.tentative
    assert [one.reason for one in answer.unassigned] == [UnassignedReason.UNREACHABLE]
