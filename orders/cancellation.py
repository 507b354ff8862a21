"""Cancelling an order: who may, until when, and what it costs.

===========  ==========================  =======================================
state        who                         money
===========  ==========================  =======================================
placed       customer, store, support    authorisation voided
confirmed    customer, store, support    authorisation voided
picking      customer                    cancellation fee captured, rest released
picking      store, support              authorisation voided
packed       store, support              authorisation voided
later        nobody                      the rider reports it undeliverable
===========  ==========================  =======================================

Cash orders cost nothing to cancel: there is nothing to take a fee from.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import IllegalTransition
from ledger.postings import post
from orders import postings
from orders.model import (
    CANCELLABLE_BY_CUSTOMER,
    CANCELLABLE_BY_STAFF,
    DeliveryState,
    OrderState,
    PaymentState,
)
from orders.payment_flow import CASH
from orders.rows import OrderRow, lock_order
from orders.transitions import move
from payments import operations
from payments.gateway import OperationKind
from riders import trips
from riders.model import OfferStatus, TripStatus
from stores import picking, reservations
from stores.picking import PickStatus

_DELIVERY_OPEN = frozenset(
    {
        DeliveryState.UNASSIGNED,
        DeliveryState.OFFERED,
        DeliveryState.ASSIGNED,
        DeliveryState.AT_STORE,
    }
)


async def cancel_as_customer(
    conn: AsyncConnection, order_id: str, actor: str, reason: str, fee_minor: int
) -> None:
    """Cancel for the customer; while the order is being picked that costs ``fee_minor``.

    Raises IllegalTransition once the order is packed.
    """
    order = await lock_order(conn, order_id)
    _check(order, CANCELLABLE_BY_CUSTOMER)
    fee = fee_minor if order.status == OrderState.PICKING else 0
    await cancel(conn, order_id, actor, reason, fee_minor=fee)


async def cancel_as_staff(conn: AsyncConnection, order_id: str, actor: str, reason: str) -> None:
    """Cancel for the store or support, free of charge.  Raises IllegalTransition after packing."""
    order = await lock_order(conn, order_id)
    _check(order, CANCELLABLE_BY_STAFF)
    await cancel(conn, order_id, actor, reason, fee_minor=0)


async def cancel(
    conn: AsyncConnection, order_id: str, actor: str, reason: str, *, fee_minor: int
) -> None:
    """Undo an order that has not left the store: states, stock, rider, money, in that order."""
    order = await lock_order(conn, order_id)
    await move(conn, order_id, OrderState.CANCELLED, actor, reason)
    if order.delivery_status in _DELIVERY_OPEN:
        await move(conn, order_id, DeliveryState.CANCELLED, actor, reason)
    await _give_back_money(conn, order, fee_minor)
    task = await picking.of_order(conn, order_id)
    if task is not None:
        await picking.set_status(conn, task["id"], PickStatus.CANCELLED)
    trip = await trips.active_of_order(conn, order_id)
    if trip is not None:
        await _withdraw(conn, trip.id, order_id)
    await reservations.lock_stock(conn, order_id)
    await reservations.release(conn, order_id, actor)
    await reservations.restock(conn, order_id, actor)
    if task is not None:
        await picking.announced(conn, task["id"])


def _check(order: OrderRow, allowed: frozenset[OrderState]) -> None:
    if order.status not in allowed:
        raise IllegalTransition(
            f"The order is {order.status} and can no longer be cancelled.",
            extra={"machine": "order", "state": order.status, "wanted": "cancelled"},
        )


async def _give_back_money(conn: AsyncConnection, order: OrderRow, fee_minor: int) -> None:
    match PaymentState(order.payment_status):
        case PaymentState.AUTHORISED if fee_minor and order.gateway != CASH:
            fee = min(fee_minor, order.total_minor)
            await operations.request(conn, order.id, OperationKind.CAPTURE, fee)
            await post(
                conn, f"cancellation:{order.id}", "cancellation_fee", order.currency,
                postings.cancellation_fee(fee), order.id,
            )  # fmt: skip
        case PaymentState.AUTHORISED:
            await operations.request(conn, order.id, OperationKind.VOID, order.total_minor)
        case _:
            # Pending or unknown: when the gateway has answered, payment_flow voids a success.
            pass


async def _withdraw(conn: AsyncConnection, trip_id: str, order_id: str) -> None:
    """Take the order off its rider; a trip of which nothing is left ends."""
    trip = await trips.lock(conn, trip_id)
    now = await database_now(conn)
    await trips.drop_order(conn, trip_id, order_id)
    left = await trips.read(conn, trip_id)
    if left.finished:
        if trip.status is TripStatus.OFFERED:
            await trips.close_offer(conn, trip, OfferStatus.WITHDRAWN, "order_cancelled", now)
            await outbox.append(
                conn, f"rider:{trip.rider_id}", "offer.closed",
                {"offer_id": trip.offer_id, "reason": "order_cancelled"},
            )  # fmt: skip
        else:
            await trips.cancel(conn, trip, now)
    await trips.announce(conn, trip_id)
