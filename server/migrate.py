"""Bring a database to the present: Alembic revisions, then routines, then reference data.

Tables change by revisions in ``migrations/versions``.  Routines (``*/sql/routines/*.sql``: PL/pgSQL
functions and triggers) and reference data (state machine edges, ledger accounts) have one present
form and are applied whole each time.  All of it is one transaction under an advisory lock, so two
processes that start together do not collide and a failure leaves the old schema.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

import catalog.tables
import control.tables
import identity.tables
import kit.clock
import kit.idempotency
import kit.outbox
import ledger.tables
import notify.tables
import orders.dispatch_tables
import orders.supply_tables
import orders.tables
import payments.tables
import riders.decision_tables
import riders.proposal_tables
import riders.tables
import stores.tables
from kit.db import Database, metadata
from kit.sql import json_parameter
from ledger.chart import CHART
from orders.model import edges
from server import database_role

METADATA = metadata
TABLE_MODULES = (
    catalog.tables,
    control.tables,
    identity.tables,
    kit.clock,
    kit.idempotency,
    kit.outbox,
    ledger.tables,
    notify.tables,
    orders.dispatch_tables,
    orders.supply_tables,
    orders.tables,
    payments.tables,
    riders.decision_tables,
    riders.proposal_tables,
    riders.tables,
    stores.tables,
)
ROUTINE_PACKAGES = ("kit", "stores", "payments", "orders", "ledger", "control")
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

_FUNCTION = re.compile(r"^CREATE OR REPLACE FUNCTION (\w+)", re.MULTILINE)

# Any constant will do, as long as every process uses the same.
_LOCK = 0x6461726B


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def routines() -> list[tuple[str, str]]:
    """(name, SQL) of every routine file, in the order in which they are applied."""
    found = [
        (f"{file.name}", file.read_text(encoding="utf-8"))
        for package in ROUTINE_PACKAGES
        for file in resources.files(package).joinpath("sql", "routines").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)


async def _apply(conn: AsyncConnection, script: str) -> None:
    """Run a script of several statements, which only the driver's simple protocol can."""
    raw = await conn.get_raw_connection()
    driver = raw.driver_connection
    assert driver is not None
    await driver.execute(script)


async def migrate(database: Database, revision: str = "head") -> None:
    """Upgrade to ``revision`` and apply routines and reference data.  Safe to repeat."""
    async with database.begin() as conn:
        await conn.execute(text("SET LOCAL lock_timeout = '60s'"))
        await conn.execute(text("SET LOCAL statement_timeout = 0"))
        await conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await conn.run_sync(lambda sync: command.upgrade(_config(sync), revision))
        for _name, script in routines():
            await _apply(conn, script)
        await _reference_data(conn)
        await database_role.prepare(conn)


async def downgrade(database: Database, revision: str) -> None:
    """Step back to ``revision`` (``base`` for an empty database).

    The routines go, with their triggers: they belong to the present tables.  ``migrate`` of the
    code to which one steps back puts its own in place.
    """
    async with database.begin() as conn:
        await conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        for _name, script in routines():
            for function in _FUNCTION.findall(script):
                await conn.execute(text(f"DROP FUNCTION IF EXISTS {function} CASCADE"))
        await conn.run_sync(lambda sync: command.downgrade(_config(sync), revision))


async def differences(database: Database) -> list[object]:
    """What the tables in code and the tables in the database disagree on (``alembic check``)."""
    compare: Callable[[Connection], list[object]] = lambda sync: list(  # noqa: E731
        compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), METADATA)
    )
    async with database.begin() as conn:
        return await conn.run_sync(compare)


async def _reference_data(conn: AsyncConnection) -> None:
    await conn.execute(
        text(
            "INSERT INTO clock (one, anchor_real, anchor_virtual, speed)"
            " SELECT 1, t, t, 1 FROM (SELECT clock_timestamp() AS t) AS now ON CONFLICT DO NOTHING"
        )
    )
    await conn.execute(
        text("INSERT INTO stream_epoch (one, epoch) VALUES (1, :epoch) ON CONFLICT DO NOTHING"),
        {"epoch": secrets.token_hex(8)},
    )
    await conn.execute(
        text(
            "INSERT INTO outbox_partitions SELECT generate_series(0, :last) ON CONFLICT DO NOTHING"
        ),
        {"last": kit.outbox.PARTITIONS - 1},
    )
    await conn.execute(text("DELETE FROM state_edges"))
    await conn.execute(
        text("INSERT INTO state_edges VALUES (:machine, :start, :end)"),
        [{"machine": m, "start": a, "end": b} for m, a, b in sorted(edges())],
    )
    await conn.execute(
        text(
            "INSERT INTO ledger_accounts (code, title, kind)"
            " SELECT code, title, kind FROM jsonb_to_recordset(CAST(:chart AS jsonb))"
            " AS c(code text, title text, kind text)"
            " ON CONFLICT (code) DO UPDATE SET title = excluded.title, kind = excluded.kind"
        ),
        {"chart": json_parameter([a.as_row() for a in CHART])},
    )
