"""The client of the live layer: whatever becomes of a connection is an error that callers know."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from kit.redis import RedisError, connect
from tests.addresses import Addresses


async def _talk_over_a_connection_that_was_reset(redis_url: str) -> None:
    """A pooled connection whose transport has gone before its reader was told."""
    client = connect(redis_url)
    try:
        await client.ping()
        (connection,) = client.connection_pool._available_connections  # type: ignore[attr-defined]  # no public way
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        connection.is_connected  # noqa: B018 - still believed to be
        await connection.send_command("PING")
    finally:
        await client.aclose()


def test_a_connection_that_was_reset_raises_an_error_that_callers_know(
    engines: Addresses,
) -> None:
    """uvloop raises RuntimeError for a transport that is gone; redis-py lets that through."""
    with pytest.raises(RedisError):
        uvloop.run(_talk_over_a_connection_that_was_reset(engines.redis_url))
