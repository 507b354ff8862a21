"""Operations on gateways as rows: wanted, asked, answered.  Every function runs in a transaction.

``pending`` waits for its turn, ``unknown`` was asked and never answered (so it is looked up, never
repeated blindly), ``succeeded``, ``declined`` and ``failed`` are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import new_id
from kit.sql import json_parameter, load
from payments.gateway import OperationKind
from payments.tables import payment_operations


class OperationStatus(StrEnum):
    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"


OPEN_STATUSES = frozenset({OperationStatus.PENDING, OperationStatus.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    order_id: str
    kind: OperationKind
    gateway: str
    method: str
    amount_minor: int
    currency: str
    token: str | None
    status: OperationStatus
    reference: str | None
    attempts: int


table = payment_operations

_COLUMNS = [table.c[field.name] for field in fields(Operation)]

_CLAIM_DUE = load("payments", "claim_due")
_OPERATION = load("payments", "operation")
_REQUEST = load("payments", "request_operation")
_RECORD = load("payments", "record_outcome")
_STORE_WEBHOOK = load("payments", "store_webhook")


def _operation(row: dict[str, object]) -> Operation:
    values = {
        **row,
        "kind": OperationKind(str(row["kind"])),
        "status": OperationStatus(str(row["status"])),
    }
    return Operation(**values)  # type: ignore[arg-type]  # the query selects exactly the fields


async def claim_due(conn: AsyncConnection, limit: int, lease_s: float) -> list[Operation]:
    """Operations whose turn has come, for this worker alone during ``lease_s``."""
    return [_operation(row) for row in await _CLAIM_DUE.dicts(conn, limit, lease_s)]


async def lock(conn: AsyncConnection, operation_id: str) -> Operation:
    """One operation, locked until the end of the transaction."""
    rows = await _OPERATION.dicts(conn, operation_id)
    assert rows, f"operation {operation_id} exists before anybody asks for it"
    return _operation(rows[0])


async def find(conn: AsyncConnection, operation_id: str) -> Operation:
    """One operation that exists, not locked."""
    rows = await conn.execute(select(*_COLUMNS).where(table.c.id == operation_id))
    return _operation(dict(rows.mappings().one()))


async def find_or_none(conn: AsyncConnection, operation_id: str) -> Operation | None:
    """One operation, or None when the id is not ours."""
    rows = await conn.execute(select(*_COLUMNS).where(table.c.id == operation_id))
    row = rows.mappings().first()
    return None if row is None else _operation(dict(row))


async def of_order(conn: AsyncConnection, order_id: str) -> list[Operation]:
    """All operations on an order's payment, oldest first."""
    rows = await conn.execute(
        select(*_COLUMNS).where(table.c.order_id == order_id).order_by(table.c.id)
    )
    return [_operation(dict(row)) for row in rows.mappings()]


async def request(
    conn: AsyncConnection, order_id: str, kind: OperationKind, amount_minor: int
) -> str | None:
    """Ask for an operation on the order's payment; None when there is nothing to operate on."""
    if amount_minor <= 0:
        return None
    row = await _REQUEST.first(conn, new_id("pay"), order_id, kind.value, amount_minor)
    return None if row is None else str(row.id)


async def record(
    conn: AsyncConnection,
    operation_id: str,
    status: OperationStatus,
    reference: str | None,
    code: str | None,
    again_in_s: float,
) -> None:
    """Write down what the gateway said; an open status is looked at again in ``again_in_s``."""
    await _RECORD.run(conn, operation_id, status.value, reference, code, again_in_s)


async def remember_webhook(
    conn: AsyncConnection,
    gateway: str,
    event_id: str,
    event_type: str,
    payload: Mapping[str, object],
) -> bool:
    """Keep a webhook; False when it was received before."""
    row = await _STORE_WEBHOOK.first(conn, gateway, event_id, event_type, json_parameter(payload))
    return row is not None
