"""The leases of one dispatcher, kept by a task of its own.

A long plan, or a long list of trips to commit, must not lose a lease: renewal waits for neither.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import asyncpg
import structlog

from kit.db import Database
from kit.errors import Busy
from orders.dispatch_settings import DispatchSettings
from orders.dispatch_world import Partition
from riders import leases

log = structlog.get_logger(__name__)

# Longer than any renewal takes, short enough that a partition of the network is noticed.
CALL_TIMEOUT_S: Final = 2.0
# A dispatcher that holds many partitions lets others take what has become free.
POLITE_S: Final = 0.02
POLITE_MOST_S: Final = 0.2

# What a database looks like that restarts, or is out of reach; anything else is a bug.
_PASSING = (Busy, TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

# What is to be had, as far as the dispatcher knows now.
Partitions = Callable[[], Mapping[str, Partition]]


class LeaseKeeper:
    """``held`` is (partition -> epoch); ``changed`` is set whenever it changes.

    What is held here may be lost in the database already: every write checks the epoch there.
    """

    def __init__(
        self, database: Database, settings: DispatchSettings, holder: str, wanted: Partitions
    ) -> None:
        self._pool = database.pool
        self._settings = settings
        self._holder = holder
        self._wanted = wanted
        self.held: dict[str, int] = {}
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Renew what is held and take what is free, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._renew, self._settings.renew_s))
            tasks.create_task(self._repeat(self._take_free, self._settings.lease_poll_s))

    @staticmethod
    async def _repeat(work: Callable[[], Awaitable[None]], period_s: float) -> None:
        while True:
            try:
                await work()
            except _PASSING as error:
                # Leases that run out meanwhile are another's, and the database knows it.
                log.warning("leases_not_kept", error=type(error).__name__)
            await asyncio.sleep(period_s * random.uniform(0.8, 1.0))

    async def release(self) -> None:
        """Give everything back.  Raises like the database."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await leases.release(self._pool, self._holder)
        self._hold({})

    def forget(self, partition_id: str) -> None:
        """A write has found that the lease is gone."""
        self._hold({key: epoch for key, epoch in self.held.items() if key != partition_id})

    async def _renew(self) -> None:
        if not self.held:
            return
        async with asyncio.timeout(CALL_TIMEOUT_S):
            self._hold(await leases.renew(self._pool, self._holder, self._settings.lease_s))

    async def _take_free(self) -> None:
        wanted = self._wanted()
        async with asyncio.timeout(CALL_TIMEOUT_S):
            free = await leases.free(self._pool, sorted(wanted))
        random.shuffle(free)
        for partition_id in free:
            if self.held:
                await asyncio.sleep(min(POLITE_MOST_S, POLITE_S * len(self.held)))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                epoch = await leases.acquire(
                    self._pool, partition_id, wanted[partition_id].city_id, self._holder,
                    self._settings.lease_s,
                )  # fmt: skip
            if epoch is not None:
                log.info("lease_taken", partition_id=partition_id, epoch=epoch)
                self._hold({**self.held, partition_id: epoch})

    def _hold(self, found: dict[str, int]) -> None:
        if found != self.held:
            for gone in self.held.keys() - found.keys():
                log.warning("lease_lost", partition_id=gone, epoch=self.held[gone])
            self.held = found
            self.changed.set()
