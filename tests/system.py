"""A whole running system, for tests through the public API alone.

Each test takes a city of its own (one store, two pickers, riders), so that tests share processes
but neither stock, nor queues, nor riders.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from sqlalchemy import text
from structlog.testing import capture_logs
from typer.testing import CliRunner

from kit.db import Database
from kit.ports import free_port
from server.cli import app
from tests.addresses import Addresses
from tests.cities import PASSWORD, Member, Place, Product, make_place, put_on_sale
from tests.support import migrated_template, new_database, opened_database, own_redis

ROOT = Path(__file__).parents[1]
SPEED = 20.0
CITIES = 40

# Virtual durations are long where a busy machine must not let them run out, real ones short
# where a test waits for them.
ENVIRONMENT = {
    "DARKSTORE_HTTP__RATE_LIMITS__ENABLED": "false",
    "DARKSTORE_IDENTITY__ARGON2__TIME_COST": "1",
    "DARKSTORE_IDENTITY__ARGON2__MEMORY_COST_KIB": "8",
    "DARKSTORE_IDENTITY__ACCESS_LIFE_S": "86400",
    "DARKSTORE_ORDERS__OPEN_ORDERS__CUSTOMER_MAX": "100",
    "DARKSTORE_ORDERS__OPEN_ORDERS__GUEST_MAX": "100",
    "DARKSTORE_ORDERS__RESERVATION_HOLD_S": "1200",
    "DARKSTORE_ORDERS__QUOTE_LIFE_S": "1200",
    "DARKSTORE_PAYMENTS__DEADLINE_S": "1.5",
    "DARKSTORE_PAYMENTS__FIRST_LOOKUP_S": "0.4",
    "DARKSTORE_PAYMENTS__BACKOFF_CAP_S": "1",
    "DARKSTORE_RIDERS__OFFER_LIFE_S": "100",
    "DARKSTORE_RIDERS__SILENT_AFTER_S": "3600",
    "DARKSTORE_RIDERS__WATCH__LOST_AFTER_S": "36000",
    "DARKSTORE_RIDERS__WATCH__CARRYING_LOST_AFTER_S": "36000",
    "DARKSTORE_RIDERS__WATCH__LATE_S": "36000",
}


@dataclass
class Caller:
    """Somebody who is logged in.  ``post`` fails unless the answer is as expected."""

    http: httpx.AsyncClient
    token: str
    user_id: str

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = await self.http.get(path, headers=self._headers(None), params=params)
        assert answer.status_code == status, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def status_of(self, path: str, **params: Any) -> int:
        """How a question is answered, for those who may not ask it."""
        answer = await self.http.get(path, headers=self._headers(None), params=params)
        return answer.status_code

    async def send(
        self, path: str, body: Mapping[str, object] | None = None, *, key: str | None = None
    ) -> httpx.Response:
        return await self.http.post(path, json=body or {}, headers=self._headers(key))

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        status: int | None = None,
        key: str | None = None,
    ) -> Any:
        answer = await self.send(path, body, key=key)
        right = answer.is_success if status is None else answer.status_code == status
        assert right, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def refused(
        self, path: str, body: Mapping[str, object] | None, status: int, code: str
    ) -> Any:
        """Post what must be refused with that problem."""
        problem = await self.post(path, body, status=status)
        assert problem["code"] == code, problem
        return problem

    def _headers(self, key: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.token}"}
        return headers if key is None else {**headers, "Idempotency-Key": key}


@dataclass
class System:
    """The running processes, a client, and the database behind them (to look and to stock)."""

    base_url: str
    database: Database
    database_url: str
    redis_url: str
    data_dir: Path
    http: httpx.AsyncClient
    provider: httpx.AsyncClient
    places: list[Place] = field(default_factory=list)
    shared: dict[str, Place] = field(default_factory=dict)

    def take_place(self) -> Place:
        """A city of the test's own."""
        assert self.places, f"more than {CITIES} tests want a city: raise CITIES"
        return self.places.pop()

    def place_of(self, name: str) -> Place:
        """A city that several tests share, by the name that they give it."""
        if name not in self.shared:
            self.shared[name] = self.take_place()
        return self.shared[name]

    @property
    def elsewhere(self) -> Place:
        """A city whose people are strangers in every other one; nobody orders there."""
        return self.place_of("elsewhere")

    async def customer(self) -> Caller:
        answer = (await self.http.post("/v1/auth/guest")).json()
        return Caller(self.http, answer["access_token"], answer["user"]["id"])

    async def log_in(self, member: Member) -> Caller:
        answer = await self.http.post(
            "/v1/auth/login", json={"email": member.email, "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        return Caller(self.http, answer.json()["access_token"], member.user_id)

    async def now(self) -> str:
        return str((await self.http.get("/v1/clock")).json()["now"])

    async def stock(self, place: Place, units: int = 50, *prices_minor: int) -> list[Product]:
        """New products on the place's shelves, one for each price."""
        async with self.database.begin() as conn:
            return await put_on_sale(conn, place.store, units, prices_minor or (6_000,))

    async def rows(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        async with self.database.begin() as conn:
            found = await conn.execute(text(statement), parameters)
            return [dict(row) for row in found.mappings()]

    async def command(self, *words: str) -> tuple[int, str]:
        """``darkstore …`` on this system: exit code and output.

        In this process, which has long imported what a new one would take seconds for; what the
        command sets in its environment ends with it, and what it logs is not its output.
        """
        env = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "DARKSTORE_PAYMENTS__SANDBOX_URL": str(self.provider.base_url).rstrip("/"),
        }
        with patch.dict(os.environ, env), capture_logs():
            ran = await asyncio.to_thread(
                CliRunner().invoke, app, [*words, "--data-dir", str(self.data_dir)]
            )
        return ran.exit_code, ran.stdout or ran.stderr

    async def operations(self, order_id: str) -> list[dict[str, Any]]:
        """What took effect at the payment provider for an order, by its own log."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": "200", **({"cursor": cursor} if cursor else {})}
            page = (await self.provider.get("/v1/operations", params=params)).json()
            found += [item for item in page["items"] if item["order_reference"] == order_id]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


@asynccontextmanager
async def open_system(engines: Addresses, data_dir: Path) -> AsyncIterator[System]:
    """``darkstore up`` on a database and a Redis of its own, with its cities."""
    async with AsyncExitStack() as stack:
        name = await stack.enter_async_context(migrated_template(engines.database_url))
        url = await stack.enter_async_context(new_database(engines.database_url, name))
        redis_url = await stack.enter_async_context(own_redis(engines.redis_url))
        database = await stack.enter_async_context(opened_database(url, size=4))
        places = [await make_place(database, n) for n in range(CITIES)]
        data_dir.mkdir(parents=True)
        env = {**os.environ, **ENVIRONMENT, "DATABASE_URL": url, "REDIS_URL": redis_url}
        process = await stack.enter_async_context(_darkstore_up(data_dir, env))
        del process
        addresses = json.loads((data_dir / "addresses.json").read_bytes())
        base_url = f"http://127.0.0.1:{addresses['http_port']}"
        limits = httpx.Limits(max_connections=250)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=base_url, timeout=30, limits=limits, trust_env=False)
        )
        api_key = (data_dir / "provider-api-key").read_text()
        provider = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{addresses['provider_port']}",
                headers={"Authorization": f"Bearer {api_key}"},
                trust_env=False,
            )
        )
        yield System(base_url, database, url, redis_url, data_dir, http, provider, places)


@asynccontextmanager
async def _darkstore_up(
    data_dir: Path, env: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process, once it says that it is up."""
    log = (data_dir / "up.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        # Not the usual port: somebody may run a system on this machine.
        sys.executable, "-m", "server.cli", "up", "--port", str(free_port()),
        "--data-dir", str(data_dir), "--speed", str(SPEED),
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 180)
        assert b"is up" in line, (data_dir / "up.log").read_text()
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()
        log.close()
