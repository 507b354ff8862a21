"""Operations on gateways as rows: wanted, asked, answered.  Every function runs in a transaction.

``pending`` waits for its turn, ``unknown`` was asked and never answered (so it is looked up, never
repeated blindly), ``succeeded``, ``declined`` and ``failed`` are final.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

import orjson
from sqlalchemy import func, select, update
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
    token: str | None = field(repr=False)
    # The gateways that may be asked, this one first; None for all but authorisations.
    route: Sequence[Mapping[str, str]] | None = field(repr=False)
    attempt: int
    status: OperationStatus
    reference: str | None
    code: str | None
    attempts: int
    answers: int

    @property
    def in_doubt(self) -> bool:
        """Whether somebody before the present asker never wrote an answer down.

        Then it may have taken effect, whatever the present asker learns.
        """
        return self.answers < self.attempts - 1


table = payment_operations

_COLUMNS = [table.c[one.name] for one in fields(Operation)]

_CLAIM_DUE = load("payments", "claim_due")
_OPERATION = load("payments", "operation")
_REQUEST = load("payments", "request_operation")
_RECORD = load("payments", "record_outcome")
_NEXT_ATTEMPT = load("payments", "next_attempt")
_WAITED = load("payments", "waited")


def _operation(row: dict[str, object]) -> Operation:
    values = {
        **row,
        "kind": OperationKind(str(row["kind"])),
        "status": OperationStatus(str(row["status"])),
    }
    if isinstance(values["route"], str):
        # A statement of ours is not typed: its JSON comes as text.
        values["route"] = orjson.loads(values["route"])
    return Operation(**values)  # type: ignore[arg-type]  # the query selects exactly the fields


async def claim_due(
    conn: AsyncConnection, free: Mapping[str, int], lease_s: float
) -> list[Operation]:
    """Operations whose turn has come, for this worker alone during ``lease_s``.

    ``free`` is how many calls each gateway may get; gateways that it does not name get none.
    """
    parameters = (json_parameter(free), lease_s)
    return [_operation(row) for row in await _CLAIM_DUE.dicts(conn, *parameters)]


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


def of_json(text: str) -> Operation:
    """An operation from a JSON object of its fields."""
    return _operation(orjson.loads(text))


async def by_reference(
    conn: AsyncConnection, gateway: str, reference: str, kind: OperationKind
) -> list[Operation]:
    """Operations of one kind on a gateway's payment that have not failed here."""
    rows = await conn.execute(
        select(*_COLUMNS).where(
            table.c.gateway == gateway,
            table.c.reference == reference,
            table.c.kind == kind.value,
            table.c.status != OperationStatus.FAILED.value,
        )
    )
    return [_operation(dict(row)) for row in rows.mappings()]


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


async def ask_next(
    conn: AsyncConnection, failed: Operation, due_in_s: float, *, at_once: bool
) -> str:
    """Persist the authorisation that follows a failed one, at the next gateway of its route.

    A worker may take it in ``due_in_s`` real seconds; ``at_once`` says that the caller asks before.
    Returns the gateway's name.
    """
    assert failed.route, "only an authorisation with a route is asked again"
    route = [*failed.route[1:], failed.route[0]]
    await _NEXT_ATTEMPT.run(
        conn, new_id("pay"), failed.id, json_parameter(route), due_in_s, int(at_once)
    )
    return route[0]["gateway"]


async def leave_to_worker(conn: AsyncConnection, operation_id: str) -> None:
    """Nobody has asked for this one yet, and a worker may at once."""
    await conn.execute(
        update(table)
        .where(table.c.id == operation_id)
        .values(attempts=0, next_attempt_at=func.darkstore_now())
    )


async def waited_s(conn: AsyncConnection, order_id: str) -> float:
    """Real seconds since the order's money was first asked for."""
    return float((await _WAITED.one(conn, order_id)).waited_s)


async def live_authorise(conn: AsyncConnection, order_id: str) -> Operation | None:
    """The order's authorisation that has not failed."""
    rows = await conn.execute(
        select(*_COLUMNS).where(
            table.c.order_id == order_id,
            table.c.kind == OperationKind.AUTHORISE.value,
            table.c.status != OperationStatus.FAILED.value,
        )
    )
    row = rows.mappings().first()
    return None if row is None else _operation(dict(row))
