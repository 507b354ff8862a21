"""Whatever the world looks like, a plan can be carried out and treats orders fairly."""

import pickle
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from dispatch import (
    Backend,
    CurrentTrip,
    Demand,
    ExtensionParameters,
    MatchingParameters,
    Order,
    Parameters,
    Plan,
    PromiseInputs,
    Rider,
    Snapshot,
    Solver,
    Store,
    Temperature,
    TravelTimes,
    Trip,
    UnassignedReason,
    Vehicle,
    plan,
    promise,
)
from dispatch.parameters import DEFAULT_CARRIES, ScenarioParameters

PLACES = 12
NOW_S = 3600.0
STORES = (
    Store(store_id="s0", place=0, pickup_service_s=90.0),
    Store(store_id="s1", place=1, pickup_service_s=0.0),
)

places = st.integers(0, PLACES - 1)
minutes = st.integers(-60, 60).map(lambda minute: NOW_S + 60.0 * minute)


@st.composite
def travel_times(draw: st.DrawFn) -> TravelTimes:
    """Up to half an hour between any two places, some pairs without a way."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seconds = rng.integers(20, 1800, (PLACES, PLACES)).astype(np.float64)
    seconds[rng.random((PLACES, PLACES)) < draw(st.sampled_from([0.0, 0.1]))] = np.inf
    return TravelTimes(seconds=seconds, row_of=np.arange(PLACES, dtype=np.int32))


@st.composite
def an_order(draw: st.DrawFn, order_id: str, riders: int) -> Order:
    placed_at_s = NOW_S - 60.0 * draw(st.integers(0, 90))
    declined = draw(st.frozensets(st.integers(0, riders), max_size=2))
    return Order(
        order_id=order_id,
        store_id=draw(st.sampled_from(["s0", "s1"])),
        place=draw(places),
        placed_at_s=placed_at_s,
        ready_at_s=placed_at_s + 60.0 * draw(st.integers(0, 100)),
        ready_spread_s=draw(st.sampled_from([0.0, 60.0])),
        promised_by_s=placed_at_s + 60.0 * draw(st.integers(5, 90)),
        weight_g=draw(st.sampled_from([0, 400, 1000, 1001])),
        temperature=draw(st.sampled_from(list(Temperature))),
        cash_due_minor=draw(st.sampled_from([0, 0, 300, 501])),
        priority=draw(st.integers(0, 2)),
        declined_by=frozenset(f"r{n}" for n in declined),
        pinned_rider=draw(st.sampled_from([None, None, None, "r0"])),
        version=draw(st.integers(0, 9)),
    )


@st.composite
def a_rider(draw: st.DrawFn, rider_id: str, orders: int) -> Rider:
    return Rider(
        rider_id=rider_id,
        place=draw(places),
        free_at_s=draw(minutes),
        shift_start_s=NOW_S - 60.0 * draw(st.integers(-10, 60)),
        shift_end_s=NOW_S + 60.0 * draw(st.integers(1, 120)),
        vehicle=draw(st.sampled_from(list(Vehicle))),
        capacity_g=1000,
        capacity_orders=draw(st.integers(1, 3)),
        cash_headroom_minor=500,
        declined=frozenset(
            f"o{n}" for n in draw(st.frozensets(st.integers(0, orders), max_size=2))
        ),
        travel_factor=draw(st.sampled_from([0.8, 1.0, 1.5])),
        version=draw(st.integers(0, 9)),
    )


@st.composite
def worlds(draw: st.DrawFn, trips: bool = True) -> Snapshot:
    """Up to 8 orders and 8 riders over two stores; some riders have a trip with one order."""
    order_count, rider_count = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    orders = [draw(an_order(f"o{n}", rider_count)) for n in range(order_count)]
    riders = [draw(a_rider(f"r{n}", order_count)) for n in range(rider_count)]
    aboard: list[Order] = []
    for n in range(rider_count if trips else 0):
        if draw(st.booleans()):
            held = replace(draw(an_order(f"t{n}", 0)), weight_g=400)
            trip = CurrentTrip(
                store_id=held.store_id,
                order_ids=(held.order_id,),
                arrives_at_s=draw(minutes),
                may_add=draw(st.booleans()),
            )
            aboard.append(held)
            began_s = min(NOW_S, riders[n].shift_start_s)
            riders[n] = replace(riders[n], trip=trip, shift_start_s=began_s)
    recent = [
        Demand(
            order_id=f"p{n}",
            store_id=draw(st.sampled_from(["s0", "s1"])),
            place=draw(places),
            placed_at_s=NOW_S - 60.0 * draw(st.integers(0, 40)),
            ready_at_s=NOW_S + 60.0 * draw(st.integers(-40, 20)),
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    return Snapshot(
        now_s=NOW_S,
        recent=tuple(recent),
        epoch_s=draw(st.sampled_from([5.0, 60.0])),
        dropoff_service_s=60.0,
        orders=tuple(orders),
        trip_orders=tuple(aboard),
        riders=tuple(riders),
        stores=STORES,
        travel=draw(travel_times()),
        parameters=Parameters(
            solver=draw(st.sampled_from([Solver.MATCHING, Solver.ROLLING])),
            matching=MatchingParameters(
                nearest_riders=draw(st.sampled_from([1, 24])),
                backend=draw(st.sampled_from(list(Backend))),
            ),
            scenarios=ScenarioParameters(enabled=draw(st.booleans())),
        ),
        deadline_s=draw(st.sampled_from([0.0, float("inf")])),
    )


def check_plan(world: Snapshot, answer: Plan) -> None:
    """Every trip of the plan, those of one rider in their sequence."""
    clock: dict[str, tuple[float, int]] = {}
    for trip in (*answer.trips, *answer.tentative):
        rider = next(one for one in world.riders if one.rider_id == trip.rider_id)
        free_s, place = clock.get(rider.rider_id, (rider.free_at_s, rider.place))
        if rider.trip is not None and not trip.extends and rider.rider_id not in clock:
            # After the trip that he has: where and when that one ends, the plan does not repeat.
            free_s, place = -np.inf, trip.stops[0].place
        check_trip(world, trip, free_s, place)
        clock[rider.rider_id] = (trip.stops[-1].planned_departure_s, trip.stops[-1].place)


def check_trip(world: Snapshot, trip: Trip, free_s: float, place: int) -> None:
    """The rules again, one by one, from the trip's own stops.

    free_s, place: when and where the rider is done with what comes before the trip.
    """
    rider = next(one for one in world.riders if one.rider_id == trip.rider_id)
    store = next(one for one in world.stores if one.store_id == trip.store_id)
    known = {one.order_id: one for one in (*world.orders, *world.trip_orders)}
    orders = [known[order_id] for order_id in trip.order_ids]
    old = rider.trip.order_ids if rider.trip and trip.extends else ()
    new = [one for one in orders if one.order_id not in old]
    assert new
    assert trip.extends == bool(old)
    assert set(old) <= set(trip.order_ids)
    if trip.extends:
        assert rider.trip is not None
        assert rider.trip.may_add
        assert rider.trip.store_id == trip.store_id
    assert {one.store_id for one in orders} == {trip.store_id}
    assert len(orders) <= rider.capacity_orders
    assert sum(one.weight_g for one in orders) <= rider.capacity_g
    assert sum(one.cash_due_minor for one in new) <= rider.cash_headroom_minor
    for one in new:
        assert one.temperature in DEFAULT_CARRIES[rider.vehicle]
        assert rider.rider_id not in one.declined_by
        assert one.order_id not in rider.declined
        assert one.pinned_rider in (None, rider.rider_id)
    assert trip.order_versions == tuple(one.version for one in orders)
    assert trip.rider_version == rider.version
    check_times(world, trip, rider, store, orders, free_s, place)


def check_times(
    world: Snapshot,
    trip: Trip,
    rider: Rider,
    store: Store,
    orders: list[Order],
    free_s: float,
    place: int,
) -> None:
    """Nobody rides, collects or delivers sooner than possible, nor collects after the shift."""
    pickup, *dropoffs = trip.stops
    seconds = world.travel.seconds_between
    pace = rider.travel_factor
    if trip.extends:
        assert rider.trip is not None
        assert pickup.planned_arrival_s == rider.trip.arrives_at_s
    else:
        leave_s = max(world.now_s, free_s, rider.shift_start_s)
        assert trip.leave_at_s >= leave_s - 1e-3
        ride_s = float(seconds(place, store.place)) * pace
        assert pickup.planned_arrival_s >= trip.leave_at_s + ride_s - 1e-3
    handover_s = pickup.planned_departure_s - store.pickup_service_s / 2
    assert handover_s >= max(world.now_s, *(one.ready_at_s for one in orders))
    assert handover_s >= pickup.planned_arrival_s + store.pickup_service_s / 2 - 1e-3
    assert handover_s <= rider.shift_end_s
    assert [stop.order_ids for stop in dropoffs] == [(one,) for one in trip.order_ids]
    here, clock_s = store.place, pickup.planned_departure_s
    for stop, one in zip(dropoffs, orders, strict=True):
        ride_s = float(seconds(here, one.place)) * pace
        assert np.isfinite(ride_s)
        assert stop.place == one.place
        assert stop.planned_arrival_s >= clock_s + ride_s - 1e-3
        assert stop.planned_departure_s >= stop.planned_arrival_s + world.dropoff_service_s - 1e-3
        here, clock_s = stop.place, stop.planned_departure_s


def placed_orders(answer: Plan) -> list[str]:
    new = [one for trip in answer.trips for one in trip.order_ids]
    held = [one.order_id for one in answer.held]
    return [*new, *held, *(one.order_id for one in answer.unassigned)]


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_every_plan_can_be_carried_out(world: Snapshot) -> None:
    """Every trip keeps all rules; no rider twice; every open order in exactly one place."""
    answer = plan(world)
    check_plan(world, answer)
    riders = [trip.rider_id for trip in answer.trips]
    assert len(set(riders)) == len(riders)
    aboard = {one for trip in answer.trips if trip.extends for one in trip.order_ids}
    aboard &= {one.order_id for one in world.trip_orders}
    assert sorted(placed_orders(answer)) == sorted({one.order_id for one in world.orders} | aboard)
    held = {one.order_id for one in answer.held}
    known = {one.order_id for one in world.orders}
    meant = {one for trip in answer.tentative for one in trip.order_ids}
    assert meant & known <= held
    assert all(one.look_again_at_s > world.now_s for one in answer.held)
    assert answer.statistics.objective <= answer.statistics.fallback_objective


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_same_question_same_answer(world: Snapshot, random: object) -> None:
    """Asked twice, in another sequence, or in another process: the plan is equal."""
    orders, riders = list(world.orders), list(world.riders)
    random.shuffle(orders)  # type: ignore[attr-defined]  # hypothesis hands out random.Random
    random.shuffle(riders)  # type: ignore[attr-defined]  # hypothesis hands out random.Random
    shuffled = replace(world, orders=tuple(orders), riders=tuple(riders))
    answer = plan(world)
    assert plan(shuffled) == answer
    assert pickle.loads(pickle.dumps(plan(pickle.loads(pickle.dumps(world))))) == answer


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_decliner_is_never_asked_again(world: Snapshot) -> None:
    """Every rider who gets an order declines it; the next plan asks somebody else or nobody."""
    for _ in range(3):
        asked = {
            order_id: trip.rider_id for trip in plan(world).trips for order_id in trip.order_ids
        }
        world = replace(
            world,
            orders=tuple(
                replace(one, declined_by=one.declined_by | {asked.get(one.order_id, "")})
                for one in world.orders
            ),
        )
        for trip in plan(world).trips:
            for one in world.orders:
                assert one.order_id not in trip.order_ids or trip.rider_id not in one.declined_by


@settings(max_examples=100, deadline=None)
@given(worlds(trips=False))
def test_no_order_is_left_that_could_be_served(world: Snapshot) -> None:
    """As many near orders get a rider as a maximum matching over single pairs allows."""
    world = replace(
        world,
        deadline_s=float("inf"),
        parameters=replace(
            world.parameters,
            solver=Solver.MATCHING,
            matching=replace(world.parameters.matching, backend=Backend.FLOW),
            extension=ExtensionParameters(enabled=False),
        ),
    )
    near = [one for one in world.orders if one.ready_at_s <= NOW_S + 900.0]
    pairs = np.array(
        [
            [
                not plan(replace(world, orders=(one,), riders=(rider,))).unassigned
                for rider in world.riders
            ]
            for one in near
        ],
        dtype=np.int8,
    ).reshape(len(near), len(world.riders))
    best = (maximum_bipartite_matching(csr_matrix(pairs)) >= 0).sum() if pairs.size else 0
    answer = plan(world)
    served = sum(len(trip.order_ids) for trip in (*answer.trips, *answer.tentative))
    assert served == best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(5, 55), min_size=1, max_size=8, unique=True),
    st.integers(1, 8),
    st.sampled_from([Backend.FLOW, Backend.ASSIGNMENT, Backend.GREEDY]),
)
def test_most_urgent_are_served_when_riders_run_short(
    promised_minutes: list[int], rider_count: int, backend: Backend
) -> None:
    """Among orders alike but for their promise, those left over are the least urgent ones."""
    orders = tuple(
        Order(
            order_id=f"o{n}",
            store_id="s0",
            place=2,
            placed_at_s=NOW_S - 300,
            ready_at_s=NOW_S,
            promised_by_s=NOW_S + 60.0 * minute,
        )
        for n, minute in enumerate(promised_minutes)
    )
    riders = tuple(
        Rider(rider_id=f"r{n}", place=3, free_at_s=NOW_S, shift_start_s=0.0, shift_end_s=9e4)
        for n in range(rider_count)
    )
    world = Snapshot(
        now_s=NOW_S,
        epoch_s=5.0,
        dropoff_service_s=60.0,
        orders=orders,
        riders=riders,
        stores=STORES,
        travel=TravelTimes(seconds=np.full((4, 4), 300.0), row_of=np.arange(4, dtype=np.int32)),
        parameters=Parameters(
            solver=Solver.MATCHING,
            matching=MatchingParameters(backend=backend),
            extension=ExtensionParameters(enabled=False),
        ),
    )
    answer = plan(world)
    by_promise = sorted(orders, key=lambda one: one.promised_by_s)
    served = {one for trip in answer.trips for one in trip.order_ids}
    assert served == {one.order_id for one in by_promise[:rider_count]}
    assert {one.reason for one in answer.unassigned} <= {UnassignedReason.RIDERS_BUSY}


durations = st.floats(0, 7200)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        PromiseInputs,
        lines=st.integers(1, 60),
        units=st.integers(1, 200),
        orders_ahead=st.integers(0, 60),
        orders_waiting=st.integers(0, 60),
        pickers=st.integers(0, 12),
        riders_free=st.integers(0, 40),
        expected_rider_wait_s=durations,
        travel_s=durations,
        approach_s=durations,
        pickup_service_s=durations,
        dropoff_service_s=durations,
    ),
    st.sampled_from(PromiseInputs.__slots__),
    st.integers(1, 1000),
)
def test_promise_is_monotone(inputs: PromiseInputs, name: str, more: int) -> None:
    """More work, distance or waiting never shortens it; more pickers or riders never stretch it."""
    more_of_it = replace(inputs, **{name: getattr(inputs, name) + more})
    shorter, longer = inputs, more_of_it
    if name in {"pickers", "riders_free"}:
        shorter, longer = more_of_it, inputs
    assert promise(shorter).low_s <= promise(longer).low_s
    assert promise(shorter).high_s <= promise(longer).high_s
    assert 0 <= promise(inputs).low_s < promise(inputs).high_s
