"""Riding an order home: stops, the code at the door, and what delivery sets off.

Every function is one use case in the caller's transaction.  Orders are locked first, in the order
of their ids, then the trip.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.errors import IllegalTransition, Invalid, NotFound
from kit.ids import new_id
from ledger.postings import post
from orders import batches, paying, postings
from orders.adjustments import book_with_sale
from orders.errors import WrongDeliveryCode
from orders.model import DeliveryState, OrderState
from orders.offers import lock_trip
from orders.payment_flow import CASH
from orders.returns import settle_undeliverable
from orders.rows import OrderRow
from orders.tables import order_lines, quotes
from orders.transitions import move
from riders import availability, stops, trips
from riders.model import Stop, StopKind, StopStatus, Trip, TripStatus
from riders.tables import earnings

# A phone's clock may be off; an action from further ahead than this is taken as now.
CLOCK_SKEW_S = 60.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What the rider shows for a delivery: the customer's code, and the cash that was taken."""

    otp: str | None
    cash_collected_minor: int | None


async def arrive(
    conn: AsyncConnection, rider_id: str, actor: str, trip_id: str, n: int, at: datetime | None
) -> Trip:
    """The rider stands at a stop.  Saying it twice is fine.  Raises NotFound, IllegalTransition.

    The store is reached for all orders of the trip at once, and left behind is what it has not
    handed over when the rider stands at a door.
    """
    locked, trip, stop = await _stop(conn, rider_id, trip_id, n)
    if stop.status in (StopStatus.ARRIVED, StopStatus.COMPLETED):
        return trip
    _check_open(trip, stop)
    arrived_at = await _event_time(conn, at)
    if stop.kind is StopKind.PICKUP:
        await batches.arrive_at_store(conn, trip, actor, arrived_at, locked)
        return await trips.read(conn, trip_id)
    left = [pickup.order_id for pickup in trip.waiting_pickups]
    if stop.order_id in left:
        raise IllegalTransition("The store has not handed this order over.")
    if left:
        await batches.leave_behind(conn, trip, left, actor, batches.LEFT_BEHIND)
    await stops.set_stop(conn, trip_id, n, StopStatus.ARRIVED, arrived_at)
    await move(conn, stop.order_id, DeliveryState.AT_DOOR, actor)
    await move(conn, stop.order_id, OrderState.ARRIVING, actor)
    await trips.announce(conn, trip_id)
    return await trips.read(conn, trip_id)


async def complete(
    conn: AsyncConnection,
    rider_id: str,
    actor: str,
    trip_id: str,
    n: int,
    proof: Proof,
    at: datetime | None,
) -> Trip:
    """The order is in the customer's hands: deliver, ask for the money, book the sale.

    A pickup is completed by the store's handover; saying it afterwards is fine.
    Raises NotFound, IllegalTransition, WrongDeliveryCode, Invalid (cash not taken).
    """
    locked, trip, stop = await _stop(conn, rider_id, trip_id, n)
    if stop.status is StopStatus.COMPLETED:
        return trip
    _check_open(trip, stop)
    if stop.kind is StopKind.PICKUP:
        raise IllegalTransition("The store completes a pickup: show your code at the counter.")
    order = locked[stop.order_id]
    if order.delivery_status != DeliveryState.AT_DOOR:
        raise IllegalTransition("Say that you have arrived first.")
    if not hmac.compare_digest((proof.otp or "").encode(), order.delivery_code.encode()):
        raise WrongDeliveryCode("That is not the customer's code; ask for the four digits again.")
    owed = paying.cash_due_minor(order)
    if order.gateway == CASH and (proof.cash_collected_minor or 0) != owed:
        raise Invalid(
            "The cash that was taken is not what is due.",
            errors=[{"field": "cash_collected", "detail": f"{owed} minor units are due"}],
        )
    await stops.set_stop(conn, trip_id, n, StopStatus.COMPLETED, await _event_time(conn, at))
    await move(conn, order.id, DeliveryState.DONE, actor)
    await move(conn, order.id, OrderState.DELIVERED, actor)
    await _book(conn, order, trip)
    await paying.collect_delivered(conn, order)
    trip = await trips.finish_if_done(conn, trip_id, await database_now(conn))
    await trips.announce(conn, trip_id)
    return trip


async def fail(
    conn: AsyncConnection,
    rider_id: str,
    actor: str,
    trip_id: str,
    n: int,
    reason: str,
    at: datetime | None,
    *,
    fee_minor: int = 0,
) -> Trip:
    """Nobody takes the order at the door: it goes back to the store and is not charged.

    ``fee_minor`` is what the customer pays if it was their fault (``returns``).
    Raises NotFound, IllegalTransition.
    """
    locked, trip, stop = await _stop(conn, rider_id, trip_id, n)
    if stop.status is StopStatus.FAILED:
        return trip
    _check_open(trip, stop)
    if stop.kind is StopKind.PICKUP:
        raise IllegalTransition("Call the store: only a drop-off can fail.")
    order = locked[stop.order_id]
    await stops.set_stop(conn, trip_id, n, StopStatus.FAILED, await _event_time(conn, at))
    await move(conn, order.id, DeliveryState.FAILED, actor, reason)
    await move(conn, order.id, OrderState.UNDELIVERABLE, actor, reason)
    await settle_undeliverable(conn, order, actor, reason, fee_minor)
    trip = await trips.finish_if_done(conn, trip_id, await database_now(conn))
    await trips.announce(conn, trip_id)
    return trip


async def _stop(
    conn: AsyncConnection, rider_id: str, trip_id: str, n: int
) -> tuple[dict[str, OrderRow], Trip, Stop]:
    seen = await trips.read(conn, trip_id)
    if seen.rider_id != rider_id:
        raise NotFound("There is no such trip.")
    locked, trip = await lock_trip(conn, seen)
    stop = trip.stop(n)
    if stop is None:
        raise NotFound("The trip has no such stop.")
    await availability.acted(conn, rider_id)
    return locked, trip, stop


def _check_open(trip: Trip, stop: Stop) -> None:
    if trip.status is not TripStatus.ACTIVE:
        raise IllegalTransition(f"The trip is {trip.status.value}.")
    if stop.status in (StopStatus.FAILED, StopStatus.CANCELLED):
        raise IllegalTransition(f"The stop is {stop.status.value}.")


async def _event_time(conn: AsyncConnection, at: datetime | None) -> datetime:
    now = await database_now(conn)
    if at is None or at > now + timedelta(seconds=CLOCK_SKEW_S):
        return now
    return at


async def _book(conn: AsyncConnection, order: OrderRow, trip: Trip) -> None:
    """Post the sale, what was not delivered of it, and what the rider earned."""
    taxes = await conn.execute(
        select(order_lines.c.tax_rate_bp, order_lines.c.tax_minor).where(
            order_lines.c.order_id == order.id
        )
    )
    tax_by_rate: dict[int, int] = {}
    for row in taxes:
        tax_by_rate[row.tax_rate_bp] = tax_by_rate.get(row.tax_rate_bp, 0) + row.tax_minor
    sold = postings.Sale(
        store_id=order.store_id,
        rider_id=trip.rider_id,
        items_minor=order.items_total_minor,
        discount_minor=order.discount_minor,
        delivery_fee_minor=order.delivery_fee_minor,
        small_order_fee_minor=order.small_order_fee_minor,
        tip_minor=order.tip_minor,
        total_minor=order.total_minor,
        tax_by_rate=tax_by_rate,
        discount_payer=await _discount_payer(conn, order),
    )
    await post(conn, f"sale:{order.id}", "sale", order.currency, postings.sale(sold), order.id)
    await book_with_sale(conn, order)
    # A batch shares one pay; the first order carries what division leaves over.
    carried = trip.kept_order_ids
    share, rest = divmod(trip.pay_minor, len(carried))
    pay = share + (rest if carried[0] == order.id else 0)
    await _earn(conn, order, trip.rider_id, pay)


async def _discount_payer(conn: AsyncConnection, order: OrderRow) -> str:
    """Whose expense the order's discount is; its quote says."""
    payer = None
    if order.discount_minor:
        payer = await conn.scalar(
            select(quotes.c.discount_payer).where(quotes.c.id == order.quote_id)
        )
    return payer or "platform"


async def _earn(conn: AsyncConnection, order: OrderRow, rider_id: str, pay_minor: int) -> None:
    now = await database_now(conn)
    rows = [
        {
            "id": new_id("ern"), "rider_id": rider_id, "order_id": order.id, "kind": kind,
            "amount_minor": amount, "currency": order.currency, "at": now,
        }
        for kind, amount in (("delivery", pay_minor), ("tip", order.tip_minor))
        if amount
    ]  # fmt: skip
    if rows:
        await conn.execute(insert(earnings), rows)
    await post(
        conn, f"earning:{order.id}", "rider_earning", order.currency,
        postings.rider_earning(rider_id, pay_minor, order.tip_minor), order.id,
    )  # fmt: skip
