"""The system under fire: engines, every process twice where that matters, and proxied wires.

::

    traffic --http--> server          every arrow is a `Link`; the judge goes around them
            --ws----> gateway
    server, gateway, workers --> Postgres, Valkey, provider
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import psutil
from rich.console import Console

from kit.engines import ChildCommand, Supervisor
from kit.engines.supervisor import ChildState
from kit.ports import free_port
from loadtests.chaos.proxy import Link
from server.log_ins import keep_log_ins
from server.platform import Platform, children, platform
from server.seed import seed
from server.seed_report import terminal_progress
from server.wiring import open_services

SECOND_DISPATCHER: Final = "dispatcher-2"
GATEWAY: Final = "gateway"
SQL_TIMEOUT_S: Final = 10.0
# A machine that does this beside other work starts processes slowly.
READY_TIMEOUT_S: Final = 180.0
STORES: Final = 2
RIDERS: Final = 24
_POLL_S: Final = 0.05


@dataclass
class System:
    """What faults and judge reach for."""

    place: Platform
    supervisor: Supervisor
    links: dict[str, Link]
    log_ins: Path
    crash_points: Path
    # A file system of its own, small enough to be filled; None where none could be mounted.
    small_disk: Path | None
    bug: str | None
    speed: float
    wanted_deaths: dict[str, int] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """The server without a proxy before it."""
        return self.place.base_url

    @property
    def traffic_url(self) -> str:
        return f"http://127.0.0.1:{self.links['http'].port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.links['stream'].port}/v1/stream"

    def pid(self, name: str) -> int | None:
        """The process id of a running child."""
        for child in self.supervisor.status():
            if child.name == name:
                return child.pid if child.state is ChildState.RUNNING else None
        raise KeyError(name)

    def processes(self) -> list[str]:
        return [child.name for child in self.supervisor.status()]

    async def new_pid(self, name: str, old: int | None, timeout_s: float = 90.0) -> int:
        """Wait until a child runs again under another process id.  Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while (pid := self.pid(name)) in (None, old):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_S)
        assert pid is not None
        return pid

    def name_of(self, pid: int) -> str | None:
        """The child with a process id."""
        return next((c.name for c in self.supervisor.status() if c.pid == pid), None)

    def kill(self, name: str) -> int:
        """SIGKILL a child; its process id.  Raises ProcessLookupError when it does not run."""
        pid = self.pid(name)
        if pid is None:
            raise ProcessLookupError(name)
        self.expect_death(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def expect_death(self, name: str) -> None:
        self.wanted_deaths[name] = self.wanted_deaths.get(name, 0) + 1

    def postmaster(self) -> psutil.Process:
        """Raises psutil.NoSuchProcess, OSError and ValueError while there is none."""
        path = self.place.data_dir / "postgres" / "postmaster.pid"
        return psutil.Process(int(path.read_text().splitlines()[0]))

    def valkey(self) -> psutil.Process:
        """Raises like ``postmaster``."""
        return psutil.Process(int((self.place.data_dir / "valkey" / "valkey.pid").read_text()))

    @property
    def database_url(self) -> str:
        """The database without a proxy before it."""
        return self.place.environment["DATABASE_URL"]

    async def sql(self, query: str, *parameters: object) -> list[Any]:
        """Rows, over a connection of its own.  Raises OSError, TimeoutError, PostgresError."""
        async with asyncio.timeout(SQL_TIMEOUT_S):
            conn = await asyncpg.connect(self.database_url, timeout=SQL_TIMEOUT_S / 2)
            try:
                return list(await conn.fetch(query, *parameters))
            finally:
                conn.terminate()

    async def control(self, **settings: object) -> dict[str, int]:
        """Set the provider's faults (none given: all off); how often each has struck so far.

        Raises httpx.HTTPError.
        """
        return await self._control("POST", settings)

    async def counted(self) -> dict[str, int]:
        """How often each of the provider's faults has struck.  Raises httpx.HTTPError."""
        return await self._control("GET", None)

    async def _control(self, method: str, settings: object) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.place.provider_port}/v1/_control"
        key = self.place.environment["DARKSTORE_PAYMENTS__SANDBOX_API_KEY"]
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {key}"}
            answer = await client.request(method, url, json=settings, headers=headers)
            answer.raise_for_status()
            return dict(answer.json()["fired"])


@asynccontextmanager
async def running_system(
    data_dir: Path, outside: Path, *, speed: float, seed_number: int, small_disk: bool,
    bug: str | None,
) -> AsyncIterator[System]:  # fmt: skip
    """Engines, seed, wires and processes up; all of it ends with the context.

    What must not share the small disk (logs, the provider, who is another company) lies in
    ``outside``.
    """
    (outside / "log").mkdir(parents=True)
    (outside / "crash_points").mkdir()
    (data_dir / "log").symlink_to(outside / "log")
    rng = random.Random(f"{seed_number}:wires")
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(platform(data_dir, port=free_port(), speed=speed))
        log_ins = await _seed(place, outside, seed_number)
        gateway_port = free_port()
        links = {
            name: Link(name, port, rng)
            for name, port in (
                ("http", place.http_port),
                ("stream", gateway_port),
                ("postgres", _port(place.environment["DATABASE_URL"])),
                ("valkey", _port(place.environment["REDIS_URL"])),
                ("provider", place.provider_port),
            )
        }
        for link in links.values():
            await link.open()
            stack.push_async_callback(link.close)
        environment = {
            **place.environment,
            "DATABASE_URL": _through(place.environment["DATABASE_URL"], links["postgres"]),
            "REDIS_URL": _through(place.environment["REDIS_URL"], links["valkey"]),
            "DARKSTORE_PAYMENTS__SANDBOX_URL": f"http://127.0.0.1:{links['provider'].port}",
            "DARKSTORE_CRASH_POINTS": str(outside / "crash_points"),
            # A run has minutes, not hours, to learn what became of an unanswered payment.
            "DARKSTORE_PAYMENTS__BACKOFF_CAP_S": "10",
        }
        commands = _commands(replace(place, environment=environment), outside, gateway_port, bug)
        supervisor = await stack.enter_async_context(Supervisor(commands))
        yield System(
            place, supervisor, links, log_ins, outside / "crash_points",
            data_dir if small_disk else None, bug, speed,
        )  # fmt: skip


async def _seed(place: Platform, outside: Path, seed_number: int) -> Path:
    async with open_services(place.settings, process="seed") as services:
        with terminal_progress(Console(stderr=True)) as progress:
            result = await seed(
                services, city_seed=seed_number, stores=STORES, riders=RIDERS,
                on_progress=progress,
            )  # fmt: skip
    return keep_log_ins(result, outside / "log-ins.json")


def _commands(
    place: Platform, outside: Path, gateway_port: int, bug: str | None
) -> list[ChildCommand]:
    """The processes of ``up``, a gateway, and a second dispatcher."""
    found = {command.name: command for command in children(place, apart=True)}
    found["provider"] = replace(
        found["provider"],
        argv=_replaced(
            found["provider"].argv, str(place.data_dir / "provider.sqlite"),
            str(outside / "provider.sqlite"),
        ),
    )  # fmt: skip
    found[GATEWAY] = replace(
        found["server"],
        name=GATEWAY,
        argv=(
            sys.executable, "-m", "server.cli", "serve", "--stream-only",
            "--host", "127.0.0.1", "--port", str(gateway_port),
        ),
        log_path=outside / "log" / f"{GATEWAY}.log",
        ready=lambda: _listens(gateway_port),
    )  # fmt: skip
    found[SECOND_DISPATCHER] = replace(
        found["dispatcher"],
        name=SECOND_DISPATCHER,
        log_path=outside / "log" / f"{SECOND_DISPATCHER}.log",
    )
    return [
        replace(
            command,
            argv=command.argv if bug is None else _bugged(command.argv, bug),
            ready_timeout_s=READY_TIMEOUT_S,
        )
        for command in found.values()
    ]


def _bugged(argv: tuple[str, ...], bug: str) -> tuple[str, ...]:
    """The same program with a known bug patched in."""
    if argv[1:3] != ("-m", "server.cli"):
        return argv
    return (argv[0], "-m", "loadtests.chaos.bugs", bug, *argv[3:])


def _replaced(argv: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    assert old in argv, f"{old} is no argument"
    return tuple(new if word == old else word for word in argv)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, "embedded engines have a port"
    return port


def _through(url: str, link: Link) -> str:
    """The same address through a proxy."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{link.port}"))


def deaths_not_wanted(system: System) -> Mapping[str, int]:
    """How often each child ended by itself."""
    found = {
        child.name: child.restarts - system.wanted_deaths.get(child.name, 0)
        for child in system.supervisor.status()
    }
    return {name: count for name, count in found.items() if count > 0}
