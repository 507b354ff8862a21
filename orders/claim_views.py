"""Claims and adjustments as answers show them: plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.model import Actor, Role
from kit.sql import load
from kit.wire import money, rfc3339
from orders.claim_rules import ClaimState
from orders.errors import ClaimNotFound
from orders.tables import order_adjustments, orders

_CLAIMS = load("orders", "claims")
_MANY = 200

Record = Mapping[str, Any]


async def claims_of_order(conn: AsyncConnection, order_id: str) -> list[dict[str, object]]:
    """The claims on an order that its reader may see, oldest first."""
    rows = await _CLAIMS.dicts(conn, None, order_id, [], [], True, None, None, _MANY)
    return [shape_claim(row) for row in rows]


async def queue(
    conn: AsyncConnection,
    actor: Actor,
    statuses: Sequence[ClaimState] | None,
    after: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Claims in the scope of a member of staff, oldest first, as records."""
    wanted = None if statuses is None else [status.value for status in statuses]
    return await _CLAIMS.dicts(
        conn, None, None, sorted(actor.store_ids), sorted(actor.city_ids),
        actor.role is Role.ADMIN, wanted, after, limit,
    )  # fmt: skip


async def claim_view(conn: AsyncConnection, actor: Actor, claim_id: str) -> dict[str, object]:
    """One claim in the scope of a member of staff.  Raises ClaimNotFound."""
    rows = await _CLAIMS.dicts(
        conn, claim_id, None, sorted(actor.store_ids), sorted(actor.city_ids),
        actor.role is Role.ADMIN, None, None, 1,
    )  # fmt: skip
    if not rows:
        raise ClaimNotFound("There is no such claim.")
    return shape_claim(rows[0], for_staff=True)


def shape_claim(row: Record, *, for_staff: bool = False) -> dict[str, object]:
    """A claim; its staff also see who decided, and what could be given at most."""
    currency = row["currency"]
    view: dict[str, object] = {
        "id": row["id"],
        "order_id": row["order_id"],
        "kind": row["kind"],
        "status": row["status"],
        "items": [
            {
                "line_id": item["line_id"],
                "substitution_id": item["substitution_id"],
                "name": item["name"],
                "quantity": item["quantity"],
                "refunded": money(item["refunded_minor"], currency),
            }
            for item in row["items"]
        ],
        "comment": row["comment"],
        "photo": row["photo"],
        "worth": money(row["worth_minor"], currency),
        "refunded": money(row["refunded_minor"], currency),
        "refund_to": row["refund_to"],
        "reason": row["reason"],
        "at": rfc3339(row["at"]),
        "decided_at": rfc3339(row["decided_at"]),
    }
    if for_staff:
        view |= {
            "order_number": row["number"],
            "store_id": row["store_id"],
            "user_id": row["user_id"],
            "decided_by": row["decided_by"],
            "left": money(row["left_minor"], currency),
        }
    return view


async def adjustments_view(conn: AsyncConnection, order_id: str) -> list[dict[str, object]]:
    """Everything that changed an order's price since it was confirmed, oldest first."""
    table = order_adjustments
    currency = await conn.scalar(select(orders.c.currency).where(orders.c.id == order_id))
    rows = await conn.execute(
        select(table).where(table.c.order_id == order_id).order_by(table.c.at, table.c.id)
    )
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "line_id": row.line_id,
            "quantity": row.quantity,
            "amount": money(row.items_minor + row.tax_minor, str(currency)),
            "tax": money(row.tax_minor, str(currency)),
            "reason": row.reason,
            "source_id": row.source_id,
            "at": rfc3339(row.at),
        }
        for row in rows
    ]
