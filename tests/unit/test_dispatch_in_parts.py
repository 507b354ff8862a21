"""A large city is planned in parts: nothing is lost, nothing is given away twice."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dispatch import CurrentTrip, Parameters, Snapshot, plan
from dispatch.parameters import Solver
from dispatch.parts import PART_ORDERS, divide
from tests.plan_support import in_the_plane

ORDERS, RIDERS, STORES = 400, 400, 6


def large_city(**changes: object) -> Snapshot:
    """Six stores in 36 km²: large enough to be divided."""
    settings = {"parameters": Parameters(solver=Solver.MATCHING), **changes}
    return in_the_plane(STORES, ORDERS, RIDERS, side_m=6000, **settings)


def test_every_order_store_and_rider_is_in_one_part() -> None:
    """Parts are neighbouring stores with about so many orders, and riders for them."""
    snapshot = large_city()
    parts = divide(snapshot)
    assert len(parts) > 1
    for name, key in (("orders", "order_id"), ("riders", "rider_id"), ("stores", "store_id")):
        whole = sorted(getattr(one, key) for one in getattr(snapshot, name))
        assert sorted(getattr(one, key) for part in parts for one in getattr(part, name)) == whole
    for part in parts:
        assert len(part.orders) <= PART_ORDERS or len(part.stores) == 1
        share = len(part.orders) / ORDERS
        assert len(part.riders) >= 0.6 * share * RIDERS


def test_the_plan_of_the_parts_is_a_plan_of_the_whole() -> None:
    """Each order is in one place, no rider has two trips, and the statistics add up."""
    snapshot = large_city()
    answer = plan(snapshot)
    places = Counter(
        [order_id for trip in answer.trips for order_id in trip.order_ids]
        + [one.order_id for one in (*answer.held, *answer.unassigned)]
    )
    assert places == Counter(order.order_id for order in snapshot.orders)
    riders = Counter(trip.rider_id for trip in (*answer.trips, *answer.tentative))
    assert max(riders.values()) == 1
    assert answer.statistics.orders == ORDERS
    assert answer.statistics.riders == RIDERS
    assert not answer.unassigned
    assert plan(snapshot) == answer


def test_dividing_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery of all orders takes at most 3 % longer than without borders."""
    snapshot = large_city()
    divided = plan(snapshot)
    monkeypatch.setattr("dispatch.parts.WHOLE", 10**9)
    whole = plan(snapshot)

    def mean_s(answer: object) -> float:
        trips = (*answer.trips, *answer.tentative)  # type: ignore[attr-defined]  # plans
        return float(np.mean([stop.planned_arrival_s for trip in trips for stop in trip.stops[1:]]))

    assert mean_s(divided) - snapshot.now_s <= 1.03 * (mean_s(whole) - snapshot.now_s)


def test_borders_move_from_decision_to_decision() -> None:
    """So that no rider stays behind one."""
    one, other = (divide(large_city(now_s=at)) for at in (1000.0, 1010.0))
    assert [part.stores for part in one] != [part.stores for part in other]


def test_a_rider_goes_with_his_trip_and_with_an_order_that_waits_for_him() -> None:
    """Wherever they stand: the part of that store has them."""
    snapshot = large_city()
    trip_order = replace(snapshot.orders[0], order_id="aboard")
    trip = CurrentTrip(store_id=trip_order.store_id, order_ids=("aboard",), arrives_at_s=1200.0)
    riders = list(snapshot.riders)
    far = max(
        range(RIDERS),
        key=lambda n: float(snapshot.travel.seconds_between(riders[n].place, trip_order.place)),
    )
    riders[far] = replace(riders[far], trip=trip)
    pinned = next(n for n in range(RIDERS) if n != far)
    orders = list(snapshot.orders)
    orders[5] = replace(orders[5], pinned_rider=riders[pinned].rider_id)
    parts = divide(
        replace(snapshot, riders=tuple(riders), orders=tuple(orders), trip_orders=(trip_order,))
    )
    for rider_id, store_id in (
        (riders[far].rider_id, trip.store_id),
        (riders[pinned].rider_id, orders[5].store_id),
    ):
        (part,) = [part for part in parts if rider_id in {one.rider_id for one in part.riders}]
        assert store_id in {store.store_id for store in part.stores}


def test_a_small_city_is_planned_as_a_whole() -> None:
    """And so is one with a single store."""
    snapshot = large_city()
    small = replace(snapshot, riders=snapshot.riders[:10])
    assert divide(small) == [small]


def test_a_deadline_is_shared_and_still_gives_a_whole_plan() -> None:
    """No time at all: the fallback, for every part."""
    answer = plan(large_city(deadline_s=0.0, parameters=Parameters(solver=Solver.ROLLING)))
    assert len(answer.trips) + len(answer.held) + len(answer.unassigned) >= ORDERS * 0.9
    assert not math.isnan(answer.statistics.objective)
