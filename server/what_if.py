"""What dispatch would do with a city right now, without doing it.

The same question that the dispatcher would ask, answered in a solver process of this server.  The
process starts with the first question and ends when nobody has asked for a while.  The dispatcher
also has its last plan to start from, so that between equal choices it may choose otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from dispatch.compare import Part
from dispatch.overrides import Value, with_overrides
from dispatch.result import Plan
from dispatch.snapshot import Snapshot
from kit.errors import Busy, NotFound
from orders.dispatch_world import Partition, partitions
from orders.territory import Territory
from riders.parameter_sets import ParametersInvalid
from server.decision_log import DecisionLog
from server.decision_settings import DecisionLogSettings
from server.dispatch_look import Lookout
from server.planner import Planner
from server.policies import Policies
from server.wiring import Services

log = structlog.get_logger(__name__)

# Real seconds.  A solver takes a few to import and compile what it needs.
START_S: Final = 5
IDLE_S: Final = 600.0
LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one part of a city would get."""

    part: Part
    plan: Plan
    seconds: float


class WhatIf:
    """The questions of one server process: one at a time for a city."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._policies = Policies(services.database)
        self._planner: Planner | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._asking: set[str] = set()
        self._used_at = 0.0

    async def ask(
        self, city_id: str, store_id: str | None, overrides: Mapping[str, Value]
    ) -> list[Answer]:
        """A plan for the city, or for the part of it that a store belongs to.

        Raises NotFound for a city without stores, ParametersInvalid, and Busy while the engine
        starts, while another question about the city is being answered, or when it takes too long.
        """
        if city_id in self._asking:
            raise Busy("Somebody asks the same of this city; try again in a moment.")
        self._asking.add(city_id)
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._ask(city_id, store_id, overrides)
        except TimeoutError:
            raise Busy("The engine took too long; try again in a moment.") from None
        finally:
            self._asking.discard(city_id)

    async def _ask(
        self, city_id: str, store_id: str | None, overrides: Mapping[str, Value]
    ) -> list[Answer]:
        territory = await self._services.territory.get()
        asked = [
            one
            for one in partitions(territory)
            if one.city_id == city_id and (store_id is None or store_id in one.store_ids)
        ]
        if not asked:
            raise NotFound("There is no such city.")
        planner = self._ready()
        # Neither planner nor log is used by what only reads.
        lookout = Lookout(self._services, planner, _no_log(self._services), self._policies)
        answers = []
        for partition in asked:
            for part in await self._parts(lookout, territory, partition, overrides):
                started_s = time.perf_counter()
                plan = await planner.plan(part.snapshot)
                answers.append(Answer(part, plan, time.perf_counter() - started_s))
        return answers

    async def _parts(
        self,
        lookout: Lookout,
        territory: Territory,
        partition: Partition,
        overrides: Mapping[str, Value],
    ) -> Sequence[Part]:
        world = await lookout.read(territory, partition)
        if not world.orders:
            return []
        question = await lookout.question(territory, world)
        parts = await self._policies.parts(partition.city_id, question.snapshot)
        return [Part(one.parameter_set, _changed(one.snapshot, overrides)) for one in parts]

    def _ready(self) -> Planner:
        """The planner, once its solver has started.  Raises Busy until then."""
        self._used_at = time.monotonic()
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="what-if")
        # The planner's fallback would answer at once, and not as the dispatcher does.
        if self._planner is None or not self._planner.pids:
            raise Busy("The engine is starting; try again.", retry_after_s=START_S)
        return self._planner

    async def _keep(self) -> None:
        """Own the solver's process for as long as somebody asks."""
        async with Planner(1, self._services.settings.dispatch.plan_grace_s) as planner:
            self._planner = planner
            try:
                while (idle_s := time.monotonic() - self._used_at) < IDLE_S:  # noqa: ASYNC110
                    await asyncio.sleep(IDLE_S - idle_s)
            finally:
                self._planner = None

    async def aclose(self) -> None:
        """End the solver's process, if there is one."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)


def _no_log(services: Services) -> DecisionLog:
    return DecisionLog.open(DecisionLogSettings(), services.database)


def _changed(snapshot: Snapshot, overrides: Mapping[str, Value]) -> Snapshot:
    if not overrides:
        return snapshot
    try:
        return replace(snapshot, parameters=with_overrides(snapshot.parameters, overrides))
    except ValueError as error:
        raise ParametersInvalid(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
