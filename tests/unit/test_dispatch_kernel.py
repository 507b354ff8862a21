"""The compiled core: what it says that an insertion costs, and when a route sets out."""

from dataclasses import replace

import pytest

from dispatch import CurrentTrip, Demand, GhostParameters, Parameters, Solver
from dispatch.arrays import Routes
from dispatch.ghosts import Ghost, foresee
from dispatch.instance import Instance, build
from dispatch.parameters import LatenessParameters
from dispatch.rolling import load_kernel
from dispatch.route_search import random_state, start_routes, trips_of
from tests.plan_support import MINUTE, exact, in_the_plane, on_the_line, order, rider

ANYTHING = 1e9
EXACT = exact(Solver.ROLLING)


def expected_order(minute: int, *, prep_minutes: int = 0, key: str = "later") -> Ghost:
    """One that comes to store s for the door at place 20."""
    placed_at_s = minute * MINUTE
    ready_at_s = placed_at_s + prep_minutes * MINUTE
    return Ghost(key, "s", 20, placed_at_s, ready_at_s, weight=1.0)


def pickups(ghosts: list[Ghost], place: int) -> list[float]:
    """Minutes of the pickups of one rider's route over ghosts alone, in their sequence."""
    kernel = load_kernel()
    instance = build(on_the_line([], [rider(place=place)], EXACT), ghosts)
    routes = start_routes(kernel, instance, {}, random_state(0))
    size = int(routes.size[0])
    return [float(one) / MINUTE for one in routes.pick[0, :size]]


def take_out(instance: Instance, routes: Routes, row: int) -> None:
    """One order off its route, and the times of the rest."""
    kernel, column = load_kernel(), int(routes.owner[row])
    kernel.take_out(routes, column, routes.order[column].tolist().index(row))
    kernel.schedule(instance.world, routes, column)


def test_nobody_sets_out_for_an_order_that_is_not_placed() -> None:
    """Five minutes away, placed at minute 10, and half of the pickup's two minutes: 16."""
    assert pickups([expected_order(10)], place=5) == [16.0]
    assert pickups([expected_order(10, prep_minutes=9)], place=5) == [19.0]


def test_after_a_trip_the_rider_waits_for_the_next_to_be_placed() -> None:
    """Handed over at 20 and done at the door by 33, the way back would end at 43; placed at 50."""
    ghosts = [expected_order(19), expected_order(50, key="much later")]
    assert pickups(ghosts, place=10) == [20.0, 61.0]


def test_a_trip_leaves_when_its_first_order_is_placed() -> None:
    """What joins it may be placed on the way to the store."""
    ghosts = [expected_order(10), expected_order(12, key="on the way")]
    assert pickups(ghosts, place=5) == [16.0, 16.0]


@pytest.mark.parametrize("seed", range(8))
def test_an_insertion_costs_what_it_was_said_to_cost(seed: int) -> None:
    """Everything is taken out and inserted again: the difference is the price, to the second."""
    kernel = load_kernel()
    parameters = Parameters(lateness=LatenessParameters(late_weight=1.0))
    world = in_the_plane(3, 18, 9, side_m=5000.0, seed=seed, parameters=parameters)
    recent = tuple(
        Demand(
            order_id=f"p{one.order_id}",
            store_id=one.store_id,
            place=one.place,
            placed_at_s=-700.0 + 90.0 * number,
            ready_at_s=-700.0 + 90.0 * number,
        )
        for number, one in enumerate(world.orders)
    )
    trip = CurrentTrip(store_id="s0", order_ids=("t",), arrives_at_s=1300.0)
    world = replace(
        world,
        riders=(replace(world.riders[0], trip=trip), *world.riders[1:]),
        trip_orders=(order("t", store_id="s0", place=4, ready_at_s=1200.0),),
    )
    instance = build(world, foresee(recent, world.now_s, GhostParameters()))
    state = random_state(seed)
    routes = start_routes(kernel, instance, {}, state)
    compared = 0
    for row in range(instance.count):
        if routes.owner[row] < 0 or instance.world.aboard[row]:
            continue
        take_out(instance, routes, row)
        before = float(routes.cost.sum())
        cost, column, position, joins = kernel.cheapest(
            instance.world, routes, row, ANYTHING, 0.0, state, 0, len(instance.riders)
        )
        kernel.put(instance.world, routes, column, position, row, joins)
        costs = float(routes.cost.sum()) - before
        (trip_rows,) = [one for one in trips_of(routes, column) if row in one]
        others = [one for one in trip_rows if one != row]
        if others and instance.world.placed[row] < instance.world.placed[others].min():
            # The trip waited to be placed and leaves sooner now: cheaper than said.
            assert costs <= cost + 0.05
            continue
        assert costs == pytest.approx(cost, abs=0.05)
        compared += 1
    assert compared >= 12


@pytest.mark.parametrize("seed", range(6))
def test_riders_who_are_passed_over_would_not_have_been_cheaper(seed: int) -> None:
    """Shifts begin one after the other: the cheapest of all is that of each rider asked alone."""
    kernel = load_kernel()
    parameters = Parameters(lateness=LatenessParameters(late_weight=1.0))
    world = in_the_plane(3, 16, 12, side_m=5000.0, seed=seed, parameters=parameters)
    world = replace(
        world,
        riders=tuple(
            replace(one, shift_start_s=2000.0 + 240.0 * (number * 7 % 12))
            for number, one in enumerate(world.riders)
        ),
    )
    instance = build(world)
    state = random_state(seed)
    routes = start_routes(kernel, instance, {}, state)
    columns = range(len(instance.riders))
    for row in range(instance.count):
        take_out(instance, routes, row)
        alone = [
            kernel.cheapest(instance.world, routes, row, ANYTHING, 0.0, state, one, one + 1)[0]
            for one in columns
        ]
        cost, column, position, joins = kernel.cheapest(
            instance.world, routes, row, ANYTHING, 0.0, state, 0, len(columns)
        )
        assert cost == pytest.approx(min(alone), abs=1e-6)
        assert column >= 0
        kernel.put(instance.world, routes, column, position, row, joins)
