"""Payments in the life of an order: ask a gateway outside any transaction, then settle inside one.

``ask`` talks to the gateway and changes nothing here.  ``settle`` writes down what was said and
moves the order.  A crash between the two leaves an operation whose turn comes again; asking again
under the same key moves no money twice.

An authorisation that its gateway certainly did not see goes on to the next gateway of its route, as
an operation of its own; one that may have been seen never does.  While no gateway can be reached
the order stays ``placed`` and the settlement worker goes round the route, for as long as
``authorise_patience_s``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import crash_points
from kit.db import Database
from kit.money import Money
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
    AuthoriseRequest,
    CaptureRequest,
    Gateway,
    GatewayLog,
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.operations import OPEN_STATUSES, Operation, OperationStatus
from payments.routing import Breakers, answered_well
from payments.settings import BreakerSettings, PaymentSettings
from stores import reservations

log = structlog.get_logger(__name__)

CASH = paying.CASH
COD = "cod"
# Another gateway is not asked in less time than an answer takes.
LEAST_PATIENCE_S: Final = 1.0
ORDER_OVER: Final = "order_over"

# What shows that nothing left this process, or was turned away at the door.
_NOT_SEEN = frozenset({OutcomeCode.UNAVAILABLE, OutcomeCode.CIRCUIT_OPEN, OutcomeCode.RATE_LIMITED})

Finished = TypeVar("Finished")


@dataclass(frozen=True, slots=True)
class Gateways:
    """The gateways by name, and how patiently they are asked."""

    by_name: Mapping[str, Gateway]
    settings: PaymentSettings
    breakers: Breakers = field(default_factory=lambda: Breakers(BreakerSettings()))

    def for_method(self, method: str) -> Sequence[str]:
        """The gateways that take a payment method, in the order in which they are asked.

        A city's own order of preference goes before this (``payment_route``).
        """
        return (CASH,) if method == COD else self.settings.gateways[method]

    def logs(self) -> dict[str, GatewayLog]:
        """The gateways that list what took effect there."""
        return {
            name: gateway
            for name, gateway in self.by_name.items()
            if isinstance(gateway, GatewayLog)
        }

    async def close(self) -> None:
        for gateway in self.by_name.values():
            await gateway.close()


async def authorise_order(
    database: Database,
    gateways: Gateways,
    operation: Operation,
    finish: Callable[[AsyncConnection], Awaitable[Finished]],
    finish_at_once: Callable[[Operation, GatewayOutcome], Awaitable[Finished | None]],
) -> Finished:
    """Ask for an order's money: one gateway after the other, until one has seen the request.

    Each attempt is persisted before it is asked.  ``finish`` runs in the transaction that writes
    the last answer down; ``finish_at_once`` gets a plain yes before that, and may answer None to
    have it settled like everything else.  Takes at most ``checkout_deadline_s``; what is open then
    is left to the settlement worker.
    """
    until = time.monotonic() + gateways.settings.checkout_deadline_s
    while True:
        left_s = until - time.monotonic()
        outcome = await ask(gateways, operation, min(gateways.settings.deadline_s, left_s))
        if outcome.status is OutcomeStatus.SUCCEEDED:
            finished = await finish_at_once(operation, outcome)
            if finished is not None:
                return finished
        async with database.begin() as conn:
            await settle(conn, gateways.settings, operation.id, outcome)
            following = await _following(conn, operation, outcome)
            if following is not None and until - time.monotonic() < LEAST_PATIENCE_S:
                await operations.leave_to_worker(conn, following.id)
                following = None
            if following is None:
                return await finish(conn)
        operation = following


async def _following(
    conn: AsyncConnection, operation: Operation, outcome: GatewayOutcome
) -> Operation | None:
    """The next gateway's operation, if the request has not gone round the route yet."""
    if outcome.code not in _NOT_SEEN or operation.attempt >= len(operation.route or ()):
        return None
    live = await operations.live_authorise(conn, operation.order_id)
    return live if live is not None and live.attempt == operation.attempt + 1 else None


async def carry_out(database: Database, gateways: Gateways, operation: Operation) -> None:
    """What a worker does with an operation that it has claimed: ask, and write the answer down.

    An order that ended meanwhile is not paid for: its authorisation is looked up where it may
    have taken effect, and dropped where it has not.
    """
    outcome: GatewayOutcome | None = None
    if operation.kind is OperationKind.AUTHORISE and not await _is_placed(database, operation):
        if operation.status is OperationStatus.PENDING and not operation.in_doubt:
            outcome = GatewayOutcome(OutcomeStatus.FAILED, code=ORDER_OVER)
        else:
            operation = replace(operation, status=OperationStatus.UNKNOWN)
    if outcome is None:
        outcome = await ask(gateways, operation)
    async with database.begin() as conn:
        await settle(conn, gateways.settings, operation.id, outcome)
        following = await _following(conn, operation, outcome)
        if following is not None:
            await operations.leave_to_worker(conn, following.id)


async def _is_placed(database: Database, operation: Operation) -> bool:
    async with database.begin() as conn:
        status = await conn.scalar(select(orders.c.status).where(orders.c.id == operation.order_id))
    return bool(status == OrderState.PLACED)


async def ask(
    gateways: Gateways, operation: Operation, deadline_s: float | None = None
) -> GatewayOutcome:
    """Carry out an operation at its gateway, or learn what became of it.

    An ``unknown`` operation is looked up first; only when the gateway has never seen its key is
    it sent again, under the same key.  A gateway whose circuit is open is not asked at all.
    """
    with gateways.breakers.of(operation.gateway).call() as report:
        if report is None:
            unknown = operation.status is OperationStatus.UNKNOWN
            status = OutcomeStatus.UNKNOWN if unknown else OutcomeStatus.FAILED
            return GatewayOutcome(status, operation.reference, OutcomeCode.CIRCUIT_OPEN)
        outcome = await _ask(gateways, operation, deadline_s or gateways.settings.deadline_s)
        report(answered_well(outcome))
        return outcome


async def _ask(gateways: Gateways, operation: Operation, deadline_s: float) -> GatewayOutcome:
    gateway = gateways.by_name[operation.gateway]
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
    outcome = await _send(gateway, operation, deadline_s)
    crash_points.reached(f"after_{operation.kind.value}")
    return outcome


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
    if operation.kind is OperationKind.AUTHORISE and outcome.code in _NOT_SEEN:
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
        if operation.gateway == CASH
        else postings.capture(operation.amount_minor, operation.gateway)
    )
    await post(conn, f"capture:{order.id}", "capture", order.currency, entries, order.id)
    if operation.gateway == CASH:
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
