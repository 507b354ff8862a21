"""The territory of a process, read again now and then."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kit.db import Database

if TYPE_CHECKING:
    from orders.territory import Territory

# Zones and roads change when an operator draws them; half a minute later everybody knows.
LIFE_S = 30.0
EMPTY_LIFE_S = 0.5


class TerritoryCache:
    """The last territory that was read; older than ``LIFE_S`` it is read again."""

    def __init__(self, database: Database, life_s: float = LIFE_S) -> None:
        self._database = database
        self._life_s = life_s
        self._held: Territory | None = None
        self._version = ""
        self._checked_at = 0.0
        self._reading = asyncio.Lock()

    async def get(self) -> Territory:
        """The territory.  While it is read again, the others go on with the old one."""
        if self._held is not None and (self._fresh() or self._reading.locked()):
            return self._held
        async with self._reading:
            if self._held is None or not self._fresh():
                self._held = await self._read(self._held)
            return self._held

    async def _read(self, held: Territory | None) -> Territory:
        # Here and not above: it brings scipy, and most workers start without ever asking.
        from orders.territory import load_territory, territory_version

        async with self._database.begin() as conn:
            version = await territory_version(conn)
            if held is None or version != self._version:
                held = await load_territory(conn)
        self._version, self._checked_at = version, time.monotonic()
        return held

    def _fresh(self) -> bool:
        # Before the first seed there is nothing; what is seeded should be seen at once.
        life_s = self._life_s if self._held and self._held.stores else EMPTY_LIFE_S
        return time.monotonic() - self._checked_at < life_s
