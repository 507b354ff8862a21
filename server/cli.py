"""The program ``darkstore``: each command is one line of what API.md promises."""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from kit import log
from kit.engines.errors import EngineError
from server import cli_dispatch, cli_ledger
from server.settings import SettingsError

app = typer.Typer(
    name="darkstore",
    help="The back end of a quick-commerce company.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[
    Path | None, typer.Option(help="Where engines keep their data (default: .darkstore).")
]
Port = Annotated[int | None, typer.Option(help="HTTP port (default: 8000, or any free one).")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Catalogue = Annotated[
    Path | None, typer.Option(help="A CSV of products.", exists=True, dir_okay=False)
]
Osm = Annotated[Path | None, typer.Option(help="An OpenStreetMap extract (.osm.pbf).", exists=True)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _run(
    work: Coroutine[Any, Any, int],
    on_loop: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run,
) -> None:
    """Run a command; an expected failure is one sentence and exit code 1."""
    try:
        code = on_loop(work)
    except (EngineError, SettingsError, ValueError, OSError) as error:
        typer.echo(f"darkstore: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


@app.command()
def up(
    data_dir: DataDir = None,
    port: Port = None,
    speed: Annotated[
        float | None, typer.Option(help="Virtual seconds a second (default: as the clock is).")
    ] = None,
) -> None:
    """Everything in one go, until Ctrl-C."""
    from server import commands

    log.configure("WARNING", process="up")
    _run(commands.up(data_dir, port=port, speed=speed))


@app.command()
def demo(
    data_dir: DataDir = None,
    port: Port = None,
    speed: float = 10.0,
    seed: int = 7,
    catalogue: Catalogue = None,
    osm: Osm = None,
    orders_per_hour: float = 300.0,
) -> None:
    """A living city: `up`, seeded, with simulated customers, pickers and riders."""
    from server import commands

    log.configure("WARNING", process="demo")
    _run(
        commands.demo(
            data_dir, port=port, speed=speed, seed=seed, catalogue=catalogue, osm=osm,
            orders_per_hour=orders_per_hour,
        )
    )  # fmt: skip


@app.command()
def simulate(
    minutes: float = 60.0,
    speed: float = 30.0,
    seed: int = 7,
    catalogue: Catalogue = None,
    osm: Osm = None,
    orders_per_hour: float = 300.0,
    riders: Annotated[int, typer.Option(help="Riders on shift.", min=1)] = 48,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Dispatch with group.parameter=value; repeatable."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the data here (default: a fresh directory).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A simulated stretch of a day, then `verify`; ends with one JSON object."""
    from server import commands

    log.configure("WARNING", process="simulate")
    with tempfile.TemporaryDirectory(prefix="darkstore-") as fresh:
        _run(
            commands.simulate(
                data_dir or Path(fresh), minutes=minutes, speed=speed, seed=seed,
                catalogue=catalogue, osm=osm, orders_per_hour=orders_per_hour, riders=riders,
                overrides=overrides or (), as_json=as_json,
            )
        )  # fmt: skip


@app.command()
def seed(
    catalogue: Catalogue = None,
    osm: Osm = None,
    city_seed: Annotated[int, typer.Option("--seed")] = 7,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """A city with stores, stock and staff; prints one-time passwords where it makes log-ins."""
    from server import commands

    log.configure("WARNING", process="seed")
    _run(commands.seed_city(data_dir, catalogue, osm, city_seed, as_json=as_json))


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: int = 8000,
    stream_only: Annotated[
        bool, typer.Option("--stream-only", help="The dedicated gateway for WebSockets alone.")
    ] = False,
) -> None:
    """The API and the stream (or the stream alone), on DATABASE_URL and REDIS_URL."""
    import uvloop

    from server.serve import serve as serve_all
    from server.serve import serve_stream_gateway
    from server.settings import load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        typer.echo(f"darkstore: {error}", err=True)
        raise typer.Exit(1) from None
    log.configure(settings.log_level, process="gateway" if stream_only else "server")
    work = serve_stream_gateway if stream_only else serve_all
    try:
        uvloop.run(work(settings, host, port))
    except OSError as error:
        typer.echo(f"darkstore: cannot listen on {host}:{port}: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def worker(names: Annotated[list[str], typer.Argument(help="Names in server/work.py.")]) -> None:
    """One background process for one worker, or for several beside each other."""
    import uvloop

    from server.work import work

    # Whatever else is raised is a bug: it ends the process with its traceback in the log.
    try:
        code = uvloop.run(work(names))
    except (EngineError, SettingsError) as error:
        typer.echo(f"darkstore: {error}", err=True)
        code = 1
    raise typer.Exit(code)


@app.command()
def migrate(
    revision: str = "head",
    down: Annotated[bool, typer.Option(help="Step back to the revision.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Bring the database's schema to a revision."""
    from server import commands

    log.configure("WARNING", process="migrate")
    _run(commands.migrate_database(data_dir, revision, down=down))


@app.command()
def verify(
    data_dir: DataDir = None,
    acknowledged: Annotated[
        Path | None, typer.Option(help="A file of order ids that clients were promised.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every invariant; exit 1 if one is broken."""
    from server import commands

    log.configure("WARNING", process="verify")
    _run(commands.verify_data(data_dir, acknowledged, as_json=as_json))


@app.command()
def reconcile(
    gateway: Annotated[str | None, typer.Option(help="This gateway alone.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every capture and refund of the gateways' own logs against ours; exit 1 if any differ."""
    from server.cli_reconcile import reconcile_all

    log.configure("WARNING", process="reconcile")
    _run(reconcile_all(data_dir, gateway, as_json=as_json))


outbox = typer.Typer(help="Events that no consumer could take.", no_args_is_help=True)
app.add_typer(outbox, name="outbox")
Stream = Annotated[str | None, typer.Option(help="Of one stream alone, such as order:ord_….")]


@outbox.command("dead")
def outbox_dead(stream: Stream = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the dead letters."""
    from server.cli_outbox import show_dead

    log.configure("WARNING", process="outbox")
    _run(show_dead(data_dir, stream, as_json=as_json))


@outbox.command("replay")
def outbox_replay(
    stream: Stream = None,
    outbox_id: Annotated[int | None, typer.Option("--id", help="One event, by its id.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run the consumers of dead letters again (of all of them, without an option)."""
    from server.cli_outbox import replay_dead

    log.configure("WARNING", process="outbox")
    _run(replay_dead(data_dir, stream, outbox_id, as_json=as_json))


app.add_typer(cli_ledger.app, name="ledger")
app.command()(cli_dispatch.replay)
app.command()(cli_dispatch.explain)


class Benchmark(StrEnum):
    """What can be measured."""

    CHECKOUT = "checkout"
    API = "api"
    DISPATCH = "dispatch"


@app.command()
def bench(
    name: Benchmark,
    seconds: Annotated[float, typer.Option(help="How long each round takes.", min=0.5)] = 8.0,
    connections: Annotated[int, typer.Option(help="Connections that ask at once.", min=1)] = 16,
    rounds: Annotated[int, typer.Option(help="Rounds of each kind, in turns.", min=1)] = 3,
    lines: Annotated[int, typer.Option(help="Products in a basket (checkout).", min=1)] = 3,
    size: Annotated[float, typer.Option(help="Times the city (dispatch).", min=0.005)] = 1.0,
    decisions: Annotated[int, typer.Option(help="One by one (dispatch).", min=1)] = 100,
    osm: Osm = None,
    as_json: AsJson = False,
) -> None:
    """A benchmark with its reference, on fresh engines; exit 1 if a goal is missed."""
    import uvloop

    from server import bench as benchmarks

    log.configure("WARNING", process="bench")
    with tempfile.TemporaryDirectory(prefix="darkstore-bench-") as fresh:
        _run(
            benchmarks.run(
                name.value, Path(fresh), seconds=seconds, connections=connections, rounds=rounds,
                lines=lines, size=size, decisions=decisions, osm=osm, as_json=as_json,
            ),
            # As the server runs: what is measured should not be asyncio's own loop.
            uvloop.run,
        )  # fmt: skip


@app.command()
def plan(
    stdio: Annotated[bool, typer.Option("--stdio", help="A snapshot a line in, a plan out.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the engine's random numbers.")] = 0,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Rounds of the search an answer.")
    ] = None,
    solver: Annotated[str, typer.Option(help="rolling, matching, packing or routing.")] = "rolling",
    deadline: Annotated[
        float | None,
        typer.Option(min=0.0, help="Seconds a plan; 0.75 if rolling and without --iterations."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter as group.parameter=value; repeatable."),
    ] = None,
) -> None:
    """The dispatch engine alone; a seed gives the same answers unless the deadline ends one."""
    from dispatch.overrides import parse_overrides, with_overrides
    from dispatch.parameters import Solver
    from dispatch.stdio import FEED_DEADLINE_S, RequestError, feed_parameters, run_stdio

    assert stdio
    if solver not in set(Solver):
        raise typer.BadParameter(f"{solver!r} is none of {', '.join(Solver)}")
    parameters = feed_parameters(Solver(solver), iterations)
    try:
        parameters = with_overrides(parameters, parse_overrides(overrides or ()))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from None
    if deadline is None:
        counted = solver == Solver.ROLLING and iterations is None
        deadline = FEED_DEADLINE_S if counted else math.inf
    try:
        run_stdio(sys.stdin, sys.stdout, parameters, seed, deadline)
    except RequestError as error:
        typer.echo(f"darkstore: {error}", err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
