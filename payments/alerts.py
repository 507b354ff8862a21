"""What a person has to look at: kept until somebody says what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import NotFound
from kit.ids import new_id
from payments.tables import payment_alerts


class AlertKind(StrEnum):
    """The first seven are reasons to reject a webhook."""

    UNKNOWN_OPERATION = "unknown_operation"  # of a payment or operation that is not ours
    WRONG_GATEWAY = "wrong_gateway"
    WRONG_ORDER = "wrong_order"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_AMOUNT = "wrong_amount"
    CONTRADICTION = "contradiction"  # it took effect there, and failed here
    UNKNOWN_PAYMENT = "unknown_payment"  # a dispute of a payment that we never captured
    DISPUTE_OPENED = "dispute_opened"
    RECONCILIATION = "reconciliation"


async def raise_alert(
    conn: AsyncConnection,
    kind: AlertKind,
    gateway: str,
    subject: str,
    detail: str,
    *,
    order_id: str | None = None,
    facts: Mapping[str, object] | None = None,
) -> bool:
    """Tell people; False when they know of this ``subject`` already."""
    raised = await conn.scalar(
        insert(payment_alerts)
        .values(
            id=new_id("alr"), kind=kind.value, gateway=gateway, subject=subject,
            order_id=order_id, detail=detail, facts=dict(facts or {}),
            raised_at=func.darkstore_now(),
        )
        .on_conflict_do_nothing()
        .returning(payment_alerts.c.id)
    )  # fmt: skip
    return raised is not None


async def resolve_alert(
    conn: AsyncConnection, alert_id: str, actor: str, resolution: str, at: datetime
) -> dict[str, object]:
    """Say what became of it; the first word stands.  Raises NotFound."""
    table = payment_alerts
    await conn.execute(
        update(table)
        .where(table.c.id == alert_id, table.c.resolved_at.is_(None))
        .values(resolved_at=at, resolved_by=actor, resolution=resolution)
    )
    row = (await conn.execute(select(table).where(table.c.id == alert_id))).mappings().first()
    if row is None:
        raise NotFound("There is no such alert.")
    return dict(row)
