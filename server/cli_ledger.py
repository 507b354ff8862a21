"""``darkstore ledger``: the books, read and closed from the command line.

Works on a running instance as well as on one at rest (its engines are then started for it).
"""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from kit import log
from kit.engines.errors import EngineError
from kit.errors import DarkstoreError
from ledger import days, reports, settlement
from ledger.chart import CHART, Account
from server.settings import SettingsError

if TYPE_CHECKING:
    from server.wiring import Services

app = typer.Typer(
    help="The books: balances, statements, the daily close, riders' pay.", no_args_is_help=True
)

DataDir = Annotated[
    Path | None, typer.Option(help="Where engines keep their data (default: .darkstore).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DAY = ["%Y-%m-%d"]
Day = Annotated[datetime | None, typer.Option(formats=DAY, help="A day (UTC), included.")]

_ACTOR = "cli"


def _run(data_dir: Path | None, work: Callable[[Services], Coroutine[Any, Any, None]]) -> None:
    """Run on the services of an instance; an expected failure is one sentence and exit code 1."""
    from server.platform import attached, data_directory
    from server.wiring import open_services

    async def main() -> None:
        async with attached(data_directory(data_dir)) as settings:
            async with open_services(settings, process="ledger", pool_size=2) as services:
                await work(services)

    log.configure("WARNING", process="ledger")
    try:
        asyncio.run(main())
    except DarkstoreError as error:
        typer.echo(f"darkstore: {error.detail}", err=True)
        raise typer.Exit(1) from None
    except (EngineError, SettingsError, ValueError, OSError) as error:
        typer.echo(f"darkstore: {error}", err=True)
        raise typer.Exit(1) from None


def _day(value: datetime | None) -> date | None:
    return None if value is None else value.date()


def _print_json(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def _amount(minor: int) -> str:
    """``1,234.50``: currencies with two decimals; the exact minor units are in ``--json``."""
    sign = "-" if minor < 0 else ""
    return f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02d}"


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    return table


@app.command("trial-balance")
def trial_balance(
    at: Annotated[
        datetime | None, typer.Option(formats=DAY, help="At the end of this day (UTC).")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every account's balance; each currency sums to zero, or the exit code is 1."""
    off: list[str] = []

    async def work(services: Services) -> None:
        async with services.database.snapshot() as conn:
            balances = await reports.trial_balance(conn, _day(at))
            closed = await days.closed_until(conn)
        off.extend(c for c, accounts in balances.items() if sum(accounts.values()))
        if as_json:
            _print_json(
                {
                    "at": at and at.date().isoformat(),
                    "closed_until": closed and closed.isoformat(),
                    "balanced": not off,
                    "currencies": [
                        {"currency": c, "accounts": a, "sum_minor": sum(a.values())}
                        for c, a in balances.items()
                    ],
                }
            )
            return
        for currency, accounts in balances.items():
            Console().print(_balance_table(currency, accounts, at))
        if not balances:
            typer.echo("Nothing has been posted yet.")
        if closed is not None:
            typer.echo(f"Closed until {closed.isoformat()} (UTC).")

    _run(data_dir, work)
    if off:
        typer.echo(f"darkstore: {', '.join(off)} does not balance", err=True)
        raise typer.Exit(1)


def _balance_table(currency: str, accounts: dict[str, int], at: datetime | None) -> Table:
    when = f", {at.date().isoformat()}" if at else ""
    table = _table(
        f"Trial balance, {currency}{when}", ("account", False), ("", False), ("debit", True),
        ("credit", True),
    )  # fmt: skip
    titles = {entry.code.value: entry.title for entry in CHART}
    for code, minor in accounts.items():
        debit = _amount(minor) if minor > 0 else ""
        credit = _amount(-minor) if minor < 0 else ""
        table.add_row(code, titles.get(code, ""), debit, credit)
    table.add_section()
    debits = sum(minor for minor in accounts.values() if minor > 0)
    credits_ = -sum(minor for minor in accounts.values() if minor < 0)
    table.add_row("total", "", _amount(debits), _amount(credits_), style="bold")
    return table


@app.command()
def statement(
    account: Annotated[Account, typer.Argument(help="A code of the chart of accounts.")],
    party: Annotated[str | None, typer.Option(help="Whose share of it: a rider, a user …")] = None,
    from_day: Annotated[
        datetime | None, typer.Option("--from", formats=DAY, help="First day (UTC).")
    ] = None,
    to_day: Annotated[
        datetime | None, typer.Option("--to", formats=DAY, help="Last day (UTC).")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every posting on an account, with the balance after it."""

    async def work(services: Services) -> None:
        async with services.database.snapshot() as conn:
            found = await reports.statement(
                conn, account.value, party=party, from_day=_day(from_day), to_day=_day(to_day)
            )
        if as_json:
            _print_json({"statements": [asdict(one) for one in found]})
            return
        if not found:
            typer.echo("Nothing has been posted there.")
        for one in found:
            Console().print(_statement_table(one))
            if one.truncated:
                typer.echo("There is more: ask for fewer days.")

    _run(data_dir, work)


def _statement_table(one: reports.Statement) -> Table:
    whose = f" of {one.party}" if one.party else ""
    table = _table(
        f"{one.account}{whose}, {one.currency}", ("day", False), ("at (UTC)", False),
        ("what", False), ("order", False), ("party", False), ("debit", True), ("credit", True),
        ("balance", True),
    )  # fmt: skip
    table.add_row("", "", "opening balance", "", "", "", "", _amount(one.opening_minor))
    for line in one.lines:
        table.add_row(
            line.day.isoformat(),
            line.at.astimezone(UTC).strftime("%m-%d %H:%M:%S"),
            line.kind,
            line.order_id or "",
            line.party or "",
            _amount(line.amount_minor) if line.amount_minor > 0 else "",
            _amount(-line.amount_minor) if line.amount_minor < 0 else "",
            _amount(line.balance_minor),
        )
    table.add_section()
    table.add_row(
        "", "", "closing balance", "", "", "", "", _amount(one.closing_minor), style="bold"
    )
    return table


@app.command()
def export(
    file: Annotated[Path, typer.Option("--csv", help="Where to write it; - for standard output.")],
    from_day: Annotated[datetime | None, typer.Option("--from", formats=DAY)] = None,
    to_day: Annotated[datetime | None, typer.Option("--to", formats=DAY)] = None,
    data_dir: DataDir = None,
) -> None:
    """Every posting as a line of CSV, amounts in minor units."""

    async def work(services: Services) -> None:
        standard = str(file) == "-"
        target = sys.stdout if standard else file.open("w", newline="", encoding="utf-8")
        count = 0
        try:
            out = csv.writer(target)
            out.writerow(reports.EXPORT_COLUMNS)
            async with services.database.snapshot() as conn:
                async for row in reports.export(conn, _day(from_day), _day(to_day)):
                    out.writerow([_cell(value) for value in row])
                    count += 1
        finally:
            if not standard:
                target.close()
        typer.echo(f"{count} postings.", err=True)

    _run(data_dir, work)


def _cell(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


@app.command()
def close(
    day: Annotated[datetime, typer.Option(formats=DAY, help="The last day (UTC) to close.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fix the balances of every day up to this one; nothing is posted to them any more."""

    async def work(services: Services) -> None:
        async with services.database.begin() as conn:
            closed = await days.close(conn, day.date(), _ACTOR)
            until = await days.closed_until(conn)
        if as_json:
            _print_json({"closed": closed, "closed_until": until and until.isoformat()})
        else:
            typer.echo(f"{closed} days closed; closed until {until} (UTC).")

    _run(data_dir, work)


@app.command()
def settle(
    until: Annotated[datetime, typer.Option(formats=DAY, help="A closed day (UTC), included.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Pay riders what they are owed at the end of a closed day; again pays nothing twice."""

    async def work(services: Services) -> None:
        deduct = services.settings.ledger.deduct_cash
        async with services.database.begin() as conn:
            run_id = await settlement.open_run(conn, until.date(), _ACTOR)
        paid = batch = -1
        while batch:
            async with services.database.begin() as conn:
                batch = await settlement.settle_batch(conn, run_id, deduct_cash=deduct)
            paid = max(paid, 0) + batch
        async with services.database.begin() as conn:
            lines = await settlement.lines(conn, run_id=run_id)
        if as_json:
            _print_json({"run_id": run_id, "paid_now": paid, "lines": [asdict(x) for x in lines]})
            return
        Console().print(_settlement_table(run_id, lines))
        typer.echo(f"{paid} riders paid now, {len(lines)} in this settlement.")

    _run(data_dir, work)


def _settlement_table(run_id: str, lines: list[settlement.PayLine]) -> Table:
    names = ("pay", "tips", "incentives", "cash kept", "paid out")
    table = _table(
        run_id, ("rider", False), ("currency", False), ("from", False), ("until", False),
        *((name, True) for name in names),
    )  # fmt: skip
    for line in lines:
        amounts = (
            line.pay_minor, line.tips_minor, line.incentives_minor, line.cash_minor,
            line.paid_minor,
        )  # fmt: skip
        table.add_row(
            line.rider_id, line.currency, line.from_day.isoformat(), line.until_day.isoformat(),
            *(_amount(minor) for minor in amounts),
        )  # fmt: skip
    return table
