"""However a connection to Postgres is lost, callers hear one error that they know."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from kit.db import RELEASE_TIMEOUT_S, Database, DatabaseUnavailable, lost
from loadtests.chaos.proxy import Link, Mode
from realtime.errors import StreamUnavailable
from realtime.history_postgres import PostgresHistory
from tests.addresses import Addresses


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that dies in the middle of the greeting."""
    await reader.read(8)
    writer.close()


async def test_a_connection_cut_while_it_is_made_is_a_lost_database() -> None:
    """SQLAlchemy calls that a DBAPIError like any other: nothing was invalidated yet."""
    server = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = await Database.open(f"postgresql://nobody@127.0.0.1:{port}/nothing", size=1)
    try:
        with pytest.raises(DatabaseUnavailable):
            async with database.begin():
                pass
    finally:
        await database.close()
        server.close()


class _Broken:
    """A pool whose connection is in the middle of something that was cut off."""

    async def fetch(self, *_: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2)")


async def test_a_connection_broken_in_the_middle_does_not_end_the_hub() -> None:
    """A cancelled statement can leave asyncpg's connection in a state that it names a bug."""
    history = PostgresHistory(_Broken())  # type: ignore[arg-type]  # a pool as far as it is used
    with pytest.raises(StreamUnavailable):
        await history.heads(["order:ord_1"])


def test_a_refused_statement_is_not_a_lost_database() -> None:
    """A unique violation says something about the data, not about the connection."""
    assert not lost(asyncpg.UniqueViolationError())
    assert lost(asyncpg.ConnectionDoesNotExistError())
    assert lost(asyncpg.AdminShutdownError())
    assert lost(asyncpg.TooManyConnectionsError())
    assert lost(asyncpg.InternalClientError())


async def test_who_gives_up_does_not_wait_for_a_deaf_server(engines: Addresses) -> None:
    """A cancelled statement costs its deadline and a moment, not the statement's time once more."""
    address = make_url(engines.database_url)
    link = Link("postgres", address.port or 0, random.Random(1))
    await link.open()
    url = address.set(host="127.0.0.1", port=link.port).render_as_string(hide_password=False)
    database = await Database.open(url, size=1)
    try:
        assert await database.pool.fetchval("SELECT 1") == 1
        await link.become(Mode.HALF_OPEN)
        async with asyncio.timeout(RELEASE_TIMEOUT_S + 5.0):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await database.pool.execute("SELECT 1")
        await link.become(Mode.PASS)
        assert await database.pool.fetchval("SELECT 2") == 2
    finally:
        await database.close()
        await link.close()
