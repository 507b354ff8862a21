"""The sequence of drops after one pickup: as cheap as trying them all, and told truly."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.sequencing import Drops, best_sequence, delivered_s
from dispatch.travel import FloatArray


def price_of(drops: Drops, sequence: tuple[int, ...]) -> float:
    """The cost of a sequence, written out as `dispatch.cost` defines it."""
    total, last = 0.0, -1
    for drop, at in zip(sequence, delivered_s(drops, sequence).tolist(), strict=True):
        leg = drops.out_s[drop] if last < 0 else drops.between_s[last, drop]
        if np.isinf(leg):
            return np.inf
        earliest = drops.earliest_s[drop]
        late = [max(0.0, t - drops.promised_s[drop]) for t in (at, earliest)]
        paid = [drops.late_weight[drop] * (one + one**2 / (2 * drops.late_scale_s)) for one in late]
        total += drops.riding_weight * leg + drops.delay_weight * max(0.0, at - earliest)
        total += max(0.0, paid[0] - paid[1])
        last = drop
    return total


@st.composite
def some_drops(draw: st.DrawFn, most: int = 5) -> Drops:
    """Legs in no geometry at all, a few of them missing; promises that can and cannot be kept."""
    n = draw(st.integers(0, most))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    out_s = random.integers(0, 600, n).astype(np.float64)
    between_s = random.integers(0, 600, (n, n)).astype(np.float64)
    if draw(st.booleans()):
        between_s[random.random((n, n)) < 0.2] = np.inf
    return Drops(
        leave_s=draw(st.sampled_from([-500.0, 0.0, 1000.0])),
        out_s=out_s,
        between_s=between_s,
        service_s=draw(st.sampled_from([0.0, 60.0])),
        earliest_s=random.integers(0, 1500, n).astype(np.float64),
        promised_s=random.integers(0, 1500, n).astype(np.float64),
        late_weight=random.integers(0, 4, n).astype(np.float64),
        delay_weight=draw(st.sampled_from([0.0, 1.0])),
        riding_weight=draw(st.sampled_from([0.0, 0.2, 1.0])),
        late_scale_s=300.0,
    )


@settings(max_examples=150, deadline=None)
@given(drops=some_drops())
def test_the_exact_search_finds_what_trying_all_sequences_finds(drops: Drops) -> None:
    """Up to five drops: no permutation costs less, and the cost told is that of the sequence."""
    found = best_sequence(drops)
    least = min(price_of(drops, one) for one in permutations(range(drops.count)))
    assert found.proven
    assert sorted(found.sequence) == list(range(drops.count))
    assert found.cost == pytest.approx(least)
    assert price_of(drops, found.sequence) == pytest.approx(found.cost)
    assert np.array_equal(found.delivered_s, delivered_s(drops, found.sequence))


@settings(max_examples=60, deadline=None)
@given(drops=some_drops(most=9))
def test_the_local_search_is_never_better_than_the_proof(drops: Drops) -> None:
    """Both tell the true cost of a whole sequence; the proven one is the lesser."""
    proven, searched = best_sequence(drops), best_sequence(drops, exact_up_to=0)
    assert sorted(searched.sequence) == list(range(drops.count))
    assert searched.cost >= proven.cost or searched.cost == pytest.approx(proven.cost)
    assert price_of(drops, searched.sequence) == pytest.approx(searched.cost)
    assert searched.proven is (drops.count == 0)


def in_the_plane(n: int, seed: int) -> Drops:
    """Doors within 3 km, legs at 6 m/s, promises between the direct way and 15 minutes later."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, 3000, (n + 1, 2))
    legs_s: FloatArray = np.hypot(*(points[:, None] - points[None, :]).T) / 6
    out_s = np.ascontiguousarray(legs_s[0, 1:])
    return Drops(
        leave_s=0.0,
        out_s=out_s,
        between_s=legs_s[1:, 1:],
        service_s=60.0,
        earliest_s=out_s + 30,
        promised_s=out_s + random.uniform(0, 900, n),
        late_weight=np.full(n, 2.0),
    )


def test_the_local_search_comes_close_to_the_proof() -> None:
    """Within 1 % on average at ten drops: what more drops than that can rely on."""
    gaps = [
        best_sequence(drops, exact_up_to=0).cost / best_sequence(drops).cost - 1
        for drops in (in_the_plane(10, seed) for seed in range(25))
    ]
    assert min(gaps) > -1e-9
    assert float(np.mean(gaps)) < 0.01


def test_thirty_drops_are_sequenced() -> None:
    """Long trips of a slot: every drop once, and no piece moved makes it cheaper."""
    drops = in_the_plane(30, 1)
    found = best_sequence(drops)
    assert sorted(found.sequence) == list(range(30))
    assert not found.proven
    for at in range(30):
        rest = [drop for drop in found.sequence if drop != found.sequence[at]]
        for to in range(30):
            moved = (*rest[:to], found.sequence[at], *rest[to:])
            assert price_of(drops, moved) >= found.cost - 1e-6


def test_a_promise_that_can_be_kept_goes_before_a_short_way() -> None:
    """Two drops on one line: the farther is due at once, the nearer has time."""
    drops = Drops(
        leave_s=0.0,
        out_s=np.array([100.0, 200.0]),
        between_s=np.array([[0.0, 100.0], [100.0, 0.0]]),
        service_s=60.0,
        earliest_s=np.array([130.0, 230.0]),
        promised_s=np.array([5000.0, 240.0]),
        late_weight=np.array([2.0, 20.0]),
    )
    assert best_sequence(drops).sequence == (1, 0)
    assert best_sequence(replace(drops, late_weight=np.zeros(2))).sequence == (0, 1)


def test_a_door_without_a_way_makes_the_cost_infinite() -> None:
    """The caller sees it and does not offer such a trip."""
    alone = replace(in_the_plane(3, 1), out_s=np.full(3, np.inf))
    assert np.isinf(best_sequence(alone).cost)
    assert np.isinf(best_sequence(alone, exact_up_to=0).cost)


@pytest.mark.parametrize(
    "changes",
    [
        {"out_s": np.array([1.0])},
        {"out_s": np.array([1.0, -1.0])},
        {"between_s": np.full((2, 2), np.nan)},
        {"promised_s": np.array([0.0, np.inf])},
        {"late_weight": np.array([1.0, -1.0])},
        {"service_s": -1.0},
        {"late_scale_s": 0.0},
        {"leave_s": np.nan},
    ],
)
def test_drops_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    """Before the compiled search, which checks nothing."""
    with pytest.raises(ValueError, match="drops"):
        replace(in_the_plane(2, 1), **changes)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="exact_up_to"):
        best_sequence(in_the_plane(2, 1), exact_up_to=15)
