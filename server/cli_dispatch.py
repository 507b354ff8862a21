"""``darkstore replay`` and ``darkstore explain``: recorded dispatch decisions, made again, read."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from kit import log
from kit.engines.errors import EngineError
from kit.errors import DarkstoreError
from server.settings import SettingsError

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="group.parameter=value of the policy that is tried; repeatable."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(help="The same of the policy to compare with (default: as recorded)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where engines keep their data (default: .darkstore).")
]


def replay(
    place: Annotated[
        Path, typer.Argument(metavar="LOG", help="A decision log, or a folder of them.")
    ],
    overrides: Overrides = None,
    against: Against = None,
    every: Annotated[
        float | None, typer.Option(help="Seconds between decisions of the day (default: as then).")
    ] = None,
    one_by_one: Annotated[
        bool, typer.Option("--open/--no-open", help="Answer each recorded question anew.")
    ] = True,
    day: Annotated[
        bool, typer.Option("--closed/--no-closed", help="Let each policy live the day.")
    ] = True,
    deadline: Annotated[
        float, typer.Option(help="Computing seconds a decision; without, no limit.", min=0)
    ] = math.inf,
    as_json: AsJson = False,
) -> None:
    """Recorded decisions under two sets of parameters: where they differ, and what comes of it."""
    from server import dispatch_replay

    log.configure("WARNING", process="replay")
    try:
        report = dispatch_replay.run(
            place, overrides or [], against or [], every_s=every, one_by_one=one_by_one, day=day,
            deadline_s=deadline, tell=_warn,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        _fail(str(error))
    if as_json:
        _print_json(report)
    else:
        _show(report)


def explain(
    order_id: Annotated[str, typer.Argument(metavar="ORDER", help="An order's id.")],
    svg: Annotated[Path | None, typer.Option(help="Draw the decision into this file.")] = None,
    place: Annotated[
        Path | None,
        typer.Option("--log", help="A decision log, or a folder (default: the instance's index)."),
    ] = None,
    decision_id: Annotated[
        str | None, typer.Option("--decision", help="Draw this one (default: the assignment).")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every decision about an order: held why, given to whom at what cost, and who came second."""
    from server import dispatch_explain

    log.configure("WARNING", process="explain")
    try:
        if place is not None:
            found = dispatch_explain.from_files(place, order_id, _warn)
        else:
            found = asyncio.run(dispatch_explain.from_instance(data_dir, order_id, _warn))
        if not found.rows:
            _fail(f"There is no recorded decision about {order_id}.")
        if svg is not None:
            svg.write_text(dispatch_explain.picture(found, decision_id), encoding="utf-8")
    except DarkstoreError as error:
        _fail(error.detail)
    except (EngineError, SettingsError, ValueError, OSError) as error:
        _fail(str(error))
    if as_json:
        _print_json(dispatch_explain.report(found))
    else:
        told = dispatch_explain.report(found)
        Console().print(_history_table(order_id, told["decisions"]))
        if told["costs_mean"] is not None:
            typer.echo(told["costs_mean"]["decided"])
        if svg is not None:
            typer.echo(f"The picture is in {svg}.")


def _fail(sentence: str) -> Any:
    typer.echo(f"darkstore: {sentence}", err=True)
    raise typer.Exit(1)


def _warn(sentence: str) -> None:
    typer.echo(f"darkstore: {sentence}", err=True)


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left")
    return table


def _clock(moment: str) -> str:
    """``12:04:35`` of an RFC 3339 time."""
    return moment[11:19]


def _history_table(order_id: str, entries: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(
        f"Decisions about {order_id}", ("at (UTC)", False), ("outcome", False), ("why", False),
        ("cost s", True), ("runner-up", False), ("lost by s", True),
    )  # fmt: skip
    for one in entries:
        second = one["runner_up"]
        terms = one["cost_terms_s"] or {}
        shown = ", ".join(f"{name} {value:g}" for name, value in terms.items() if value)
        until = f" Until {_clock(one['look_again_at'])}." if one["look_again_at"] else ""
        why = f"{one['why']}{until}" if one["why"] else f"to {one['rider_id']}: {shown}"
        table.add_row(
            _clock(one["at"]), one["outcome"], why,
            "" if one["cost_s"] is None else f"{one['cost_s']:,.0f}",
            "" if second is None else second["rider_id"],
            "" if second is None or second["lost_by_s"] is None else f"{second['lost_by_s']:,.0f}",
        )  # fmt: skip
    return table


_MEASURES = {
    "click_to_door_s": ("click to door, min", 60.0, 2),
    "late": ("late, %", 0.01, 1),
    "undelivered": ("undelivered, %", 0.01, 1),
    "rider_s_per_order": ("rider minutes an order", 60.0, 2),
    "trips_per_order": ("trips an order", 1.0, 3),
}


def _show(report: Mapping[str, Any]) -> None:
    console = Console()
    names = f"A: {report['policies']['a']}   B: {report['policies']['b']}"
    console.print(names, highlight=False)
    if report["open"] is not None:
        _show_open(console, report["open"])
    for one in report["closed"] or ():
        table = _table(
            f"The day of {one['city_id']}, lived by each ({one['orders']} orders)",
            ("", False), ("A", True), ("B", True), ("B - A", True), ("95 % interval", True),
            ("", False),
        )  # fmt: skip
        for name, (title, unit, digits) in _MEASURES.items():
            table.add_row(title, *_cells(one["measures"][name], unit, digits))
        console.print()
        console.print(table)
        a, b = one["orders_per_trip"]["a"], one["orders_per_trip"]["b"]
        console.print(f"Orders a trip: A {a:.2f}, B {b:.2f}.", highlight=False)


def _cells(one: Mapping[str, Any], unit: float, digits: int) -> list[str]:
    def number(value: float | None, sign: str = "") -> str:
        return "" if value is None else f"{value / unit:{sign},.{digits}f}"

    reach = "" if one["low"] is None else f"{number(one['low'], '+')} … {number(one['high'], '+')}"
    verdict = str(one["verdict"]).replace("_", " ")
    return [number(one["a"]), number(one["b"]), number(one["difference"], "+"), reach, verdict]


def _show_open(console: Console, found: Mapping[str, Any]) -> None:
    table = _table("Each question alone", ("", False), ("A", True), ("B", True))
    for name in ("assigned", "held", "unassigned"):
        table.add_row(f"orders {name}", f"{found['a'][name]:,}", f"{found['b'][name]:,}")
    table.add_row(
        "planned click to door, min",
        *("" if (s := found[side]["planned_click_to_door_s"]) is None else f"{s / 60:.2f}"
          for side in "ab"),
    )  # fmt: skip
    console.print(table)
    console.print(
        f"{found['decisions']:,} decisions; A commits what was recorded in {found['reproduced']:,},"
        f" B what A commits in {found['same']:,}.",
        highlight=False,
    )
