"""The line of the hot paths: replies find their callers, a broken connection tells everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kit import redis_line
from kit.ids import new_id
from kit.redis import RedisError, RedisLine, connect, line_of
from kit.redis_line import Script


@pytest.fixture
async def line(redis: Redis) -> AsyncIterator[RedisLine]:
    found = RedisLine(redis.connection_pool)
    yield found
    found.close()


async def test_everybody_gets_their_own_reply(line: RedisLine) -> None:
    """Hundreds of commands under way at once on one connection."""
    name = new_id("tst")
    replies = await asyncio.gather(
        *(line.send("SET", f"{name}:{n}", n, "PX", 5_000) for n in range(300))
    )
    assert {bytes(reply) for reply in replies} == {b"OK"}
    found = await asyncio.gather(*(line.send("GET", f"{name}:{n}") for n in range(300)))
    assert [int(value) for value in found] == list(range(300))
    assert await line.send("GET", f"{name}:none") is None


async def test_a_refused_command_is_its_callers_alone(line: RedisLine) -> None:
    """The replies behind it stay in order."""
    name = new_id("tst")
    told = await asyncio.gather(
        line.send("SET", name, "text", "PX", 5_000),
        line.send("INCR", name),
        line.send("GET", name),
        return_exceptions=True,
    )
    assert isinstance(told[1], ResponseError)
    assert told[2] == b"text"


async def test_a_caller_that_leaves_shifts_no_reply(line: RedisLine) -> None:
    """What was written will be answered, whoever still waits for it."""
    name = new_id("tst")
    await line.send("SET", name, "mine", "PX", 5_000)
    leaving = asyncio.create_task(line.send("ECHO", "for nobody"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await line.send("GET", name) == b"mine"


async def test_a_script_that_the_server_has_forgotten_is_sent_again(
    line: RedisLine, redis: Redis
) -> None:
    """After a restart or a flush the hash says nothing to it."""
    script = Script("return {KEYS[1], ARGV[1]}")
    assert await line.run(script, ["key"], 7) == [b"key", b"7"]
    await redis.script_flush()
    assert await line.run(script, ["key"], 8) == [b"key", b"8"]


async def test_a_lost_connection_is_told_and_replaced(line: RedisLine, redis: Redis) -> None:
    """Whoever waits hears an error, and the next command finds a new connection."""
    number = await line.send("CLIENT", "ID")
    waiting = asyncio.create_task(line.send("XREAD", "BLOCK", 60_000, "STREAMS", "none", "$"))
    await asyncio.sleep(0)
    await redis.client_kill_filter(_id=number)
    with pytest.raises(RedisError):
        await waiting
    assert await line.send("CLIENT", "ID") != number


async def test_the_line_speaks_to_the_clients_own_database(redis: Redis) -> None:
    """Number and password of the address are settled before the first command."""
    assert redis.connection_pool.connection_kwargs["db"] > 0, "or this shows nothing"
    line, name = line_of(redis), new_id("tst")
    await line.send("SET", name, 1, "PX", 5_000)
    assert await redis.get(name) == b"1"


async def test_without_redis_a_command_fails_at_once() -> None:
    """Port 1 refuses; all who wait for the connection hear it."""
    line = RedisLine(connect("redis://127.0.0.1:1/0").connection_pool)
    told = await asyncio.gather(line.send("PING"), line.send("PING"), return_exceptions=True)
    assert all(isinstance(one, RedisError) for one in told)


async def test_silence_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes everything and says nothing is given up after the deadline."""
    monkeypatch.setattr(redis_line, "TIMEOUT_S", 0.05)
    async with _silent_server() as port:
        line = RedisLine(connect(f"redis://127.0.0.1:{port}/0").connection_pool)
        told = await asyncio.gather(line.send("PING"), line.send("PING"), return_exceptions=True)
        assert all(isinstance(one, RedisError) for one in told)
        line.close()


@asynccontextmanager
async def _silent_server() -> AsyncIterator[int]:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
