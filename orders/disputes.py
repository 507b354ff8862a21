"""Chargebacks: what a dispute does to an order's payment and to the ledger.

Opened, the gateway takes the amount out of what it owes us; won, it gives it back; lost, it is
gone together with a fee.  Refunds wait while a dispute is open (``payments/sql/claim_due.sql``),
and what the bank has given back is not given back again.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.chart import Account
from ledger.postings import Posting, credit, debit, post
from orders.model import PaymentState
from orders.rows import OrderRow, lock_order
from orders.transitions import SYSTEM, move
from payments import disputes, operations
from payments.disputes import Dispute, DisputeState
from payments.gateway import OperationKind
from payments.operations import Operation, OperationStatus
from payments.webhook_event import DisputeNotice, DisputeStatus

CHARGED_BACK = "charged_back"
_DISPUTABLE = frozenset({PaymentState.CAPTURED, PaymentState.PARTIALLY_REFUNDED})


async def take(
    conn: AsyncConnection, capture: Operation, notice: DisputeNotice, fee_minor: int
) -> tuple[Dispute, bool]:
    """What the gateway says of a dispute, in any order and any number of times.

    Returns the dispute and whether this is the first that we hear of it.  ``fee_minor`` is charged
    if it is lost.
    """
    order = await lock_order(conn, capture.order_id)
    found = await disputes.find(conn, capture.gateway, notice.dispute_id)
    new = found is None
    if found is None:
        found = await _open(conn, order, capture, notice)
    elif notice.respond_by is not None and notice.respond_by != found.due_by:
        await disputes.set_due(conn, found.id, notice.respond_by)
    if found.status is DisputeState.OPENED:
        match notice.status:
            case DisputeStatus.WON | DisputeStatus.CLOSED:
                await _win(conn, found)
            case DisputeStatus.LOST:
                await _lose(conn, found, fee_minor)
            case DisputeStatus.OPEN | DisputeStatus.UNDER_REVIEW:
                pass
    return found, new


async def _open(
    conn: AsyncConnection, order: OrderRow, capture: Operation, notice: DisputeNotice
) -> Dispute:
    assert capture.reference is not None, "a capture has a reference"
    opened = await disputes.open_dispute(
        conn, capture.gateway, notice.dispute_id, capture.reference, order.id, notice.amount,
        notice.reason, notice.respond_by,
    )  # fmt: skip
    amount, gateway = opened.amount_minor, opened.gateway
    entries = [
        debit(Account.CHARGEBACKS_RECEIVABLE, amount, gateway),
        credit(Account.GATEWAY_CLEARING, amount, gateway),
    ]
    await _post(conn, opened, "dispute_opened", entries)
    if order.payment_status in _DISPUTABLE:
        await move(conn, order.id, PaymentState.DISPUTED, SYSTEM, notice.reason)
    return opened


async def _win(conn: AsyncConnection, dispute: Dispute) -> None:
    amount, gateway = dispute.amount_minor, dispute.gateway
    entries = [
        debit(Account.GATEWAY_CLEARING, amount, gateway),
        credit(Account.CHARGEBACKS_RECEIVABLE, amount, gateway),
    ]
    await disputes.close_dispute(conn, dispute.id, DisputeState.WON, 0)
    await _post(conn, dispute, "dispute_won", entries)
    await _leave_disputed(conn, dispute.order_id, "dispute_won")


async def _lose(conn: AsyncConnection, dispute: Dispute, fee_minor: int) -> None:
    """The customer has the money.  Refunds that waited are paid by it; the rest is our loss."""
    paid = await _drop_waiting_refunds(conn, dispute)
    amount, gateway = dispute.amount_minor, dispute.gateway
    entries = [
        debit(Account.CUSTOMER_RECEIVABLE, paid),
        debit(Account.CHARGEBACKS, amount - paid, gateway),
        credit(Account.CHARGEBACKS_RECEIVABLE, amount, gateway),
        debit(Account.CHARGEBACK_FEES, fee_minor, gateway),
        credit(Account.GATEWAY_CLEARING, fee_minor, gateway),
    ]
    await disputes.close_dispute(conn, dispute.id, DisputeState.LOST, fee_minor)
    await _post(conn, dispute, "dispute_lost", entries)
    await _leave_disputed(conn, dispute.order_id, "dispute_lost")


async def _drop_waiting_refunds(conn: AsyncConnection, dispute: Dispute) -> int:
    """Refunds that nobody has sent yet, as far as the disputed amount pays them; their sum."""
    paid = 0
    for operation in await operations.of_order(conn, dispute.order_id):
        waiting = operation.kind is OperationKind.REFUND and (
            operation.status is OperationStatus.PENDING and operation.answers == operation.attempts
        )
        if waiting and paid + operation.amount_minor <= dispute.amount_minor:
            await operations.record(
                conn, operation.id, OperationStatus.FAILED, None, CHARGED_BACK, 0.0
            )
            paid += operation.amount_minor
    return paid


async def _leave_disputed(conn: AsyncConnection, order_id: str, reason: str) -> None:
    """Where the payment stands once no dispute is open: as much has gone back as has gone back."""
    order = await lock_order(conn, order_id)
    known = await disputes.of_order(conn, order_id)
    if order.payment_status != PaymentState.DISPUTED or any(
        one.status is DisputeState.OPENED for one in known
    ):
        return
    lost = sum(one.amount_minor for one in known if one.status is DisputeState.LOST)
    captured, refunded = await _moved(conn, order_id)
    if refunded + lost >= captured:
        to = PaymentState.REFUNDED
    elif refunded + lost + order.wallet_refunded_minor > 0:
        to = PaymentState.PARTIALLY_REFUNDED
    else:
        to = PaymentState.CAPTURED
    await move(conn, order_id, to, SYSTEM, reason)


async def _moved(conn: AsyncConnection, order_id: str) -> tuple[int, int]:
    """(captured, refunded) at the gateway, in minor units."""
    table = operations.table
    rows = await conn.execute(
        select(table.c.kind, func.sum(table.c.amount_minor))
        .where(
            table.c.order_id == order_id,
            table.c.status == OperationStatus.SUCCEEDED.value,
            table.c.kind.in_((OperationKind.CAPTURE.value, OperationKind.REFUND.value)),
        )
        .group_by(table.c.kind)
    )
    sums = {kind: int(amount) for kind, amount in rows}
    return sums.get(OperationKind.CAPTURE, 0), sums.get(OperationKind.REFUND, 0)


async def _post(conn: AsyncConnection, dispute: Dispute, kind: str, entries: list[Posting]) -> None:
    await post(conn, f"{kind}:{dispute.id}", kind, dispute.currency, entries, dispute.order_id)
