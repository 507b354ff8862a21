"""Placing an order: one transaction, then the gateway, then one more transaction.

1. ``checkout_batch`` (PL/pgSQL, one statement, under load together with others: orders.committer):
   key, stock, reservation, order, payment attempt, event.
2. The gateway is asked to authorise, outside any transaction, keyed by the attempt's id.
3. The outcome, the order's next state and the stored answer commit together.

A process that dies between 1 and 3 leaves an attempt that the settlement worker picks up, and a
key without an answer: a client that sends the request again is told how the order stands.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import crash_points
from kit.clock import Clock
from kit.db import Database
from kit.idempotency import InProgress, KeyReused, StoredAnswer
from kit.ids import new_id
from kit.sql import load
from kit.wire import money
from orders import slots
from orders.committer import Committer, Member, Outcome, commit_alone
from orders.confirming import CREATED, Confirmation, Confirmer, Placed, confirm, read_placed
from orders.errors import (
    PaymentTokenUnusable,
    QuoteExpired,
    QuoteNotFound,
    QuoteUsed,
    SlotFull,
    StockShort,
    StorePaused,
    TooManyOpenOrders,
    WalletShort,
)
from orders.model import OrderState, PaymentMethod, PaymentState, Substitution
from orders.payment_flow import Gateways, authorise_order
from orders.settings import OrderSettings
from orders.shortage import stock_short
from orders.tables import quotes
from orders.views import Record, order_view, record_of, shape_order
from payments import operations
from payments.gateway import GatewayOutcome
from payments.operations import OPEN_STATUSES, Operation

_COMPLETE_KEY = load("orders", "complete_key")
# The payment's move and the order's.
VERSIONS_OF_A_YES = 2


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """``key`` and ``body_hash`` are the client's idempotency key and what it asked for."""

    user_id: str
    key: str
    body_hash: bytes
    quote_id: str
    method: PaymentMethod
    token: str | None
    substitution: Substitution
    tip_minor: int | None
    # The wallet pays what it can, the method the rest.
    use_wallet: bool = False
    # By gateway: a token belongs to one.  ``token`` is for the one that is asked first.
    tokens: Mapping[str, str] = field(default_factory=dict)
    # With so many unpaid orders the customer has to wait; None: no limit.
    open_orders_max: int | None = None
    # The id that the order will have.
    order_id: str = field(default_factory=lambda: new_id("ord"))
    # When the request was accepted, if it had to wait (orders.spool): its quote was good then.
    accepted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CheckoutAnswer:
    """The answer's status and body, and whether it was given before."""

    answer: StoredAnswer
    replayed: bool


async def place_order(
    database: Database,
    gateways: Gateways,
    settings: OrderSettings,
    clock: Clock,
    request: CheckoutRequest,
    committer: Committer | None = None,
    confirmer: Confirmer | None = None,
) -> CheckoutAnswer:
    """Place an order for a quote; without ``committer`` and ``confirmer`` without company.

    Raises StockShort, WalletShort, QuoteNotFound, QuoteExpired, QuoteUsed, StorePaused, SlotFull,
    TooManyOpenOrders, KeyReused, InProgress, and what the committer raises.
    A declined payment is an answer, not an error of the server: the order exists, as
    ``payment_failed``.
    """
    operation_id = new_id("pay")
    member = _member(gateways, settings, clock, request, operation_id)
    if committer is None:
        row = await commit_alone(database.pool, member)
    else:
        row = await committer.submit(member)
    match row.outcome:
        case "placed":
            crash_points.reached("checkout_placed")
            placed = Placed(_id(row), operation_id)
            return await _authorise(database, gateways, request, placed, confirmer)
        case "replayed" if row.answer is not None and row.status is not None:
            return CheckoutAnswer(StoredAnswer(row.status, row.answer), replayed=True)
        case "replayed":
            return await _resume(database, request, _id(row))
        case "stock_short":
            raise await _stock_short(database, request, row.short or "[]")
        case "wallet_short":
            raise _wallet_short(row.short or "{}")
        case "too_many_open_orders":
            raise TooManyOpenOrders(
                "You have unpaid orders already: let one be paid or cancel it, then order again.",
                extra={"limit": request.open_orders_max},
            )
        case "slot_full":
            raise await _slot_full(database, settings, clock, request)
        case refusal:
            raise _refusal(refusal)


def _id(row: Outcome) -> str:
    assert row.order_id is not None, f"{row.outcome} is about an order"
    return row.order_id


def _member(
    gateways: Gateways,
    settings: OrderSettings,
    clock: Clock,
    request: CheckoutRequest,
    operation_id: str,
) -> Member:
    # A gateway answers in real time, however fast the simulated day runs.
    patience_s = (gateways.settings.deadline_s + 2) * clock.speed
    return {
        "actor": request.user_id,
        "key": request.key,
        "body_hash": request.body_hash.hex(),
        "quote_id": request.quote_id,
        "order_id": request.order_id,
        "accepted_at": request.accepted_at,
        "operation_id": operation_id,
        "method": request.method.value,
        "gateways": gateways.for_method(request.method.value),
        "token": request.token,
        "tokens": request.tokens,
        "shared_tokens": gateways.settings.shared_tokens,
        "substitution": request.substitution.value,
        "tip_minor": request.tip_minor,
        "use_wallet": request.use_wallet,
        "open_max": request.open_orders_max,
        "delivery_code": f"{secrets.randbelow(10_000):04d}",
        "tracking_token": secrets.token_urlsafe(24),
        "hold_s": max(settings.reservation_hold_s, 2 * patience_s),
        "recover_after_s": max(settings.recover_after_s, patience_s),
    }


async def _stock_short(database: Database, request: CheckoutRequest, short: str) -> StockShort:
    async with database.begin() as conn:
        store_id = await conn.scalar(
            select(quotes.c.store_id).where(quotes.c.id == request.quote_id)
        )
        return await stock_short(conn, str(store_id), orjson.loads(short))


async def _slot_full(
    database: Database, settings: OrderSettings, clock: Clock, request: CheckoutRequest
) -> SlotFull:
    async with database.begin() as conn:
        quote = (await conn.execute(select(quotes).where(quotes.c.id == request.quote_id))).one()
        return await slots.full(
            conn, settings.slots, clock.now(), quote.store_id, quote.slot_start, quote.travel_s
        )


def _wallet_short(short: str) -> WalletShort:
    told = orjson.loads(short)
    return WalletShort(
        "There is less in the wallet than the order costs; pay the rest another way.",
        extra={
            "balance": money(told["free_minor"], told["currency"]),
            "total": money(told["total_minor"], told["currency"]),
        },
    )


def _refusal(outcome: str) -> Exception:
    match outcome:
        case "quote_unknown":
            return QuoteNotFound("There is no such quote; ask for a new one.")
        case "quote_expired":
            return QuoteExpired("The quote has expired; ask for a new one.")
        case "quote_used":
            return QuoteUsed("This quote has become an order already; ask for a new one.")
        case "store_paused":
            return StorePaused("The store is paused; try again in some minutes.")
        case "token_unusable":
            return PaymentTokenUnusable(
                "None of the tokens is of a gateway that takes this payment here; make a new one."
            )
        case "key_reused":
            return KeyReused("This Idempotency-Key was used for another request; make a new key.")
    raise AssertionError(f"checkout answered {outcome}")


async def _authorise(
    database: Database,
    gateways: Gateways,
    request: CheckoutRequest,
    placed: Placed,
    confirmer: Confirmer | None,
) -> CheckoutAnswer:
    order_id = placed.order_id
    if confirmer is None:
        order = await read_placed(database.pool, placed)
    else:
        order = await confirmer.read_placed(placed)
    if order is None or order["operation"] is None:
        # An earlier process placed the order with this key, and its own payment operation.
        return await _resume(database, request, order_id)

    async def finish_at_once(asked: Operation, outcome: GatewayOutcome) -> StoredAnswer | None:
        confirmation = _confirmation(request, order, asked, outcome)
        if confirmer is None:
            return await confirm(database.pool, confirmation)
        return await confirmer.confirm(confirmation)

    answer = await authorise_order(
        database, gateways, operations.of_json(order["operation"]),
        lambda conn: _complete_key(conn, request, order_id),
        finish_at_once,
    )  # fmt: skip
    crash_points.reached("checkout_committed")
    return CheckoutAnswer(answer, replayed=False)


def _confirmation(
    request: CheckoutRequest, placed: Record, operation: Operation, outcome: GatewayOutcome
) -> Confirmation:
    """A yes, with the answer that is made before it is written down.

    Should the order have gone further meanwhile, the step-by-step way tells how it stands.
    """
    version = placed["version"] + VERSIONS_OF_A_YES
    order = {
        **record_of(placed),
        "status": OrderState.CONFIRMED,
        "payment_status": PaymentState.AUTHORISED,
        "version": version,
    }
    return Confirmation(
        operation.id, outcome.reference, outcome.code, request.user_id, request.key,
        operation.order_id, version, orjson.dumps(shape_order(order, with_code=True)),
    )  # fmt: skip


async def _resume(database: Database, request: CheckoutRequest, order_id: str) -> CheckoutAnswer:
    """A key whose first request has not answered: it still runs, or its process died.

    Once the payment is settled (by the settlement worker, if need be) the order is the answer.
    """
    async with database.begin() as conn:
        if any(op.status in OPEN_STATUSES for op in await operations.of_order(conn, order_id)):
            raise InProgress("The first request with this key is still running; ask again shortly.")
        return CheckoutAnswer(await _complete_key(conn, request, order_id), replayed=True)


async def _complete_key(
    conn: AsyncConnection, request: CheckoutRequest, order_id: str
) -> StoredAnswer:
    """Store the order as the key's answer unless it has one; returns the one that stands."""
    body = orjson.dumps(await order_view(conn, order_id, with_code=True))
    row = await _COMPLETE_KEY.one(conn, request.user_id, request.key, CREATED, body)
    return StoredAnswer(row.status, bytes(row.answer))
