"""What became of checkouts that waited for the database, as rows and as the customer sees them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.errors import Conflict, DarkstoreError
from kit.wire import rfc3339
from orders.spool import QueuedCheckout
from orders.tables import queued_checkouts


class CheckoutTooLate(Conflict):
    code = "checkout_too_late"
    title = "The order waited for too long"


def queued_view(entry: QueuedCheckout) -> dict[str, object]:
    """A checkout that still waits."""
    return {
        "id": entry.order_id,
        "status": "queued",
        "quote_id": entry.request.quote_id,
        "accepted_at": rfc3339(entry.accepted_at),
        "detail": (
            "We have your order and will place it as soon as our system answers again, usually"
            " within minutes. It is not placed yet and nothing was charged. Sending it again with"
            " the same Idempotency-Key is safe."
        ),
    }


async def record_placed(conn: AsyncConnection, entry: QueuedCheckout, order_id: str) -> None:
    """The checkout became an order; doing it twice does nothing."""
    await conn.execute(_row(entry, order_id=order_id, code=None, detail=None))


async def record_refused(
    conn: AsyncConnection, entry: QueuedCheckout, refusal: DarkstoreError
) -> None:
    """The checkout became nothing; its channel tells why.  Doing it twice does nothing."""
    done = await conn.execute(_row(entry, order_id=None, code=refusal.code, detail=refusal.detail))
    if done.rowcount:
        data = {"code": refusal.code, "detail": refusal.detail}
        await outbox.append(conn, f"order:{entry.order_id}", "checkout.refused", data)


def _row(
    entry: QueuedCheckout, *, order_id: str | None, code: str | None, detail: str | None
) -> Any:
    return (
        insert(queued_checkouts)
        .values(
            id=entry.order_id, user_id=entry.request.user_id, order_id=order_id, code=code,
            detail=detail, accepted_at=entry.accepted_at, finished_at=func.darkstore_now(),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip


async def outcome_view(
    conn: AsyncConnection, checkout_id: str, user_id: str
) -> dict[str, object] | None:
    """What became of a customer's queued checkout; None when there was no such."""
    table = queued_checkouts
    row = (
        await conn.execute(
            select(table).where(table.c.id == checkout_id, table.c.user_id == user_id)
        )
    ).first()
    if row is None:
        return None
    view: dict[str, object] = {
        "id": row.id,
        "status": "refused" if row.order_id is None else "placed",
        "order_id": row.order_id,
        "accepted_at": rfc3339(row.accepted_at),
        "finished_at": rfc3339(row.finished_at),
    }
    if row.order_id is None:
        view |= {"code": row.code, "detail": row.detail}
    return view


async def was_queued(conn: AsyncConnection, checkout_id: str, user_id: str) -> bool:
    """Whether the customer's queued checkout of that id has ended."""
    return await outcome_view(conn, checkout_id, user_id) is not None
