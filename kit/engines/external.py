"""Check a DATABASE_URL or REDIS_URL before anything is built upon it.

A wrong address, password, database or version becomes one sentence that names the variable, what
was tried (never the password) and what to do.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from kit.engines.errors import UrlUnusable

OLDEST_POSTGRES = 15
OLDEST_REDIS = (7, 0)
_TIMEOUT_S = 5.0
_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def without_password(url: str) -> str:
    """``url`` with ``***`` for a password, wherever one can stand."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    hidden = f"{name}{colon}{'***' if colon else ''}{at}{host}"
    query = urlencode(
        [
            (key, "***" if "password" in key.lower() else value)
            for key, value in parse_qsl(parts.query, keep_blank_values=True)
        ],
        safe="*/",
        quote_via=quote,
    )
    return urlunsplit((parts.scheme, hidden, parts.path, query, ""))


async def check_database(url: str) -> None:
    """Raise `UrlUnusable` unless ``url`` leads to a writable Postgres 15 or newer in UTF-8."""

    def unusable(problem: str, remedy: str) -> UrlUnusable:
        return UrlUnusable("DATABASE_URL", without_password(url), problem, remedy)

    if _scheme(url) not in _DATABASE_SCHEMES:
        raise unusable(
            "it is not a Postgres address", "write postgresql://user:password@host:5432/database"
        )
    try:
        connection = await asyncpg.connect(
            re.sub(r"^postgresql\+asyncpg:", "postgresql:", url), timeout=_TIMEOUT_S
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise unusable(
            "the server refused the user or the password", "correct the user and password"
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise unusable("the database does not exist", "create it with createdb") from error
    except TimeoutError as error:
        raise unusable(
            f"no answer within {_TIMEOUT_S:.0f} s", "check the host, the port and the firewall"
        ) from error
    except OSError as error:
        raise unusable(
            "no connection could be made", "check the host and port, and that the server runs"
        ) from error
    except asyncpg.PostgresError as error:
        raise unusable(f"the server refused ({error})", "correct that on the server") from error
    except (ValueError, asyncpg.InterfaceError) as error:
        raise unusable(
            "the address cannot be read", "write postgresql://user:password@host:5432/database"
        ) from error
    try:
        major = connection.get_server_version().major
        encoding = await connection.fetchval("SHOW server_encoding")
        read_only = await connection.fetchval("SELECT pg_is_in_recovery()")
    finally:
        await connection.close()
    if major < OLDEST_POSTGRES:
        raise unusable(
            f"the server is Postgres {major}", f"use Postgres {OLDEST_POSTGRES} or newer"
        )
    if encoding != "UTF8":
        raise unusable(f"the database is encoded in {encoding}", "create it with encoding UTF8")
    if read_only:
        raise unusable("the server is a read-only replica", "give the address of the primary")


async def check_redis(url: str) -> None:
    """Raise `UrlUnusable` unless ``url`` leads to a Redis 7.0 or newer, or a Valkey."""

    def unusable(problem: str, remedy: str) -> UrlUnusable:
        return UrlUnusable("REDIS_URL", without_password(url), problem, remedy)

    example = "write redis://:password@host:6379/0"
    if _scheme(url) not in _REDIS_SCHEMES:
        raise unusable("it is not a Redis address", example)
    try:
        client = Redis.from_url(
            url,
            # The older protocol, so that a server too old for the newer one can tell its version.
            protocol=2,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise unusable("the address cannot be read", example) from error
    try:
        version = str((await client.info("server"))["redis_version"])
    except redis_errors.BusyLoadingError as error:
        raise unusable("the server is still loading its data", "try again soon") from error
    # redis-py tells a refused log-in as either of two kinds.
    except (redis_errors.AuthenticationError, redis_errors.AuthorizationError) as error:
        raise unusable(
            "the server refused the user or the password", "correct the user and password"
        ) from error
    except (redis_errors.TimeoutError, TimeoutError) as error:
        raise unusable(
            f"no answer within {_TIMEOUT_S:.0f} s", "check the host, the port and the firewall"
        ) from error
    except (redis_errors.ConnectionError, OSError) as error:
        raise unusable(
            "no connection could be made", "check the host and port, and that the server runs"
        ) from error
    except redis_errors.RedisError as error:
        raise unusable(f"the server refused ({error})", "correct the address") from error
    finally:
        await client.aclose()
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < OLDEST_REDIS:
        raise unusable(f"the server is Redis {version}", "use Redis 7.0 or newer, or Valkey")


def _scheme(url: str) -> str:
    """The scheme of ``url`` in lower case; empty when it cannot be read."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
