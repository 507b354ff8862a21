"""The world once something is committed, and routes that are made to fit another commitment."""

from dataclasses import replace

import numpy as np
import pytest

from dispatch import (
    CommitmentParameters,
    CurrentTrip,
    OfferParameters,
    Parameters,
    RollingParameters,
    Snapshot,
    Solver,
    plan,
)
from dispatch.arrays import World
from dispatch.ghosts import Ghost
from dispatch.instance import build, with_ghosts, with_riders, with_riders_of
from dispatch.rolling import load_kernel
from dispatch.route_search import exchange, random_state, start_routes, trips_of
from dispatch.valuing import riders_after
from tests.plan_support import MINUTE, exact, in_the_plane, on_the_line, order, rider

EXACT = exact(Solver.ROLLING)
# Decided 30 s before the handover, and answered in 20.
EARLY = Parameters(
    commitment=CommitmentParameters(slack_s=30.0), offers=OfferParameters(response_s=20.0)
)


def test_who_is_not_sent_now_sets_out_with_the_next_decision() -> None:
    """A minute later, or whenever a rider who is busy comes free."""
    world = on_the_line([], [rider("idle"), rider("busy", free_at_s=5 * MINUTE)], EXACT)
    riders = riders_after(world, ())
    assert riders["idle"].free_at_s == MINUTE
    assert riders["busy"].free_at_s == 5 * MINUTE


def on_the_way(arrives_at_s: float, parameters: Parameters, **changes: object) -> Snapshot:
    """One rider who will be at store s then, to pick up one order that is packed."""
    trip = CurrentTrip(store_id="s", order_ids=("t",), arrives_at_s=arrives_at_s)
    riding = rider("r", trip=trip)
    return on_the_line([], [riding], parameters, trip_orders=(order("t", **changes),))


@pytest.mark.parametrize(
    ("world", "grows"),
    [
        # A minute at the store before the handover: the next decision, at 60 s, comes before it.
        (on_the_way(30.0, EXACT), True),
        (on_the_way(0.0, EXACT), False),
        # The decision is to be made 50 s before the handover.
        (on_the_way(49.0, EARLY), False),
        (on_the_way(51.0, EARLY), True),
        # The goods decide when they are packed later; half a minute of spread may be too early.
        (on_the_way(0.0, EXACT, ready_at_s=90.0), True),
        (on_the_way(0.0, EXACT, ready_at_s=90.0, ready_spread_s=30.0), False),
    ],
)
def test_a_trip_grows_if_the_next_decision_comes_before_its_handover(
    world: Snapshot, grows: bool
) -> None:
    (riding,) = riders_after(world, ()).values()
    assert riding.trip is not None
    assert riding.trip.may_add is grows


def test_what_is_committed_is_a_current_trip() -> None:
    """With the arrival that was planned; it may be told not to grow."""
    world = on_the_line([order()], [rider(place=5)], EXACT)
    (trip,) = plan(world).trips
    (riding,) = riders_after(world, [trip]).values()
    assert riding.trip == CurrentTrip(
        store_id="s", order_ids=("a",), arrives_at_s=5 * MINUTE, may_add=True
    )
    (riding,) = riders_after(world, [trip], may_grow=False).values()
    assert riding.trip is not None
    assert not riding.trip.may_add


@pytest.mark.parametrize("seed", range(12))
def test_routes_fit_another_commitment(seed: int) -> None:
    """One trip is taken back and one of later goes now: each order in one place, trips unbroken."""
    kernel = load_kernel()
    world = in_the_plane(3, 20, 6, side_m=5000.0, seed=seed, parameters=EXACT)
    first = plan(world)
    trips = [*first.trips]
    later = next(one for one in first.tentative if one.rider_id != trips[0].rider_id)
    ghosts = [
        Ghost(f"g{n}", one.store_id, one.place, 1100.0 + 60 * n, 1300.0 + 60 * n, weight=1.0)
        for n, one in enumerate(world.orders[:6])
    ]
    instance = build(world, ghosts)
    before = with_riders(instance, riders_after(world, trips))
    meant = {one.rider_id: one.trips for one in first.routes}
    routes = start_routes(kernel, before, meant, random_state(seed))
    # The first trip's orders are kept back; its rider gets what another was to do later.
    instead = replace(later, rider_id=trips[0].rider_id)
    after = with_riders(instance, riders_after(world, [instead, *trips[1:]]))
    ids = [one.rider_id for one in after.riders]
    columns = [ids.index(trips[0].rider_id)]
    fitted, again = exchange(kernel, before, after, columns, routes)
    assert {*columns, ids.index(later.rider_id)} <= set(again.tolist())
    keys = after.keys
    for column, riding in enumerate(after.riders):
        rows = [row for one in trips_of(fitted, column) for row in one]
        assert all(fitted.owner[row] == column for row in rows)
        if riding.trip is not None:
            first = {keys[row] for row in trips_of(fitted, column)[0]}
            assert set(riding.trip.order_ids) <= first
        said = float(fitted.cost[column])
        assert kernel.schedule(after.world, fitted, column) == pytest.approx(said)
        assert np.isfinite(said)
    placed = [row for column in range(6) for one in trips_of(fitted, column) for row in one]
    assert sorted(placed) == np.flatnonzero(fitted.owner >= 0).tolist()
    assert (fitted.owner[: len(after.orders)] >= 0).all()


def test_commitments_and_a_future_may_come_in_either_order() -> None:
    """Arrays of riders with the ghosts added are those of the ghosts with the riders changed."""
    world = in_the_plane(3, 20, 6, side_m=5000.0, seed=1, parameters=EXACT)
    riders = riders_after(world, plan(world).trips)
    known = build(world)
    future = with_ghosts(known, [Ghost("g", "s1", 7, 1100.0, 1300.0, weight=1.0)])
    one = with_riders_of(with_riders(known, riders), future)
    other = with_riders(future, riders)
    assert one.riders == other.riders != future.riders
    for name, here, there in zip(World._fields, one.world, other.world, strict=True):
        np.testing.assert_array_equal(here, there, err_msg=name)


def test_what_was_to_join_a_trip_joins_it_still() -> None:
    """Rider r has t and is to take a with it and b afterwards; then b goes to rider q at once."""
    kernel = load_kernel()
    trip = CurrentTrip(store_id="s", order_ids=("t",), arrives_at_s=5 * MINUTE)
    orders = [order("a", place=21), order("b", place=12)]
    riders = [rider("q", place=11), rider("r", trip=trip)]
    world = on_the_line(orders, riders, EXACT, trip_orders=(order("t", place=22),))
    instance = build(world, ())
    before = with_riders(instance, riders_after(world, ()))
    routes = start_routes(kernel, before, {"r": (("a", "t"), ("b",))}, random_state(0))
    (sent,) = plan(replace(world, orders=(orders[1],), riders=(riders[0],), trip_orders=())).trips
    after = with_riders(instance, riders_after(world, [sent]))
    ids, keys = [one.rider_id for one in after.riders], after.keys
    fitted, again = exchange(kernel, before, after, [ids.index("q")], routes)
    assert again.size == 2
    for rider_id, trips in (("q", [["b"]]), ("r", [["a", "t"]])):
        laid = trips_of(fitted, ids.index(rider_id))
        assert [[keys[row] for row in one] for one in laid] == trips


def test_what_a_route_cannot_hold_goes_elsewhere() -> None:
    """Two orders fill a route: with a third to be brought at once, the last one moves on."""
    kernel = load_kernel()
    short = replace(EXACT, rolling=RollingParameters(route_length=1))
    orders = [order("a"), order("b", place=12), order("c", place=14)]
    riders = [rider("q"), rider("r")]
    world = on_the_line(orders, riders, short)
    instance = build(world)
    before = with_riders(instance, riders_after(world, ()))
    routes = start_routes(kernel, before, {"q": (("a",),), "r": (("c",),)}, random_state(0))
    ids = [one.rider_id for one in instance.riders]
    full = int(routes.size.argmax())
    assert routes.size[full] == routes.order.shape[1]
    (sent,) = plan(replace(world, orders=(orders[2],), riders=(riders[0],))).trips
    after = with_riders(instance, riders_after(world, [replace(sent, rider_id=ids[full])]))
    fitted, _ = exchange(kernel, before, after, [full], routes)
    assert (fitted.owner >= 0).all()
    assert fitted.size.max() <= fitted.order.shape[1]
