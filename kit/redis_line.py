"""One connection to Redis for short commands of hot paths: many callers at once, replies in order.

The library's client takes a connection out of a pool for each command, which costs more than the
command.  Here a command is written at once behind those that wait already, and its reply is the
next but so many; what is written in one turn of the event loop leaves in one packet.  Nothing that
blocks may be sent (BLPOP, SUBSCRIBE, MULTI): it would hold up everybody behind it.

A reply that does not come within ``TIMEOUT_S`` ends the connection, as nobody can tell whose the
next one is; all that wait hear a ``RedisError``, and the next command opens a new connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.asyncio import SSLConnection
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

TIMEOUT_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 1.0
# More than this waits only when Redis does not answer; then more would only be told so later.
WAITING_MAX: Final = 10_000

Argument: TypeAlias = str | bytes | int | float
Reply: TypeAlias = Any
# That there is no reply yet; None is one.
_NONE: Final = object()


class Script:
    """A Lua script, sent by its hash where the server knows it."""

    def __init__(self, source: str) -> None:
        self.source = source
        # The name that Redis gives it; nothing is kept secret by it.
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class RedisLine:
    """The connection, opened by the first command, with the address of ``pool``."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._open: _Wire | None = None
        self._opening: asyncio.Task[_Wire] | None = None

    async def send(self, *arguments: Argument) -> Reply:
        """A command's reply; an error of the command itself is raised as ``ResponseError``.

        Raises ``RedisError`` when the reply does not come; then nobody knows whether it was done.
        """
        wire = self._open
        if wire is None or wire.is_lost:
            wire = await self._reopen()
        return await wire.send(arguments)

    async def run(self, script: Script, keys: list[str], *arguments: Argument) -> Reply:
        """A script's reply.  Raises like ``send``."""
        rest = (len(keys), *keys, *arguments)
        try:
            return await self.send("EVALSHA", script.sha, *rest)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.send("EVAL", script.source, *rest)

    def close(self) -> None:
        """End the connection; a later command would open another."""
        if self._opening is not None:
            self._opening.cancel()
        if self._open is not None:
            self._open.end(RedisConnectionError("closed"))

    async def _reopen(self) -> _Wire:
        """All who find the line dead wait for one attempt.  Raises ``RedisConnectionError``."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect())
            # Whoever asked for it may be gone when it fails.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One caller that leaves must not take the attempt away from the others.
        self._open = await asyncio.shield(self._opening)
        return self._open

    async def _connect(self) -> _Wire:
        given = self._pool.connection_kwargs
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if "path" in given:
                    _, wire = await loop.create_unix_connection(_Wire, given["path"])
                else:
                    _, wire = await loop.create_connection(
                        _Wire, given.get("host", "localhost"), given.get("port", 6379),
                        ssl=self._tls(),
                    )  # fmt: skip
                await self._greet(wire, given)
        except (OSError, TimeoutError) as error:
            raise RedisConnectionError(f"no connection: {type(error).__name__}") from error
        return wire

    async def _greet(self, wire: _Wire, given: dict[str, Any]) -> None:
        try:
            if given.get("password"):
                user = [given["username"]] if given.get("username") else []
                await wire.send(["AUTH", *user, given["password"]])
            if given.get("db"):
                await wire.send(["SELECT", given["db"]])
        except BaseException:
            wire.end(RedisConnectionError("refused"))
            raise

    def _tls(self) -> Any:
        """The client's own TLS context, where the address says ``rediss``."""
        kind = self._pool.connection_class
        if not issubclass(kind, SSLConnection):
            return None
        return kind(**self._pool.connection_kwargs).ssl_context.get()


class _Wire(asyncio.Protocol):
    """One connection: commands out, replies to whoever has waited longest."""

    def __init__(self) -> None:
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            replyError=ResponseError, protocolError=RedisConnectionError, notEnoughData=_NONE
        )
        self._waiting: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NONE:
                _, told = self._waiting.popleft()
                if told.done():
                    continue
                if isinstance(reply, ResponseError):
                    told.set_exception(reply)
                else:
                    told.set_result(reply)
        except (RedisConnectionError, IndexError) as error:
            self.end(RedisConnectionError(f"not Redis: {type(error).__name__}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(RedisConnectionError("the connection was lost"))

    def send(self, arguments: Any) -> asyncio.Future[Reply]:
        """Raises ``RedisConnectionError`` at once when the connection is gone, or too many wait."""
        if self.is_lost or self._transport is None or len(self._waiting) >= WAITING_MAX:
            raise RedisConnectionError("no connection")
        told: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((self._loop.time() + TIMEOUT_S, told))
        if self._watch is None:
            self._watch = self._loop.call_later(TIMEOUT_S, self._look_at_oldest)
        self._transport.write(hiredis.pack_command(tuple(arguments)))
        return told

    def end(self, error: Exception) -> None:
        """Close it; whoever waits hears ``error``."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, told = self._waiting.popleft()
            if not told.done():
                told.set_exception(error)

    def _look_at_oldest(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        until, _ = self._waiting[0]
        if until <= self._loop.time():
            self.end(RedisTimeoutError("Redis does not answer"))
        else:
            self._watch = self._loop.call_at(until, self._look_at_oldest)
