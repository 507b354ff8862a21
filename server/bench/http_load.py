"""A client for load: keep-alive connections, ready-made bytes out, the answer's body back.

An ordinary HTTP client costs more than the server that it measures, on the same two cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from server.bench.report import percentile


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._told: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(cls, "127.0.0.1", port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        start = head.find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        whole = head_end + 4 + length
        if len(self._buffer) < whole:
            return
        body, self._buffer = self._buffer[head_end + 4 : whole], self._buffer[whole:]
        told, self._told = self._told, None
        if told is not None and not told.done():
            told.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_exception(error or ConnectionResetError("the server hung up"))

    async def send(self, request: bytes) -> Answer:
        """Raises ConnectionError when the server hangs up."""
        assert self._transport is not None
        assert self._told is None, "one request at a time"
        self._told = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._told

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Connections:
    """So many connections to one port; use as a context."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self.all: list[Connection] = []

    async def __aenter__(self) -> Self:
        self.all = [await Connection.open(self._port) for _ in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in self.all:
            one.close()


def post(path: str, body: bytes, *, token: str | None = None, key: str | None = None) -> bytes:
    """The bytes of a POST request."""
    lines = [
        f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]  # fmt: skip
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if key is not None:
        lines.append(f"Idempotency-Key: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(slots=True)
class Round:
    """Latencies in seconds of what was done, and how long the whole took."""

    took_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.took_s) / self.seconds if self.seconds else 0.0

    def ms(self, share: float) -> float:
        return percentile(sorted(self.took_s), share) * 1000


Work = Callable[[Connection], Awaitable[None]]


async def closed_loop(connections: Connections, work: Work, seconds: float) -> Round:
    """Every connection does one piece of work after another."""
    done = Round()
    started = time.perf_counter()

    async def client(connection: Connection) -> None:
        while (now := time.perf_counter()) - started < seconds:
            await work(connection)
            done.took_s.append(time.perf_counter() - now)

    await asyncio.gather(*(client(connection) for connection in connections.all))
    done.seconds = time.perf_counter() - started
    return done


async def open_loop(connections: Connections, work: Work, seconds: float, rate: float) -> Round:
    """Work arrives at a steady rate, whether or not what came before is done.

    Latency counts from the moment of arrival, so that waiting for a connection is not hidden.
    """
    done = Round()
    started = time.perf_counter()
    arrivals: Iterator[int] = iter(range(round(seconds * rate)))

    async def client(connection: Connection) -> None:
        for n in arrivals:
            due = started + n / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await work(connection)
            done.took_s.append(time.perf_counter() - due)

    await asyncio.gather(*(client(connection) for connection in connections.all))
    done.seconds = time.perf_counter() - started
    return done
