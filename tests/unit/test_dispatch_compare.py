"""Two parameter sets side by side: who is on duty, who plans what, what may be concluded."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dispatch.compare import Experiment, Sums, Unit, Verdict, blocks, paired_difference, split
from dispatch.parameters import ExtensionParameters, Parameters
from dispatch.plan import plan
from orders.comparison import outcome_of
from tests.decision_support import town

SETS = {"default": Parameters(), "b": Parameters(extension=ExtensionParameters(enabled=False))}


def experiment(**changes: object) -> Experiment:
    values = {
        "control": "default", "treatment": "b", "unit": Unit.CITY, "started_at_s": 1_000.0,
        "window_s": 600.0,
    }  # fmt: skip
    return Experiment(**{**values, **changes})  # type: ignore[arg-type]


@given(st.integers(0, 2**31 - 1), st.integers(0, 5_000), st.sampled_from(["s-1", "s-2"]))
def test_in_every_pair_of_windows_each_set_is_on_duty_once(
    seed: int, pair: int, store: str
) -> None:
    """Balance by construction: no run of bad luck gives all evenings to one set."""
    for unit in (Unit.CITY, Unit.STORE):
        one = experiment(seed=seed, unit=unit)
        assert one.treated(store, 2 * pair) != one.treated(store, 2 * pair + 1)
        assert one.pair(store, 2 * pair) == one.pair(store, 2 * pair + 1)


def test_the_coin_is_fair_and_repeatable() -> None:
    """About half of the pairs begin with the treatment, and the same ones every time."""
    one = experiment(seed=7)
    first = [one.treated("s", 2 * pair) for pair in range(1_000)]
    assert first == [experiment(seed=7).treated("s", 2 * pair) for pair in range(1_000)]
    assert 430 < sum(first) < 570
    assert first != [experiment(seed=8).treated("s", 2 * pair) for pair in range(1_000)]


def test_a_city_turns_as_one_and_stores_turn_alone() -> None:
    """Unit.CITY never lets two policies plan at once."""
    city, store = experiment(unit=Unit.CITY), experiment(unit=Unit.STORE)
    moments = [1_000.0 + 600.0 * n for n in range(60)]
    assert all(city.parameter_set("s-1", m) == city.parameter_set("s-2", m) for m in moments)
    assert any(store.parameter_set("s-1", m) != store.parameter_set("s-2", m) for m in moments)


def test_fixed_stores_keep_their_set() -> None:
    """By zone, all the time."""
    one = experiment(unit=Unit.FIXED, store_ids=frozenset({"s-2"}))
    assert {one.parameter_set("s-2", 1_000.0 + 100 * n) for n in range(50)} == {"b"}
    assert {one.parameter_set("s-1", 1_000.0 + 100 * n) for n in range(50)} == {"default"}


@pytest.mark.parametrize(
    "changes",
    [
        {"treatment": "default"}, {"window_s": 59.0}, {"window_s": 90_000.0},
        {"washout_s": 600.0}, {"washout_s": -1.0}, {"unit": Unit.FIXED},
        {"store_ids": frozenset({"s"})},
    ],
)  # fmt: skip
def test_an_experiment_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    """The dataclass checks itself."""
    with pytest.raises(ValueError):  # noqa: PT011
        experiment(**changes)


@given(st.integers(0, 2_000), st.integers(1, 10), st.integers(1, 8))
def test_parts_share_no_order_and_no_rider_and_lose_none(
    seed: int, orders: int, riders: int
) -> None:
    """One rider cannot be planned twice; both parts together are the city."""
    question = town(seed, orders, riders)
    parts = split(question, {"store-0": "default", "store-1": "b"}, SETS)
    assert [part.parameter_set for part in parts] == ["b", "default"]
    for name in ("orders", "trip_orders", "riders", "stores"):
        together = [one for part in parts for one in getattr(part.snapshot, name)]
        assert sorted(map(repr, together)) == sorted(map(repr, getattr(question, name)))
    for part in parts:
        assert part.snapshot.parameters == SETS[part.parameter_set]
        known = {store.store_id for store in part.snapshot.stores}
        for rider in part.snapshot.riders:
            assert rider.trip is None or rider.trip.store_id in known
        plan(part.snapshot)


def test_one_set_for_all_is_one_part() -> None:
    """Outside a comparison nothing is split."""
    question = town(1)
    (part,) = split(question, {"store-0": "b", "store-1": "b"}, SETS)
    assert part.snapshot.orders is question.orders
    assert part.snapshot.parameters == SETS["b"]


def test_equal_weights_give_the_paired_t_interval() -> None:
    """Against scipy's own."""
    random = np.random.default_rng(3)
    control, treatment = random.normal(10, 2, 30), random.normal(11, 2, 30)
    found = paired_difference(
        (Sums(float(a), 1), Sums(float(b), 1)) for a, b in zip(control, treatment, strict=True)
    )
    reference = stats.ttest_rel(treatment, control).confidence_interval(0.95)
    assert found.difference == pytest.approx(float(np.mean(treatment - control)))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_pairs_count_by_what_they_hold() -> None:
    """A quiet hour does not outvote a busy one."""
    found = paired_difference([(Sums(10, 1), Sums(20, 1)), (Sums(900, 90), Sums(900, 90))])
    assert found.difference == pytest.approx(10 * 2 / 182)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """2,000 experiments with a known difference, pairs that vary as hours of a day do."""
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(2_000):
        level = random.normal(900, 200, 12)
        n = random.integers(5, 40, 12)
        control = [Sums(float(random.normal(m, 60 / math.sqrt(k))) * k, float(k))
                   for m, k in zip(level, n, strict=True)]  # fmt: skip
        treatment = [Sums(float(random.normal(m + 30, 60 / math.sqrt(k))) * k, float(k))
                     for m, k in zip(level, n, strict=True)]  # fmt: skip
        found = paired_difference(zip(control, treatment, strict=True))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 30 <= found.high
    assert 0.92 < hits / 2_000 < 0.98


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([], Verdict.TOO_FEW),
        ([(Sums(1, 1), Sums(2, 1))] * 9, Verdict.TOO_FEW),
        ([(Sums(1, 1), Sums(2 + n % 2, 1)) for n in range(12)], Verdict.HIGHER),
        ([(Sums(3, 1), Sums(1 + n % 2, 1)) for n in range(12)], Verdict.LOWER),
        ([(Sums(1, 1), Sums(n % 2 * 2, 1)) for n in range(12)], Verdict.NO_DIFFERENCE_SEEN),
        ([(Sums(), Sums(5, 1))] * 20, Verdict.TOO_FEW),
    ],
)
def test_a_verdict_needs_enough_pairs(pairs: list[tuple[Sums, Sums]], verdict: Verdict) -> None:
    """Small samples are said to be small; one side alone is no pair."""
    assert paired_difference(pairs).verdict is verdict


def test_blocks_gather_what_is_close_in_time() -> None:
    """Three orders in two quarters of an hour are two observations."""
    found = blocks([0.0, 10.0, 1000.0], [1, 2, 3], [2, 4, 6], 900.0)
    assert found == [(Sums(3, 2), Sums(6, 2)), (Sums(3, 1), Sums(6, 1))]


def row(store: str, window: int, planned_by: str | None, orders: int, kept: int) -> object:
    return SimpleNamespace(
        store_id=store, window=window, parameter_set=planned_by, orders=orders, delivered=orders,
        known=orders, kept=kept, click_to_door_s=600.0 * orders, ridden=orders,
        rider_s=300.0 * orders, trips=orders / 2,
    )  # fmt: skip


def test_orders_count_for_the_set_on_duty_when_they_were_placed() -> None:
    """Also those that the other set gave to a rider, which are counted besides."""
    one = experiment(seed=1)
    treated = [w for w in range(4) if one.treated("s", w)]
    control = [w for w in range(4) if not one.treated("s", w)]
    rows = [row("s", w, "b", 10, 9) for w in treated]
    rows += [row("s", w, "default", 10, 5) for w in control]
    rows += [row("s", control[0], "b", 2, 2)]
    found = outcome_of(one, rows)
    assert (found.treatment.orders, found.treatment.windows) == (20, 2)
    assert (found.control.orders, found.control.planned_by_other) == (22, 2)
    kept = found.measures["promise_kept"]
    assert kept.treatment == pytest.approx(0.9)
    assert kept.control == pytest.approx(12 / 22)
    assert kept.verdict is Verdict.TOO_FEW
    assert found.measures["orders_per_trip"].treatment == 2.0
    assert found.measures["click_to_door_s"].difference == pytest.approx(0.0)
