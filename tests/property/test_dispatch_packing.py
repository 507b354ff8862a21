"""Set packing over candidate trips: feasible, as cheap as any choice, the same every time."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.packing import Pool, pack

Candidates = list[tuple[int, list[int], float]]


@st.composite
def some_candidates(draw: st.DrawFn) -> tuple[Candidates, list[float]]:
    """Up to nine trips of up to four riders over five orders, and the price of each order."""
    trip = st.tuples(
        st.integers(0, 3),
        st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True),
        st.integers(-50, 400).map(float),
    )
    prices = st.lists(st.integers(0, 300).map(float), min_size=5, max_size=5)
    return draw(st.lists(trip, max_size=9)), draw(prices)


def fits(candidates: Candidates, chosen: tuple[int, ...]) -> bool:
    riders = [candidates[one][0] for one in chosen]
    orders = [order for one in chosen for order in candidates[one][1]]
    return len(set(riders)) == len(riders) and len(set(orders)) == len(orders)


def objective(candidates: Candidates, prices: list[float], chosen: tuple[int, ...]) -> float:
    served = {order for one in chosen for order in candidates[one][1]}
    left = sum(price for order, price in enumerate(prices) if order not in served)
    return sum(candidates[one][2] for one in chosen) + left


@settings(max_examples=60, deadline=None)
@given(given_=some_candidates())
def test_no_choice_of_trips_is_cheaper(given_: tuple[Candidates, list[float]]) -> None:
    """Against every subset; the bound is told truly."""
    candidates, prices = given_
    packed = pack(Pool.of(candidates), np.array(prices))
    every = range(len(candidates))
    least = min(
        objective(candidates, prices, chosen)
        for size in range(len(candidates) + 1)
        for chosen in combinations(every, size)
        if fits(candidates, chosen)
    )
    assert fits(candidates, packed.chosen)
    assert packed.objective == pytest.approx(objective(candidates, prices, packed.chosen))
    assert packed.objective == pytest.approx(least)
    assert packed.bound <= packed.objective + 1e-6
    assert packed.proven


@settings(max_examples=30, deadline=None)
@given(given_=some_candidates())
def test_without_time_it_is_never_dearer_than_what_is_known(
    given_: tuple[Candidates, list[float]],
) -> None:
    """Greedily, or what it was started from; no price is paid twice."""
    candidates, prices = given_
    pool = Pool.of(candidates)
    best = pack(pool, np.array(prices))
    hurried = pack(pool, np.array(prices), deadline_s=0.0)
    assert fits(candidates, hurried.chosen)
    assert best.objective - 1e-6 <= hurried.objective <= sum(prices) + 1e-6
    started = pack(pool, np.array(prices), start=best.chosen, deadline_s=0.0)
    assert started.objective == pytest.approx(best.objective)


def test_two_orders_share_the_only_rider() -> None:
    """One rider: a trip with both beats serving the dearer one alone."""
    candidates: Candidates = [(0, [0], 50.0), (0, [1], 40.0), (0, [1, 0], 70.0)]
    packed = pack(Pool.of(candidates), np.array([100.0, 100.0]))
    assert packed.chosen == (2,)
    assert packed.objective == 70.0


def test_a_large_pool_is_solved_the_same_way_twice() -> None:
    """A limit of work, not of time: the same answer on any machine."""
    random = np.random.default_rng(1)
    candidates: Candidates = [
        (int(random.integers(60)), random.choice(80, size, replace=False).tolist(),
         float(random.uniform(100, 900)))
        for size in random.integers(1, 4, 2000)
    ]  # fmt: skip
    once, again = (
        pack(Pool.of(candidates), np.full(80, 600.0), effort=0.2, seed=7) for _ in range(2)
    )
    assert once == again
    assert once.objective < 80 * 600.0
    assert once.bound <= once.objective


def test_what_does_not_fit_together_is_refused() -> None:
    """A start with an order twice, an order without a price, arrays of different sizes."""
    pool = Pool.of([(0, [0], 1.0), (1, [0], 1.0)])
    with pytest.raises(ValueError, match="share"):
        pack(pool, np.array([5.0]), start=[0, 1])
    with pytest.raises(ValueError, match="without a price"):
        pack(pool, np.array([]))
    with pytest.raises(ValueError, match="finite"):
        Pool.of([(0, [0], np.inf)])
    with pytest.raises(ValueError, match="begin"):
        Pool(np.array([0]), np.array([0, 2]), np.array([0]), np.array([1.0]))
    with pytest.raises(ValueError, match="each candidate"):
        Pool(np.array([0]), np.array([0]), np.array([0]), np.array([1.0]))
