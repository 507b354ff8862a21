"""Rounds of supply and demand: every few virtual seconds, each city in which there is anything.

What a round finds out is told to quotes (`store_supply`), to ops (`city_supply`, the city's
channel, the gauges below) and, as proposals, to idle riders.  When rounds stop, what was told
lapses, and quotes go back to the plain promise.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from kit.errors import Busy
from kit.redis import RedisError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orders.supply import Facts, Outcome
    from orders.territory import Territory
    from riders.locations import RiderFix
    from server.wiring import Services

log = structlog.get_logger(__name__)

# On a fast clock `every_s` is next to nothing; what is told lives at least this long in real time.
LEAST_GAP_S = 1.0
LEAST_LIFE_S = 30.0
RECORD_EVERY_S = 60.0
PROPOSALS_KEPT = timedelta(days=7)


class SupplyRounds:
    """A periodic job; ``next_s`` holds it to the settings' pace, whatever the clock's speed."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._record_s = 0.0

    async def __call__(self, services: Services) -> None:
        """Bring every city up to date that is due."""
        settings = services.settings.orders.supply
        if not settings.enabled or time.monotonic() < self._next_s:
            return
        gap_s = max(LEAST_GAP_S, services.clock.real_s(settings.every_s))
        self._next_s = time.monotonic() + gap_s
        # Not above, and in a thread: the solver is a long import for a process with other jobs.
        await asyncio.to_thread(importlib.import_module, "orders.supply_model")
        from orders import supply

        territory = await services.territory.get()
        async with services.database.begin() as conn:
            cities = await supply.cities(conn)
        record = time.monotonic() >= self._record_s
        for city_id in cities:
            store_ids = _stores(territory, city_id)
            if not store_ids:
                continue
            if record:
                async with services.database.begin() as conn:
                    await supply.record_demand(conn, store_ids, services.clock.now())
            await balance_city(services, territory, city_id)
        if record:
            self._record_s = time.monotonic() + RECORD_EVERY_S


def _stores(territory: Territory, city_id: str) -> list[str]:
    return sorted(s.store_id for s in territory.stores.values() if s.city_id == city_id)


def life(services: Services) -> timedelta:
    """How long what a round tells is good for, in virtual time."""
    valid_s = services.settings.orders.supply.valid_s
    return timedelta(seconds=max(valid_s, LEAST_LIFE_S * services.clock.speed))


async def balance_city(services: Services, territory: Territory, city_id: str) -> bool:
    """One round of one city; False when another process was faster."""
    from orders import supply
    from orders.supply_model import assess

    settings, began_s = services.settings.orders.supply, time.perf_counter()
    async with services.database.snapshot() as conn:
        facts = await supply.read(
            conn, city_id, _stores(territory, city_id), services.clock.now(), settings
        )
    fixes = await _fixes(services, city_id, [row.id for row in facts.riders])
    silent_after_s = services.settings.riders.silent_after_s
    outcome = await asyncio.to_thread(assess, facts, fixes, territory, settings, silent_after_s)
    async with services.database.begin() as conn:
        written = await supply.tell(conn, facts, outcome, facts.now + life(services))
    if written:
        await _propose(services, facts, outcome)
    log.debug("supply_balanced", city_id=city_id, seconds=round(time.perf_counter() - began_s, 4))
    return written


async def _fixes(
    services: Services, city_id: str, rider_ids: Sequence[str]
) -> Mapping[str, RiderFix] | None:
    """Where riders are; None when the live layer does not say."""
    try:
        return await services.locations.read(city_id, list(rider_ids))
    except (Busy, RedisError, TimeoutError, OSError) as error:
        log.warning("supply_without_positions", city_id=city_id, error=type(error).__name__)
        return None


async def _propose(services: Services, facts: Facts, outcome: Outcome) -> None:
    """End what is over and make what is new, each in a transaction of its own."""
    from orders.supply_moves import stands_for
    from riders import proposals

    for proposal_id, status in outcome.ended.items():
        async with services.database.begin() as conn:
            await proposals.end(conn, proposal_id, status, facts.now)
    for move in outcome.moves:
        new = proposals.NewProposal(
            move.rider_id, facts.city_id, move.store_id, move.way_s, move.chance, move.gain_s
        )
        async with services.database.begin() as conn:
            await proposals.make(conn, new, facts.now, facts.now + stands_for(move))


async def forget_old_supply(services: Services) -> None:
    """Demand that no forecast looks at, and proposals that ended long ago."""
    from orders import supply
    from riders import proposals

    async with services.database.begin() as conn:
        await supply.forget_demand(conn)
        await proposals.forget(conn, services.clock.now() - PROPOSALS_KEPT)
