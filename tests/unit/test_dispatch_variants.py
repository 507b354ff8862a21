"""OR-Tools as the engine: the same promises as every other solver's plan, and bundles that pay."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dispatch import Parameters, Snapshot, TravelTimes, plan
from dispatch.bundles import bundle_pool, leave_price
from dispatch.ghosts import foresee
from dispatch.instance import Instance, build
from dispatch.parameters import PackingParameters, Solver
from dispatch.variants import propose
from tests.plan_support import in_the_plane

VARIANTS = pytest.mark.parametrize("solver", [Solver.PACKING, Solver.ROUTING])
QUICK = PackingParameters(routing_solutions=5)


def city(orders: int, riders: int, seed: int = 1) -> Snapshot:
    """Two stores in 9 km², a decision each minute; a rider carries three orders."""
    return in_the_plane(
        2, orders, riders, side_m=3000, seed=seed, epoch_s=60.0,
        parameters=Parameters(packing=QUICK),
    )  # fmt: skip


def by(solver: Solver, snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, parameters=replace(snapshot.parameters, solver=solver))


def instance_of(snapshot: Snapshot) -> Instance:
    return build(snapshot, foresee((), snapshot.now_s, snapshot.parameters.ghosts))


@VARIANTS
def test_every_order_has_one_place_and_every_trip_fits(solver: Solver) -> None:
    """More orders than riders: bundles within capacity, each order once, the same plan twice."""
    snapshot = by(solver, city(9, 4))
    answer = plan(snapshot)
    places = Counter(
        [order_id for trip in answer.trips for order_id in trip.order_ids]
        + [one.order_id for one in (*answer.held, *answer.unassigned)]
    )
    assert places == Counter(order.order_id for order in snapshot.orders)
    assert max(len(trip.order_ids) for trip in answer.trips) <= 3
    assert all(
        order.store_id == trip.store_id
        for trip in answer.trips
        for order in snapshot.orders
        if order.order_id in trip.order_ids
    )
    assert plan(snapshot) == answer


@VARIANTS
def test_the_plan_is_never_dearer_than_the_matching(solver: Solver) -> None:
    """Whatever OR-Tools proposes is taken only if it costs less."""
    for seed in range(3):
        statistics = plan(by(solver, city(8, 4, seed))).statistics
        assert statistics.objective <= statistics.fallback_objective + 1e-6


@VARIANTS
def test_neighbours_share_the_only_rider(solver: Solver) -> None:
    """Two doors next to each other, goods packed: one trip."""
    snapshot = city(2, 1)
    seconds = snapshot.travel.seconds_between(np.arange(5)[:, None], np.arange(5)[None, :])
    seconds[2:4, 2:4] = 5.0
    orders = tuple(replace(one, store_id="s0", ready_at_s=900.0) for one in snapshot.orders)
    travel = TravelTimes(seconds=seconds, row_of=np.arange(5, dtype=np.int32))
    meant = propose(instance_of(replace(snapshot, orders=orders, travel=travel)), solver, np.inf)
    assert set(meant) == {"r000"}
    assert sorted(meant["r000"][0]) == ["o000", "o001"]


@VARIANTS
def test_no_time_and_nothing_to_do_propose_nothing(solver: Solver) -> None:
    """No orders, no riders, no seconds left."""
    assert propose(instance_of(city(0, 2)), solver, np.inf) == {}
    assert propose(instance_of(city(2, 0)), solver, np.inf) == {}
    assert propose(instance_of(city(2, 2)), solver, 0.0) == {}


def test_a_pool_holds_what_fits_and_pays() -> None:
    """Bundles of one store within capacity, no order twice, each cheaper than leaving it."""
    instance = instance_of(city(10, 5))
    world = instance.world
    pool = bundle_pool(world, instance.open_count, QUICK)
    price = leave_price(world, QUICK)
    sizes = Counter(len(pool.orders_of(one)) for one in range(pool.rider.size))
    assert set(sizes) == {1, 2, 3}
    for one in range(pool.rider.size):
        orders = pool.orders_of(one)
        assert len(set(orders)) == len(orders)
        assert len({int(world.store[order]) for order in orders}) == 1
        assert world.loads[orders, 0].sum() <= world.capacity[pool.rider[one], 1]
        assert pool.cost[one] < price[orders].sum()


def test_a_candidate_costs_what_the_rolling_plan_counts() -> None:
    """Laid as a route and scheduled by the other kernel, it costs the same."""
    from dispatch import kernel
    from dispatch.arrays import empty_routes

    instance = instance_of(city(6, 3))
    world = instance.world
    pool = bundle_pool(world, instance.open_count, QUICK)
    for one in range(0, pool.rider.size, 7):
        routes = empty_routes(instance.count, len(instance.riders), 8)
        rider, orders = int(pool.rider[one]), pool.orders_of(one)
        routes.order[rider, : len(orders)] = orders
        routes.head[rider, 0] = 1
        routes.size[rider] = len(orders)
        whole = kernel.schedule(world, routes, rider)
        sunk_s = np.maximum(0.0, world.earliest[orders] - world.promised[orders])
        sunk = world.late[orders] * (sunk_s + sunk_s**2 * world.late_curve)
        assert pool.cost[one] == pytest.approx(whole - sunk.sum(), rel=1e-4)
