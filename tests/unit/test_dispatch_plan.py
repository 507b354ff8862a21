"""Decisions of the matching on instances small enough to check by hand.

All of them lie on one line: a place is a whole number of minutes from place 0.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dispatch import (
    Backend,
    CurrentTrip,
    ExtensionParameters,
    HeldReason,
    MatchingParameters,
    Order,
    Rider,
    Solver,
    StopKind,
    Store,
    Temperature,
    UnassignedReason,
    Vehicle,
    plan,
)
from tests.plan_support import LINE, MINUTE, exact, on_the_line, order, rider

EXACT = exact(Solver.MATCHING)
ALONE = replace(EXACT, extension=ExtensionParameters(enabled=False))
snapshot = partial(on_the_line, parameters=ALONE)


def riders_of(orders: list[Order], riders: list[Rider], **changes: object) -> dict[str, str]:
    """Order id -> rider id over the committed trips."""
    return {
        order_id: trip.rider_id
        for trip in plan(snapshot(orders, riders, **changes)).trips
        for order_id in trip.order_ids
    }


def test_times_of_a_trip() -> None:
    """Rider 4 minutes away, 2 minutes of service at each door, 10 minutes to the customer."""
    (trip,) = plan(snapshot([order(version=7)], [rider(place=14, version=3)])).trips
    pickup, dropoff = trip.stops
    assert (trip.leave_at_s, trip.travel_s) == (0.0, 14 * MINUTE)
    assert (pickup.kind, pickup.place, dropoff.kind, dropoff.place) == (
        StopKind.PICKUP,
        10,
        StopKind.DROPOFF,
        20,
    )
    assert (pickup.planned_arrival_s, pickup.planned_departure_s) == (4 * MINUTE, 6 * MINUTE)
    assert (dropoff.planned_arrival_s, dropoff.planned_departure_s) == (16 * MINUTE, 18 * MINUTE)
    assert (trip.order_versions, trip.rider_version) == ((7,), 3)


def test_distance_is_summed_when_metres_are_known() -> None:
    """With metres at hand the trip says how long it is, the way to the store included."""
    travel = replace(LINE, metres=LINE.seconds * 5)
    (trip,) = plan(snapshot([order()], [rider(place=14)], travel=travel)).trips
    assert trip.distance_m == 14 * MINUTE * 5


def test_nearest_rider_takes_the_order() -> None:
    """Everything else equal, the rider who is first at the store is chosen; the other is told."""
    (trip,) = plan(snapshot([order()], [rider("far", place=30), rider("near", place=12)])).trips
    assert trip.rider_id == "near"
    assert trip.explanation.runner_up_rider_id == "far"
    assert trip.explanation.runner_up_cost is not None
    assert trip.explanation.runner_up_cost > trip.cost


def test_matching_beats_taking_turns() -> None:
    """Each order's nearest rider is m, but one order can afford the other rider: total counts.

    m is 4 minutes from s and 4 from t' at 18; n is 5 minutes from s and 17 from t'.
    """
    orders = [order("a", store_id="s"), order("b", store_id="t")]
    stores = (
        Store(store_id="s", place=10, pickup_service_s=0.0),
        Store(store_id="t", place=18, pickup_service_s=0.0),
    )
    riders = [rider("m", place=14), rider("n", place=5)]
    assert riders_of(orders, riders, stores=stores) == {"a": "n", "b": "m"}


def test_short_of_riders_the_most_urgent_first() -> None:
    """One rider, three orders alike but for the promise: the tightest one is served."""
    orders = [
        order(name, promised_by_s=at * MINUTE) for name, at in (("a", 40), ("b", 18), ("c", 30))
    ]
    answer = plan(snapshot(orders, [rider()]))
    assert [trip.order_ids for trip in answer.trips] == [("b",)]
    assert {one.order_id: one.reason for one in answer.unassigned} == {
        "a": UnassignedReason.RIDERS_BUSY,
        "c": UnassignedReason.RIDERS_BUSY,
    }
    assert answer.statistics.riders_missing == 2


def test_already_late_order_is_not_given_up() -> None:
    """An order 30 minutes late is dearer to leave than a fresh one, though dearer to serve."""
    orders = [order("fresh", promised_by_s=90 * MINUTE), order("late", promised_by_s=30 * MINUTE)]
    assert riders_of(orders, [rider(free_at_s=60 * MINUTE)], now_s=60 * MINUTE) == {"late": "r"}


def test_ageing_outgrows_nearness() -> None:
    """Of two orders with time to spare the one that has waited 40 minutes wins over the near."""
    now_s = 40 * MINUTE
    near = order("near", store_id="s", placed_at_s=now_s, ready_at_s=now_s, promised_by_s=9e5)
    aged = order("aged", store_id="t", place=45, promised_by_s=9e5)
    free = rider(free_at_s=now_s)
    assert riders_of([near, aged], [free], now_s=now_s) == {"aged": "r"}


def test_priority_breaks_equal_lateness() -> None:
    """Two orders equally late: the more important one gets the only rider."""
    orders = [order("a", promised_by_s=0.0), order("b", promised_by_s=0.0, priority=1)]
    assert riders_of(orders, [rider()]) == {"b": "r"}


def test_order_not_ready_is_held_until_the_rider_must_set_out() -> None:
    """Ready at 10 min, rider 4 min away, handover 1 min after arrival: set out at minute 5."""
    answer = plan(snapshot([order(ready_at_s=10 * MINUTE)], [rider(place=14)]))
    (held,) = answer.held
    assert (held.reason, held.look_again_at_s) == (HeldReason.NOT_READY, 5 * MINUTE)
    assert not answer.trips
    assert [trip.order_ids for trip in answer.tentative] == [("a",)]


@pytest.mark.parametrize(("minute", "committed"), [(3, False), (4, False), (5, True), (6, True)])
def test_commit_at_the_last_epoch_that_costs_nothing(minute: int, committed: bool) -> None:
    """With a decision each minute the pair above is committed at minute 5, no earlier."""
    now_s = minute * MINUTE
    answer = plan(
        snapshot([order(ready_at_s=10 * MINUTE)], [rider(place=14, free_at_s=now_s)], now_s=now_s)
    )
    assert bool(answer.trips) is committed


def test_uncertain_ready_time_commits_earlier() -> None:
    """A spread of 4 minutes moves the time to set out from minute 5 to minute 1."""
    (held,) = plan(
        snapshot([order(ready_at_s=10 * MINUTE, ready_spread_s=4 * MINUTE)], [rider(place=14)])
    ).held
    assert held.look_again_at_s == MINUTE


def test_order_far_from_ready_reserves_nobody() -> None:
    """Ready in an hour: held without a rider until it comes within the horizon of 15 minutes."""
    answer = plan(snapshot([order(ready_at_s=60 * MINUTE)], [rider()]))
    assert [(one.reason, one.look_again_at_s) for one in answer.held] == [
        (HeldReason.NOT_READY, 45 * MINUTE)
    ]
    assert not answer.tentative


def test_waiting_for_a_rider_who_is_nearly_done() -> None:
    """A rider free at the store in 3 minutes beats one 25 minutes away, and is waited for."""
    riders = [rider("busy", free_at_s=3 * MINUTE), rider("far", place=35)]
    answer = plan(snapshot([order()], riders))
    (held,) = answer.held
    assert (held.reason, held.look_again_at_s) == (HeldReason.RIDER_BUSY, 3 * MINUTE)
    assert answer.tentative[0].rider_id == "busy"


@pytest.mark.parametrize(
    ("order_changes", "rider_changes", "reason"),
    [
        ({"weight_g": 30_000}, {}, UnassignedReason.OVER_CAPACITY),
        ({"volume_ml": 90_000}, {}, UnassignedReason.OVER_CAPACITY),
        (
            {"temperature": Temperature.FROZEN},
            {"vehicle": Vehicle.FOOT},
            UnassignedReason.TEMPERATURE,
        ),
        ({"cash_due_minor": 1001}, {}, UnassignedReason.CASH_LIMIT),
        ({"declined_by": frozenset({"r"})}, {}, UnassignedReason.DECLINED),
        ({}, {"declined": frozenset({"a"})}, UnassignedReason.DECLINED),
        ({}, {"shift_end_s": 30.0}, UnassignedReason.SHIFT_END),
        ({}, {"shift_start_s": 60 * MINUTE}, UnassignedReason.NO_RIDERS),
        ({"place": 61}, {}, UnassignedReason.UNREACHABLE),
    ],
)
def test_reason_why_nobody_can(
    order_changes: dict[str, object], rider_changes: dict[str, object], reason: UnassignedReason
) -> None:
    """Each hard rule leaves the order unassigned and names itself."""
    travel = replace(LINE, row_of=np.append(LINE.row_of, -1).astype(np.int32))
    answer = plan(snapshot([order(**order_changes)], [rider(**rider_changes)], travel=travel))
    assert [one.reason for one in answer.unassigned] == [reason]


@pytest.mark.parametrize(
    ("order_changes", "rider_changes"),
    [
        ({"weight_g": 25_000}, {}),
        ({"temperature": Temperature.FROZEN}, {}),
        ({"cash_due_minor": 1000}, {}),
        ({}, {"shift_end_s": 60.0}),
        ({}, {"cash_headroom_minor": -5}),
    ],
)
def test_limits_themselves_are_allowed(
    order_changes: dict[str, object], rider_changes: dict[str, object]
) -> None:
    """A load equal to the limit passes, and a prepaid order needs no headroom."""
    assert riders_of([order(**order_changes)], [rider(**rider_changes)]) == {"a": "r"}


def test_queue_at_the_store_is_first_come_first_served() -> None:
    """Two riders at the store: the one in front of the queue goes, whatever the ids."""
    stores = (Store(store_id="s", place=10, queue=("z", "y")),)
    assert riders_of([order()], [rider("y"), rider("z")], stores=stores) == {"a": "z"}


def test_longest_idle_rider_breaks_a_tie() -> None:
    """Equal otherwise, the rider without work for longer goes."""
    riders = [rider("y", idle_since_s=-60.0), rider("z", idle_since_s=-600.0)]
    assert riders_of([order()], riders) == {"a": "z"}


def test_last_plan_breaks_a_tie() -> None:
    """The rider whom the last plan meant for a held order keeps it."""
    early = order(ready_at_s=4 * MINUTE)
    first = plan(snapshot([early], [rider("z", place=11)]))
    assert first.tentative[0].rider_id == "z"
    riders = [rider("y", place=11), rider("z", place=11)]
    second = plan(snapshot([early], riders, previous=first, now_s=3 * MINUTE))
    assert [trip.rider_id for trip in second.trips] == ["z"]


def test_one_store_with_more_orders_than_its_nearest_riders() -> None:
    """Candidates are widened until every order of a hot store has a rider."""
    parameters = replace(ALONE, matching=MatchingParameters(nearest_riders=1))
    picky = [order(f"o{n}", declined_by=frozenset({"r0", "r1", "r2", "r3"})) for n in range(3)]
    riders = [rider(f"r{n}", place=10 + n) for n in range(9)]
    answer = plan(snapshot(picky, riders, parameters=parameters))
    assert {trip.rider_id for trip in answer.trips} == {"r4", "r5", "r6"}
    assert answer.statistics.rounds > 1


def test_zero_deadline_answers_with_the_fallback() -> None:
    """No computing time: the greedy matching alone, with its own objective."""
    statistics = plan(snapshot([order()], [rider()], deadline_s=0.0)).statistics
    assert statistics.backend == Backend.GREEDY
    assert statistics.objective == statistics.fallback_objective


def test_order_joins_a_trip_before_its_pickup() -> None:
    """No rider is free, but one rides to the store: the new order goes into his sequence."""
    held = order("h", place=30)
    riding = rider(
        place=14, trip=CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=4 * MINUTE)
    )
    answer = plan(snapshot([order()], [riding], trip_orders=(held,), parameters=EXACT))
    (trip,) = answer.trips
    assert trip.extends
    assert trip.order_ids == ("a", "h")
    assert (trip.leave_at_s, trip.stops[0].planned_arrival_s) == (0.0, 4 * MINUTE)


@pytest.mark.parametrize(
    "changes",
    [
        {"trip": CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=240.0, may_add=False)},
        {"trip": CurrentTrip(store_id="t", order_ids=("h",), arrives_at_s=240.0)},
        {"capacity_orders": 1},
        {"capacity_g": 900},
        {"cash_headroom_minor": 0},
        {"declined": frozenset({"a"})},
        {"vehicle": Vehicle.FOOT},
    ],
)
def test_order_does_not_join_where_it_must_not(changes: dict[str, object]) -> None:
    """Closed trips, other stores, full bags, cash, decliners and warm bags take nothing more."""
    trip = CurrentTrip(store_id="s", order_ids=("h",), arrives_at_s=240.0)
    riding = rider(**{"trip": trip, **changes})
    assert riding.trip is not None
    aboard = order("h", store_id=riding.trip.store_id, weight_g=500)
    new = order("a", weight_g=500, cash_due_minor=10, temperature=Temperature.FROZEN)
    answer = plan(snapshot([new], [riding], trip_orders=(aboard,), parameters=EXACT))
    assert not answer.trips
    assert [one.order_id for one in answer.unassigned] == ["a"]


def test_far_detour_is_not_added() -> None:
    """An order 20 minutes the other way costs those aboard too much: it waits for a rider."""
    aboard = [order(f"h{n}", place=50 + n) for n in range(3)]
    trip = CurrentTrip(
        store_id="s", order_ids=tuple(one.order_id for one in aboard), arrives_at_s=4 * MINUTE
    )
    answer = plan(
        snapshot(
            [order(place=0, promised_by_s=9e5)],
            [rider(trip=trip)],
            trip_orders=tuple(aboard),
            parameters=EXACT,
        )
    )
    assert not answer.trips


def test_sequence_of_the_snapshot_does_not_matter() -> None:
    """The same world listed in another sequence gets the same plan."""
    orders = [order(f"o{n}", place=15 + n) for n in range(4)]
    riders = [rider(f"r{n}") for n in range(6)]
    assert plan(snapshot(orders, riders)) == plan(snapshot(orders[::-1], riders[::-1]))


def test_nothing_to_do() -> None:
    """No orders and no riders make an empty plan."""
    assert plan(snapshot([], [])).trips == ()
    assert plan(snapshot([], [rider()])).trips == ()


@pytest.mark.parametrize(
    ("orders", "riders", "changes"),
    [
        ([order(), order()], [], {}),
        ([], [rider(), rider()], {}),
        ([order(store_id="unknown")], [], {}),
        ([order(place=99)], [], {}),
        ([], [rider(place=-1)], {}),
        ([], [rider(trip=CurrentTrip(store_id="s", order_ids=("x",), arrives_at_s=0.0))], {}),
        ([], [], {"now_s": float("nan")}),
        ([], [], {"epoch_s": -1.0}),
    ],
)
def test_nonsense_is_refused(
    orders: list[Order], riders: list[Rider], changes: dict[str, object]
) -> None:
    """Double or unknown ids, places off the list and impossible times raise ValueError."""
    with pytest.raises(ValueError, match=r"twice|unknown|outside|missing|finite|negative"):
        snapshot(orders, riders, **changes)
