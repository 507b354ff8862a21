"""The lean HTTP client against a server of raw bytes: what it reuses, and what counts as failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kit.clock import Clock
from simulator.api import Api, Unreachable
from simulator.http_client import HttpClient, HttpFailure
from simulator.tally import Tally

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Answer = Callable[[int, bytes], bytes | None]


class Server:
    """Answers the n-th request with ``answer(n, request)``; None hangs up instead."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if (
                    b"content-length: " in head.lower()
                ) else 0  # fmt: skip
                self.requests.append(head + await reader.readexactly(length))
                answer = self._answer(len(self.requests), self.requests[-1])
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[Server, str]]:
    """A server on a free port, and its address."""
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


def _api(http: HttpClient) -> Api:
    return Api(http, Clock(), Tally())


async def test_requests_one_after_another_share_a_connection() -> None:
    """Three requests, one connection; headers and body arrive as sent."""
    async with served(lambda n, request: OK) as (server, address):
        http = HttpClient(address)
        for _ in range(3):
            response = await http.request("POST", "/x?a=1", headers={"K": "v"}, body=b"{}")
            assert (response.status, response.body) == (200, b"{}")
        http.close()
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /x?a=1 HTTP/1.1\r\nHost: 127.0.0.1")
    assert b"\r\nK: v\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\n{}")


async def test_a_chunked_answer_in_pieces_is_put_together() -> None:
    """Length-less answers are allowed as long as they say where they end."""
    chunked = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    )
    async with served(lambda n, request: chunked) as (_, address):
        http = HttpClient(address)
        assert (await http.request("GET", "/")).body == b'{"a":1}'
        http.close()


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    """``Connection: close`` is obeyed."""
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with served(lambda n, request: closing) as (server, address):
        http = HttpClient(address)
        await http.request("GET", "/")
        await http.request("GET", "/")
        http.close()
    assert server.connections == 2


async def test_lost_late_and_malformed_answers_are_failures() -> None:
    """Each is counted under its own word, and nothing else is raised."""
    async with served(lambda n, request: {1: None, 2: b"", 3: b"nonsense\r\n\r\n"}[n]) as (
        _,
        address,
    ):
        http = HttpClient(address, timeout_s=0.2)
        for _ in range(3):
            with pytest.raises(HttpFailure):
                await http.request("GET", "/")
    with pytest.raises(HttpFailure, match="unreachable"):
        await http.request("GET", "/")
    assert http.statistics.failures == {
        "connection_lost": 1, "timeout": 1, "malformed": 1, "unreachable": 1,
    }  # fmt: skip


@pytest.mark.parametrize("address", ["https://example.org", "ftp://x", "127.0.0.1:80"])
def test_only_plain_http_is_spoken(address: str) -> None:
    """Anything else is refused before a connection is made."""
    with pytest.raises(ValueError, match="http://"):
        HttpClient(address)


async def test_a_call_is_tried_again_with_the_same_key() -> None:
    """A lost answer, a 503 and a 409 in progress are borne; the answer is the last one."""
    busy = b'HTTP/1.1 503 Busy\r\nContent-Length: 15\r\n\r\n{"code":"busy"}'
    running = b'{"code":"idempotency_in_progress"}'
    in_progress = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(running) + running
    answers: dict[int, bytes | None] = {1: None, 2: busy, 3: in_progress, 4: OK}
    async with served(lambda n, request: answers[n]) as (server, address):
        http = HttpClient(address)
        reply = await _api(http).call("POST", "/v1/orders", {"a": 1}, key="k-1")
        http.close()
    assert reply.ok
    assert len(server.requests) == 4
    assert all(b"Idempotency-Key: k-1\r\n" in request for request in server.requests)
    assert len({request.split(b"\r\n\r\n")[1] for request in server.requests}) == 1


async def test_a_refusal_is_an_answer_and_not_tried_again() -> None:
    """409 ``stock_short`` comes back at once, with its code."""
    body = b'{"code":"stock_short"}'
    short = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with served(lambda n, request: short) as (server, address):
        http = HttpClient(address)
        reply = await _api(http).call("POST", "/v1/orders", {}, key="k")
        http.close()
    assert (reply.status, reply.code, len(server.requests)) == (409, "stock_short", 1)


async def test_patience_ends() -> None:
    """A server that never answers is unreachable, after the time that was allowed."""
    async with served(lambda n, request: None) as (_, address):
        http = HttpClient(address)
        with pytest.raises(Unreachable):
            await _api(http).call("GET", "/", patience_s=0.3)
