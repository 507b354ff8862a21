"""Scarcity: waits, missing riders, and what quotes are told."""

from __future__ import annotations

import numpy as np
import pytest

from dispatch.pressure import (
    Balance,
    PressureParameters,
    RiderSupply,
    Told,
    ZoneDemand,
    balance,
    nearness,
    settle,
)

WORK_S = 720.0


def zone(waiting: float = 0.0, an_hour: float = 0.0, zone_id: str = "a") -> ZoneDemand:
    return ZoneDemand(
        zone_id=zone_id,
        waiting=waiting,
        after_s=np.array([0.0, 3600.0]),
        expected=np.array([0.0, an_hour]),
    )


def riders(count: int, free_at_s: float = 0.0, shift_end_s: float = 1e6) -> list[RiderSupply]:
    return [
        RiderSupply(rider_id=f"r{n}", free_at_s=free_at_s, shift_end_s=shift_end_s)
        for n in range(count)
    ]


def one(demand: ZoneDemand, supply: list[RiderSupply]) -> Balance:
    near = np.ones((1, len(supply)))
    return balance(0.0, [demand], supply, near, np.ones((1, 1)), WORK_S)[0]


def test_an_idle_rider_is_no_wait() -> None:
    """With riders at hand and few orders the promise does not grow and nobody is missing."""
    calm = one(zone(an_hour=10.0), riders(10))
    assert calm.wait_s == 0
    assert calm.growth_s == 0
    assert set(calm.missing.values()) == {0}


def test_a_queue_waits_for_as_long_as_riders_take() -> None:
    """Ten riders, all free at once, and twenty orders: the next one waits for two rounds."""
    queue = one(zone(waiting=20.0), riders(10))
    assert queue.wait_s == pytest.approx(2 * WORK_S, abs=60)


def test_busy_riders_come_free() -> None:
    """All riders free in five minutes: an order placed now waits for that."""
    assert one(zone(), riders(3, free_at_s=300.0)).wait_s == 300


def test_a_queue_is_told_of_before_it_is_there() -> None:
    """Nobody waits yet, but far more orders are expected in ten minutes than riders can take."""
    coming = one(zone(an_hour=120.0), riders(10))
    assert coming.waiting == 0
    assert coming.wait_s > 60


def test_one_idle_rider_is_enough_for_a_quiet_store() -> None:
    """A store with four orders an hour and one rider at its door promises no later for it."""
    assert one(zone(an_hour=4.0), riders(1)).growth_s == 0
    assert one(zone(waiting=1.0, an_hour=4.0), riders(1)).growth_s > 600


def test_nobody_at_all_is_the_longest_wait() -> None:
    """Without a rider the wait is what the horizon leaves, and everybody is missing."""
    nobody = one(zone(waiting=3.0, an_hour=5.0), [])
    assert nobody.wait_s >= 4800
    assert nobody.missing[0.0] == nobody.needed[0.0] > 0


def test_shift_ends_are_seen_coming() -> None:
    """Ten riders now, none in half an hour: missing then, not now."""
    leaving = one(zone(an_hour=30.0), riders(10, shift_end_s=1700.0))
    assert leaving.missing[0.0] == 0
    assert leaving.missing[1800.0] > 0
    assert leaving.riders[3600.0] == 0


def test_riders_needed_follow_the_square_root_rule() -> None:
    """Sixty orders an hour of twelve minutes keep twelve riders busy, and two are for chance."""
    assert one(zone(an_hour=60.0), riders(20)).needed[0.0] == 14


def test_far_riders_count_for_less() -> None:
    """One at the door is a whole rider, one across the city is none."""
    weight = nearness(np.array([0.0, 600.0, 1050.0, 1500.0, np.inf, np.nan]))
    assert weight.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0, 0.0]


def test_a_shortage_next_door_is_shared_and_one_far_away_is_not() -> None:
    """Stores within reach of the same riders wait together."""
    zones = [zone(zone_id="a"), zone(waiting=30.0, zone_id="b"), zone(zone_id="c")]
    zone_near = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rider_near = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    a, b, c = balance(0.0, zones, riders(3), rider_near, zone_near, WORK_S)
    assert a.wait_s == b.wait_s > 3600
    assert c.wait_s == 0


def test_what_is_told_rises_fast_and_falls_slowly() -> None:
    """Three minutes are enough for most of a rise, and not for the fall."""
    calm = settle(None, 0.0, 0.0)
    risen = settle(calm, 600.0, 180.0)
    assert risen.growth_s >= 540
    fallen = settle(risen, 0.0, 360.0)
    assert 240 <= fallen.growth_s < risen.growth_s
    assert settle(fallen, 0.0, 3600.0).growth_s == 0


def test_what_is_told_does_not_flap() -> None:
    """A need that trembles around a step changes what is told once at most."""
    told, seen = settle(None, 300.0, 0.0), []
    for n in range(1, 60):
        told = settle(told, 300.0 + (40.0 if n % 2 else -40.0), 10.0 * n)
        seen.append(told.growth_s)
    assert len(set(seen)) == 1


def test_beyond_the_limit_the_store_takes_none_until_well_below_it() -> None:
    """It closes above an hour, stays closed a little below it, and opens again at seven tenths."""
    far = settle(None, 3700.0, 0.0)
    assert far.full
    assert far.growth_s == PressureParameters().cap_s
    still = Told(at_s=0.0, level_s=3000.0, growth_s=1200.0, full=True)
    assert settle(still, 3000.0, 10.0).full
    assert not settle(still, 2400.0, 10_000.0).full
    assert not settle(Told(at_s=0.0, level_s=3000.0, growth_s=1200.0), 3000.0, 10.0).full


@pytest.mark.parametrize(
    "changes",
    [
        {"near_s": 2000.0}, {"step_s": 0.0}, {"cap_s": 4000.0}, {"band": 0.4}, {"comfort": -1.0},
        {"refuse_above_s": 5000.0},
    ],
)  # fmt: skip
def test_parameters_that_contradict_each_other_are_refused(changes: dict[str, float]) -> None:
    """Relations between parameters are checked when they are made."""
    with pytest.raises(ValueError, match=r"must|lies"):
        PressureParameters(**changes)


def test_shapes_that_disagree_are_refused() -> None:
    """A matrix of another size, or work of no length, raises ValueError."""
    with pytest.raises(ValueError, match="rider_near"):
        balance(0.0, [zone()], riders(2), np.ones((1, 1)), np.ones((1, 1)), WORK_S)
    with pytest.raises(ValueError, match="work_s"):
        balance(0.0, [zone()], [], np.ones((1, 0)), np.ones((1, 1)), 0.0)
    assert balance(0.0, [], [], np.ones((0, 0)), np.ones((0, 0)), WORK_S) == ()
