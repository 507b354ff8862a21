"""Which engines there are to test on: the embedded ones, and the machine's own where they answer.

Every process of pytest asks this, so nothing heavy is imported here.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from kit.engines.errors import EngineError
from kit.engines.external import check_database, check_redis

EMBEDDED, EXTERNAL = "embedded", "external"
DATABASE_VARIABLE = "DARKSTORE_TEST_DATABASE_URL"
REDIS_VARIABLE = "DARKSTORE_TEST_REDIS_URL"
STANDARD_DATABASE_URL = "postgresql://postgres@127.0.0.1:5432/postgres"
STANDARD_REDIS_URL = "redis://127.0.0.1:6379"


@dataclass(frozen=True, slots=True)
class Addresses:
    """A server to make databases on (any database of it), and a Redis without a number."""

    database_url: str
    redis_url: str


async def external_engines() -> Addresses | None:
    """The engines that the environment names, or those on the standard ports; None if not both.

    An empty variable turns them off.  A named one that is not usable is an error, not a skip.
    """
    database_url = os.environ.get(DATABASE_VARIABLE, STANDARD_DATABASE_URL)
    redis_url = os.environ.get(REDIS_VARIABLE, STANDARD_REDIS_URL)
    if not database_url or not redis_url:
        return None
    try:
        async with asyncio.timeout(6):
            await check_database(database_url)
            await check_redis(redis_url)
    except (EngineError, TimeoutError):
        if DATABASE_VARIABLE in os.environ or REDIS_VARIABLE in os.environ:
            raise
        return None
    return Addresses(database_url, redis_url)


async def describe(addresses: Addresses) -> str:
    """``Postgres 15.14 and Redis 7.0.15``."""
    conn = await asyncpg.connect(addresses.database_url)
    try:
        postgres = await conn.fetchval("SHOW server_version")
    finally:
        await conn.close()
    client = Redis.from_url(addresses.redis_url)
    try:
        info = await client.info("server")
    finally:
        await client.aclose()
    valkey = info.get("valkey_version")
    redis = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
    return f"Postgres {str(postgres).split()[0]} and {redis}"
