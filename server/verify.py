"""``darkstore verify``: every invariant of the system, checked on the data that it left behind.

Each check is one named query (``server/sql/verify``) that returns the rows that break it; the
gateway's own log is compared in Python.  All queries see one moment, so the checks hold on a
running system too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.sql import Query
from payments.gateway import GatewayLog, GatewayOperation, GatewayUnavailable, OperationKind
from payments.gateway_sandbox import SandboxGateway
from payments.operations import OPEN_STATUSES, OperationStatus
from payments.tables import payment_operations
from server.wiring import Services

EXAMPLES: Final = 5
# Real seconds that the relay and the sweeper may lag behind before that counts as broken.
PATIENCE_S: Final = 30.0

GATEWAY_CHECK: Final = "captures_agree_with_gateway"
ACKNOWLEDGED_CHECK: Final = "acknowledged_orders_present"
_PATIENT: Final = frozenset({"outbox_drained_or_dead", "reservations_not_overdue"})

CHECKS: Final = (
    "stock_conservation",
    "no_oversell",
    "reservations_not_overdue",
    "states_agree",
    "history_legal_and_contiguous",
    "pick_tasks_match_orders",
    "one_active_rider_per_order",
    "rider_within_capacity",
    "one_authorise_per_order",
    "one_capture_per_order",
    "ledger_zero_sum",
    "ledger_matches_orders",
    "idempotency_one_effect",
    "stream_gap_free",
    "outbox_drained_or_dead",
)


@dataclass(frozen=True, slots=True)
class Check:
    """An invariant: how many rows break it, some of them, and what it was about.

    ``skipped`` says why a check was not made; it then breaks nothing.
    """

    name: str
    broken_rows: int
    examples: tuple[str, ...]
    detail: str
    skipped: str | None = None


async def verify(services: Services, *, acknowledged: Sequence[str] = ()) -> list[Check]:
    """Check the system behind ``services``; ``acknowledged`` are order ids told to clients."""
    sandbox = services.gateways.by_name.get("sandbox")
    return await verify_database(
        services.database,
        sandbox if isinstance(sandbox, SandboxGateway) else None,
        acknowledged=acknowledged,
        patience_s=PATIENCE_S,
    )


async def verify_database(
    database: Database,
    gateway_log: GatewayLog | None,
    *,
    acknowledged: Sequence[str] = (),
    patience_s: float = PATIENCE_S,
) -> list[Check]:
    """Every check, in the order of ``CHECKS``; ``patience_s`` is real seconds of lag allowed."""
    checks: list[Check] = []
    async with database.snapshot() as conn:
        # Whole tables are read here; the limit of ordinary statements is too short for that.
        await conn.exec_driver_sql("SET LOCAL statement_timeout = '300s'")
        for name in CHECKS:
            parameters = (patience_s,) if name in _PATIENT else ()
            checks.append(await _check(conn, name, *parameters))
        if acknowledged:
            checks.append(await _check(conn, ACKNOWLEDGED_CHECK, list(acknowledged)))
    checks.append(await _agree_with_gateway(database, gateway_log))
    return checks


def _load(name: str) -> tuple[Query, str]:
    """The query, and the first sentence of its header."""
    file = resources.files("server").joinpath("sql", "verify", f"{name}.sql")
    source = file.read_text(encoding="utf-8")
    header = " ".join(
        line.removeprefix("--").strip() for line in source.splitlines() if line.startswith("--")
    )
    # Our own file; no text from outside gets into it.
    counted = (
        f"WITH broken AS (\n{source}\n)\n"  # noqa: S608
        "SELECT (SELECT count(*) FROM broken) AS broken_rows, broken.*"
        f" FROM broken LIMIT {EXAMPLES}"
    )
    return Query(f"server.verify.{name}", counted), header.partition(". ")[0].rstrip(".") + "."


async def _check(conn: AsyncConnection, name: str, *parameters: object) -> Check:
    query, detail = _load(name)
    rows = await query.dicts(conn, *parameters)
    total = int(rows[0]["broken_rows"]) if rows else 0
    return Check(name, total, tuple(_example(row) for row in rows), detail)


def _example(row: Mapping[str, Any]) -> str:
    """``ord_… (riders=2, delivery_status=assigned)``."""
    shown = {key: value for key, value in row.items() if key not in ("broken_rows", "id")}
    told = ", ".join(f"{key}={value}" for key, value in shown.items())
    return f"{row['id']} ({told})" if told else str(row["id"])


async def _agree_with_gateway(database: Database, gateway_log: GatewayLog | None) -> Check:
    """Compare our operations with the gateway's own log, both ways.

    Ours are read before and after the log: what had succeeded before has to be in it, and what it
    holds has to be known, and not refused, after.
    """
    detail = "What took effect at the gateway is what we wrote down, to the minor unit."
    if gateway_log is None:
        return Check(GATEWAY_CHECK, 0, (), detail, skipped="no gateway keeps a log")
    before = await _operations(database)
    try:
        theirs = await _whole_log(gateway_log)
    except GatewayUnavailable as error:
        return Check(GATEWAY_CHECK, 0, (), detail, skipped=error.detail)
    after = await _operations(database)
    wrong = _disagreements(before, theirs, after)
    return Check(GATEWAY_CHECK, len(wrong), tuple(wrong[:EXAMPLES]), detail)


async def _operations(database: Database) -> dict[str, Any]:
    """Our operations on gateways that keep a log, by id."""
    table = payment_operations
    async with database.begin() as conn:
        await conn.execute(text("SET LOCAL statement_timeout = '300s'"))
        rows = await conn.execute(
            select(
                table.c.id, table.c.order_id, table.c.kind, table.c.amount_minor,
                table.c.currency, table.c.status,
            ).where(table.c.gateway == "sandbox")
        )  # fmt: skip
        return {row.id: row for row in rows}


async def _whole_log(gateway_log: GatewayLog) -> list[GatewayOperation]:
    found: list[GatewayOperation] = []
    cursor: str | None = None
    while True:
        page = await gateway_log.list_operations(cursor=cursor)
        found += page.operations
        cursor = page.next_cursor
        if cursor is None:
            return found


def _disagreements(
    before: Mapping[str, Any], theirs: Sequence[GatewayOperation], after: Mapping[str, Any]
) -> list[str]:
    wrong: list[str] = []
    seen: set[str] = set()
    for entry in theirs:
        ours = after.get(entry.operation_key)
        if entry.operation_key in seen:
            wrong.append(f"{entry.operation_key} (took effect twice)")
        elif ours is None:
            wrong.append(f"{entry.operation_key} (not ours, {entry.kind} of {entry.order_id})")
        elif ours.status not in OPEN_STATUSES and ours.status != OperationStatus.SUCCEEDED:
            wrong.append(f"{entry.operation_key} (took effect, ours {ours.status})")
        elif not _same(ours, entry):
            wrong.append(f"{entry.operation_key} (another order, kind or amount)")
        seen.add(entry.operation_key)
    wrong += [
        f"{operation_id} (ours succeeded, theirs does not exist)"
        for operation_id, ours in before.items()
        if ours.status == OperationStatus.SUCCEEDED and operation_id not in seen
    ]
    return wrong


def _same(ours: Any, entry: GatewayOperation) -> bool:
    if (ours.order_id, ours.kind) != (entry.order_id, str(entry.kind)):
        return False
    # A void frees whatever was authorised; its amount is not ours to say.
    return ours.kind == OperationKind.VOID or (ours.amount_minor, ours.currency) == (
        entry.amount.amount_minor,
        entry.amount.currency,
    )


def as_json(checks: Sequence[Check]) -> dict[str, object]:
    """``{"clean", "checks": [{"name", "broken_rows", "examples", "detail", "skipped"}]}``."""
    return {
        "clean": not any(check.broken_rows for check in checks),
        "checks": [
            {
                "name": check.name,
                "broken_rows": check.broken_rows,
                "examples": list(check.examples),
                "detail": check.detail,
                "skipped": check.skipped,
            }
            for check in checks
        ],
    }


def print_checks(checks: Sequence[Check], console: Console | None = None) -> None:
    """A table for people: each check, whether it holds, and what breaks it."""
    table = Table(box=None, pad_edge=False)
    for title in ("check", "holds", "broken rows", "examples"):
        table.add_column(title, overflow="fold")
    for check in checks:
        if check.skipped is not None:
            table.add_row(check.name, "skipped", "", check.skipped)
        else:
            holds = "no" if check.broken_rows else "yes"
            table.add_row(check.name, holds, str(check.broken_rows), "\n".join(check.examples))
    (console or Console()).print(table)
