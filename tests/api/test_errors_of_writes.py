"""One transaction, one effect: idempotency keys, collisions and their retries, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, Request
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.db import Database
from kit.errors import Conflict
from kit.ids import new_id
from server.api import writes
from server.api.access import ServicesDep, allow
from server.api.schemas import RequestModel
from server.api.writes import Reply, write
from tests.http_support import app_with, client_of, make_services


class RenameIn(RequestModel):
    name: str


class Bench:
    """An application with one write, whose use case the test hands in."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.use_case: Callable[[AsyncConnection], Awaitable[Reply]] = self.rename
        self.runs = 0
        router = APIRouter()
        for path in ("/v1/test/rename", "/v1/test/elsewhere"):
            router.add_api_route(path, self.endpoint, methods=["POST"])
        self.client = client_of(app_with(router, make_services(database, redis)))
        self.user_id = ""
        self.headers: dict[str, str] = {}
        self.name = ""

    async def log_in(self) -> Bench:
        document = (await self.client.post("/v1/auth/guest")).json()
        self.user_id = document["user"]["id"]
        self.headers = {"Authorization": f"Bearer {document['access_token']}"}
        return self

    async def endpoint(
        self,
        request: Request,
        body: RenameIn,
        services: ServicesDep,
        actor: Annotated[Actor, allow(Role.GUEST)],
    ) -> Response:
        self.name = body.name
        return await write(request, services, actor, lambda conn: self.use_case(conn))

    async def rename(self, conn: AsyncConnection) -> Reply:
        """Appends to the name, so that a second effect would show."""
        self.runs += 1
        await conn.execute(
            text("UPDATE users SET name = name || :name WHERE id = :id"),
            {"name": self.name, "id": self.user_id},
        )
        return Reply(201, {"name": self.name, "run": self.runs})

    async def post(self, name: str, key: str | None = None) -> httpx.Response:
        headers = self.headers if key is None else {**self.headers, "Idempotency-Key": key}
        return await self.client.post("/v1/test/rename", json={"name": name}, headers=headers)

    async def stored_name(self) -> Any:
        async with self.database.begin() as conn:
            return await conn.scalar(
                text("SELECT name FROM users WHERE id = :id"), {"id": self.user_id}
            )


@pytest.fixture
async def bench(database: Database, redis: Redis) -> Bench:
    return await Bench(database, redis).log_in()


async def test_the_same_key_and_body_answer_the_same_bytes(bench: Bench) -> None:
    """One effect; the second answer is the first one's bytes, marked as a replay."""
    key = new_id("key")
    first, second = await bench.post("-a", key), await bench.post("-a", key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert bench.runs == 1
    assert await bench.stored_name() == "Guest-a"


async def test_the_same_key_with_another_body_is_refused(bench: Bench) -> None:
    """422, and nothing changes."""
    key = new_id("key")
    await bench.post("-a", key)
    other = await bench.post("-b", key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    headers = {**bench.headers, "Idempotency-Key": key}
    for path in ("/v1/test/elsewhere", "/v1/test/rename?twice=1"):
        other = await bench.client.post(path, json={"name": "-a"}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await bench.stored_name() == "Guest-a"


async def test_a_key_belongs_to_its_actor(bench: Bench, database: Database, redis: Redis) -> None:
    """Somebody else's key does not give out my answer."""
    key = new_id("key")
    await bench.post("-a", key)
    other = await Bench(database, redis).log_in()
    answer = await other.post("-b", key)
    assert answer.json() == {"name": "-b", "run": 1}


async def test_without_a_key_each_request_counts(bench: Bench) -> None:
    """The key is the client's choice."""
    await bench.post("-a")
    await bench.post("-a")
    assert await bench.stored_name() == "Guest-a-a"


async def test_while_the_first_runs_the_second_is_told_so(bench: Bench) -> None:
    """409 idempotency_in_progress between two open transactions; afterwards a replay."""
    key, entered, go_on = new_id("key"), asyncio.Event(), asyncio.Event()

    async def slow(conn: AsyncConnection) -> Reply:
        entered.set()
        await go_on.wait()
        return await bench.rename(conn)

    bench.use_case = slow
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(bench.post("-a", key))
        await entered.wait()
        second = await bench.post("-a", key)
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
        assert second.json()["retryable"] is True
        go_on.set()
    assert first.result().status_code == 201
    assert (await bench.post("-a", key)).headers["idempotent-replayed"] == "true"
    assert bench.runs == 1


async def test_fifty_at_once_with_one_key_have_one_effect(bench: Bench) -> None:
    """Every answer is the one answer, or 409 in progress; on a machine that is held up, 503."""
    key = new_id("key")
    answers = await asyncio.gather(*(bench.post("-a", key) for _ in range(50)))
    assert {201} <= {answer.status_code for answer in answers} <= {201, 409, 503}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await bench.stored_name() == "Guest-a"


async def test_a_refusal_keeps_nothing_and_frees_the_key(bench: Bench) -> None:
    """What the refused use case did is undone, and the same key may try again."""
    key = new_id("key")

    async def refuse(conn: AsyncConnection) -> Reply:
        await bench.rename(conn)
        raise Conflict("Not now.")

    bench.use_case = refuse
    assert (await bench.post("-a", key)).status_code == 409
    assert await bench.stored_name() == "Guest"
    bench.use_case = bench.rename
    assert (await bench.post("-a", key)).status_code == 201
    assert await bench.stored_name() == "Guest-a"


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "tab\tkey"])
async def test_an_unfit_key_is_refused(bench: Bench, key: str) -> None:
    """1 to 255 visible ASCII characters."""
    answer = await bench.post("-a", key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_invalid")


async def fail_with(conn: AsyncConnection, state: str) -> None:
    """Make Postgres itself raise an error of that SQLSTATE."""
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{state}'; END $$"
    await conn.exec_driver_sql(raising)


@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_collisions_are_tried_again(bench: Bench, state: str) -> None:
    """A deadlock or serialization failure runs the whole transaction anew, up to three times."""
    key = new_id("key")

    async def collide_twice(conn: AsyncConnection) -> Reply:
        reply = await bench.rename(conn)
        if bench.runs < writes.ATTEMPTS:
            await fail_with(conn, state)
        return reply

    bench.use_case = collide_twice
    answer = await bench.post("-a", key)
    assert answer.json() == {"name": "-a", "run": 3}
    assert await bench.stored_name() == "Guest-a"


async def test_collisions_without_end_are_busy(bench: Bench) -> None:
    """After three tries: 503 with Retry-After, nothing changed."""

    async def collide(conn: AsyncConnection) -> Reply:
        reply = await bench.rename(conn)
        await fail_with(conn, "40P01")
        return reply

    bench.use_case = collide
    answer = await bench.post("-a", new_id("key"))
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"] == "1"
    assert bench.runs == writes.ATTEMPTS
    assert await bench.stored_name() == "Guest"


async def test_a_real_deadlock_of_two_requests_ends_well(
    bench: Bench, database: Database, redis: Redis
) -> None:
    """Two writers take two locks in opposite order; Postgres kills one, and both get through."""
    first_key = int.from_bytes(new_id("key").encode()[-6:])
    keys = [first_key, first_key + 1]
    met = asyncio.Barrier(2)
    other = await Bench(database, redis).log_in()

    def locker(one: Bench, order: list[int]) -> Callable[[AsyncConnection], Awaitable[Reply]]:
        async def lock(conn: AsyncConnection) -> Reply:
            one.runs += 1
            await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": order[0]})
            if one.runs == 1:
                await met.wait()
            await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": order[1]})
            return Reply(200)

        return lock

    bench.use_case, other.use_case = locker(bench, keys), locker(other, keys[::-1])
    answers = await asyncio.gather(bench.post("-a"), other.post("-a"))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert bench.runs + other.runs == 3


async def test_a_lock_that_does_not_come_free_is_busy(bench: Bench) -> None:
    """55P03 is not retried: whoever holds the lock has held it for long."""

    async def locked_out(conn: AsyncConnection) -> Reply:
        bench.runs += 1
        await conn.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
        await conn.execute(text("SELECT name FROM users WHERE id = :id FOR UPDATE"), {"id": "x"})
        await conn.execute(
            text("UPDATE users SET name = 'y' WHERE id = :id"), {"id": bench.user_id}
        )
        return Reply(200)

    bench.use_case = locked_out
    async with bench.database.begin() as holder:
        await holder.execute(
            text("SELECT 1 FROM users WHERE id = :id FOR UPDATE"), {"id": bench.user_id}
        )
        answer = await bench.post("-a")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert bench.runs == 1


async def test_a_lost_connection_is_database_unavailable(bench: Bench) -> None:
    """The server process dies in the middle: 503, nothing changed, and the next request works."""

    async def cut_off(conn: AsyncConnection) -> Reply:
        reply = await bench.rename(conn)
        pid = await conn.scalar(text("SELECT pg_backend_pid()"))
        async with bench.database.begin() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises((DBAPIError, asyncpg.PostgresError)) as lost:
            await conn.execute(text("SELECT 1"))
        assert reply
        raise lost.value

    bench.use_case = cut_off
    answer = await bench.post("-a", new_id("key"))
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    bench.use_case = bench.rename
    assert (await bench.post("-b")).status_code == 201
    assert await bench.stored_name() == "Guest-b"
