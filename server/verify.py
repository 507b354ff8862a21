"""``darkstore verify``: every invariant of the system, checked on the data that it left behind.

Each check is one named query (``server/sql/verify``) that returns the rows that break it; the
gateway's own log is compared in Python.  All queries see one moment, so the checks hold on a
running system too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.redis import RedisError
from kit.sql import Query
from payments.gateway import GatewayLog, GatewayUnavailable
from payments.reconciler import compare_all
from server.wiring import Services
from stores import availability_drift
from stores.availability_drift import Drift, DriftKind
from stores.tables import stores

EXAMPLES: Final = 5
# Real seconds that the relay and the sweeper may lag behind before that counts as broken.
PATIENCE_S: Final = 30.0
# The same for the live layer, and how often it is looked at in that time.
LIVE_PATIENCE_S: Final = 10.0
LIVE_LOOKS: Final = 5

GATEWAY_CHECK: Final = "captures_agree_with_gateway"
ACKNOWLEDGED_CHECK: Final = "acknowledged_orders_present"
_PATIENT: Final = frozenset({"outbox_drained_or_dead", "reservations_not_overdue"})

AVAILABILITY_CHECK: Final = "availability_agrees"
CHECKS: Final = (
    "stock_conservation",
    "no_oversell",
    "lots_trace_to_movements",
    "transfers_balance",
    "counts_match_movements",
    "bags_handed_over_or_emptied",
    "reservations_not_overdue",
    "states_agree",
    "no_orphans",
    "history_legal_and_contiguous",
    "pick_tasks_match_orders",
    "reservations_match_lines",
    "substitutions_add_up",
    "adjustments_add_up",
    "claims_paid_once",
    "slots_match_orders",
    "scheduled_not_early",
    "one_active_rider_per_order",
    "rider_within_capacity",
    "trips_hang_together",
    "alerts_match_orders",
    "controls_hold",
    "controls_audited",
    "one_authorise_per_order",
    "one_capture_per_order",
    "ledger_zero_sum",
    "ledger_matches_orders",
    "disputes_match_ledger",
    "wallets_match_ledger",
    "rider_money_matches_ledger",
    "settlements_match_ledger",
    "closed_days_unchanged",
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
    checks = await verify_database(
        services.database,
        services.gateways.logs(),
        acknowledged=acknowledged,
        patience_s=PATIENCE_S,
    )
    return [*checks, await availability_check(services.database, services.redis)]


async def availability_check(
    database: Database, redis: Redis, patience_s: float = LIVE_PATIENCE_S
) -> Check:
    """Whether what customers are shown is what there is; ``patience_s`` for what is on its way.

    What a refresh has missed is written again by the follower, a moment later.
    """
    detail = "The live layer shows what Postgres has, but for what is on its way."
    async with database.begin() as conn:
        store_ids = list(await conn.scalars(select(stores.c.id).order_by(stores.c.id)))
    try:
        suspects = {
            store_id: await availability_drift.look(database, redis, store_id)
            for store_id in store_ids
        }
        drifts: list[Drift] = []
        for _ in range(LIVE_LOOKS if any(suspects.values()) else 0):
            await asyncio.sleep(patience_s / LIVE_LOOKS)
            drifts = [
                drift
                for store_id in store_ids
                for drift in await availability_drift.confirm(
                    database, redis, store_id, suspects[store_id]
                )
            ]
            if not any(drift.kind is DriftKind.STALE for drift in drifts):
                break
    except RedisError as error:
        return Check(AVAILABILITY_CHECK, 0, (), detail, skipped=f"Redis: {type(error).__name__}")
    shown = tuple(
        f"{d.store_id}/{d.sku_id} ({d.kind}, truth={d.truth}, redis={d.redis})"
        for d in drifts[:EXAMPLES]
    )
    return Check(AVAILABILITY_CHECK, len(drifts), shown, detail)


async def verify_database(
    database: Database,
    gateway_logs: Mapping[str, GatewayLog] | GatewayLog | None,
    *,
    acknowledged: Sequence[str] = (),
    patience_s: float = PATIENCE_S,
) -> list[Check]:
    """Every check, in the order of ``CHECKS``; ``patience_s`` is real seconds of lag allowed.

    ``gateway_logs`` are by the gateway's name; a single one is the sandbox's.
    """
    checks: list[Check] = []
    async with database.snapshot() as conn:
        # Whole tables are read here; the limit of ordinary statements is too short for that.
        await conn.exec_driver_sql("SET LOCAL statement_timeout = '300s'")
        for name in CHECKS:
            parameters = (patience_s,) if name in _PATIENT else ()
            checks.append(await _check(conn, name, *parameters))
        if acknowledged:
            checks.append(await _check(conn, ACKNOWLEDGED_CHECK, list(acknowledged)))
    if isinstance(gateway_logs, GatewayLog):
        gateway_logs = {"sandbox": gateway_logs}
    checks.append(await _agree_with_gateways(database, gateway_logs or {}))
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


async def _agree_with_gateways(database: Database, logs: Mapping[str, GatewayLog]) -> Check:
    """Compare our operations with each gateway's own log, both ways (``darkstore reconcile``)."""
    detail = "What took effect at the gateway is what we wrote down, to the minor unit."
    wrong: list[str] = []
    unread: list[str] = []
    for name, log in logs.items():
        try:
            comparison = await compare_all(database, name, log)
        except GatewayUnavailable as error:
            unread.append(error.detail)
        else:
            wrong += [difference.sentence() for difference in comparison.differences]
    skipped = None
    if not wrong and len(unread) == len(logs):
        skipped = " ".join(unread) or "no gateway keeps a log"
    return Check(GATEWAY_CHECK, len(wrong), tuple(wrong[:EXAMPLES]), detail, skipped)


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
