"""Recorded decisions made again: the same answers, and the same day under the same policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from dispatch.decision import Decision, read_decision, write_decision
from dispatch.parameters import ExtensionParameters, Parameters, Solver
from dispatch.recorded_day import Day, rebuild
from dispatch.replay import Delivery, compare, given, live, replan
from server import decision_files
from server.cli import app
from tests.decision_support import a_day, recorded

ALONE = Parameters(solver=Solver.MATCHING, extension=ExtensionParameters(enabled=False))

# A day of decisions by the rolling plan takes ten seconds, and the rules of replay are the same.
POLICY = Parameters(solver=Solver.MATCHING)


@pytest.fixture(scope="module")
def lived() -> tuple[Day, list[Delivery], list[Decision]]:
    day = a_day()
    deliveries, decisions = recorded(day, POLICY)
    return day, deliveries, decisions


@pytest.fixture(scope="module")
def log(
    lived: tuple[Day, list[Delivery], list[Decision]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp("log")
    for decision in lived[2]:
        name = decision_files.file_name("town", decision.snapshot.now_s, "w")
        decision_files.append(place / name, decision_files.pack(decision))
    return place


def test_every_recorded_question_gets_its_recorded_answer(
    lived: tuple[Day, list[Delivery], list[Decision]],
) -> None:
    """Open loop with the parameters as recorded, after the way through the codec."""
    read = [read_decision(write_decision(decision)) for decision in lived[2]]
    for answers in replan(read, {"now": None}):
        assert answers.plans["now"] == answers.decision.plan


def test_a_rebuilt_day_is_the_day_that_was_recorded(
    lived: tuple[Day, list[Delivery], list[Decision]],
) -> None:
    """Under the same policy the orders of the rebuilt day end as those of the real one did."""
    day, deliveries, decisions = lived
    (again,) = rebuild(decisions)
    assert [one.order.order_id for one in again.orders] == [
        one.order.order_id for one in day.orders
    ]
    assert [one.ready_at_s for one in again.orders] == [one.ready_at_s for one in day.orders]
    assert {one.rider_id for one in again.riders} == {one.rider_id for one in day.riders}
    relived = {one.order_id: one.delivered_at_s for one in live(again, POLICY)}
    for one in deliveries:
        assert relived[one.order_id] == pytest.approx(one.delivered_at_s, abs=1.0)


def test_a_day_is_possible(lived: tuple[Day, list[Delivery], list[Decision]]) -> None:
    """Nothing is delivered before it was ready and ridden, and no trip holds too many."""
    day, deliveries, _ = lived
    orders = {one.order.order_id: one for one in day.orders}
    for one in deliveries:
        order = orders[one.order_id]
        store = next(s for s in day.stores if s.store_id == order.order.store_id)
        ride_s = float(day.travel.seconds_between(store.place, order.order.place))
        least = order.ready_at_s + store.pickup_service_s / 2 + ride_s + 30.0
        assert one.delivered_at_s is not None
        assert one.delivered_at_s >= least - 1e-6
        assert 0.25 <= one.trip_share <= 1
        assert one.rider_s > 0


def test_the_same_policy_against_itself_differs_in_nothing(
    lived: tuple[Day, list[Delivery], list[Decision]],
) -> None:
    """Closed loop is deterministic."""
    (day,) = rebuild(lived[2])
    found = compare(live(day, ALONE), live(day, ALONE))
    assert found.orders == 40
    assert {one.difference for one in found.measures.values()} == {0.0}


def test_trips_of_one_order_ride_more(lived: tuple[Day, list[Delivery], list[Decision]]) -> None:
    """What is known beforehand comes out: without additions there are more trips."""
    (day,) = rebuild(lived[2])
    few = replace(day, riders=day.riders[:6])
    found = compare(live(few, POLICY), live(few, ALONE))
    trips = found.measures["trips_per_order"]
    assert trips.treatment == 1.0
    assert trips.control is not None
    assert trips.control < 1.0


def test_fewer_decisions_deliver_later(lived: tuple[Day, list[Delivery], list[Decision]]) -> None:
    """Every five minutes instead of every 20 seconds: the policy sees less, the customer waits."""
    (day,) = rebuild(lived[2])
    measure = compare(live(day, POLICY), live(day, POLICY, every_s=300.0)).measures
    assert measure["click_to_door_s"].difference is not None
    assert measure["click_to_door_s"].difference > 60.0


def test_orders_that_nobody_can_bring_are_undelivered() -> None:
    """Without a rider who stays, the day ends, and the orders count as undelivered."""
    day = a_day(orders=4, riders=1, minutes=5)
    gone = replace(day, riders=(replace(day.riders[0], shift_end_s=1.0),))
    assert all(one.delivered_at_s is None for one in live(gone, POLICY))
    found = compare(live(gone, POLICY), live(day, POLICY))
    assert found.measures["undelivered"].control == 1.0
    assert found.measures["undelivered"].treatment == 0.0


def test_riders_who_go_early_are_gone_in_the_rebuilt_day() -> None:
    """Who is not seen any more long before the end has left."""
    day = a_day()
    _, decisions = recorded(day, POLICY)
    early = [
        replace(
            one,
            snapshot=replace(
                one.snapshot,
                riders=tuple(
                    rider
                    for rider in one.snapshot.riders
                    if one.snapshot.now_s < 600 or rider.rider_id != "rider-7"
                ),
            ),
        )
        for one in decisions
    ]
    (again,) = rebuild(early)
    ends = {one.rider_id: one.shift_end_s for one in again.riders}
    assert ends["rider-0"] == 20_000.0
    assert ends["rider-7"] < 2_000.0


def test_a_log_without_orders_is_refused() -> None:
    """A sentence, not an empty table."""
    with pytest.raises(ValueError, match="no decision of the log has an order"):
        rebuild([])


def test_the_command_compares_two_policies(log: Path) -> None:
    """`darkstore replay LOG --set …` ends with differences and their intervals."""
    done = CliRunner().invoke(
        app, ["replay", str(log), "--set", "extension.enabled=false", "--every", "60", "--json"]
    )
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout)
    assert report["open"]["reproduced"] == report["open"]["decisions"] > 50
    (day,) = report["closed"]
    assert day["orders"] == 40
    assert day["orders_per_trip"]["b"] == 1.0
    assert day["measures"]["click_to_door_s"]["verdict"] == "too_few"


def test_the_command_shows_tables(log: Path) -> None:
    """The same for a person."""
    done = CliRunner().invoke(app, ["replay", str(log), "--every", "120"])
    assert done.exit_code == 0, done.output
    assert "lived by each (40 orders)" in done.stdout
    assert "rider minutes an order" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "extension.enable=false"], "did you mean extension.enabled"),
        (["--set", "extension.enabled"], "group.parameter=value"),
        (["--against", "matching.nearest_riders=0"], "at least 1"),
    ],
)
def test_the_command_refuses_parameters_that_cannot_be(
    log: Path, arguments: list[str], sentence: str
) -> None:
    """At once, with a sentence and exit code 1."""
    done = CliRunner().invoke(app, ["replay", str(log), *arguments])
    assert done.exit_code == 1
    assert sentence in done.output


def test_given_names_the_rider_of_each_order(
    lived: tuple[Day, list[Delivery], list[Decision]],
) -> None:
    """Over the whole day every order is committed to somebody."""
    committed: dict[str, str] = {}
    for decision in lived[2]:
        committed |= given(decision.plan)
    assert len(committed) == 40
