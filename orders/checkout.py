"""Placing an order: one transaction, then the gateway, then one more transaction.

1. ``checkout`` (PL/pgSQL, one statement): key, stock, reservation, order, payment attempt, event.
2. The gateway is asked to authorise, outside any transaction, keyed by the attempt's id.
3. The outcome, the order's next state and the stored answer commit together.

A process that dies between 1 and 3 leaves an attempt that the settlement worker picks up, and a
key without an answer: a client that sends the request again is told how the order stands.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock
from kit.db import Database
from kit.idempotency import InProgress, KeyReused, StoredAnswer
from kit.ids import new_id
from kit.sql import load
from orders.errors import QuoteExpired, QuoteNotFound, QuoteUsed, StockShort, StorePaused
from orders.model import PaymentMethod, Substitution
from orders.payment_flow import Gateways, ask, settle
from orders.settings import OrderSettings
from orders.shortage import stock_short
from orders.tables import quotes
from orders.views import order_view
from payments import operations
from payments.operations import OPEN_STATUSES

CREATED = 201

_CHECKOUT = load("orders", "checkout")
_COMPLETE_KEY = load("orders", "complete_key")


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
) -> CheckoutAnswer:
    """Place an order for a quote.

    Raises StockShort, QuoteNotFound, QuoteExpired, QuoteUsed, StorePaused, KeyReused, InProgress.
    A declined payment is an answer, not an error of the server: the order exists, as
    ``payment_failed``.
    """
    operation_id = new_id("pay")
    row = await database.pool.fetchrow(
        _CHECKOUT.text, _parameters(gateways, settings, clock, request, operation_id)
    )
    assert row is not None
    match row["outcome"]:
        case "placed":
            return await _authorise(database, gateways, request, row["order_id"], operation_id)
        case "replayed" if row["answer"] is not None:
            return CheckoutAnswer(StoredAnswer(row["status"], row["answer"]), replayed=True)
        case "replayed":
            return await _resume(database, request, row["order_id"])
        case "stock_short":
            raise await _stock_short(database, request, row["short"])
        case refusal:
            raise _refusal(refusal)


def _parameters(
    gateways: Gateways,
    settings: OrderSettings,
    clock: Clock,
    request: CheckoutRequest,
    operation_id: str,
) -> str:
    # A gateway answers in real time, however fast the simulated day runs.
    patience_s = (gateways.settings.deadline_s + 2) * clock.speed
    return orjson.dumps(
        {
            "actor": request.user_id,
            "key": request.key,
            "body_hash": request.body_hash.hex(),
            "quote_id": request.quote_id,
            "order_id": new_id("ord"),
            "operation_id": operation_id,
            "method": request.method.value,
            "gateway": gateways.for_method(request.method.value),
            "token": request.token,
            "substitution": request.substitution.value,
            "tip_minor": request.tip_minor,
            "delivery_code": f"{secrets.randbelow(10_000):04d}",
            "tracking_token": secrets.token_urlsafe(24),
            "hold_s": max(settings.reservation_hold_s, 2 * patience_s),
            "recover_after_s": max(settings.recover_after_s, patience_s),
        }
    ).decode()


async def _stock_short(database: Database, request: CheckoutRequest, short: str) -> StockShort:
    async with database.begin() as conn:
        store_id = await conn.scalar(
            select(quotes.c.store_id).where(quotes.c.id == request.quote_id)
        )
        return await stock_short(conn, str(store_id), orjson.loads(short))


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
        case "key_reused":
            return KeyReused("This Idempotency-Key was used for another request; make a new key.")
    raise AssertionError(f"checkout answered {outcome}")


async def _authorise(
    database: Database,
    gateways: Gateways,
    request: CheckoutRequest,
    order_id: str,
    operation_id: str,
) -> CheckoutAnswer:
    async with database.begin() as conn:
        operation = await operations.find(conn, operation_id)
    outcome = await ask(gateways, operation)
    async with database.begin() as conn:
        await settle(conn, gateways.settings, operation_id, outcome)
        return CheckoutAnswer(await _complete_key(conn, request, order_id), replayed=False)


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
