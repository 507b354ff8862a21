"""``darkstore bench dispatch`` at a size that a test can afford, and the city that it decides."""

import asyncio
import math

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from dispatch import Parameters, plan
from server.bench.dispatch_city import Day, Streets
from server.cli import app

GOALS = {
    "decision_p99_s",
    "first_plan_against_dense_assignment",
    "cost_saved_within_the_deadline",
    "trip_cost_gap",
    "trip_time_against_vroom",
}


@pytest.fixture(name="streets", scope="module")
def small_streets() -> Streets:
    return Streets.of(None, 4, 1, 4_000.0)


@pytest.mark.timeout(600)
def test_the_last_line_is_one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every goal is in it with its figures; whether all are met depends on the machine.

    And whoever called it keeps the event loop that it had: with uvloop's a program that is started
    from a test has no watcher.
    """
    # Every decision uses up its deadline, and how good it gets is not the matter here.
    monkeypatch.setattr("server.bench.dispatch.DEADLINE_S", 0.02)
    monkeypatch.setattr("server.bench.dispatch.DECISIONS_ON_THE_CURVE", 1)
    loops = asyncio.get_event_loop_policy()
    ran = CliRunner().invoke(
        app, ["bench", "dispatch", "--json", "--size", "0.005", "--decisions", "2"]
    )
    report = orjson.loads(ran.stdout.strip().splitlines()[-1])
    assert report["bench"] == "dispatch"
    assert set(report["ratios"]) == GOALS
    assert report["context"]["orders"] == 10
    assert report["ratios"]["trip_cost_gap"]["met"]
    assert ran.exit_code == (0 if all(one["met"] for one in report["ratios"].values()) else 1)
    assert asyncio.get_event_loop_policy() is loops
    assert {"peak_memory_mb", "first_plan_s_at_0_5x", "first_plan_s_at_4x"} <= set(
        report["figures"]
    )


def test_a_day_stays_as_large_as_it_began(streets: Streets) -> None:
    """What is committed leaves, its riders are busy, and as many new orders come in."""
    day = Day(streets, 30, 40, seed=2)
    previous = None
    given = 0
    for _ in range(12):
        snapshot = day.snapshot(Parameters(), math.inf, previous)
        assert len(snapshot.orders) == 30
        assert len({order.order_id for order in snapshot.orders}) == 30
        previous = plan(snapshot)
        given += sum(len(trip.order_ids) for trip in previous.trips)
        day.commit(previous)
        busy = {trip.rider_id for trip in previous.trips}
        after = day.snapshot(Parameters(), math.inf, previous)
        assert all(one.free_at_s > snapshot.now_s for one in after.riders if one.rider_id in busy)
    assert given > 0


def test_the_same_seed_makes_the_same_day(streets: Streets) -> None:
    """So that two machines, or two engines, decide the same."""
    one, other = (Day(streets, 10, 10, seed=3).snapshot(Parameters(), 1.0, None) for _ in range(2))
    assert one.orders == other.orders
    assert one.riders == other.riders
    every = np.arange(one.travel.places)
    stores = [store.place for store in one.stores]
    assert np.array_equal(
        one.travel.seconds_between(every[:, None], stores),
        other.travel.seconds_between(every[:, None], stores),
    )
