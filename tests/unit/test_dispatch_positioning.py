"""Abundance: proposals where idle riders had better wait."""

from __future__ import annotations

import numpy as np
import pytest

from dispatch.forecast import at_least
from dispatch.positioning import Idle, PositioningParameters, Target, propose


def idle(count: int, **moves: int) -> list[Idle]:
    return [Idle(rider_id=f"r{n}", moves=moves.get(f"r{n}", 0)) for n in range(count)]


def target(store_id: str, mean: float) -> Target:
    return Target(store_id=store_id, chances=at_least(20.0, mean, 12))


def test_riders_go_where_orders_are_expected() -> None:
    """Four riders at a quiet store, six orders expected five minutes away: they had better go."""
    ways = np.array([[10.0, 300.0]] * 4)
    found = propose(idle(4), [target("quiet", 0.3), target("busy", 6.0)], ways)
    assert [one.store_id for one in found] == ["busy"] * 4
    assert all(one.gain_s > 0 and one.way_s == 300.0 for one in found)


def test_nobody_moves_where_nothing_is_expected() -> None:
    """A store that expects next to nothing draws nobody."""
    ways = np.array([[10.0, 300.0]] * 4)
    assert propose(idle(4), [target("here", 0.3), target("there", 0.3)], ways) == ()


def test_no_more_riders_go_than_are_needed() -> None:
    """Ten riders, two orders expected: one or two go, the others stay."""
    ways = np.array([[10.0, 300.0]] * 10)
    found = propose(idle(10), [target("quiet", 0.1), target("busy", 2.0)], ways)
    assert 1 <= len(found) <= 2


def test_who_is_there_already_is_counted() -> None:
    """Enough riders at the busy store: nobody else is called."""
    ways = np.array([[300.0, 5.0]] * 8 + [[5.0, 300.0]])
    assert propose(idle(9), [target("quiet", 0.1), target("busy", 3.0)], ways) == ()


def test_the_nearer_rider_goes() -> None:
    """Of two riders the one with the shorter way is asked."""
    ways = np.array([[5.0, 600.0], [5.0, 200.0]])
    found = propose(idle(2), [target("quiet", 0.0), target("busy", 1.2)], ways)
    assert [one.rider_id for one in found] == ["r1"]


def test_the_same_rider_is_not_asked_again_and_again() -> None:
    """Of two equal riders, the one who was moved less is asked."""
    ways = np.array([[5.0, 300.0], [5.0, 300.0]])
    targets = [target("quiet", 0.0), target("busy", 1.2)]
    assert [one.rider_id for one in propose(idle(2, r0=1), targets, ways)] == ["r1"]
    assert [one.rider_id for one in propose(idle(2, r1=1), targets, ways)] == ["r0"]


@pytest.mark.parametrize("way_s", [60.0, 1200.0, float("inf")])
def test_too_near_and_too_far_are_no_proposals(way_s: float) -> None:
    """Neither round the corner nor across the city."""
    assert propose(idle(1), [target("busy", 9.0)], np.array([[way_s]])) == ()


def test_riders_or_targets_may_be_missing() -> None:
    """No riders or no stores: no proposals."""
    assert propose([], [target("a", 1.0)], np.ones((0, 1))) == ()
    assert propose(idle(1), [], np.ones((1, 0))) == ()
    with pytest.raises(ValueError, match="way_s"):
        propose(idle(1), [], np.ones((1, 2)))


@pytest.mark.parametrize("changes", [{"price": 0.0}, {"least_way_s": 2000.0}, {"again_s": -1.0}])
def test_impossible_parameters_are_refused(changes: dict[str, float]) -> None:
    """Relations between parameters are checked when they are made."""
    with pytest.raises(ValueError, match=r"must|lies"):
        PositioningParameters(**changes)  # type: ignore[arg-type]  # wrong on purpose
