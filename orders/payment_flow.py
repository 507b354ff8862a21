"""Payments in the life of an order: ask a gateway outside any transaction, then settle inside one.

``ask`` talks to the gateway and changes nothing here.  ``settle`` writes down what was said and
moves the order.  A crash between the two leaves an operation whose turn comes again; asking again
under the same key moves no money twice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.money import Money
from ledger.postings import post
from orders import postings
from orders.model import DeliveryState, OrderState, PaymentState
from orders.rows import OrderRow, lock_order
from orders.transitions import SYSTEM, move
from payments import operations
from payments.gateway import (
    AuthoriseRequest,
    CaptureRequest,
    Gateway,
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.operations import OPEN_STATUSES, Operation, OperationStatus
from payments.settings import PaymentSettings
from stores import reservations

log = structlog.get_logger(__name__)

CASH = "cash"


@dataclass(frozen=True, slots=True)
class Gateways:
    """The gateways by name, and how patiently they are asked."""

    by_name: Mapping[str, Gateway]
    settings: PaymentSettings

    def for_method(self, method: str) -> str:
        """The name of the gateway that takes a payment method."""
        return CASH if method == "cod" else "sandbox"

    async def close(self) -> None:
        for gateway in self.by_name.values():
            await gateway.close()


async def ask(gateways: Gateways, operation: Operation) -> GatewayOutcome:
    """Carry out an operation at its gateway, or learn what became of it.

    An ``unknown`` operation is looked up first; only when the gateway has never seen its key is
    it sent again, under the same key.
    """
    gateway = gateways.by_name[operation.gateway]
    deadline_s = gateways.settings.deadline_s
    if operation.status is OperationStatus.UNKNOWN:
        outcome = await gateway.lookup(
            operation.id,
            kind=operation.kind,
            reference=operation.reference,
            deadline_s=deadline_s,
        )
        never_seen = outcome.retryable and outcome.code == OutcomeCode.NOT_FOUND
        # An authorisation whose request got lost is not sent again behind the customer's back:
        # the checkout that asked for it is long over.
        if not never_seen or operation.kind is OperationKind.AUTHORISE:
            return outcome
    return await _send(gateway, operation, deadline_s)


async def _send(gateway: Gateway, operation: Operation, deadline_s: float) -> GatewayOutcome:
    amount = Money(operation.amount_minor, operation.currency)
    match operation.kind:
        case OperationKind.AUTHORISE:
            return await gateway.authorise(
                AuthoriseRequest(
                    operation.id, operation.order_id, amount, operation.method, operation.token
                ),
                deadline_s=deadline_s,
            )
        case OperationKind.CAPTURE:
            reference = _reference(operation)
            # Cash is captured only after the rider has recorded it, so the amount is collected.
            collected = amount if operation.gateway == CASH else None
            return await gateway.capture(
                CaptureRequest(operation.id, reference, amount, collected), deadline_s=deadline_s
            )
        case OperationKind.VOID:
            return await gateway.void(
                VoidRequest(operation.id, _reference(operation)), deadline_s=deadline_s
            )
        case OperationKind.REFUND:
            return await gateway.refund(
                RefundRequest(operation.id, _reference(operation), amount), deadline_s=deadline_s
            )


def _reference(operation: Operation) -> str:
    assert operation.reference, f"{operation.kind} {operation.id} follows an authorisation"
    return operation.reference


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
    await operations.record(
        conn, operation_id, status, outcome.reference, outcome.code,
        _again_in_s(settings, operation.attempts),
    )  # fmt: skip
    match operation.kind:
        case OperationKind.AUTHORISE:
            spent = operation.attempts >= settings.give_up_after_attempts
            await _authorised(conn, order, status, outcome.code, given_up=spent)
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
    ceiling = min(settings.backoff_cap_s, settings.first_lookup_s * 2 ** min(attempts, 10))
    return random.uniform(ceiling / 2, ceiling)


async def _authorised(
    conn: AsyncConnection,
    order: OrderRow,
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
            await operations.request(conn, order.id, OperationKind.VOID, order.total_minor)
        return
    await move(conn, order.id, PaymentState.DECLINED, SYSTEM, code)
    if placed:
        await _fail_order(conn, order.id, code)


async def _fail_order(conn: AsyncConnection, order_id: str, reason: str | None) -> None:
    """Nobody pays for it: the order ends and its stock is free again."""
    await move(conn, order_id, OrderState.PAYMENT_FAILED, SYSTEM, reason)
    await move(conn, order_id, DeliveryState.CANCELLED, SYSTEM, "payment_failed")
    await reservations.release(conn, order_id, SYSTEM)


async def _captured(
    conn: AsyncConnection, order: OrderRow, operation: Operation, status: OperationStatus
) -> None:
    if status is not OperationStatus.SUCCEEDED:
        return
    await move(conn, order.id, PaymentState.CAPTURED, SYSTEM)
    entries = (
        postings.cash_collected(operation.amount_minor, order.rider_id)
        if operation.gateway == CASH
        else postings.capture(operation.amount_minor, operation.gateway)
    )
    await post(conn, f"capture:{order.id}", "capture", order.currency, entries, order.id)
    if operation.gateway != CASH and order.status == OrderState.DELIVERED:
        await operations.request(conn, order.id, OperationKind.REFUND, order.refunded_minor)


async def _refunded(
    conn: AsyncConnection, order: OrderRow, operation: Operation, status: OperationStatus
) -> None:
    if status is not OperationStatus.SUCCEEDED:
        return
    whole = order.refunded_minor == order.total_minor
    to = PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED
    if order.payment_status != to:
        await move(conn, order.id, to, SYSTEM)
    await post(
        conn, f"refund:{operation.id}", "refund", order.currency,
        postings.refund(operation.amount_minor, operation.gateway), order.id,
    )  # fmt: skip
