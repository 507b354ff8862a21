"""The live layer's client: one bounded pool, a deadline on every command, Lua loaded by name."""

from __future__ import annotations

from importlib import resources

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

__all__ = ["RedisError", "connect", "load_script"]

SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0


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
    return Redis(connection_pool=pool)


def load_script(client: Redis, package: str, name: str) -> AsyncScript:
    """The script in ``<package>/lua/<name>.lua``, registered with ``client``."""
    source = resources.files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return client.register_script(source)
