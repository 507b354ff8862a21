"""A lean HTTP/1.1 client: keep-alive connections, one parser in C, one deadline a request.

httpx costs 1.3 ms of a core a request (2.5 ms on a busy machine) and this 0.03 ms, on the parser
that uvicorn uses (httptools): at the 100 requests a second of a simulated city that is an eighth of
a core or more, taken from the system that is being shown.  It speaks to one plain-text origin,
sends bodies of known length and follows no redirects: all that the simulator needs, and all that
it is for.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

# Uvicorn closes a connection that was idle for 5 s; one that we close first is never lost halfway.
_IDLE_S: Final = 3.0
_LATENCIES_KEPT: Final = 50_000


class HttpFailure(Exception):
    """No complete answer: refused, lost, malformed or too late.  Whether it took effect is open."""


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpStatistics:
    """What went over the wire: answers by status, failures by kind, latest latencies."""

    def __init__(self) -> None:
        self.requests = 0
        self.by_status: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.latencies_s: deque[float] = deque(maxlen=_LATENCIES_KEPT)


class _Connection(asyncio.Protocol):
    """One request at a time; the future is the answer to it."""

    def __init__(self) -> None:
        self.idle_since_s = 0.0
        self.open = True
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports have the methods, not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail("connection_lost")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.open = False
            self._fail("malformed")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            status = self._parser.get_status_code()
            answer.set_result(Response(status, self._headers, b"".join(self._body)))
        self._headers, self._body = {}, []
        self._parser = httptools.HttpResponseParser(self)

    def _fail(self, kind: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(HttpFailure(kind))

    def send(self, request: bytes) -> asyncio.Future[Response]:
        assert self._transport is not None
        assert self._answer is None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()


class HttpClient:
    """Requests to one origin such as ``http://127.0.0.1:8000``.

    Raises ValueError for anything but plain HTTP.  Connections are as many as requests at once:
    the callers are people, who wait for an answer before they tap again.
    """

    def __init__(self, base_url: str, *, timeout_s: float = 20.0) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{base_url!r} is not an http:// address")
        self._host, self._port = parts.hostname, parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nAccept: application/json\r\n"
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self.statistics = HttpStatistics()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """One exchange, from connecting to the last byte of the answer.  Raises HttpFailure."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self.statistics.requests += 1
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connection()
                response = await connection.send(self._encode(method, path, headers, body))
        except BaseException as error:
            if connection is not None:
                connection.close()
            kind = _kind(error)
            if kind is None:
                raise
            self.statistics.failures[kind] += 1
            raise HttpFailure(kind) from error
        ended_s = loop.time()
        self.statistics.latencies_s.append(ended_s - started_s)
        self.statistics.by_status[response.status] += 1
        if connection.open and connection.reusable:
            connection.idle_since_s = ended_s
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def close(self) -> None:
        """Close what is idle; requests in flight close theirs when they end."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.open and loop.time() - connection.idle_since_s < _IDLE_S:
                return connection
            connection.close()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

    def _encode(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes | None
    ) -> bytes:
        lines = [f"{method} {path} HTTP/1.1\r\n", self._head]
        lines += [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
        elif method != "GET":
            lines.append("Content-Length: 0\r\n")
        return "".join([*lines, "\r\n"]).encode("latin-1") + (body or b"")


def _kind(error: BaseException) -> str | None:
    """The word under which a failure is counted; None for what is no failure of the network."""
    if isinstance(error, HttpFailure):
        return str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    return "unreachable" if isinstance(error, OSError) else None
