"""Taking and giving back an order's money, from its wallet part and through its gateway.

Every function runs in the caller's transaction, with the order's row locked.  What concerns the
wallet is posted at once; what concerns a gateway is asked for (``payments.operations``) and posted
when the gateway has done it (``orders.payment_flow``).  An order that the wallet pays alone has
the gateway ``wallet``, of which nothing is ever asked after checkout.
"""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import wallet
from orders import refund_split
from orders.model import PaymentState
from orders.refund_split import RefundTo, Split
from orders.rows import OrderRow, lock_order
from orders.tables import orders
from orders.transitions import SYSTEM, move
from payments import disputes, operations
from payments.gateway import OperationKind
from payments.gateway_cash import CashGateway
from payments.gateway_wallet import WALLET
from payments.operations import OperationStatus

CASH = CashGateway.name

_REFUNDABLE = frozenset({PaymentState.CAPTURED, PaymentState.PARTIALLY_REFUNDED})
_REFUSED = (OperationStatus.FAILED.value, OperationStatus.DECLINED.value)


def paid_by(order: OrderRow) -> Split:
    """The shares of the order's total."""
    return refund_split.paid_by(order.total_minor, order.wallet_minor)


def cash_due_minor(order: OrderRow) -> int:
    """What the rider takes at the door; 0 unless the order is paid in cash."""
    if order.gateway != CASH:
        return 0
    owed: int = order.total_minor - order.refunded_minor
    return refund_split.kept(owed, paid_by(order)).gateway_minor


async def collect_delivered(conn: AsyncConnection, order: OrderRow) -> None:
    """The goods are with the customer: spend the wallet's part, ask the gateway for the rest.

    What was missing is not taken from the wallet or at the door; a card is captured whole, and
    gets its share back when that has succeeded (``refund_outstanding_minor``).
    """
    paid = paid_by(order)
    taken = refund_split.kept(order.total_minor - order.refunded_minor, paid)
    await wallet.spend(conn, order.id, order.user_id, order.currency, taken.wallet_minor)
    unspent = paid.wallet_minor - taken.wallet_minor
    if unspent:
        await _count_wallet_refund(conn, order.id, unspent)
    asked = taken.gateway_minor if order.gateway == CASH else paid.gateway_minor
    if asked:
        await operations.request(conn, order.id, OperationKind.CAPTURE, asked)
    else:
        await move(conn, order.id, PaymentState.CAPTURED, SYSTEM, "paid_from_wallet")


async def collect_fee(conn: AsyncConnection, order: OrderRow, fee_minor: int) -> None:
    """An authorised order has ended and costs a fee, at most its total; the rest is free again."""
    taken = refund_split.kept(fee_minor, paid_by(order))
    await wallet.spend(conn, order.id, order.user_id, order.currency, taken.wallet_minor)
    if taken.gateway_minor:
        await operations.request(conn, order.id, OperationKind.CAPTURE, taken.gateway_minor)
    elif order.gateway == WALLET:
        await move(conn, order.id, PaymentState.CAPTURED, SYSTEM, "paid_from_wallet")
    else:
        await _void(conn, order)


async def let_go(conn: AsyncConnection, order: OrderRow) -> None:
    """The order has ended and costs nothing: free the wallet's hold and the authorisation.

    While the gateway has not answered there is nothing to void yet: ``payment_flow`` does that.
    """
    await wallet.release(conn, order.id)
    if order.payment_status != PaymentState.AUTHORISED:
        return
    if order.gateway == WALLET:
        await move(conn, order.id, PaymentState.VOIDED, SYSTEM)
    else:
        await _void(conn, order)


async def _void(conn: AsyncConnection, order: OrderRow) -> None:
    await operations.request(
        conn, order.id, OperationKind.VOID, paid_by(order).gateway_minor or order.total_minor
    )


async def give_back(
    conn: AsyncConnection,
    order_id: str,
    amount_minor: int,
    *,
    key: str,
    to: RefundTo = RefundTo.ORIGINAL,
) -> Split:
    """Give back part of a delivered order's price, once per ``key``; returns who gets what.

    The caller has counted the amount into ``refunded_minor`` and posted why the customer owes
    less.  What the gateway has not captured yet is asked back when it has.  Raises
    PaymentDisputed: the bank decides then.
    """
    order = await lock_order(conn, order_id)
    await disputes.refuse_if_disputed(conn, order_id)
    left = 0
    if order.gateway not in (CASH, WALLET):
        left = paid_by(order).gateway_minor - await _asked_back(conn, order_id)
        if order.payment_status == PaymentState.AUTHORISED:
            # The capture is on its way; what was missing then is asked back behind it.
            left -= await refund_outstanding_minor(conn, order) - amount_minor
    split = refund_split.back(amount_minor, max(0, left), to)
    if split.wallet_minor:
        await wallet.refund(
            conn, key, order_id, order.user_id, order.currency, split.wallet_minor
        )  # fmt: skip
        await _count_wallet_refund(conn, order_id, split.wallet_minor)
    if order.payment_status in _REFUNDABLE:
        if split.gateway_minor:
            await operations.request(conn, order_id, OperationKind.REFUND, split.gateway_minor)
        else:
            await move_refunded(conn, order)
    return split


async def refund_outstanding_minor(conn: AsyncConnection, order: OrderRow) -> int:
    """What the gateway still has to be asked to send back of a delivered order."""
    if order.gateway in (CASH, WALLET):
        return 0
    asked = await _asked_back(conn, order.id)
    return max(0, int(order.refunded_minor) - int(order.wallet_refunded_minor) - asked)


async def move_refunded(conn: AsyncConnection, order: OrderRow) -> None:
    """The payment's state after money has gone back."""
    whole = order.refunded_minor == order.total_minor
    to = PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED
    if order.payment_status != to:
        await move(conn, order.id, to, SYSTEM)


async def _asked_back(conn: AsyncConnection, order_id: str) -> int:
    table = operations.table
    asked = await conn.scalar(
        select(func.coalesce(func.sum(table.c.amount_minor), 0)).where(
            table.c.order_id == order_id,
            table.c.kind == OperationKind.REFUND.value,
            table.c.status.not_in(_REFUSED),
        )
    )
    return int(asked or 0)


async def _count_wallet_refund(conn: AsyncConnection, order_id: str, amount_minor: int) -> None:
    await conn.execute(
        update(orders)
        .where(orders.c.id == order_id)
        .values(wallet_refunded_minor=orders.c.wallet_refunded_minor + amount_minor)
    )
