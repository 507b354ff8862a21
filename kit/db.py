"""Postgres: one metadata, one engine for ordinary work and one bare asyncpg pool for hot paths.

A use case is one transaction (``Database.begin``); no outside call is made within it.  Text ids
use the ``C`` collation, because they are compared, never read aloud.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy import MetaData, Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.type_api import TypeEngine

from kit.errors import Busy

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 3.0
# What a given-up statement may take to be cancelled before its connection is cut.
RELEASE_TIMEOUT_S = 2.0
# Longer than any statement of a healthy system; a stuck one must not hold its locks for ever.
STATEMENT_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 5.0
IDLE_IN_TRANSACTION_TIMEOUT_S = 20.0


class DatabaseUnavailable(Busy):
    code = "database_unavailable"
    title = "The database does not answer"


# Connection exceptions (08…), insufficient resources (53…: no room, no slot), shutdowns (57P…).
_LOST_STATES = ("08", "53", "57P")


def lost(error: BaseException) -> bool:
    """Whether an error, wrapped by SQLAlchemy or not, means that the database cannot be had now."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        state = getattr(error.orig, "sqlstate", None)
        cause = error.orig.__cause__ if error.orig is not None else None
        if state is None and cause is not None:
            return lost(cause)
    else:
        state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_LOST_STATES)
    return isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError)


def id_type() -> TypeEngine[str]:
    """The column type of ids and codes: text, compared byte by byte."""
    return Text(collation="C")


async def _keep(_conn: object) -> None:
    """What a returned connection is cleansed of: nothing.

    The driver itself ends an open transaction.  Nobody sets anything for a session or listens, who
    locks for a session unlocks, and asking Postgres to undo that took a round trip a statement.
    """


if TYPE_CHECKING:
    _AsyncpgPool = asyncpg.Pool[asyncpg.Record]
else:
    _AsyncpgPool = asyncpg.Pool


class _Pool(_AsyncpgPool):
    """A pool in which nobody waits for a deaf server to hear that a statement was given up.

    The driver itself waits as long as for the statement, which doubles a request's deadline.
    """

    async def release(  # the driver's own signature
        self,
        connection: PoolConnectionProxy[asyncpg.Record],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        await super().release(connection, timeout=timeout or RELEASE_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Database:
    """``engine`` for SQLAlchemy, ``pool`` (asyncpg) for statements counted in microseconds."""

    engine: AsyncEngine
    pool: asyncpg.Pool[asyncpg.Record]

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        size: int = 10,
        application_name: str = "darkstore",
        role: str | None = None,
    ) -> Self:
        """Open both pools on ``postgresql://…``; each holds at most ``size`` connections.

        With ``role`` every connection works as that role from its first statement on.
        """
        server_settings = {
            "application_name": application_name,
            "timezone": "UTC",
            "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            "lock_timeout": str(int(LOCK_TIMEOUT_S * 1000)),
            "idle_in_transaction_session_timeout": str(int(IDLE_IN_TRANSACTION_TIMEOUT_S * 1000)),
            # JIT compiles for longer than our short statements run.
            "jit": "off",
        }
        if role is not None:
            server_settings["role"] = role
        engine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            pool_size=size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_S,
            pool_pre_ping=False,
            # The standard one takes a tenth of the relay's time.
            json_deserializer=orjson.loads,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": STATEMENT_TIMEOUT_S + 1,
                "server_settings": server_settings,
            },
        )
        pool = await _Pool(
            url,
            min_size=0,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S + 1,
            server_settings=server_settings,
            reset=_keep,
        )
        return cls(engine, pool)

    async def renew(self) -> None:
        """Use no idle connection again: after a partition they may be deaf for ever."""
        await self.pool.expire_connections()
        # What SQLAlchemy itself does when a connection tells it that the server is gone: those made
        # before are terminated when they are next asked for.  A deaf one tells nothing, and
        # dispose() would wait for it.
        self.engine.sync_engine.pool._invalidate_time = time.time()

    async def close(self) -> None:
        """Close both pools; connections that somebody still holds are cut after a while."""
        await self.engine.dispose()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back if anything is raised."""
        try:
            async with self.engine.begin() as conn:
                yield conn
        except DBAPIError as error:
            if lost(error):
                # Lost during the commit, it may have taken effect.
                raise DatabaseUnavailable(
                    "The database connection was lost; send the same request again."
                ) from error
            raise
        except (PoolTimeout, OSError, asyncpg.InternalClientError, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and not lost(error):
                raise
            raise DatabaseUnavailable("The database does not answer; try again.") from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self.begin() as conn:
            await conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield conn
