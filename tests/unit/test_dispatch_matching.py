"""The sparse assignment: exact backends agree with each other and with scipy."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dispatch.matching import SCALE, UNMATCHED, match_orders
from dispatch.parameters import Backend
from dispatch.travel import TravelTimes

EXACT_BACKENDS = [Backend.FLOW, Backend.ASSIGNMENT]


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
@pytest.mark.parametrize(("orders", "riders"), [(1, 1), (6, 9), (9, 6), (12, 12)])
def test_exact_backends_find_the_optimum(backend: Backend, orders: int, riders: int) -> None:
    """On complete pairs the cost is that of a dense assignment with a column per left order."""
    rng = np.random.default_rng(orders * 100 + riders)
    cost = rng.integers(0, 5000, (orders, riders)) / SCALE
    price = rng.integers(0, 5000, orders) / SCALE
    order_of, rider_of = (index.ravel() for index in np.indices((orders, riders)))
    found = match_orders(order_of, rider_of, cost.ravel(), price, riders, backend)
    base = cost.max(axis=1).sum() + 1 / SCALE
    dense = np.hstack([cost, np.full((orders, orders), 1e9)])
    dense[np.arange(orders), riders + np.arange(orders)] = base + price
    rows, columns = linear_sum_assignment(dense)
    assert found.backend is backend
    assert found.objective == pytest.approx(dense[rows, columns].sum())
    assert found.objective <= found.fallback_objective


@pytest.mark.parametrize("backend", list(Backend))
def test_no_rider_and_no_order_twice(backend: Backend) -> None:
    """Every backend gives one rider to one order; with a shared rider one order is left."""
    order_of, rider_of = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1])
    found = match_orders(order_of, rider_of, np.ones(4), np.array([1.0, 3.0, 2.0]), 2, backend)
    served = found.pair_of[found.pair_of != UNMATCHED]
    assert len(set(rider_of[served])) == served.size
    assert found.pair_of.tolist() == [UNMATCHED, 1, 3]


def test_serving_more_orders_beats_saving_cost() -> None:
    """The greedy choice leaves an order with nobody; the exact one pays to serve both."""
    order_of, rider_of = np.array([0, 0, 1]), np.array([0, 1, 0])
    cost, price = np.array([0.0, 900.0, 0.0]), np.array([5.0, 0.0])
    exact = match_orders(order_of, rider_of, cost, price, 2, Backend.FLOW)
    greedy = match_orders(order_of, rider_of, cost, price, 2, Backend.GREEDY)
    assert exact.pair_of.tolist() == [1, 2]
    assert greedy.pair_of.tolist() == [0, UNMATCHED]


@pytest.mark.parametrize("backend", list(Backend))
def test_no_pairs_leave_every_order(backend: Backend) -> None:
    """Without a single pair nobody is matched and nothing fails."""
    nothing = np.array([], dtype=np.intp)
    found = match_orders(nothing, nothing, np.array([]), np.ones(3), 0, backend)
    assert found.pair_of.tolist() == [UNMATCHED] * 3


def test_failing_solver_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the solver gives no optimum the greedy matching is the answer."""
    monkeypatch.setattr("dispatch.matching._flow", lambda *_: None)
    found = match_orders(np.array([0]), np.array([0]), np.ones(1), np.ones(1), 1, Backend.FLOW)
    assert (found.backend, found.pair_of.tolist()) == (Backend.GREEDY, [0])


def test_travel_times_gather_rows_and_offsets() -> None:
    """Places share rows; offsets count once at each end, and not from a place to itself."""
    travel = TravelTimes(
        seconds=np.array([[5, 100], [200, 7]], dtype=np.uint16),
        row_of=np.array([0, 1, 1, -1], dtype=np.int32),
        offset_s=np.array([1.0, 10.0, 20.0, 0.0]),
    )
    assert travel.seconds_between([0, 1, 1, 1], [1, 0, 2, 1]).tolist() == [111, 211, 37, 0]
    assert np.isinf(travel.seconds_between(0, 3))
    assert travel.metres_between(0, 1) is None


@pytest.mark.parametrize(
    ("value", "kind"), [(65535, np.uint16), (-1, np.int32), (np.nan, np.float32)]
)
def test_no_way_is_infinite(value: float, kind: type[np.generic]) -> None:
    """The greatest integer, a negative and a not-a-number all mean that there is no way."""
    seconds = np.array([[0, value], [3, 0]]).astype(kind)
    travel = TravelTimes(seconds=seconds, row_of=np.arange(2, dtype=np.int32))
    assert np.isinf(travel.seconds_between(0, 1))
    assert travel.seconds_between(1, 0) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": np.zeros((2, 3))},
        {"row_of": np.array([0, 2], dtype=np.int32)},
        {"offset_s": np.zeros(3)},
        {"metres": np.zeros((3, 3))},
    ],
)
def test_travel_shapes_are_checked(changes: dict[str, object]) -> None:
    """A matrix that is not square, a row that is not there or a wrong length is refused."""
    whole = {"seconds": np.zeros((2, 2)), "row_of": np.arange(2, dtype=np.int32)}
    with pytest.raises(ValueError, match=r"square|row|entry|shape"):
        TravelTimes(**{**whole, **changes})  # type: ignore[arg-type]  # wrong on purpose
