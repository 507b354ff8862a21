"""Postgres: one metadata, one engine for ordinary work and one bare asyncpg pool for hot paths.

A use case is one transaction (``Database.begin``); no outside call is made within it.  Text ids
use the ``C`` collation, because they are compared, never read aloud.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import asyncpg
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
# Longer than any statement of a healthy system; a stuck one must not hold its locks for ever.
STATEMENT_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 5.0
IDLE_IN_TRANSACTION_TIMEOUT_S = 20.0


class DatabaseUnavailable(Busy):
    code = "database_unavailable"
    title = "The database does not answer"


def id_type() -> TypeEngine[str]:
    """The column type of ids and codes: text, compared byte by byte."""
    return Text(collation="C")


@dataclass(frozen=True, slots=True)
class Database:
    """``engine`` for SQLAlchemy, ``pool`` (asyncpg) for statements counted in microseconds."""

    engine: AsyncEngine
    pool: asyncpg.Pool[asyncpg.Record]

    @classmethod
    async def open(cls, url: str, *, size: int = 10, application_name: str = "darkstore") -> Self:
        """Open both pools on ``postgresql://…``; each holds at most ``size`` connections."""
        server_settings = {
            "application_name": application_name,
            "timezone": "UTC",
            "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            "lock_timeout": str(int(LOCK_TIMEOUT_S * 1000)),
            "idle_in_transaction_session_timeout": str(int(IDLE_IN_TRANSACTION_TIMEOUT_S * 1000)),
            # JIT compiles for longer than our short statements run.
            "jit": "off",
        }
        engine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            pool_size=size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_S,
            pool_pre_ping=False,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": STATEMENT_TIMEOUT_S + 1,
                "server_settings": server_settings,
            },
        )
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S + 1,
            server_settings=server_settings,
        )
        return cls(engine, pool)

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
            if error.connection_invalidated:
                raise DatabaseUnavailable(
                    "The database connection was lost; nothing was changed. Try again."
                ) from error
            raise
        except (
            ConnectionError,
            TimeoutError,
            PoolTimeout,
            asyncpg.CannotConnectNowError,
        ) as error:
            raise DatabaseUnavailable("The database does not answer; try again.") from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self.begin() as conn:
            await conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield conn
