"""Which parameters a dispatcher plans with: the city's set, or two that take turns.

Read again every few seconds.  Whatever is wrong with a set, dispatch goes on with the parameters
that the program comes with.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from dispatch.compare import Experiment, Part, split
from dispatch.decision import DEFAULT_SET
from dispatch.overrides import Value, with_overrides
from dispatch.parameters import Parameters
from dispatch.snapshot import Snapshot
from kit.db import Database
from riders import parameter_sets
from server.workers.loop import PASSING

log = structlog.get_logger(__name__)

# Real seconds: how soon a dispatcher follows a change.
LIFE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What a city plans with. overrides: by the name of each set that may be at work."""

    in_use: str = DEFAULT_SET
    experiment: Experiment | None = None
    overrides: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


class Policies:
    """The policies of one process, by city."""

    def __init__(self, database: Database, life_s: float = LIFE_S) -> None:
        self._database = database
        self._life_s = life_s
        self._held: dict[str, tuple[float, Policy]] = {}

    async def parts(self, city_id: str, snapshot: Snapshot) -> list[Part]:
        """The snapshot as it is to be planned: one part for each parameter set at work.

        The snapshot's own parameters are those that the sets change.  Never raises: a city whose
        sets cannot be read or do not fit any more plans with what it was planned with before, or
        with the snapshot's own.
        """
        policy = await self._policy(city_id)
        if policy.experiment is None:
            names = {store.store_id: policy.in_use for store in snapshot.stores}
        else:
            names = {
                store.store_id: policy.experiment.parameter_set(store.store_id, snapshot.now_s)
                for store in snapshot.stores
            }
        if not names:
            return [Part(DEFAULT_SET, snapshot)]
        fitting = {
            name: self._parameters(city_id, policy, name, snapshot.parameters)
            for name in set(names.values())
        }
        # A set that does not fit is not used, and its trips must not be said to be its own.
        names = {
            store_id: name if fitting[name] is not None else DEFAULT_SET
            for store_id, name in names.items()
        }
        parameters = {
            name: found if (found := fitting.get(name)) is not None else snapshot.parameters
            for name in set(names.values())
        }
        return split(snapshot, names, parameters)

    def forget(self, city_id: str) -> None:
        """Read the city's policy again at the next look."""
        self._held.pop(city_id, None)

    async def _policy(self, city_id: str) -> Policy:
        read_at, held = self._held.get(city_id, (float("-inf"), Policy()))
        if time.monotonic() - read_at <= self._life_s:
            return held
        try:
            held = await read_policy(self._database, city_id)
        except (*PASSING, ValueError) as error:
            log.warning("dispatch_policy_not_read", city_id=city_id, error=str(error)[:200])
        self._held[city_id] = time.monotonic(), held
        return held

    @staticmethod
    def _parameters(city_id: str, policy: Policy, name: str, base: Parameters) -> Parameters | None:
        if name == DEFAULT_SET:
            return base
        try:
            return with_overrides(base, policy.overrides[name])
        except (KeyError, TypeError, ValueError) as error:
            log.warning(
                "dispatch_parameter_set_ignored", city_id=city_id, name=name, error=str(error)[:200]
            )
            return None


async def read_policy(database: Database, city_id: str) -> Policy:
    """What a city plans with now."""
    async with database.begin() as conn:
        compared = await parameter_sets.running(conn, city_id)
        if compared is not None:
            return Policy(DEFAULT_SET, compared.experiment, compared.overrides)
        rows = await parameter_sets.of_city(conn, city_id)
    used = [row for row in rows if row.in_use]
    return Policy(used[0].name, None, {used[0].name: used[0].overrides}) if used else Policy()
