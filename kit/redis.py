"""The live layer's client: one bounded pool, a deadline on every command, Lua loaded by name."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from kit.redis_line import RedisLine, Script

__all__ = ["RedisError", "RedisLine", "connect", "line_of", "line_script", "load_script"]

SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0


class _Loud(AbstractConnection):
    """A lost connection is a ``RedisConnectionError``, whoever notices first.

    uvloop raises RuntimeError for a write to a transport that is gone already; redis-py passes
    that on as it is, past every handler of its errors (and of ours) and past its own retry.
    """

    async def send_packed_command(self, *arguments: Any, **named: Any) -> None:
        try:
            await super().send_packed_command(*arguments, **named)
        except RuntimeError as error:
            raise RedisConnectionError(f"the connection is gone: {error}") from error


class _LoudConnection(_Loud, Connection):
    pass


class _LoudSslConnection(_Loud, SSLConnection):
    pass


class _LoudUnixConnection(_Loud, UnixDomainSocketConnection):
    pass


_LOUD: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _LoudConnection,
    SSLConnection: _LoudSslConnection,
    UnixDomainSocketConnection: _LoudUnixConnection,
}


class _Client(Redis):
    """The library's client, and the line of the hot paths with it."""

    line: RedisLine

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self.line.close()
        await super().aclose(close_connection_pool)


def connect(url: str, *, size: int = 50) -> Redis:
    """A client over a pool that makes callers wait (2 s at most) when all ``size`` are in use.

    The library's plain pool raises at once when it is exhausted, which turns a burst into errors.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=SOCKET_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 1),
        retry_on_error=[RedisConnectionError],
    )
    pool.connection_class = _LOUD[pool.connection_class]
    client = _Client(connection_pool=pool)
    client.line = RedisLine(pool)
    return client


def line_of(client: Redis) -> RedisLine:
    """The one connection of a client for short commands of hot paths; it ends with the client."""
    return client.line if isinstance(client, _Client) else RedisLine(client.connection_pool)


def load_script(client: Redis, package: str, name: str) -> AsyncScript:
    """The script in ``<package>/lua/<name>.lua``, registered with ``client``."""
    return client.register_script(_source(package, name))


def line_script(package: str, name: str) -> Script:
    """The same script, for a line."""
    return Script(_source(package, name))


def _source(package: str, name: str) -> str:
    return resources.files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
