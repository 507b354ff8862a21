"""Why an order went to whom: the history, the candidates, and the picture of a decision."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from typer.testing import CliRunner

from dispatch.decision import Decision
from dispatch.drawing import text_width
from dispatch.explain import (
    CANDIDATE_PRICE,
    Moment,
    Outcome,
    candidates,
    decided_price,
    moments,
    runner_up,
    turning_points,
    why_later,
    why_not,
)
from dispatch.explain_svg import EDGE, draw, headline_of, verdict
from dispatch.parameters import Parameters, Solver
from dispatch.plan import plan
from dispatch.result import HeldReason, UnassignedReason
from server import decision_files
from server.cli import app
from tests.decision_support import a_day, recorded, town

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def decisions() -> list[Decision]:
    return recorded(a_day(), Parameters())[1]


def history_of(decisions: list[Decision], order_id: str) -> list[Moment]:
    return moments(decisions, order_id)


def an_order(decisions: list[Decision], outcome: Outcome) -> tuple[str, list[Moment]]:
    """The first order with such a moment, and all that happened to it."""
    for decision in decisions:
        for order in decision.snapshot.orders:
            history = history_of(decisions, order.order_id)
            if any(one.outcome is outcome for one in history):
                return order.order_id, history
    raise AssertionError(f"no order was ever {outcome}")


def test_a_history_ends_with_the_assignment(decisions: list[Decision]) -> None:
    """Every order of the day was given to a rider, and held or left before that, if at all."""
    for n in range(40):
        history = history_of(decisions, f"ord-{n:03d}")
        last = [one for one in history if one.outcome is Outcome.ASSIGNED]
        assert last
        assert last[0].trip is not None
        assert f"ord-{n:03d}" in last[0].trip.order_ids
        assert [one.at_s for one in history] == sorted(one.at_s for one in history)


def test_turning_points_leave_out_what_did_not_change(decisions: list[Decision]) -> None:
    """A held order that is looked at ten times is told once."""
    _, history = an_order(decisions, Outcome.HELD)
    points = turning_points(history)
    held = [one for one in points if one.outcome is Outcome.HELD]
    assert len(held) < sum(one.outcome is Outcome.HELD for one in history)
    assert all(
        (a.outcome, a.reason, a.trip) != (b.outcome, b.reason, b.trip) for a, b in pairwise(points)
    )


def test_the_runner_up_is_the_cheapest_other_candidate() -> None:
    """What the matching says of the second choice agrees with the prices of all candidates.

    The rolling plan prices an order within its rider's whole route, which no pair alone shows.
    """
    checked = 0
    for decision in recorded(a_day(), Parameters(solver=Solver.MATCHING))[1]:
        for trip in decision.plan.trips:
            why = trip.explanation
            if len(trip.order_ids) > 1 or why.runner_up_rider_id is None or trip.extends:
                continue
            others = candidates(decision.snapshot, trip.order_ids[0])
            moment = next(m for m in moments([decision], trip.order_ids[0]))
            chosen = next(one for one in others if one.rider_id == trip.rider_id)
            second = runner_up(moment, others)
            assert second is not None
            assert chosen.cost == pytest.approx(why.cost)
            assert second.cost == pytest.approx(why.runner_up_cost)
            assert second.cost == min(o.cost for o in others if o.rider_id != trip.rider_id)
            assert moment.margin == pytest.approx(second.cost - chosen.cost)
            checked += 1
    assert checked > 10


def test_every_reason_has_a_sentence() -> None:
    """And every reason why nobody comes says what would help."""
    for reason in UnassignedReason:
        why, helps = why_not(reason)
        assert why.endswith(".")
        assert helps.endswith(".")
    for held in HeldReason:
        assert why_later(held).endswith(".")


@pytest.mark.parametrize("outcome", [Outcome.ASSIGNED, Outcome.HELD])
def test_the_picture_can_be_read_by_eye_and_by_ear(
    decisions: list[Decision], outcome: Outcome
) -> None:
    """Well-formed, with a title and a description, colours for both backgrounds, nothing loaded."""
    order_id, history = an_order(decisions, outcome)
    moment = next(one for one in history if one.outcome is outcome)
    picture = draw(order_id, [one for one in history if one.at_s <= moment.at_s], moment)
    root = ElementTree.fromstring(picture)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == headline_of(order_id, moment)
    assert (root.findtext(f"{SVG}desc") or "").startswith(
        verdict(moment, candidates(moment.decision.snapshot, order_id))
    )
    assert "prefers-color-scheme:dark" in picture
    assert not re.search(r"href|url\(|@import|@font-face|<script", picture)
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "What each rider would cost" in texts
    assert "How its time passes" in texts


@pytest.mark.parametrize(
    ("solver", "weighs"),
    [(Solver.ROLLING, "weighs whole routes"), (Solver.MATCHING, "weighs the candidates' prices")],
)
def test_the_picture_says_what_its_prices_are_of(solver: Solver, weighs: str) -> None:
    """The bars price an order alone; what was decided by may be something else."""
    parameters = Parameters(solver=solver)
    question = replace(town(2), parameters=parameters)
    decision = Decision(decision_id="dec-1", city_id="city", snapshot=question, plan=plan(question))
    order_id = question.orders[0].order_id
    (moment,) = moments([decision], order_id)
    texts = [
        one.text or "" for one in ElementTree.fromstring(draw(order_id, [moment], moment)).iter()
    ]
    assert CANDIDATE_PRICE in texts
    (decided,) = [text for text in texts if "The engine weighs" in text]
    assert weighs in decided
    assert decided == decided_price(decision.plan)


def test_everything_drawn_lies_in_the_picture(decisions: list[Decision]) -> None:
    """No shape and no beginning of a text outside the canvas, for any order of the day."""
    for n in range(0, 40, 3):
        history = history_of(decisions, f"ord-{n:03d}")
        moment = next(one for one in history if one.outcome is Outcome.ASSIGNED)
        root = ElementTree.fromstring(draw(f"ord-{n:03d}", history, moment))
        _, _, width, height = map(float, (root.get("viewBox") or "").split())
        for element in root.iter():
            x = float(element.get("x", element.get("cx", "0")))
            y = float(element.get("y", element.get("cy", "0")))
            assert 0 <= x <= width
            assert 0 <= y <= height
        notes = [CANDIDATE_PRICE, decided_price(moment.decision.plan)]
        assert max(text_width(note, 12) for note in notes) < width - 2 * EDGE


def test_an_order_that_nobody_can_have_is_drawn() -> None:
    """No trip, no candidates, and still a picture that says why."""
    question = replace(town(2), riders=(), trip_orders=())
    decision = Decision(decision_id="dec-1", city_id="city", snapshot=question, plan=plan(question))
    (moment,) = moments([decision], "order-0")
    assert moment.reason is UnassignedReason.NO_RIDERS
    picture = draw("order-0", [moment], moment)
    assert "has nobody" in picture
    assert "Nobody who is free could have it" in picture
    assert "What would help" in picture


def test_without_points_the_map_is_drawn_by_riding_time(decisions: list[Decision]) -> None:
    """A log of another world than a city has no latitudes."""
    order_id, history = an_order(decisions, Outcome.ASSIGNED)
    moment = next(one for one in history if one.outcome is Outcome.ASSIGNED)
    blind = replace(moment, decision=replace(moment.decision, points=None))
    picture = draw(order_id, [blind], blind)
    ElementTree.fromstring(picture)
    assert "drawn by riding time" in picture


def test_ids_cannot_break_the_picture() -> None:
    """An id is text, whatever is in it."""
    question = town(2)
    odd = '<&">'
    orders = (replace(question.orders[0], order_id=odd), *question.orders[1:])
    question = replace(question, orders=orders)
    decision = Decision(decision_id=odd, city_id="c", snapshot=question, plan=plan(question))
    (moment,) = moments([decision], odd)
    texts = "".join(ElementTree.fromstring(draw(odd, [moment], moment)).itertext())
    assert odd in texts


@pytest.fixture
def log(decisions: list[Decision], tmp_path: Path) -> Path:
    for decision in decisions[:60]:
        name = decision_files.file_name("town", decision.snapshot.now_s, "w")
        decision_files.append(tmp_path / "log" / name, decision_files.pack(decision))
    return tmp_path / "log"


def test_the_command_explains_and_draws(log: Path, tmp_path: Path) -> None:
    """`darkstore explain ORDER --log … --svg …` writes the picture and prints the history."""
    picture = tmp_path / "decision.svg"
    arguments = ["explain", "ord-003", "--log", str(log)]
    done = CliRunner().invoke(app, [*arguments, "--svg", str(picture)])
    assert done.exit_code == 0, done.output
    assert "Decisions about ord-003" in done.stdout
    ElementTree.fromstring(picture.read_text())
    report = orjson.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    outcomes = [one["outcome"] for one in report["decisions"]]
    assert outcomes[-1] == "assigned"
    last = report["decisions"][-1]
    assert last["cost_s"] == pytest.approx(sum(last["cost_terms_s"].values()), abs=0.5)
    assert report["candidates"][0]["cost_s"] <= report["candidates"][-1]["cost_s"]
    assert report["costs_mean"]["decided"] in done.stdout
    assert report["costs_mean"]["candidates"] == CANDIDATE_PRICE


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ord-999"], "no recorded decision about ord-999"),
        (["ord-003", "--svg", "/dev/null", "--decision", "dec-9999"], "no whole decision"),
    ],
)
def test_the_command_says_what_it_cannot_explain(
    log: Path, arguments: list[str], sentence: str
) -> None:
    """One sentence and exit code 1."""
    done = CliRunner().invoke(app, ["explain", *arguments, "--log", str(log)])
    assert done.exit_code == 1
    assert sentence in done.output
