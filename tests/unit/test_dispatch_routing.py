"""The routing solver of OR-Tools on instances that are small enough to check by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dispatch.routing import Routed, RoutingOrder, RoutingProblem, RoutingRider, route


def on_a_line(
    doors_s: list[float], riders: int = 1, capacity: int = 4, **changes: object
) -> RoutingProblem:
    """One store at 0, doors so many seconds away on a line; riders stand at the store."""
    places = np.array(doors_s)
    orders = tuple(
        RoutingOrder(
            store=0,
            from_store_s=abs(place),
            ready_s=0.0,
            earliest_s=abs(place),
            promised_s=abs(place) + 600.0,
            late_weight=2.0,
            leave_price=10_000.0,
        )
        for place in doors_s
    )
    rider = RoutingRider(
        to_store_s=(0.0,), leave_s=0.0, end_s=3600.0, capacity=(capacity, 25_000, 60_000, 0)
    )
    problem = RoutingProblem(
        now_s=0.0,
        riders=(rider,) * riders,
        orders=orders,
        between_s=np.abs(places[:, None] - places[None, :]),
        service_s=(0.0,),
        dropoff_service_s=0.0,
    )
    return replace(problem, **changes)  # type: ignore[arg-type]  # fields by name


def with_order(problem: RoutingProblem, at: int, **changes: object) -> RoutingProblem:
    orders = list(problem.orders)
    orders[at] = replace(orders[at], **changes)  # type: ignore[arg-type]  # fields by name
    return replace(problem, orders=tuple(orders))


def served(found: Routed) -> list[int]:
    return sorted(order for one in found.routes for order in one)


def test_doors_on_a_line_are_served_on_the_way() -> None:
    """Nearest first costs nobody anything."""
    found = route(on_a_line([300.0, 100.0, 200.0]))
    assert found.routes == ((1, 2, 0),)
    assert found.unserved == ()
    assert found.objective == 0.0


def test_two_sides_of_the_store_take_two_riders() -> None:
    """One rider would have to come back past the store."""
    found = route(on_a_line([100.0, 200.0, -100.0, -200.0], riders=2))
    assert sorted(found.routes) == [(0, 1), (2, 3)]


def test_capacity_leaves_the_cheapest_order_out() -> None:
    """Two fit; the one with the least price of leaving stays."""
    problem = with_order(on_a_line([100.0, 110.0, 120.0], capacity=2), 1, leave_price=50.0)
    found = route(problem)
    assert served(found) == [0, 2]
    assert found.unserved == (1,)


@pytest.mark.parametrize(
    ("load", "unserved"), [((25_001, 0, 0), 1), ((0, 0, 1), 1), ((9, 9, 0), 0)]
)
def test_loads_and_cash_are_limits(load: tuple[int, int, int], unserved: int) -> None:
    """An order that no rider may carry stays."""
    found = route(with_order(on_a_line([100.0]), 0, load=load))
    assert len(found.unserved) == unserved


def test_a_slot_is_kept_and_others_are_served_before_it_opens() -> None:
    """The near door opens late: the far one goes first, although that is a detour."""
    problem = with_order(on_a_line([100.0, -300.0]), 0, slot_s=(900.0, 1000.0), promised_s=1000.0)
    found = route(with_order(problem, 0, earliest_s=900.0))
    assert found.routes == ((1, 0),)


def test_a_slot_that_cannot_be_kept_leaves_the_order() -> None:
    """It closes before anybody can be there: hard, whatever leaving costs."""
    found = route(with_order(on_a_line([500.0, 100.0]), 0, slot_s=(0.0, 400.0)))
    assert found.unserved == (0,)


def test_goods_that_are_packed_later_hold_the_whole_trip() -> None:
    """With a rider each nobody waits; with one rider both leave when the last is packed."""
    problem = with_order(on_a_line([100.0, 110.0], riders=2), 1, ready_s=1000.0, earliest_s=1110.0)
    assert sorted(route(problem).routes) == [(0,), (1,)]
    alone = route(replace(problem, riders=problem.riders[:1]))
    assert served(alone) == [0, 1]
    # The first is 1,000 s slower than it could be; both are 400 s late, at half as much again.
    assert alone.objective == pytest.approx(1000 + 2 * (2.0 * 1.5 * 400), abs=2)


def test_a_rider_whose_shift_ends_takes_nothing_that_is_packed_later() -> None:
    """The handover is the last thing that a shift allows."""
    problem = with_order(on_a_line([100.0]), 0, ready_s=4000.0, earliest_s=4100.0)
    assert route(problem).unserved == (0,)


def test_only_riders_who_may_take_an_order_do() -> None:
    """Declined, or too cold for the vehicle: the second rider has to."""
    found = route(with_order(on_a_line([100.0], riders=2), 0, riders=frozenset({1})))
    assert found.routes == ((), (0,))
    assert route(with_order(on_a_line([100.0]), 0, riders=frozenset())).unserved == (0,)


def test_a_trip_has_one_store() -> None:
    """Two stores side by side: one rider takes one store's orders, and the other's stay."""
    problem = on_a_line([100.0, 110.0])
    rider = replace(problem.riders[0], to_store_s=(0.0, 0.0))
    problem = replace(problem, riders=(rider,), service_s=(0.0, 0.0))
    found = route(with_order(problem, 1, store=1, leave_price=5_000.0))
    assert found.routes == ((0,),)


def test_it_starts_from_given_routes_where_they_break_no_rule() -> None:
    """A warm start is never made worse; one that breaks a rule is passed over."""
    problem = on_a_line([300.0, 100.0, 200.0], capacity=3)
    warm = route(problem, start=[[0, 2, 1]])
    assert warm.warm
    assert warm.objective == 0.0
    too_many = route(
        replace(problem, riders=on_a_line([1.0], capacity=2).riders), start=[[0, 1, 2]]
    )
    assert not too_many.warm
    assert len(too_many.unserved) == 1
    with pytest.raises(ValueError, match="one route a rider"):
        route(problem, start=[[0], [1]])


def test_the_same_problem_gets_the_same_answer() -> None:
    """A limit of steps: a dozen doors in a plane, three riders, twice."""
    random = np.random.default_rng(3)
    points = random.uniform(-900, 900, (12, 2))
    problem = on_a_line(np.hypot(*points.T).tolist(), riders=3)
    legs_s = np.hypot(*(points[:, None] - points[None, :]).T)
    problem = replace(problem, between_s=legs_s)
    once, again = (route(problem, solutions=15) for _ in range(2))
    assert once == again
    assert served(once) + list(once.unserved) == list(range(12))


def test_nothing_to_do_and_no_time() -> None:
    """No orders, no riders, no deadline left: everything is left, and that is priced."""
    problem = on_a_line([100.0])
    assert route(replace(problem, riders=())).unserved == (0,)
    assert route(problem, deadline_s=0.0).objective == 10_000.0
    empty = replace(problem, orders=(), between_s=np.empty((0, 0)))
    assert route(empty) == Routed(routes=((),), unserved=(), objective=0.0, warm=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"between_s": np.zeros((2, 2))},
        {"service_s": ()},
        {"riders": (RoutingRider(to_store_s=(), leave_s=0.0, end_s=1.0),)},
    ],
)
def test_a_problem_whose_parts_do_not_fit_is_refused(changes: dict[str, object]) -> None:
    """Shapes, stores and riders are checked before the solver aborts the process."""
    with pytest.raises(ValueError, match=r"shape|store"):
        replace(on_a_line([100.0]), **changes)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="slot"):
        with_order(on_a_line([100.0]), 0, slot_s=(math.inf, 0.0))
