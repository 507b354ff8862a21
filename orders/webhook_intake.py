"""What an event of a gateway does here: it answers one of our operations, or nothing.

Kept first, by the gateway's own id of it, so that a repeat does nothing.  An event that does not
fit what we asked for is kept as rejected, tells people and moves no state.  Late news (a version
below one that was seen) can still answer an operation that is open: it took effect then, whatever
came after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.lane import Lane
from kit.sql import json_parameter
from orders import disputes
from orders.payment_outcomes import settle
from payments import operations
from payments.alerts import AlertKind, raise_alert
from payments.gateway import OperationKind, OutcomeCode, OutcomeStatus
from payments.operations import Operation, OperationStatus
from payments.settings import PaymentSettings
from payments.tables import payment_webhooks
from payments.webhook_event import UnwantedEvent, WebhookEvent, WebhookKind

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
# The parameters of the routine take_authorised, in their order.
_Told = Mapping[str, Any]

_TAKE_AUTHORISED: Final = (
    "SELECT take_authorised($1::text, $2::text, $3::text, $4::text::jsonb, $5::text, $6::bigint,"
    " $7::text, $8::text, $9::bigint, $10::text, $11::text)"
)
_TAKE_TOGETHER: Final = "SELECT n, intake FROM take_authorised_together($1::text::jsonb)"
_REFUSED: Final = frozenset({OperationStatus.FAILED, OperationStatus.DECLINED})


class Intake(StrEnum):
    TAKEN = "taken"
    STALE = "stale"
    REPEATED = "repeated"
    REJECTED = "rejected"
    IGNORED = "ignored"  # rightly signed, and about nothing that we act on


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an event; ``alert`` when people were told of it just now."""

    intake: Intake
    reason: AlertKind | None = None
    alert: AlertKind | None = None


async def take(
    conn: AsyncConnection,
    settings: PaymentSettings,
    gateway: str,
    event: WebhookEvent | UnwantedEvent,
) -> Taken:
    """Take one event whose signature was found good."""
    if isinstance(event, UnwantedEvent):
        return Taken(Intake.IGNORED)
    operation = await _operation(conn, gateway, event)
    reason = _reason_to_reject(gateway, event, operation)
    stale = reason is None and await _is_stale(conn, gateway, event)
    intake = Intake.REJECTED if reason else Intake.STALE if stale else Intake.TAKEN
    if not await _remember(conn, gateway, event, operation, intake, reason):
        return Taken(Intake.REPEATED)
    if reason is not None:
        return Taken(intake, reason, await _tell(conn, gateway, event, operation, reason))
    assert operation is not None, "an event of nothing is rejected"
    if event.dispute is not None:
        return Taken(intake, alert=await _dispute(conn, settings, gateway, event, operation))
    if event.outcome.status is not OutcomeStatus.UNKNOWN:
        await settle(conn, settings, operation.id, event.outcome)
    return Taken(intake)


async def take_authorised(
    pool: Pool, gateway: str, event: WebhookEvent | UnwantedEvent
) -> Taken | None:
    """Take the event that nearly every order has, in one statement: it is paid for, as asked.

    None when it is anything else, or does not fit: then nothing has happened, and ``take`` knows.
    """
    told = _authorised(gateway, event)
    return None if told is None else await _take_alone(pool, told)


class WebhookIntake:
    """The same for a process in which many come at once: those that wait are taken together.

    Use as a context.
    """

    def __init__(self, pool: Pool) -> None:
        self._lane: Lane[_Told, Taken | None] = Lane(
            "take_authorised",
            lambda one: _take_alone(pool, one),
            lambda many: _take_together(pool, many),
            # Whether an event is stale depends on what came before of the same payment.
            apart=lambda one: (one["gateway"], one["reference"]),
        )

    async def __aenter__(self) -> Self:
        await self._lane.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._lane.__aexit__(kind, error, trace)

    async def take_authorised(
        self, gateway: str, event: WebhookEvent | UnwantedEvent
    ) -> Taken | None:
        """``take_authorised`` of this module, alone or in company."""
        told = _authorised(gateway, event)
        return None if told is None else await self._lane.submit(told)


def _authorised(gateway: str, event: WebhookEvent | UnwantedEvent) -> _Told | None:
    """What the routine is told of an event that says that an order is paid for."""
    if isinstance(event, UnwantedEvent):
        return None
    plain = (
        event.kind is WebhookKind.PAYMENT
        and event.dispute is None
        and event.outcome.status is OutcomeStatus.SUCCEEDED
        and event.outcome.code != OutcomeCode.MISMATCH
    )
    if not (plain and event.operation_key and event.order_id):
        return None
    moved = event.outcome.amount or event.amount
    return {
        "gateway": gateway, "event_id": event.event_id, "type": event.type,
        "payload": _told(event), "reference": event.reference, "version": event.version,
        "operation_id": event.operation_key, "order_id": event.order_id,
        "amount_minor": moved.amount_minor, "currency": moved.currency,
        "code": event.outcome.code,
    }  # fmt: skip


async def _take_alone(pool: Pool, told: _Told) -> Taken | None:
    parameters = {**told, "payload": json_parameter(told["payload"])}
    intake = await pool.fetchval(_TAKE_AUTHORISED, *parameters.values())
    return None if intake is None else Taken(Intake(intake))


async def _take_together(pool: Pool, many: Sequence[_Told]) -> list[Taken | None]:
    rows = await pool.fetch(
        _TAKE_TOGETHER, json_parameter([{**one, "n": n} for n, one in enumerate(many)])
    )
    taken = {row["n"]: Taken(Intake(row["intake"])) for row in rows}
    return [taken.get(n) for n in range(len(many))]


async def _operation(conn: AsyncConnection, gateway: str, event: WebhookEvent) -> Operation | None:
    """The operation that an event is about; of a dispute, the capture."""
    if event.operation_key:
        return await operations.find_or_none(conn, event.operation_key)
    kind = OperationKind.CAPTURE if event.dispute is not None else event.operation_kind
    if kind is None or not event.reference:
        return None
    found = await operations.by_reference(conn, gateway, event.reference, kind)
    if kind is OperationKind.REFUND:
        found = [one for one in found if one.amount_minor == event.amount.amount_minor]
    # Two of the same amount cannot be told apart: a look-up will.
    return found[0] if len(found) == 1 else None


def _reason_to_reject(
    gateway: str, event: WebhookEvent, operation: Operation | None
) -> AlertKind | None:
    if operation is None:
        return AlertKind.UNKNOWN_OPERATION if event.dispute is None else AlertKind.UNKNOWN_PAYMENT
    if operation.gateway != gateway:
        return AlertKind.WRONG_GATEWAY
    if event.order_id and event.order_id != operation.order_id:
        return AlertKind.WRONG_ORDER
    if event.outcome.code == OutcomeCode.MISMATCH:
        return AlertKind.WRONG_AMOUNT
    if event.dispute is not None:
        disputed = event.dispute.amount
        if disputed.currency != operation.currency:
            return AlertKind.WRONG_CURRENCY
        too_much = not 0 < disputed.amount_minor <= operation.amount_minor
        return AlertKind.WRONG_AMOUNT if too_much else None
    if operation.kind is not OperationKind.VOID:
        moved = event.outcome.amount
        if moved is None and operation.kind is OperationKind.AUTHORISE:
            moved = event.amount
        if moved is not None and moved.currency != operation.currency:
            return AlertKind.WRONG_CURRENCY
        if moved is not None and moved.amount_minor != operation.amount_minor:
            return AlertKind.WRONG_AMOUNT
    if event.outcome.status is OutcomeStatus.SUCCEEDED and operation.status in _REFUSED:
        return AlertKind.CONTRADICTION
    return None


async def _is_stale(conn: AsyncConnection, gateway: str, event: WebhookEvent) -> bool:
    table = payment_webhooks
    seen = await conn.scalar(
        select(func.max(table.c.version)).where(
            table.c.gateway == gateway,
            table.c.reference == event.reference,
            table.c.outcome != Intake.REJECTED.value,
        )
    )
    return seen is not None and event.version < seen


async def _remember(
    conn: AsyncConnection,
    gateway: str,
    event: WebhookEvent,
    operation: Operation | None,
    intake: Intake,
    reason: AlertKind | None,
) -> bool:
    """Keep an event; False when it was received before."""
    kept = await conn.scalar(
        insert(payment_webhooks)
        .values(
            gateway=gateway, event_id=event.event_id, type=event.type, payload=_told(event),
            received_at=func.darkstore_now(), reference=event.reference, version=event.version,
            operation_id=operation.id if operation else None,
            order_id=operation.order_id if operation else None,
            outcome=intake.value, reason=reason.value if reason else None,
        )
        .on_conflict_do_nothing()
        .returning(payment_webhooks.c.event_id)
    )  # fmt: skip
    return kept is not None


def _told(event: WebhookEvent) -> dict[str, object]:
    """What an event says, never its raw body, which may hold more of a payer than we want."""
    return {
        "status": event.status,
        "amount_minor": event.amount.amount_minor,
        "currency": event.amount.currency,
        "order_id": event.order_id,
        "operation_key": event.operation_key,
        "outcome": event.outcome.status.value,
        "code": event.outcome.code,
        "occurred_at": event.occurred_at.isoformat(),
    }


async def _tell(
    conn: AsyncConnection,
    gateway: str,
    event: WebhookEvent,
    operation: Operation | None,
    reason: AlertKind,
) -> AlertKind | None:
    facts = {
        "event_id": event.event_id,
        "type": event.type,
        "reference": event.reference,
        "theirs": {
            "order_id": event.order_id,
            "amount_minor": (event.outcome.amount or event.amount).amount_minor,
            "currency": (event.outcome.amount or event.amount).currency,
        },
        "ours": None
        if operation is None
        else {
            "operation_id": operation.id,
            "order_id": operation.order_id,
            "gateway": operation.gateway,
            "amount_minor": operation.amount_minor,
            "currency": operation.currency,
            "status": operation.status.value,
        },
    }
    raised = await raise_alert(
        conn, reason, gateway, event.reference or event.event_id,
        f"A webhook ({event.type}) does not fit what we asked for: {reason}.",
        order_id=operation.order_id if operation else None, facts=facts,
    )  # fmt: skip
    return reason if raised else None


async def _dispute(
    conn: AsyncConnection,
    settings: PaymentSettings,
    gateway: str,
    event: WebhookEvent,
    capture: Operation,
) -> AlertKind | None:
    assert event.dispute is not None
    dispute, new = await disputes.take(conn, capture, event.dispute, settings.dispute_fee_minor)
    if not new:
        return None
    await raise_alert(
        conn, AlertKind.DISPUTE_OPENED, gateway, event.dispute.dispute_id,
        f"A payment is disputed ({event.dispute.reason}): answer the bank.",
        order_id=dispute.order_id,
        facts={"dispute_id": dispute.id, "amount_minor": dispute.amount_minor},
    )  # fmt: skip
    return AlertKind.DISPUTE_OPENED
