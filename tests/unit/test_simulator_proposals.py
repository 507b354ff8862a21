"""Idle simulated riders and the proposals where to wait."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from geo.distances import Point
from simulator.api import Reply
from simulator.riders import Rider
from simulator.tally import Tally

HOME, BUSY = (
    SimpleNamespace(id="sto_home", node=0),
    SimpleNamespace(id="sto_busy", node=1),
)


def a_rider(seed: int) -> tuple[Rider, list[str]]:
    """A rider at home whose phone only writes down what it is to say."""
    world: Any = SimpleNamespace(
        rng=lambda *_: random.Random(seed),
        api=None,
        stream_url="",
        run_id="test",
        tally=Tally(),
        clock=SimpleNamespace(now_s=lambda: 0.0),
        roads=SimpleNamespace(points_along=lambda nodes: [Point(0.0, 0.0) for _ in nodes]),
        stores={"sto_home": HOME, "sto_busy": BUSY},
    )
    log_in = {"email": "r@example.org", "rider_id": "rdr_1", "vehicle": "scooter"}
    home: Any = HOME
    rider = Rider(world, log_in, home)
    said: list[str] = []

    async def act(path: str, body: object = None) -> Reply | None:
        said.append(path)
        return None

    rider._phone.act = act  # type: ignore[method-assign]  # no network here
    return rider, said


def proposal(store_id: str = "sto_busy") -> dict[str, Any]:
    return {"proposal": {"id": "prp_1", "store_id": store_id}}


async def test_most_proposals_are_followed_and_each_is_considered_once() -> None:
    """Seven in ten go and say so, one in ten says no, the rest does not look; nobody asks twice."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        rider, said = a_rider(seed)
        rider._on_event("rider.proposal", proposal())
        assert rider._is_new(rider._proposal)
        await rider._consider(rider._proposal)
        assert not rider._is_new(rider._proposal)
        went: Any = rider._waits_at
        assert (went is BUSY) == (said == ["/v1/riders/me/proposal/prp_1/accept"])
        seen[said[0].rsplit("/", 1)[1] if said else "ignored"] += 1
    assert seen["accept"] / 300 == pytest.approx(0.7, abs=0.08)
    assert seen["dismiss"] / 300 == pytest.approx(0.1, abs=0.06)
    assert seen["ignored"] > 0


@pytest.mark.parametrize("gone", [{"proposal": None}, proposal("sto_elsewhere")])
def test_what_is_withdrawn_or_elsewhere_is_nothing_new(gone: dict[str, Any]) -> None:
    """A proposal that is taken back, or for a store that nobody knows, moves nobody."""
    rider, _ = a_rider(1)
    rider._on_event("rider.proposal", proposal())
    rider._on_event("rider.proposal", gone)
    assert not rider._is_new(rider._proposal)


def test_a_snapshot_tells_the_proposal_that_stands() -> None:
    """After a reconnect the phone knows what it would have heard."""
    rider, _ = a_rider(1)
    free = {"status": "available", "reason": None, "until": None, "auto_accept": False}
    state: dict[str, Any] = {"offers": [], "trips": [], "availability": free}
    rider._on_snapshot({**state, **proposal()})
    assert rider._is_new(rider._proposal)
    rider._on_snapshot({**state, "proposal": None})
    assert not rider._is_new(rider._proposal)
