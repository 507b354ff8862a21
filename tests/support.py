"""Databases and Redis for tests, and what they look like afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, date
from typing import Any, TypeVar

import asyncpg
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

from kit.clock import database_now
from kit.db import Database
from kit.redis import connect
from ledger.reports import trial_balance
from server.migrate import migrate

REDIS_DATABASES = range(1, 16)
_CLAIM = "darkstore:test-session"

Opened = TypeVar("Opened")


@asynccontextmanager
async def kept(context: AbstractAsyncContextManager[Opened]) -> AsyncIterator[Opened]:
    """Enter and leave a context in one task of its own.

    pytest-asyncio sets a fixture up and tears it down in different tasks, which task groups and
    time-outs inside a context do not survive.
    """
    opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        async with context as value:
            opened.set_result(value)
            await leave.wait()

    task = asyncio.create_task(hold())
    waited: set[asyncio.Future[Any]] = {task, opened}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not opened.done():
        opened.cancel()
        await task
    try:
        yield await opened
    finally:
        leave.set()
        await task


def with_database(url: str, name: str) -> str:
    """The same server's address with another database."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@asynccontextmanager
async def new_database(server_url: str, template: str | None = None) -> AsyncIterator[str]:
    """The URL of a database of its own, dropped at the end; no commit waits for the disk."""
    name = f"darkstore_test_{secrets.token_hex(6)}"
    await _on_server(
        server_url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")
    )
    try:
        await _on_server(server_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
        yield with_database(server_url, name)
    finally:
        await _on_server(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def forgetful(server_url: str) -> None:
    """Let a server that lives for this session not wait for the disk: nobody reads it afterwards.

    Tests of durability start engines of their own.
    """
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        await _on_server(server_url, f"ALTER SYSTEM SET {setting} = off")
    await _on_server(server_url, "SELECT pg_reload_conf()")


async def _on_server(server_url: str, statement: str) -> None:
    conn = await asyncpg.connect(server_url)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


@asynccontextmanager
async def migrated_template(server_url: str) -> AsyncIterator[str]:
    """The name of a migrated database that nobody is connected to, to be copied."""
    async with new_database(server_url) as url:
        async with opened_database(url, size=2) as database:
            await migrate(database)
        name = make_url(url).database
        assert name is not None
        yield name


@asynccontextmanager
async def opened_database(url: str, *, size: int = 10) -> AsyncIterator[Database]:
    database = await Database.open(url, size=size, application_name="darkstore tests")
    try:
        yield database
    finally:
        await database.close()


async def next_day(database: Database) -> None:
    """The database's clock jumps 24 hours ahead."""
    async with database.begin() as conn:
        await conn.execute(
            text("UPDATE clock SET anchor_virtual = anchor_virtual + interval '1 day'")
        )


async def today(database: Database) -> date:
    """The accounting day (UTC) of the database's clock."""
    async with database.begin() as conn:
        return (await database_now(conn)).astimezone(UTC).date()


async def assert_books_balance(database: Database) -> None:
    """After all that a session's tests have done, the trial balance is zero in every currency."""
    async with database.begin() as conn:
        balances = await trial_balance(conn)
    off = {currency: sum(accounts.values()) for currency, accounts in balances.items()}
    assert not any(off.values()), f"the trial balance is off by {off}"


@asynccontextmanager
async def own_redis(server_url: str) -> AsyncIterator[str]:
    """The URL of a numbered database that was empty and is ours; emptied at the end."""
    token = secrets.token_hex(8)
    for number in REDIS_DATABASES:
        url = f"{server_url.rstrip('/')}/{number}"
        client = Redis.from_url(url)
        try:
            if await client.dbsize() == 0 and await client.set(_CLAIM, token, nx=True):
                try:
                    yield url
                finally:
                    await client.flushdb()
                return
        finally:
            await client.aclose()
    raise RuntimeError(f"none of the databases 1 to 15 of {server_url} is empty")


@asynccontextmanager
async def opened_redis(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    try:
        yield client
    finally:
        await client.aclose()
