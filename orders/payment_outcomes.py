"""A gateway's answer written down, and what it does to the order.

An authorisation that its gateway certainly did not see is asked for elsewhere or again, while the
order stays ``placed``; every other answer moves the order's payment, and with it the order.
"""

from __future__ import annotations

import random

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import wallet
from ledger.postings import post
from orders import paying, postings
from orders.model import DeliveryState, OrderState, PaymentState
from orders.rider_pay import tell_cash
from orders.rows import OrderRow, lock_order
from orders.tables import orders
from orders.transitions import SYSTEM, move
from payments import operations
from payments.gateway import (
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
)
from payments.operations import OPEN_STATUSES, Operation, OperationStatus
from payments.settings import PaymentSettings
from stores import reservations

log = structlog.get_logger(__name__)

# What shows that nothing left this process, or was turned away at the door.
NOT_SEEN = frozenset({OutcomeCode.UNAVAILABLE, OutcomeCode.CIRCUIT_OPEN, OutcomeCode.RATE_LIMITED})


async def settle(
    conn: AsyncConnection, settings: PaymentSettings, operation_id: str, outcome: GatewayOutcome
) -> OperationStatus:
    """Write down an outcome and move the order.  A final operation is left as it is.

    The order's row is locked first, as everywhere.
    """
    order_id = await conn.scalar(
        select(operations.table.c.order_id).where(operations.table.c.id == operation_id)
    )
    order = await lock_order(conn, str(order_id))
    operation = await operations.lock(conn, operation_id)
    if operation.status not in OPEN_STATUSES:
        return operation.status
    status = _status_after(settings, operation, outcome)
    if operation.kind is OperationKind.AUTHORISE and outcome.code in NOT_SEEN:
        if order.status == OrderState.PLACED and status is OperationStatus.FAILED:
            waits = await _not_seen(conn, settings, operation, outcome)
            if waits is not None:
                return waits
        # An earlier request with this key may have been seen, and is not forgotten.
        status = OperationStatus.UNKNOWN if operation.in_doubt else status
    await operations.record(
        conn, operation_id, status, outcome.reference, outcome.code,
        _again_in_s(settings, operation.attempts),
    )  # fmt: skip
    match operation.kind:
        case OperationKind.AUTHORISE:
            spent = operation.attempts >= settings.give_up_after_attempts
            await _authorised(
                conn, order, operation.amount_minor, status, outcome.code, given_up=spent
            )
        case OperationKind.CAPTURE:
            await _captured(conn, order, operation, status)
        case OperationKind.VOID:
            if status is OperationStatus.SUCCEEDED:
                await move(conn, order.id, PaymentState.VOIDED, SYSTEM, outcome.code)
        case OperationKind.REFUND:
            await _refunded(conn, order, operation, status)
    if status in (OperationStatus.FAILED, OperationStatus.DECLINED):
        log.warning(
            "payment_operation_refused",
            order_id=order.id, kind=operation.kind.value, code=outcome.code,
        )  # fmt: skip
    return status


def _status_after(
    settings: PaymentSettings, operation: Operation, outcome: GatewayOutcome
) -> OperationStatus:
    spent = operation.attempts >= settings.give_up_after_attempts
    if outcome.status is OutcomeStatus.SUCCEEDED:
        return OperationStatus.SUCCEEDED
    if outcome.status is OutcomeStatus.DECLINED:
        return OperationStatus.DECLINED
    if operation.kind is OperationKind.AUTHORISE:
        if outcome.status is OutcomeStatus.UNKNOWN:
            return OperationStatus.UNKNOWN
        return OperationStatus.FAILED
    # Money that is owed to us or to the customer is asked for until somebody gives a final word.
    if outcome.status is OutcomeStatus.UNKNOWN:
        return OperationStatus.UNKNOWN
    return OperationStatus.PENDING if outcome.retryable and not spent else OperationStatus.FAILED


def _again_in_s(settings: PaymentSettings, attempts: int) -> float:
    doublings = min(max(attempts - 1, 0), 10)
    ceiling = min(settings.backoff_cap_s, settings.first_lookup_s * 2**doublings)
    return random.uniform(ceiling / 2, ceiling)


async def _not_seen(
    conn: AsyncConnection, settings: PaymentSettings, operation: Operation, outcome: GatewayOutcome
) -> OperationStatus | None:
    """An authorisation that its gateway did not see: try elsewhere, or here again.

    None when nobody waits any longer.  The order stays placed, and its stock held.
    """
    if await operations.waited_s(conn, operation.order_id) >= settings.authorise_patience_s:
        return None
    gateways = len(operation.route or ())
    if operation.attempt < gateways and not operation.in_doubt:
        # The first round: the checkout asks the next gateway at once.
        status, due_in_s = OperationStatus.FAILED, settings.claim_lease_s
    else:
        rounds = min(max(operation.attempt, operation.attempts) // max(gateways, 1), 10)
        ceiling = min(settings.authorise_retry_cap_s, settings.authorise_retry_s * 2**rounds)
        due_in_s = random.uniform(ceiling / 2, ceiling)
        elsewhere = gateways > 1 and not operation.in_doubt
        status = OperationStatus.FAILED if elsewhere else OperationStatus.PENDING
    await operations.record(conn, operation.id, status, None, outcome.code, due_in_s)
    if status is OperationStatus.FAILED:
        first_round = operation.attempt < gateways
        gateway = await operations.ask_next(conn, operation, due_in_s, at_once=first_round)
        await conn.execute(
            update(orders).where(orders.c.id == operation.order_id).values(gateway=gateway)
        )
    await reservations.hold_longer(conn, operation.order_id, due_in_s + 2 * settings.claim_lease_s)
    log.info(
        "authorisation_not_seen", order_id=operation.order_id, gateway=operation.gateway,
        code=outcome.code, elsewhere=status is OperationStatus.FAILED,
    )  # fmt: skip
    return status


async def _authorised(
    conn: AsyncConnection,
    order: OrderRow,
    authorised_minor: int,
    status: OperationStatus,
    code: str | None,
    *,
    given_up: bool,
) -> None:
    placed = order.status == OrderState.PLACED
    if status is OperationStatus.UNKNOWN:
        if order.payment_status == PaymentState.PENDING:
            await move(conn, order.id, PaymentState.UNKNOWN, SYSTEM, code)
        if given_up and placed:
            # The payment stays unknown and is asked about: a late success is voided.
            await _fail_order(conn, order.id, "payment_unresolved")
        return
    if status is OperationStatus.SUCCEEDED:
        await move(conn, order.id, PaymentState.AUTHORISED, SYSTEM)
        if placed:
            await reservations.make_firm(conn, order.id)
            await move(conn, order.id, OrderState.CONFIRMED, SYSTEM)
        else:
            # It was cancelled meanwhile: give the money free again.
            await operations.request(conn, order.id, OperationKind.VOID, authorised_minor)
        return
    await move(conn, order.id, PaymentState.DECLINED, SYSTEM, code)
    if placed:
        await _fail_order(conn, order.id, code)


async def _fail_order(conn: AsyncConnection, order_id: str, reason: str | None) -> None:
    """Nobody pays for it: the order ends and its stock is free again."""
    await move(conn, order_id, OrderState.PAYMENT_FAILED, SYSTEM, reason)
    await move(conn, order_id, DeliveryState.CANCELLED, SYSTEM, "payment_failed")
    await wallet.release(conn, order_id)
    await reservations.release(conn, order_id, SYSTEM)


async def _captured(
    conn: AsyncConnection, order: OrderRow, operation: Operation, status: OperationStatus
) -> None:
    if status is not OperationStatus.SUCCEEDED:
        return
    await move(conn, order.id, PaymentState.CAPTURED, SYSTEM)
    entries = (
        postings.cash_collected(operation.amount_minor, order.rider_id)
        if operation.gateway == paying.CASH
        else postings.capture(operation.amount_minor, operation.gateway)
    )
    await post(conn, f"capture:{order.id}", "capture", order.currency, entries, order.id)
    if operation.gateway == paying.CASH:
        await tell_cash(conn, order.rider_id)
    elif order.status == OrderState.DELIVERED:
        back = await paying.refund_outstanding_minor(conn, order)
        await operations.request(conn, order.id, OperationKind.REFUND, back)
        if order.refunded_minor and not back:
            await paying.move_refunded(conn, order)


async def _refunded(
    conn: AsyncConnection, order: OrderRow, operation: Operation, status: OperationStatus
) -> None:
    if status is not OperationStatus.SUCCEEDED:
        return
    # Disputed meanwhile: the state follows when the bank has decided.
    if order.payment_status != PaymentState.DISPUTED:
        await paying.move_refunded(conn, order)
    await post(
        conn, f"refund:{operation.id}", "refund", order.currency,
        postings.refund(operation.amount_minor, operation.gateway), order.id,
    )  # fmt: skip
