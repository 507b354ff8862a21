"""Whether Postgres answers, known at once rather than at the end of every request's patience.

When it is back, the process's pools make their connections anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import structlog
from prometheus_client import Gauge

from kit.db import Database

log = structlog.get_logger(__name__)

# A stopped or partitioned server is noticed after so many silences; one that refuses, at once.  One
# silence may be our own: a busy event loop looks like a slow database.
ANSWER_WITHIN_S = 1.0
SILENCES = 2
PERIOD_S = 0.5
_TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

DATABASE_UP = Gauge("darkstore_database_up", "Whether Postgres answers this process (1 or 0).")


class DatabaseWatch:
    """Asks over a connection of its own: a pool that is used up is no outage."""

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self._connection: Any = None
        self._silences = 0
        self._down = asyncio.Event()
        self._up = asyncio.Event()
        self._up.set()
        DATABASE_UP.set(1)

    @property
    def is_down(self) -> bool:
        return self._down.is_set()

    async def until_down(self) -> None:
        """Return when Postgres is known not to answer."""
        await self._down.wait()

    async def until_up(self) -> None:
        """Return when Postgres answers."""
        await self._up.wait()

    def report(self) -> None:
        """Somebody has seen it fail; the next answer says otherwise."""
        if not self._down.is_set():
            log.error("database_down")
            DATABASE_UP.set(0)
        self._up.clear()
        self._down.set()

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                try:
                    async with asyncio.timeout(ANSWER_WITHIN_S):
                        await self._ask()
                except TimeoutError:
                    self._forget_connection()
                    self._silences += 1
                    if self._silences >= SILENCES:
                        self.report()
                except _TROUBLE:
                    self._forget_connection()
                    self.report()
                else:
                    await self._found_up()
                await asyncio.sleep(PERIOD_S)
        finally:
            self._forget_connection()

    async def _ask(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url, server_settings={"application_name": "darkstore watch"}
            )
        await self._connection.fetchval("SELECT 1")

    async def _found_up(self) -> None:
        if self._down.is_set():
            log.info("database_up")
            await self._database.renew()
        DATABASE_UP.set(1)
        self._silences = 0
        self._down.clear()
        self._up.set()

    def _forget_connection(self) -> None:
        if self._connection is not None:
            # Not closed politely: whoever does not answer would not answer that either.
            self._connection.terminate()
            self._connection = None
