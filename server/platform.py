"""The whole system on one machine: engines, payment provider, server and workers under one roof.

``platform`` starts the engines (or takes the given ones), brings the schema to the present and
sets the clock; ``children`` are the processes that the supervisor keeps alive.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

from kit.clock import set_speed
from kit.db import Database
from kit.engines import ChildCommand, engines, running_instance
from kit.ports import free_port, is_free
from server.gateways import WIRE_SECRETS, WIRES, sandbox_environment, wires_file
from server.migrate import migrate
from server.settings import Settings, load_settings
from server.work import HEAVY, WORKERS

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR_VARIABLE = "DARKSTORE_DATA_DIR"
READY_TIMEOUT_S = 60.0
DEFAULT_PORT = 8000
# The process of all light workers.
SHARED = "workers"


@dataclass(frozen=True, slots=True)
class Platform:
    """A system whose engines run: its settings, and the environment that its children get."""

    data_dir: Path
    settings: Settings
    environment: Mapping[str, str]
    http_port: int
    provider_port: int
    wire_ports: Mapping[str, int]
    embedded: bool

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


def data_directory(given: Path | None) -> Path:
    """``given``, else ``DARKSTORE_DATA_DIR``, else ``.darkstore`` beside the code."""
    return (given or Path(os.environ.get(DATA_DIR_VARIABLE, ROOT / ".darkstore"))).absolute()


@asynccontextmanager
async def platform(
    data_dir: Path, *, port: int | None = None, speed: float | None = None
) -> AsyncIterator[Platform]:
    """Engines up, schema present, clock set; everything embedded ends with the context.

    Raises ``EngineError`` kinds and ``SettingsError``, each with a sentence for a person.
    """
    database_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    async with engines(data_dir, database_url, redis_url) as running:
        data_dir.mkdir(parents=True, exist_ok=True)
        http_port = port or _preferred_port(DEFAULT_PORT)
        provider_port = free_port()
        wire_ports = {wire: free_port() for wire in WIRES}
        environment = {
            **_secrets(data_dir),
            "DATABASE_URL": running.database_url,
            "REDIS_URL": running.redis_url,
            "DARKSTORE_PAYMENTS__SANDBOX_URL": f"http://127.0.0.1:{provider_port}",
            **sandbox_environment(wire_ports),
            "DARKSTORE_INSTANCE": secrets.token_hex(8),
            "DARKSTORE_SPOOL__DIRECTORY": str(data_dir / "spool"),
            "DARKSTORE_DECISION_LOG__DIRECTORY": str(data_dir / "decisions"),
        }
        settings = settings_from(environment)
        await _prepare(running.database_url, speed)
        _write_private(
            data_dir / "addresses.json",
            {
                "http_port": http_port,
                "provider_port": provider_port,
                "wire_ports": wire_ports,
                "pid": os.getpid(),
            },
        )
        try:
            yield Platform(
                data_dir,
                settings,
                environment,
                http_port,
                provider_port,
                wire_ports,
                running.embedded,
            )
        finally:
            if speed is not None:
                await _end_fast_time(running.database_url)


@asynccontextmanager
async def attached(data_dir: Path, *, prepared: bool = True) -> AsyncIterator[Settings]:
    """Settings for one command: of the instance that runs on ``data_dir``, else of engines that
    are started for the time of the command (``prepared``: with the present schema)."""
    found = running_instance(data_dir)
    database_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if found is not None:
        database_url, redis_url = database_url or found.database_url, redis_url or found.redis_url
    async with engines(data_dir, database_url, redis_url) as running:
        environment = {
            **_secrets(data_dir),
            "DATABASE_URL": running.database_url,
            "REDIS_URL": running.redis_url,
            **sandbox_environment({}),
            "DARKSTORE_DECISION_LOG__DIRECTORY": str(data_dir / "decisions"),
        }
        if found is not None:
            addresses = orjson.loads((data_dir / "addresses.json").read_bytes())
            environment["DARKSTORE_PAYMENTS__SANDBOX_URL"] = (
                f"http://127.0.0.1:{addresses['provider_port']}"
            )
            environment |= sandbox_environment(addresses.get("wire_ports", {}))
        elif prepared:
            await _prepare(running.database_url, None)
        yield settings_from(environment)


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings that a child with this environment would read."""
    os.environ.update(environment)
    return load_settings()


async def _prepare(database_url: str, speed: float | None) -> None:
    database = await Database.open(database_url, size=2, application_name="darkstore migrate")
    try:
        await migrate(database)
        if speed is not None:
            async with database.begin() as conn:
                await set_speed(conn, speed)
    finally:
        await database.close()


async def _end_fast_time(database_url: str) -> None:
    """Anchor the clock at speed 1, so that the time until the next start does not run fast."""
    database = await Database.open(database_url, size=2, application_name="darkstore clock")
    try:
        async with database.begin() as conn:
            await set_speed(conn, 1.0)
    finally:
        await database.close()


def _secrets(data_dir: Path) -> dict[str, str]:
    """The instance's secrets: made once, readable by its owner alone; given ones win."""
    path = data_dir / "secrets.json"
    names = (
        "DARKSTORE_IDENTITY__JWT_SECRET",
        "DARKSTORE_NOTIFY__WEBHOOKS__MASTER_SECRET",
        "DARKSTORE_PAYMENTS__SANDBOX_API_KEY",
        "DARKSTORE_PAYMENTS__SANDBOX_WEBHOOK_SECRET",
        *WIRE_SECRETS,
    )
    kept: dict[str, str] = orjson.loads(path.read_bytes()) if path.exists() else {}
    found = {
        name: os.environ.get(name) or kept.get(name) or secrets.token_hex(32) for name in names
    }
    if any(name not in kept and name not in os.environ for name in names):
        data_dir.mkdir(parents=True, exist_ok=True)
        _write_private(path, {name: kept.get(name) or found[name] for name in names})
    return found


def _write_private(path: Path, value: Mapping[str, object]) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(value))
    fresh.replace(path)


def _preferred_port(wanted: int) -> int:
    """``wanted`` when it is free on loopback, else any port that is."""
    return wanted if is_free(wanted) else free_port()


def children(
    place: Platform, *, host: str = "127.0.0.1", apart: bool = False
) -> list[ChildCommand]:
    """The processes of a whole system, in the order in which they start.

    The light workers share one, because each process takes seconds to start and 100 MB; ``apart``
    gives each its own, for those who want to kill them one by one.
    """
    log_dir = place.data_dir / "log"
    env = {**os.environ, **place.environment}
    webhook_url = f"{place.base_url}/v1/webhooks/payments/sandbox"
    provider = ChildCommand(
        name="provider",
        argv=(
            sys.executable, "-m", "simulator.provider",
            "--port", str(place.provider_port),
            "--store", str(place.data_dir / "provider.sqlite"),
            "--webhook-url", webhook_url,
            "--secret-file", str(_file(place, "webhook-secret", "SANDBOX_WEBHOOK_SECRET")),
            "--api-key-file", str(_file(place, "api-key", "SANDBOX_API_KEY")),
            "--wires-file", str(_wires(place)),
        ),
        env=env, cwd=ROOT, log_path=log_dir / "provider.log",
        ready=_answers(f"http://127.0.0.1:{place.provider_port}/healthz"),
        ready_timeout_s=READY_TIMEOUT_S,
    )  # fmt: skip
    server = ChildCommand(
        name="server",
        argv=_darkstore("serve", "--host", host, "--port", str(place.http_port)),
        env=env, cwd=ROOT, log_path=log_dir / "server.log",
        ready=_answers(f"{place.base_url}/readyz", place.settings.instance),
        ready_timeout_s=READY_TIMEOUT_S,
        stop_timeout_s=place.settings.http.drain_timeout_s,
    )  # fmt: skip
    wanted = [n for n in WORKERS if n != "bus_publisher" or place.settings.bus.url is not None]
    light = [name for name in wanted if name not in HEAVY]
    shared = {} if apart else {SHARED: light}
    alone = {name: [name] for name in wanted if apart or name in HEAVY}
    workers = [
        ChildCommand(
            name=name, argv=_darkstore("worker", *names), env=env, cwd=ROOT,
            log_path=log_dir / f"{name}.log",
        )
        for name, names in {**shared, **alone}.items()
    ]  # fmt: skip
    return [provider, server, *workers]


def _darkstore(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "server.cli", *arguments)


def _file(place: Platform, name: str, variable: str) -> Path:
    """A secret as a file: an argument would show in the list of processes."""
    path = place.data_dir / f"provider-{name}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(place.environment[f"DARKSTORE_PAYMENTS__{variable}"])
    return path


def _wires(place: Platform) -> Path:
    path = place.data_dir / "provider-wires.json"
    webhooks = f"{place.base_url}/v1/webhooks/payments"
    _write_private(path, wires_file(place.environment, place.wire_ports, webhooks))
    return path


def _answers(url: str, instance: str | None = None) -> Callable[[], Awaitable[bool]]:
    """Whether ``url`` answers 200; with ``instance`` also that it is ours that answers."""

    async def ready() -> bool:
        try:
            async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
                answer = await client.get(url)
                if answer.status_code != 200:
                    return False
                return instance is None or answer.json()["instance"] == instance
        except httpx.HTTPError:
            return False

    return ready
