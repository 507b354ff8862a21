"""Laws of scarcity and abundance, whatever the city looks like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.forecast import Placed, at_least, expected_orders, forecast_store
from dispatch.positioning import Idle, PositioningParameters, Target, propose
from dispatch.pressure import (
    Balance,
    PressureParameters,
    RiderSupply,
    Told,
    ZoneDemand,
    balance,
    settle,
)

P = PressureParameters()

waits = st.integers(0, 40)
seconds = st.floats(0.0, 6000.0)
_rider = st.builds(
    RiderSupply, rider_id=st.just("r"), free_at_s=st.floats(0.0, 2000.0), shift_end_s=seconds
)
_zone = st.builds(
    lambda waiting, hour: ZoneDemand(
        zone_id="z", waiting=float(waiting), after_s=np.array([0.0, 3600.0]),
        expected=np.array([0.0, hour]),
    ),
    waits, st.floats(0.0, 80.0),
)  # fmt: skip
_told = st.builds(
    Told,
    at_s=st.just(0.0),
    level_s=seconds.map(lambda s: min(s, P.horizon_s)),
    growth_s=st.integers(0, 20).map(lambda n: n * P.round_s),
    full=st.booleans(),
)


@st.composite
def cities(draw: st.DrawFn) -> tuple[list[ZoneDemand], list[RiderSupply], float]:
    zones = draw(st.lists(_zone, min_size=1, max_size=4))
    return zones, draw(st.lists(_rider, max_size=8)), draw(st.floats(60.0, 2400.0))


def balanced(
    zones: list[ZoneDemand], riders: list[RiderSupply], work_s: float, seed: int
) -> tuple[Balance, ...]:
    rng = np.random.default_rng(seed)
    rider_near = rng.uniform(0, 1, (len(zones), 9))[:, : len(riders)]
    zone_near = rng.uniform(0, 1, (len(zones), len(zones)))
    np.fill_diagonal(zone_near, 1.0)
    return balance(0.0, zones, riders, rider_near, zone_near, work_s)


def assert_no_better(now: tuple[Balance, ...], before: tuple[Balance, ...]) -> None:
    for one, other in zip(now, before, strict=True):
        assert one.wait_s >= other.wait_s - 1e-6
        assert one.growth_s >= other.growth_s - 1e-6
        assert all(one.missing[at_s] >= other.missing[at_s] for at_s in one.missing)


@settings(deadline=None)
@given(cities(), st.integers(0, 9), st.data())
def test_more_orders_never_make_a_wait_shorter(
    city: tuple[list[ZoneDemand], list[RiderSupply], float], seed: int, data: st.DataObject
) -> None:
    """Another order anywhere leaves every zone as it was or worse."""
    zones, riders, work_s = city
    at = data.draw(st.integers(0, len(zones) - 1))
    more = list(zones)
    more[at] = replace(zones[at], waiting=zones[at].waiting + data.draw(st.integers(1, 9)))
    assert_no_better(balanced(more, riders, work_s, seed), balanced(zones, riders, work_s, seed))


@settings(deadline=None)
@given(cities(), st.integers(0, 9))
def test_fewer_riders_never_make_a_wait_shorter(
    city: tuple[list[ZoneDemand], list[RiderSupply], float], seed: int
) -> None:
    """Without the last rider every zone is as it was or worse, up to nobody at all."""
    zones, riders, work_s = city
    while riders:
        fewer = riders[:-1]
        assert_no_better(
            balanced(zones, fewer, work_s, seed), balanced(zones, riders, work_s, seed)
        )
        riders = fewer


@settings(deadline=None)
@given(cities(), st.integers(0, 9), st.floats(1.0, 3.0))
def test_more_work_never_makes_a_wait_shorter(
    city: tuple[list[ZoneDemand], list[RiderSupply], float], seed: int, factor: float
) -> None:
    """Orders that keep riders longer make others wait longer."""
    zones, riders, work_s = city
    more, before = (balanced(zones, riders, work_s * f, seed) for f in (factor, 1.0))
    for one, other in zip(more, before, strict=True):
        assert one.wait_s >= other.wait_s - 1e-6


@given(_told, seconds, st.floats(0.0, 600.0))
def test_what_is_told_is_bounded_and_moves_in_steps(
    before: Told, growth_s: float, after_s: float
) -> None:
    """Between nothing and the cap, in whole minutes."""
    told = settle(before, growth_s, after_s)
    assert 0 <= told.growth_s <= P.cap_s
    assert told.growth_s % P.round_s == 0
    assert 0 <= told.level_s <= P.horizon_s


@given(_told, seconds, seconds, st.floats(0.0, 600.0))
def test_what_is_told_is_monotone_in_the_need(
    before: Told, one_s: float, other_s: float, after_s: float
) -> None:
    """A greater need is never told as a smaller growth, and never opens what a smaller closes."""
    less = settle(before, min(one_s, other_s), after_s)
    more = settle(before, max(one_s, other_s), after_s)
    assert more.growth_s >= less.growth_s
    assert more.full >= less.full


@given(_told, seconds)
def test_a_lasting_need_is_told_in_the_end(before: Told, growth_s: float) -> None:
    """Held for long enough, what is told comes within a step of the need, or to the cap."""
    told = before
    for n in range(1, 400):
        told = settle(told, growth_s, 10.0 * n)
    assert abs(told.growth_s - min(growth_s, P.cap_s)) <= P.round_s


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 1000))
def test_proposals_keep_their_rules(riders: int, stores: int, seed: int) -> None:
    """One a rider, each worth its way, none too near or too far, no store beyond its need."""
    rng = np.random.default_rng(seed)
    ways = rng.uniform(0, 1200, (riders, stores))
    targets = [
        Target(store_id=f"s{n}", chances=at_least(5.0, rng.uniform(0, 8), 12))
        for n in range(stores)
    ]
    people = [Idle(rider_id=f"r{n}", moves=int(rng.integers(0, 3))) for n in range(riders)]
    parameters = PositioningParameters()
    found = propose(people, targets, ways, parameters)
    assert len({one.rider_id for one in found}) == len(found)
    for one in found:
        assert parameters.least_way_s <= one.way_s <= parameters.most_way_s
        assert one.gain_s >= parameters.least_gain_s
        assert one.chance > parameters.price
    assert found == propose(list(reversed(people)), targets, ways[::-1], parameters)


@settings(deadline=None)
@given(st.lists(st.floats(-7000.0, 0.0), max_size=60), st.floats(60.0, 3600.0))
def test_expected_orders_are_no_more_than_are_expected(
    times: list[float], horizon_s: float
) -> None:
    """Their weights sum to at most the mean, and they lie within the horizon."""
    forecast = forecast_store(
        "s", [Placed(at_s=at_s, place=n) for n, at_s in enumerate(times)], 0.0, -7200.0
    )
    ghosts = expected_orders([forecast], horizon_s)
    assert sum(ghost.weight for ghost in ghosts) <= forecast.mean(horizon_s) + 1e-6
    assert all(0 <= ghost.at_s <= horizon_s for ghost in ghosts)
    assert all(0 <= ghost.place < len(times) for ghost in ghosts)
