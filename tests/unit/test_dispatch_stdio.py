"""The engine as a program that speaks JSON lines."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dispatch import Plan, Snapshot, plan
from dispatch.stdio import RequestError, read_request, run_stdio
from server.cli import app

ROOT = Path(__file__).parents[2]
DAY = ROOT / "../shared/data/mdrp/0o50t100s1p100"
FEED = ROOT / "../shared/tools/mdrp_feed.py"

REQUEST = {
    "now_s": 600,
    "epoch_s": 60,
    "travel": {"model": "euclidean", "speed_mps": 5.0, "round_up_to_s": 60},
    "pickup_service_s": 240,
    "dropoff_service_s": 240,
    "target_click_to_door_s": 2400,
    "max_click_to_door_s": 5400,
    "stores": [{"id": "s", "x_m": 0, "y_m": 0}],
    "orders": [
        {"id": "a", "store_id": "s", "x_m": 3000, "y_m": 0, "placed_at_s": 540, "ready_at_s": 600}
    ],
    "trip_orders": [],
    "riders": [
        {
            "id": "r",
            "x_m": 0,
            "y_m": 301,
            "free_at_s": 0,
            "shift_start_s": 0,
            "shift_end_s": 9000,
            "trip": None,
        }
    ],
}


def answers(*requests: object) -> list[dict[str, object]]:
    out = io.StringIO()
    run_stdio(io.StringIO("".join(json.dumps(one) + "\n\n" for one in requests)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_one_answer_a_request() -> None:
    """Each request gets one line; blank lines get none."""
    trip = {"rider_id": "r", "store_id": "s", "order_ids": ["a"]}
    assert answers(REQUEST, REQUEST) == [{"trips": [trip]}, {"trips": [trip]}]


def test_command_plans_with_the_parameters_that_are_set() -> None:
    """With ten minutes of slack an order that is ready in ten is given away at once."""
    later = {**REQUEST, "orders": [{**REQUEST["orders"][0], "ready_at_s": 1200}]}  # type: ignore[index]  # of a literal
    given = json.dumps(later) + "\n"
    for options, trips in (((), 0), (("--set", "commitment.slack_s=600"), 1)):
        ran = CliRunner().invoke(app, ["plan", "--stdio", *options], input=given)
        assert ran.exit_code == 0, ran.output
        assert len(json.loads(ran.output)["trips"]) == trips


@pytest.mark.parametrize(
    ("options", "deadline_s"),
    [
        ((), 0.75),
        (("--iterations", "300"), math.inf),
        (("--solver", "packing"), math.inf),
        (("--deadline", "2"), 2.0),
        (("--deadline", "inf"), math.inf),
    ],
)
def test_command_answers_within_a_second_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], deadline_s: float
) -> None:
    """A number of rounds means the same answer on every machine; other solvers take their time."""
    asked: list[float] = []

    def noting(snapshot: Snapshot) -> Plan:
        asked.append(snapshot.deadline_s)
        return plan(snapshot)

    monkeypatch.setattr("dispatch.stdio.plan", noting)
    ran = CliRunner().invoke(app, ["plan", "--stdio", *options], input=json.dumps(REQUEST) + "\n")
    assert ran.exit_code == 0, ran.output
    assert len(json.loads(ran.output)["trips"]) == 1
    assert asked == [deadline_s]


def test_command_names_a_parameter_that_does_not_exist() -> None:
    ran = CliRunner().invoke(app, ["plan", "--stdio", "--set", "scenarios.enable=true"], input="")
    assert ran.exit_code == 2
    assert "scenarios.enabled" in ran.output


def test_travel_is_rounded_up_to_whole_steps() -> None:
    """301 m at 5 m/s is 60.2 s, so two minutes; 3,000 m is exactly ten."""
    snapshot = read_request(REQUEST)
    store, order, rider = snapshot.stores[0], snapshot.orders[0], snapshot.riders[0]
    assert snapshot.travel.seconds_between(rider.place, store.place) == 120
    assert snapshot.travel.seconds_between(store.place, order.place) == 600
    assert order.promised_by_s == 540 + 2400


def test_current_trip_arrives_half_a_service_before_the_handover() -> None:
    """The feed's arrival includes half a pickup service; the snapshot's is at the door."""
    riding = {
        **REQUEST["riders"][0],
        "trip": {"store_id": "s", "order_ids": ["a"], "arrives_at_s": 840},
    }  # type: ignore[index,dict-item]  # a literal of mixed values
    request = {**REQUEST, "orders": [], "trip_orders": REQUEST["orders"], "riders": [riding]}
    trip = read_request(request).riders[0].trip
    assert trip is not None
    assert (trip.arrives_at_s, trip.order_ids) == (720, ("a",))


@pytest.mark.parametrize(
    "changes",
    [
        {"now_s": "noon"},
        {"travel": {"model": "roads", "speed_mps": 5.0, "round_up_to_s": 60}},
        {"travel": {"model": "euclidean", "speed_mps": 0.0, "round_up_to_s": 60}},
        {"stores": []},
        {"orders": [{"id": "a"}]},
        {"riders": None},
    ],
)
def test_bad_request_names_its_line(changes: dict[str, object]) -> None:
    """What cannot be understood raises RequestError with the number of the line."""
    with pytest.raises(RequestError, match="line 3"):
        answers(REQUEST, {**REQUEST, **changes})


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"now_s": 1', "the request on line 1 is not JSON: "),
        ("[]", "the request on line 1 is not an object"),
        ('{"now_s": 1}', "the request on line 1 has no 'orders'"),
        (json.dumps({**REQUEST, "travel": {"model": "roads"}}), "line 1: unknown travel model"),
        (json.dumps({**REQUEST, "riders": None}), "is not of the form in dispatch/stdio.py: "),
    ],
)
def test_command_says_in_a_sentence_what_it_cannot_read(line: str, sentence: str) -> None:
    """One line that a person can act on, no answer, and exit code 1."""
    ran = CliRunner().invoke(app, ["plan", "--stdio"], input=line + "\n")
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("darkstore: ")
    assert sentence in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.skipif(not DAY.is_dir(), reason="the public days are not beside this repository")
def test_public_day_breaks_no_rule() -> None:
    """The smallest public day: feasible, everything delivered, better than taking turns."""
    run = subprocess.run(
        [sys.executable, str(FEED), "--engine", f"'{sys.executable}' -m dispatch", str(DAY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    score = json.loads(run.stdout.splitlines()[-1])
    assert (score["rule_breaks"], score["undelivered"]) == (0, 0)
    # One order a trip, nearest rider first, scores 4.381 on this day, the matching 2.350.
    assert score["excess"] < 2.2
