"""Substitutes in the simulated city: what customers wish and answer, what pickers offer.

Nothing here is part of the demand: every wish and answer has dice of its own, so that the same
orders come at the same times whatever runs short.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from simulator.api import Json, Reply, Session
from simulator.world import World

WISHES: Final = (("ask", 0.4), ("best_match", 0.3), ("refund", 0.3))
# Virtual seconds until a customer who watches has looked at the question.
_ANSWERS_AFTER_S: Final = (3.0, 100.0)
_NEVER_ANSWERS: Final = 0.15
_APPROVES: Final = 0.75
# What a picker is told when there is no substitute to be had: then the line is short.
_NO_SUBSTITUTE: Final = frozenset(
    {"substitution_not_wanted", "no_time_to_ask", "substitute_short", "not_a_substitute"}
)


def wish(world: World, order_n: int) -> str:
    """What a customer wants in place of what is missing."""
    drawn = world.rng("substitution", order_n).random()
    for name, share in WISHES:
        drawn -= share
        if drawn < 0:
            return name
    return WISHES[-1][0]


class Answers:
    """A customer who watches their order and is asked about substitutes."""

    def __init__(self, world: World, order_n: int) -> None:
        self._world = world
        self._rng = world.rng("answers", order_n)
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._seen: set[str] = set()

    def note(self, substitution: Json) -> None:
        """A substitution as the stream tells of it."""
        if substitution["status"] == "proposed" and substitution["id"] not in self._seen:
            self._seen.add(substitution["id"])
            self._asked.put_nowait(substitution["id"])

    async def run(self, session: Session, order_id: str) -> None:
        """Answer until cancelled; some never do, and the default is applied."""
        while True:
            substitution_id = await self._asked.get()
            if self._rng.random() < _NEVER_ANSWERS:
                continue
            await self._world.clock.sleep(self._rng.uniform(*_ANSWERS_AFTER_S))
            said = "approve" if self._rng.random() < _APPROVES else "reject"
            path = f"/v1/orders/{order_id}/substitutions/{substitution_id}/{said}"
            key = f"sim-{self._world.run_id}-{secrets.token_hex(8)}"
            reply = await session.call("POST", path, key=key)
            self._world.tally.substitutions[said if reply.ok else str(reply.code)] += 1


async def find_substitute(session: Session, task_id: str, line_id: str) -> str | None:
    """The nearest thing on the shelves, as the server offers it; None when there is nothing."""
    path = f"/v1/pick-tasks/{task_id}/lines/{line_id}/substitutes"
    offered = await session.get(path)
    return str(offered["items"][0]["sku_id"]) if offered["items"] else None


def was_refused(reply: Reply) -> bool:
    """Whether the picker has to report the line short instead."""
    return reply.code in _NO_SUBSTITUTE


def is_waiting(task: Json) -> bool:
    """Whether a customer is still being asked about a line of a pick task."""
    return any(line["waiting"] for line in task["lines"])


def to_fetch(task: Json) -> list[tuple[str, Json, int]]:
    """(line id, substitute, units) of what has been approved and is not in the bag."""
    return [
        (line["line_id"], substitute, left)
        for line in task["lines"]
        for substitute in line["substitutes"]
        if substitute["status"] == "approved"
        and (left := substitute["quantity"] - substitute["picked"] - substitute["missing"]) > 0
    ]
