"""What the commands of ``server.cli`` do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import structlog
from rich.console import Console
from sqlalchemy import text

from dispatch.overrides import parse_overrides, with_overrides
from dispatch.parameters import Parameters
from kit.db import Database
from kit.engines import Supervisor
from kit.ports import free_port
from kit.signals import stop_event
from riders import parameter_sets
from server import migrate as migrations
from server.log_ins import demo_log_ins, keep_log_ins
from server.platform import (
    ROOT,
    Platform,
    attached,
    children,
    data_directory,
    platform,
)
from server.settings import Settings
from server.wiring import Services, open_services

log = structlog.get_logger(__name__)

# After the demand has ended: payments settle, the outbox drains.
QUIET_TIMEOUT_S = 60.0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def up(data_dir: Path | None, *, port: int | None, speed: float | None) -> int:
    """Run the whole system until SIGINT or SIGTERM."""
    stopping = stop_event()
    async with platform(data_directory(data_dir), port=port, speed=speed) as place:
        async with Supervisor(children(place)) as supervisor:
            _say(f"Darkstore is up at {place.base_url} (API: {place.base_url}/openapi.json)")
            _say(f"  data   {place.data_dir}")
            _say(f"  logs   {place.data_dir / 'log'}")
            for child in supervisor.status():
                _say(f"  {child.name:<19} pid {child.pid}")
            _say("Ctrl-C ends it.")
            await stopping.wait()
            _say("Ending: requests in flight are finished first.")
    return 0


async def migrate_database(data_dir: Path | None, revision: str, *, down: bool) -> int:
    """Bring the schema to a revision."""
    async with attached(data_directory(data_dir), prepared=False) as settings:
        assert settings.database_url, "the engines have an address"
        database = await Database.open(settings.database_url, size=2, application_name="migrate")
        try:
            if down:
                await migrations.downgrade(database, revision)
            else:
                await migrations.migrate(database, revision)
        finally:
            await database.close()
    return 0


async def seed_city(
    data_dir: Path | None,
    catalogue: Path | None,
    osm: Path | None,
    city_seed: int,
    *,
    as_json: bool,
) -> int:
    """Seed the database and print what is there now."""
    from server.seed import seed
    from server.seed_report import print_result, terminal_progress

    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="seed") as services:
            with terminal_progress(Console(stderr=True)) as progress:
                result = await seed(
                    services, catalogue=catalogue, osm=osm, city_seed=city_seed,
                    on_progress=progress,
                )  # fmt: skip
    if as_json:
        sys.stdout.write(orjson.dumps(result.as_json()).decode() + "\n")
    else:
        print_result(result, Console())
    return 0


async def verify_data(data_dir: Path | None, acknowledged: Path | None, *, as_json: bool) -> int:
    """Check every invariant and print what breaks it."""
    from server.verify import as_json as checks_as_json
    from server.verify import print_checks, verify

    order_ids = acknowledged.read_text().split() if acknowledged else []
    async with attached(data_directory(data_dir)) as settings:
        async with open_services(settings, process="verify") as services:
            checks = await verify(services, acknowledged=order_ids)
    if as_json:
        sys.stdout.write(orjson.dumps(checks_as_json(checks)).decode() + "\n")
    else:
        print_checks(checks)
    return 1 if any(check.broken_rows for check in checks) else 0


async def simulate(
    data_dir: Path,
    *,
    minutes: float,
    speed: float,
    seed: int,
    catalogue: Path | None,
    osm: Path | None,
    orders_per_hour: float,
    riders: int,
    overrides: Sequence[str],
    as_json: bool,
) -> int:
    """A stretch of a simulated day on a whole system, then ``verify``.

    overrides: ``group.parameter=value`` of the dispatcher, instead of its defaults.
    Raises ValueError for one that does not exist.
    """
    from server.verify import as_json as checks_as_json
    from server.verify import print_checks, verify

    changed = parse_overrides(overrides)
    with_overrides(Parameters(), changed)
    stopping = stop_event()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(platform(data_dir, port=free_port(), speed=speed))
        services = await _open(stack, place.settings)
        log_ins = await _seed_for_city(services, place, catalogue, osm, seed, riders)
        if changed:
            await _plan_with(services, log_ins, changed)
        await stack.enter_async_context(Supervisor(children(place)))
        result = await _ride(
            place, log_ins, stopping, "--minutes", str(minutes), "--speed", str(speed),
            "--seed", str(seed), "--orders-per-hour", str(orders_per_hour), "--json",
        )  # fmt: skip
        await _until_quiet(services)
        checks = await verify(services)
    result["verify"] = checks_as_json(checks)
    clean = not any(check.broken_rows for check in checks)
    if as_json:
        sys.stdout.write(orjson.dumps(result).decode() + "\n")
    else:
        _say(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        print_checks(checks)
    return 0 if clean and result else 1


async def demo(
    data_dir: Path | None,
    *,
    port: int | None,
    speed: float,
    seed: int,
    catalogue: Path | None,
    osm: Path | None,
    orders_per_hour: float,
) -> int:
    """A living city until SIGINT or SIGTERM."""
    stopping = stop_event()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(
            platform(data_directory(data_dir), port=port, speed=speed)
        )
        services = await _open(stack, place.settings)
        log_ins = await _seed_for_city(services, place, catalogue, osm, seed)
        await stack.enter_async_context(Supervisor(children(place)))
        _say(f"Darkstore is up at {place.base_url} (API: {place.base_url}/openapi.json)")
        for line in demo_log_ins(log_ins):
            _say(f"  {line}")
        _say(f"  all log-ins  {log_ins}")
        _say(f"  logs         {place.data_dir / 'log'}")
        _say("Ctrl-C ends it.")
        await _ride(
            place, log_ins, stopping, "--endless", "--speed", str(speed), "--seed", str(seed),
            "--orders-per-hour", str(orders_per_hour), capture=False,
        )  # fmt: skip
        _say("Ending: requests in flight are finished first.")
    return 0


async def _open(stack: AsyncExitStack, settings: Settings) -> Services:
    return await stack.enter_async_context(open_services(settings, process="simulate"))


async def _plan_with(
    services: Services, log_ins: Path, overrides: parameter_sets.Overrides
) -> None:
    """Let the seeded city plan with a parameter set of its own."""
    city_id, name = _city_of(log_ins), "simulated"
    async with services.database.begin() as conn:
        await parameter_sets.put(
            conn, city_id, name, overrides, "darkstore simulate", "simulate", services.clock.now()
        )
        await parameter_sets.use(conn, city_id, name)


def _city_of(log_ins: Path) -> str:
    return str(orjson.loads(log_ins.read_bytes())["city"]["id"])


async def _seed_for_city(
    services: Services,
    place: Platform,
    catalogue: Path | None,
    osm: Path | None,
    city_seed: int,
    riders: int = 48,
) -> Path:
    """Seed, and keep the log-ins in a private file: a second start needs the first one's."""
    from server.seed import seed
    from server.seed_report import terminal_progress

    with terminal_progress(Console(stderr=True)) as progress:
        result = await seed(
            services, catalogue=catalogue, osm=osm, city_seed=city_seed, riders=riders,
            on_progress=progress,
        )  # fmt: skip
    return keep_log_ins(result, place.data_dir / "log-ins.json")


async def _ride(
    place: Platform, log_ins: Path, stopping: asyncio.Event, *arguments: str, capture: bool = True
) -> dict[str, Any]:
    """Run the simulator as a program of its own until it ends or we are told to stop."""
    argv = (
        sys.executable, "-m", "simulator", "--base-url", place.base_url,
        "--city-id", _city_of(log_ins), "--log-ins", str(log_ins), *arguments,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE if capture else None
    )
    ended = asyncio.ensure_future(process.communicate())
    told = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not ended.done():
        process.terminate()
    output, _ = await ended
    lines = (output or b"").strip().splitlines()
    return dict(orjson.loads(lines[-1])) if lines else {}


async def _until_quiet(services: Services) -> None:
    """Wait until no payment is open and the outbox is empty, a minute at most."""
    deadline = asyncio.get_running_loop().time() + QUIET_TIMEOUT_S
    busy = text(
        "SELECT (SELECT count(*) FROM payment_operations WHERE status IN ('pending', 'unknown'))"
        " + (SELECT count(*) FROM outbox WHERE published_at IS NULL)"
    )
    while asyncio.get_running_loop().time() < deadline:
        async with services.database.begin() as conn:
            if await conn.scalar(busy) == 0:
                return
        await asyncio.sleep(0.25)
