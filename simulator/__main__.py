"""``python -m simulator``: a city's customers, pickers and riders against a running server.

The log-ins are the JSON of ``darkstore seed --json``.  Ends with the result as one JSON object on
the last line of standard output (indented without ``--json``); the live summary goes to standard
error.  SIGINT and SIGTERM end the day early, and the result is still printed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console

from kit import log
from simulator.api import Refused, Unreachable
from simulator.city import DRAIN_MINUTES, City, Run
from simulator.summary import show


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--base-url", required=True, help="such as http://127.0.0.1:8000")
    parser.add_argument("--city-id", help="default: the city of the log-ins")
    parser.add_argument("--log-ins", required=True, help="JSON of `darkstore seed --json`, or -")
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual minutes of demand")
    parser.add_argument("--speed", type=float, help="refuse a server whose clock runs otherwise")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--orders-per-hour", type=float, default=300.0)
    parser.add_argument("--drain-minutes", type=float, default=DRAIN_MINUTES)
    parser.add_argument("--endless", action="store_true", help="until told to stop")
    parser.add_argument("--json", action="store_true", help="no summary, the result on one line")
    parser.add_argument("--events", action="store_true", help="the summary as lines on stderr")
    return parser.parse_args()


def _run_of(arguments: argparse.Namespace) -> Run:
    source = arguments.log_ins
    raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    log_ins: dict[str, Any] = orjson.loads(raw)
    return Run(
        base_url=arguments.base_url.rstrip("/"),
        city_id=arguments.city_id or log_ins["city"]["id"],
        log_ins=log_ins,
        seed=arguments.seed,
        minutes=None if arguments.endless else arguments.minutes,
        orders_per_hour=arguments.orders_per_hour,
        drain_minutes=arguments.drain_minutes,
        speed=arguments.speed,
    )


async def _main(arguments: argparse.Namespace) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    opening = asyncio.ensure_future(City.open(_run_of(arguments)))
    told = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({opening, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not opening.done():
        opening.cancel()
        return 130
    city = await opening
    async with asyncio.TaskGroup() as tasks:
        watcher = None
        if arguments.events or not arguments.json:
            plain = arguments.events or None
            console = Console(stderr=True, force_terminal=False if plain else None)
            watcher = tasks.create_task(show(city, console))
        await city.run(stopping)
        if watcher is not None:
            watcher.cancel()
    option = 0 if arguments.json else orjson.OPT_INDENT_2
    sys.stdout.write(orjson.dumps(city.result(), option=option).decode() + "\n")
    sys.stdout.flush()
    return 0


def main() -> int:
    """Run the city; 1 when it could not begin."""
    arguments = _arguments()
    log.configure("WARNING", process="simulator")
    try:
        return uvloop.run(_main(arguments))
    except (Refused, Unreachable, ValueError, OSError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
