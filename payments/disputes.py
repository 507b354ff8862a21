"""Disputes as rows: payers who asked their bank for the money back.

``opened`` until the bank decides; then ``won`` (the money stays with us) or ``lost``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import Conflict
from kit.ids import new_id
from kit.money import Money
from payments.tables import disputes


class DisputeState(StrEnum):
    OPENED = "opened"
    WON = "won"
    LOST = "lost"


class PaymentDisputed(Conflict):
    """The bank has the money, or has given it back already."""

    code = "payment_disputed"
    title = "The payment is disputed"


@dataclass(frozen=True, slots=True)
class Dispute:
    id: str
    gateway: str
    reference: str
    payment_reference: str
    order_id: str
    amount_minor: int
    currency: str
    reason: str | None
    status: DisputeState
    due_by: datetime | None
    opened_at: datetime
    closed_at: datetime | None


_COLUMNS = [disputes.c[one.name] for one in fields(Dispute)]


async def refuse_if_disputed(conn: AsyncConnection, order_id: str) -> None:
    """No refund beside a dispute: the customer would be paid twice.  Raises PaymentDisputed."""
    status = await conn.scalar(
        select(disputes.c.status)
        .where(disputes.c.order_id == order_id, disputes.c.status != DisputeState.WON.value)
        .limit(1)
    )
    if status == DisputeState.OPENED:
        raise PaymentDisputed("The payment is disputed at the bank; wait until that is decided.")
    if status == DisputeState.LOST:
        raise PaymentDisputed("The bank has given this money back already.")


async def of_order(conn: AsyncConnection, order_id: str) -> list[Dispute]:
    """All disputes of an order's payment, oldest first."""
    rows = await conn.execute(
        select(*_COLUMNS).where(disputes.c.order_id == order_id).order_by(disputes.c.id)
    )
    return [_dispute(dict(row)) for row in rows.mappings()]


async def find(conn: AsyncConnection, gateway: str, reference: str) -> Dispute | None:
    """The dispute that the gateway calls ``reference``."""
    rows = await conn.execute(
        select(*_COLUMNS).where(disputes.c.gateway == gateway, disputes.c.reference == reference)
    )
    row = rows.mappings().first()
    return None if row is None else _dispute(dict(row))


async def open_dispute(
    conn: AsyncConnection,
    gateway: str,
    reference: str,
    payment_reference: str,
    order_id: str,
    amount: Money,
    reason: str,
    due_by: datetime | None,
) -> Dispute:
    """A new one; the order's row is locked, so that it is made once."""
    rows = await conn.execute(
        insert(disputes)
        .values(
            id=new_id("dsp"), gateway=gateway, reference=reference,
            payment_reference=payment_reference, order_id=order_id,
            amount_minor=amount.amount_minor, currency=amount.currency, reason=reason,
            status=DisputeState.OPENED.value, due_by=due_by, opened_at=func.darkstore_now(),
        )
        .returning(*_COLUMNS)
    )  # fmt: skip
    return _dispute(dict(rows.mappings().one()))


async def set_due(conn: AsyncConnection, dispute_id: str, due_by: datetime) -> None:
    """The bank gives another day to answer by."""
    await conn.execute(update(disputes).where(disputes.c.id == dispute_id).values(due_by=due_by))


async def close_dispute(
    conn: AsyncConnection, dispute_id: str, status: DisputeState, fee_minor: int
) -> None:
    """The bank has decided; ``fee_minor`` is what the gateway charges for it."""
    await conn.execute(
        update(disputes)
        .where(disputes.c.id == dispute_id)
        .values(status=status.value, fee_minor=fee_minor, closed_at=func.darkstore_now())
    )


def _dispute(row: dict[str, object]) -> Dispute:
    values = {**row, "status": DisputeState(str(row["status"]))}
    return Dispute(**values)  # type: ignore[arg-type]  # the query selects exactly the fields
