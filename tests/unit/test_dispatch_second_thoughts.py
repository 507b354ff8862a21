"""Commitments that sampled futures speak against, on lines that can be checked by hand."""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from dispatch import (
    CurrentTrip,
    Demand,
    GhostParameters,
    HeldReason,
    Parameters,
    Plan,
    Snapshot,
    Solver,
    plan,
)
from dispatch.ghosts import Ghost
from dispatch.instance import Instance, with_ghosts
from dispatch.parameters import ScenarioParameters
from dispatch.rolling import load_kernel
from dispatch.scenarios import sample_future
from dispatch.second_thoughts import reconsider
from tests.plan_support import MINUTE, exact, in_the_plane, on_the_line, order, rider

# The plan itself foresees nothing, so that what changes is by the futures.
BLIND = replace(exact(Solver.ROLLING), ghosts=GhostParameters(enabled=False))
THINKING = replace(BLIND, scenarios=ScenarioParameters(enabled=True))


def demand(store_id: str, place: int, every_minutes: int) -> tuple[Demand, ...]:
    """Half an hour of orders at one store and door, each packed at once."""
    return tuple(
        Demand(
            order_id=f"p{minute:02}",
            store_id=store_id,
            place=place,
            placed_at_s=-minute * MINUTE,
            ready_at_s=-minute * MINUTE,
        )
        for minute in range(0, 30, every_minutes)
    )


def one_order_and_a_busy_store(parameters: Parameters) -> Snapshot:
    """An order at s, two minutes sooner with the rider on whom store t has to wait."""
    riders = [rider("between", place=18), rider("beyond", place=0)]
    return on_the_line([order(place=9)], riders, parameters, recent=demand("t", 42, 2))


def two_orders_and_a_rider_who_comes(parameters: Parameters) -> Snapshot:
    """The same order, which a rider could also bring who will be free at s in ten minutes."""
    riders = [rider("between", place=18), rider("soon", free_at_s=10 * MINUTE)]
    return on_the_line([order(place=9)], riders, parameters, recent=demand("t", 42, 2))


def riders_of(answer: Plan) -> list[str]:
    return [trip.rider_id for trip in answer.trips]


def riders_of_all(answer: Plan) -> list[str]:
    return [trip.rider_id for trip in (*answer.trips, *answer.tentative)]


def test_rider_whom_another_store_will_need_is_spared() -> None:
    """Alone the nearer rider goes; with futures the farther one, and the plan says so."""
    assert riders_of(plan(one_order_and_a_busy_store(BLIND))) == ["between"]
    answer = plan(one_order_and_a_busy_store(THINKING))
    assert riders_of(answer) == ["beyond"]
    assert answer.statistics.swaps == 1
    assert not answer.held
    assert not answer.unassigned


def test_order_is_kept_back_for_a_rider_who_is_not_free_yet() -> None:
    """It is held for somebody else, with the reason, rather than given to whom others will need."""
    assert riders_of(plan(two_orders_and_a_rider_who_comes(BLIND))) == ["between"]
    answer = plan(two_orders_and_a_rider_who_comes(THINKING))
    assert not answer.trips
    (held,) = answer.held
    assert (held.order_id, held.reason) == ("a", HeldReason.KEPT_BACK)
    assert held.look_again_at_s == 10 * MINUTE
    assert riders_of_all(answer) == ["soon"]


def test_where_nothing_is_ordered_nothing_is_reconsidered() -> None:
    """Without recent orders every future is empty, and the first plan stands."""
    quiet = replace(one_order_and_a_busy_store(THINKING), recent=())
    answer = plan(quiet)
    assert riders_of(answer) == ["between"]
    assert answer.statistics.swaps == 0


def test_first_plan_stands_when_time_is_up() -> None:
    """A comparison that was not finished decides nothing."""
    world = one_order_and_a_busy_store(THINKING)
    first = plan(replace(world, parameters=BLIND))
    assert reconsider(load_kernel(), world, first, perf_counter()) is first
    assert riders_of(reconsider(load_kernel(), world, first, np.inf)) == ["beyond"]


@pytest.mark.parametrize(("valued", "riding"), [(5, ["between"]), (6, ["beyond"])])
def test_futures_that_were_valued_in_time_decide_if_they_are_enough(
    monkeypatch: pytest.MonkeyPatch, valued: int, riding: list[str]
) -> None:
    """One future less than the fewest changes nothing, and what is cut short never counts."""
    finished = 0

    def is_over(until_s: float) -> bool:
        return finished > valued

    def counted(known: Instance, ghosts: Sequence[Ghost]) -> Instance:
        nonlocal finished
        finished += 1
        return with_ghosts(known, ghosts)

    monkeypatch.setattr("dispatch.valuing.is_over", is_over)
    monkeypatch.setattr("dispatch.valuing.with_ghosts", counted)
    assert THINKING.scenarios.least_valuing == 6
    assert riders_of(plan(one_order_and_a_busy_store(THINKING))) == riding


def test_however_many_orders_one_swap_is_valued() -> None:
    """What may be planned bounds swaps and futures, down to one swap under the fewest futures."""
    least = replace(THINKING.scenarios, most_valuing_rounds=0)
    world = one_order_and_a_busy_store(replace(THINKING, scenarios=least))
    assert riders_of(plan(world)) == ["beyond"]


def test_same_question_gets_the_same_second_thoughts() -> None:
    """The futures are drawn from the snapshot's seed and moment, whatever was asked before."""
    world = two_orders_and_a_rider_who_comes(THINKING)
    answer = plan(world)
    plan(replace(world, seed=7))
    assert plan(world) == answer


def test_what_is_changed_can_still_be_carried_out() -> None:
    """Cities short of riders: each order in one place, no rider twice, nothing before its time."""
    swaps = 0
    parameters = Parameters(scenarios=THINKING.scenarios)
    for seed in range(12):
        world = in_the_plane(3, 24, 7, side_m=6000.0, seed=seed, parameters=parameters)
        # Two riders are on their way to a store already, and their trips may grow until the pickup.
        aboard = tuple(
            order(f"t{n}", store_id=f"s{n}", place=3 + n, ready_at_s=1030.0 + 30.0 * n)
            for n in range(2)
        )
        riding = tuple(
            replace(
                one,
                trip=CurrentTrip(
                    store_id=f"s{n}", order_ids=(f"t{n}",), arrives_at_s=1000.0 + 40.0 * n
                ),
            )
            for n, one in enumerate(world.riders[:2])
        )
        world = replace(
            world,
            riders=(*riding, *world.riders[2:]),
            trip_orders=aboard,
            recent=tuple(
                Demand(
                    order_id=one.order_id,
                    store_id=one.store_id,
                    place=one.place,
                    placed_at_s=one.placed_at_s,
                    ready_at_s=one.ready_at_s,
                )
                for one in world.orders
            ),
        )
        answer = plan(world)
        swaps += answer.statistics.swaps
        placed = [one for trip in answer.trips for one in trip.order_ids if one[0] != "t"]
        placed += [one.order_id for one in (*answer.held, *answer.unassigned)]
        assert sorted(placed) == sorted(one.order_id for one in world.orders)
        assert len(set(riders_of(answer))) == len(answer.trips)
        meant = {one for trip in answer.tentative for one in trip.order_ids if one[0] != "t"}
        assert meant <= {one.order_id for one in answer.held}
        ready_s = {one.order_id: one.ready_at_s for one in (*world.orders, *aboard)}
        for trip in (*answer.trips, *answer.tentative):
            left_s = trip.stops[0].planned_departure_s
            assert all(ready_s[one] <= left_s for one in trip.order_ids)
    assert swaps >= 3


def test_futures_have_as_many_orders_as_the_last_half_hour() -> None:
    """15 in the last half hour: 15 on average in the next, and 30 when an hour is sampled."""
    random = np.random.default_rng(1)
    recent = demand("s", 11, 2)
    for horizon_minutes, expected in ((30, 15.0), (60, 30.0)):
        parameters = ScenarioParameters(horizon_s=horizon_minutes * MINUTE)
        sizes = [len(sample_future(recent, 0.0, parameters, random)) for _ in range(400)]
        assert np.mean(sizes) == pytest.approx(expected, rel=0.1)


def test_a_future_repeats_places_of_the_last_hour_only() -> None:
    """Each expected order is like one that was; what is older than an hour does not come again."""
    old = Demand(
        order_id="old", store_id="t", place=1, placed_at_s=-61 * MINUTE, ready_at_s=-50 * MINUTE
    )
    recent = (*demand("s", 11, 2), old)
    future = sample_future(recent, 0.0, ScenarioParameters(), np.random.default_rng(2))
    assert {(one.store_id, one.place) for one in future} == {("s", 11)}
    assert all(0.0 <= one.placed_at_s <= 30 * MINUTE for one in future)
    assert all(one.ready_at_s == pytest.approx(one.placed_at_s) for one in future)
    assert len({one.key for one in future}) == len(future)


@pytest.mark.parametrize("changed", [{"valuing": 0}, {"window_s": 0.0}, {"horizon_s": -1.0}])
def test_scenarios_that_make_no_sense_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ScenarioParameters(**changed)  # type: ignore[arg-type]  # any field by name
