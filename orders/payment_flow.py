"""Payments in the life of an order: ask a gateway outside any transaction, then settle inside one.

``ask`` talks to the gateway and changes nothing here; ``payment_outcomes.settle`` writes down what
was said and moves the order.  A crash between the two leaves an operation whose turn comes again;
asking again under the same key moves no money twice.

An authorisation that its gateway certainly did not see goes on to the next gateway of its route, as
an operation of its own; one that may have been seen never does.  While no gateway can be reached
the order stays ``placed`` and the settlement worker goes round the route, for as long as
``authorise_patience_s``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import crash_points
from kit.db import Database
from kit.money import Money
from orders import paying
from orders.model import OrderState
from orders.payment_outcomes import NOT_SEEN, settle
from orders.tables import orders
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
from payments.operations import Operation, OperationStatus
from payments.routing import Breakers, answered_well
from payments.settings import BreakerSettings, PaymentSettings

CASH = paying.CASH
COD = "cod"
# Another gateway is not asked in less time than an answer takes.
LEAST_PATIENCE_S: Final = 1.0
ORDER_OVER: Final = "order_over"

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
    if outcome.code not in NOT_SEEN or operation.attempt >= len(operation.route or ()):
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
