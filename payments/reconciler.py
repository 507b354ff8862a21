"""Reading both sides, comparing them (``payments.reconciliation``) and keeping what differs.

An incremental run reads the log since the last run, with an overlap, and checks what no run has
found yet; a full one reads everything and forgets differences that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Select, any_, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from kit.db import Database
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import json_parameter, load
from payments.alerts import AlertKind, raise_alert
from payments.gateway import GatewayLog, GatewayOperation, OperationKind
from payments.operations import OperationStatus
from payments.reconciliation import (
    Comparison,
    Difference,
    DifferenceKind,
    OurOperation,
    compare,
)
from payments.tables import (
    payment_operations,
    reconciliation_differences,
    reconciliation_runs,
)

# A gateway may list what took effect a little late, and its clock is not ours.
OVERLAP: Final = timedelta(minutes=10)
STATEMENT_TIMEOUT: Final = "SET LOCAL statement_timeout = '300s'"

_MARK = load("payments", "mark_reconciled")
_COLUMNS = [payment_operations.c[one.name] for one in fields(OurOperation)]


class Scope(StrEnum):
    INCREMENTAL = "incremental"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Run:
    """``new`` are the differences that nobody was told of before."""

    id: str
    gateway: str
    scope: Scope
    compared: int
    differences: Sequence[Difference]
    new: Sequence[Difference]


async def compare_all(database: Database, gateway: str, log: GatewayLog) -> Comparison:
    """All of ours against all of theirs; keeps nothing.  Raises GatewayUnavailable."""
    before = await _ours(database, _of(gateway))
    theirs = await read_log(log)
    return compare(before, theirs, await _ours(database, _of(gateway)))


async def reconcile(database: Database, gateway: str, log: GatewayLog, scope: Scope) -> Run:
    """Compare with a gateway's log and keep the differences.  Raises GatewayUnavailable."""
    # Both in the gateway's time, which is real.
    until = datetime.now(UTC)
    since = await _last_read(database, gateway) if scope is Scope.INCREMENTAL else None
    if since is None:
        scope = Scope.FULL
        comparison = await compare_all(database, gateway, log)
    else:
        before = await _ours(database, _unreconciled(gateway))
        theirs = await read_log(log, since - OVERLAP)
        comparison = compare(before, theirs, await _ours(database, _named_in(gateway, theirs)))
    async with database.begin() as conn:
        return await _keep(conn, gateway, scope, since, until, comparison)


async def read_log(log: GatewayLog, since: datetime | None = None) -> list[GatewayOperation]:
    """Every page of a log.  Raises GatewayUnavailable."""
    found: list[GatewayOperation] = []
    cursor: str | None = None
    while True:
        page = await log.list_operations(cursor=cursor, since=since)
        found += page.operations
        cursor = page.next_cursor
        if cursor is None:
            return found


def _of(gateway: str) -> Select[Any]:
    return select(*_COLUMNS).where(payment_operations.c.gateway == gateway)


def _unreconciled(gateway: str) -> Select[Any]:
    return _of(gateway).where(
        payment_operations.c.status == OperationStatus.SUCCEEDED.value,
        payment_operations.c.reconciled_at.is_(None),
    )


def _named_in(gateway: str, theirs: Sequence[GatewayOperation]) -> Select[Any]:
    """What a part of the log can be about: by our key, or by the gateway's payment."""
    keys = [line.operation_key for line in theirs if line.operation_key]
    references = list({line.reference for line in theirs if not line.operation_key})
    table = payment_operations
    return _of(gateway).where(
        (table.c.id == any_(bindparam("keys", keys, ARRAY(Text))))
        | (table.c.reference == any_(bindparam("references", references, ARRAY(Text))))
    )


async def _ours(database: Database, query: Select[Any]) -> list[OurOperation]:
    async with database.begin() as conn:
        await conn.execute(text(STATEMENT_TIMEOUT))
        rows = await conn.execute(query)
        return [
            OurOperation(
                id=row.id,
                order_id=row.order_id,
                kind=OperationKind(row.kind),
                amount_minor=row.amount_minor,
                currency=row.currency,
                status=OperationStatus(row.status),
                reference=row.reference,
                gateway_operation_id=row.gateway_operation_id,
            )
            for row in rows
        ]


async def _last_read(database: Database, gateway: str) -> datetime | None:
    table = reconciliation_runs
    async with database.begin() as conn:
        found: datetime | None = await conn.scalar(
            select(func.max(table.c.until)).where(table.c.gateway == gateway)
        )
        return found


async def _keep(
    conn: AsyncConnection,
    gateway: str,
    scope: Scope,
    since: datetime | None,
    until: datetime,
    comparison: Comparison,
) -> Run:
    run_id = new_id("rec")
    await conn.execute(
        insert(reconciliation_runs).values(
            id=run_id, gateway=gateway, scope=scope.value, since=since, until=until,
            started_at=until, ended_at=datetime.now(UTC), compared=comparison.compared,
            differences=len(comparison.differences),
        )
    )  # fmt: skip
    rows = [{"id": ours, "line": line} for ours, line in comparison.found.items()]
    await _MARK.run(conn, json_parameter(rows))
    new = [one for one in comparison.differences if await _told(conn, gateway, run_id, one)]
    await _forget_gone(conn, gateway, scope, comparison)
    return Run(run_id, gateway, scope, comparison.compared, comparison.differences, new)


async def _told(conn: AsyncConnection, gateway: str, run_id: str, difference: Difference) -> bool:
    """Keep a difference; whether it is new."""
    table = reconciliation_differences
    ours, theirs = difference.ours, difference.theirs
    inserted = (
        await conn.execute(
            insert(table)
            .values(
                id=new_id("dif"), gateway=gateway, kind=difference.kind.value,
                subject=difference.subject, order_id=difference.order_id,
                operation_id=ours.id if ours else None,
                gateway_operation_id=theirs.operation_id if theirs else None,
                ours=ours.facts() if ours else None, theirs=_facts(theirs) if theirs else None,
                first_run_id=run_id, found_at=func.darkstore_now(),
                last_seen_at=func.darkstore_now(),
            )
            .on_conflict_do_update(
                index_elements=[table.c.gateway, table.c.kind, table.c.subject],
                index_where=table.c.resolved_at.is_(None),
                set_={"last_seen_at": func.darkstore_now()},
            )
            .returning(table.c.first_run_id)
        )
    ).one()  # fmt: skip
    if inserted.first_run_id != run_id:
        return False
    await raise_alert(
        conn, AlertKind.RECONCILIATION, gateway, f"{difference.kind}:{difference.subject}",
        f"Reconciliation found a difference: {difference.sentence()}.",
        order_id=difference.order_id,
    )  # fmt: skip
    return True


def _facts(line: GatewayOperation) -> dict[str, object]:
    return {
        "order_id": line.order_id,
        "kind": line.kind.value,
        "amount_minor": line.amount.amount_minor,
        "currency": line.amount.currency,
        "reference": line.reference,
        "operation_key": line.operation_key,
        "at": line.at.isoformat(),
    }


async def _forget_gone(
    conn: AsyncConnection, gateway: str, scope: Scope, comparison: Comparison
) -> None:
    """Differences that are no more: all that a full run did not see, and late lines that came."""
    table = reconciliation_differences
    gone = update(table).where(table.c.gateway == gateway, table.c.resolved_at.is_(None))
    if scope is Scope.FULL:
        seen = [f"{one.kind}:{one.subject}" for one in comparison.differences]
        gone = gone.where((table.c.kind + ":" + table.c.subject).not_in(seen))
    else:
        gone = gone.where(
            table.c.kind == DifferenceKind.MISSING_THERE.value,
            table.c.subject.in_(list(comparison.found)),
        )
    await conn.execute(gone.values(resolved_at=func.darkstore_now(), resolution="gone"))


async def resolve_difference(
    conn: AsyncConnection, difference_id: str, actor: str, resolution: str, at: datetime
) -> dict[str, object]:
    """Say what became of it; the first word stands.  Raises NotFound."""
    table = reconciliation_differences
    await conn.execute(
        update(table)
        .where(table.c.id == difference_id, table.c.resolved_at.is_(None))
        .values(resolved_at=at, resolved_by=actor, resolution=resolution)
    )
    row = (await conn.execute(select(table).where(table.c.id == difference_id))).mappings().first()
    if row is None:
        raise NotFound("There is no such difference.")
    return dict(row)
