"""The one door through which an order's price changes once it is confirmed.

Totals are a snapshot.  Every later change is a row that is added and never changed: positive when
the customer pays less (a short pick, an approved claim), negative when a substitute is charged.
``orders.refunded_minor`` is the sum of the rows, and can neither fall below nought nor exceed the
total.

Before the delivery nothing is sold and nothing is captured: the rows wait, and go into the ledger
with the sale (``book_with_sale``).  After it each row is posted at once, and the money goes back
the way that ``orders.paying`` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.errors import IllegalTransition
from kit.ids import new_id
from ledger.postings import post
from orders import paying, postings
from orders.errors import RefundTooLarge
from orders.lines import count_line
from orders.model import OrderState
from orders.refund_split import RefundTo
from orders.rows import OrderRow, lock_order
from orders.tables import order_adjustments, orders
from riders import stops, trips


class AdjustmentKind(StrEnum):
    SHORT_PICK = "short_pick"
    SUBSTITUTION = "substitution"
    CLAIM = "claim"
    GOODWILL = "goodwill"
    # What an undeliverable order costs; the goods are not sold, so it changes no refund.
    FEE = "fee"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Minor units; ``quantity`` units of a line, or 0 where it is about no goods."""

    kind: AdjustmentKind
    items_minor: int
    tax_minor: int = 0
    tax_rate_bp: int = 0
    line_id: str | None = None
    quantity: int = 0

    @property
    def amount_minor(self) -> int:
        return self.items_minor + self.tax_minor


_BEFORE_DELIVERY = frozenset({OrderState.CONFIRMED, OrderState.PICKING, OrderState.PACKED})


async def adjust(
    conn: AsyncConnection,
    order_id: str,
    adjustments: Sequence[Adjustment],
    *,
    actor: str,
    reason: str,
    source_id: str,
    to: RefundTo = RefundTo.ORIGINAL,
) -> int:
    """Change an order's price; returns by how much the customer pays less, in minor units.

    ``source_id`` is what it follows from (a pick, a substitution, a claim), and the key under
    which money goes back once.  The order's row is locked first.
    Raises RefundTooLarge, IllegalTransition.
    """
    order = await lock_order(conn, order_id)
    delivered = order.status == OrderState.DELIVERED
    if not delivered and order.status not in _BEFORE_DELIVERY:
        raise IllegalTransition(f"The order is {order.status}: its price is what it is.")
    amount_minor = sum(adjustment.amount_minor for adjustment in adjustments)
    left_minor = order.total_minor - order.refunded_minor
    if amount_minor > left_minor:
        raise RefundTooLarge(
            "More than the customer has paid cannot go back.", extra={"left_minor": left_minor}
        )
    ids = await _insert(conn, order, adjustments, actor, reason, source_id, delivered=delivered)
    await conn.execute(
        update(orders)
        .where(orders.c.id == order_id)
        .values(
            refunded_minor=orders.c.refunded_minor + amount_minor,
            version=orders.c.version + 1,
        )
    )
    for adjustment in adjustments:
        if adjustment.line_id is not None and adjustment.amount_minor:
            back_minor = adjustment.amount_minor
            await count_line(conn, order_id, adjustment.line_id, refunded_minor=back_minor)
    if not delivered:
        await _tell_rider(conn, order_id)
        return amount_minor
    for adjustment_id, adjustment in zip(ids, adjustments, strict=True):
        await post(
            conn, f"adjustment:{adjustment_id}", "adjustment", order.currency,
            postings.adjustment(
                order.store_id, adjustment.items_minor,
                {adjustment.tax_rate_bp: adjustment.tax_minor},
            ),
            order_id,
        )  # fmt: skip
    if amount_minor:
        await paying.give_back(conn, order_id, amount_minor, key=source_id, to=to)
    return amount_minor


async def _insert(
    conn: AsyncConnection,
    order: OrderRow,
    adjustments: Sequence[Adjustment],
    actor: str,
    reason: str,
    source_id: str,
    *,
    delivered: bool,
) -> list[str]:
    now = await database_now(conn)
    ids = [new_id("adj") for _ in adjustments]
    rows = [
        {
            "id": adjustment_id, "order_id": order.id, "line_id": adjustment.line_id,
            "kind": adjustment.kind.value, "items_minor": adjustment.items_minor,
            "tax_minor": adjustment.tax_minor, "tax_rate_bp": adjustment.tax_rate_bp,
            "quantity": adjustment.quantity, "at": now, "reason": reason, "actor": actor,
            "source_id": source_id, "after_delivery": delivered,
        }
        for adjustment_id, adjustment in zip(ids, adjustments, strict=True)
    ]  # fmt: skip
    await conn.execute(insert(order_adjustments), rows)
    return ids


async def charge_fee(
    conn: AsyncConnection, order: OrderRow, fee_minor: int, actor: str, reason: str
) -> None:
    """An order that ended without a delivery costs a fee: the row, the posting, and the money.

    The caller holds the order's row and has seen that its payment is authorised.
    """
    fee_minor = min(fee_minor, order.total_minor)
    fee = Adjustment(AdjustmentKind.FEE, -fee_minor)
    await _insert(conn, order, [fee], actor, reason, order.id, delivered=False)
    await paying.collect_fee(conn, order, fee_minor)
    await post(
        conn, f"cancellation:{order.id}", "cancellation_fee", order.currency,
        postings.cancellation_fee(fee_minor), order.id,
    )  # fmt: skip


async def book_with_sale(conn: AsyncConnection, order: OrderRow) -> None:
    """Post what has changed since the confirmation, as the sale itself is posted."""
    rows = (
        await conn.execute(
            select(order_adjustments).where(order_adjustments.c.order_id == order.id)
        )
    ).all()
    back: dict[int, int] = {}
    for row in rows:
        back[row.tax_rate_bp] = back.get(row.tax_rate_bp, 0) + row.tax_minor
    items = sum(row.items_minor for row in rows)
    assert items + sum(back.values()) == order.refunded_minor
    await post(
        conn, f"short:{order.id}", "short_delivery", order.currency,
        postings.short_delivery(order.store_id, items, back), order.id,
    )  # fmt: skip


async def _tell_rider(conn: AsyncConnection, order_id: str) -> None:
    """What a cash customer owes at the door has changed."""
    order = await lock_order(conn, order_id)
    if order.gateway != paying.CASH:
        return
    trip_id = await stops.set_cash_due(conn, order_id, paying.cash_due_minor(order))
    if trip_id is not None:
        await trips.announce(conn, trip_id)
