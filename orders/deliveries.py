"""Riding an order home: offers, stops, the code at the door, and what delivery sets off.

Every function is one use case in the caller's transaction.  Orders are locked first, in the order
of their ids, then the trip.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import IllegalTransition, Invalid, NotFound
from kit.ids import new_id
from ledger.postings import post
from orders import paying, postings
from orders.adjustments import book_with_sale
from orders.errors import OfferExpired, WrongDeliveryCode
from orders.model import DeliveryState, OrderState
from orders.payment_flow import CASH
from orders.returns import settle_undeliverable
from orders.rows import OrderRow, lock_orders
from orders.tables import order_lines, orders, quotes
from orders.transitions import SYSTEM, move
from riders import trips
from riders.model import OfferStatus, Stop, StopKind, StopStatus, Trip, TripStatus
from riders.tables import earnings, riders

# A phone's clock may be off; an action from further ahead than this is taken as now.
CLOCK_SKEW_S = 60.0

_NOT_COLLECTED = frozenset({DeliveryState.OFFERED, DeliveryState.ASSIGNED, DeliveryState.AT_STORE})


@dataclass(frozen=True, slots=True)
class Proof:
    """What the rider shows for a delivery: the customer's code, and the cash that was taken."""

    otp: str | None
    cash_collected_minor: int | None


async def _lock_trip(conn: AsyncConnection, seen: Trip) -> tuple[dict[str, OrderRow], Trip]:
    """Lock a trip that was read without a lock, its orders first."""
    locked = await lock_orders(conn, seen.order_ids)
    return locked, await trips.lock(conn, seen.id)


async def accept(conn: AsyncConnection, rider_id: str, offer_id: str) -> Trip:
    """The rider takes an offer.  Taking it twice is fine.  Raises NotFound, OfferExpired."""
    seen = await trips.by_offer(conn, offer_id, rider_id)
    _orders, trip = await _lock_trip(conn, seen)
    if trip.offer_status is OfferStatus.ACCEPTED:
        return trip
    now = await database_now(conn)
    if (
        trip.offer_status is not OfferStatus.OPEN
        or trip.expires_at is None
        or (trip.expires_at <= now)
    ):
        raise OfferExpired("The offer is no longer open; the next one is on its way.")
    await trips.close_offer(conn, trip, OfferStatus.ACCEPTED, None, now)
    rider = (await conn.execute(select(riders).where(riders.c.id == rider_id))).one()
    card = {"name": rider.name.split()[0], "vehicle": rider.vehicle}
    for order_id in trip.kept_order_ids:
        await conn.execute(update(orders).where(orders.c.id == order_id).values(rider_id=rider_id))
        await move(conn, order_id, DeliveryState.ASSIGNED, rider.user_id)
        await outbox.append(conn, f"order:{order_id}", "order.rider", {"rider": card})
    await _close_on_phone(conn, trip, "accepted")
    await trips.announce(conn, trip.id)
    return await trips.read(conn, trip.id)


async def decline(conn: AsyncConnection, rider_id: str, offer_id: str, reason: str) -> None:
    """The rider does not take an offer: the orders look for somebody else.

    Raises NotFound, OfferExpired.
    """
    seen = await trips.by_offer(conn, offer_id, rider_id)
    _orders, trip = await _lock_trip(conn, seen)
    if trip.offer_status is OfferStatus.DECLINED:
        return
    if trip.offer_status is not OfferStatus.OPEN:
        raise OfferExpired("The offer is no longer open.")
    await _end_offer(conn, trip, OfferStatus.DECLINED, reason)


async def expire(conn: AsyncConnection, trip_id: str) -> None:
    """An offer that nobody answered in time ends like a declined one."""
    _orders, trip = await _lock_trip(conn, await trips.read(conn, trip_id))
    if trip.offer_status is OfferStatus.OPEN:
        await _end_offer(conn, trip, OfferStatus.EXPIRED, "no_answer")


async def _end_offer(conn: AsyncConnection, trip: Trip, status: OfferStatus, reason: str) -> None:
    await trips.close_offer(conn, trip, status, reason, await database_now(conn))
    for order_id in trip.kept_order_ids:
        await move(conn, order_id, DeliveryState.UNASSIGNED, SYSTEM, f"offer_{status.value}")
    await _close_on_phone(conn, trip, status.value)


async def _close_on_phone(conn: AsyncConnection, trip: Trip, reason: str) -> None:
    data = {"offer_id": trip.offer_id, "reason": reason}
    await outbox.append(conn, f"rider:{trip.rider_id}", "offer.closed", data)


async def unassign(conn: AsyncConnection, trip_id: str, actor: str, reason: str) -> None:
    """Take a rider off a trip that has not collected anything; its orders are planned anew.

    Raises IllegalTransition when the rider carries an order already.
    """
    locked, trip = await _lock_trip(conn, await trips.read(conn, trip_id))
    if trip.status not in trips.OPEN_TRIPS:
        raise IllegalTransition(f"The trip is {trip.status.value}.")
    now = await database_now(conn)
    for order_id in trip.kept_order_ids:
        if locked[order_id].delivery_status not in _NOT_COLLECTED:
            raise IllegalTransition("The rider has collected an order of this trip already.")
    if trip.status is TripStatus.OFFERED:
        await trips.close_offer(conn, trip, OfferStatus.WITHDRAWN, reason, now)
        await _close_on_phone(conn, trip, "withdrawn")
    else:
        await trips.cancel(conn, trip, now)
    for order_id in trip.kept_order_ids:
        await trips.exclude(conn, order_id, trip.rider_id, now)
        await conn.execute(update(orders).where(orders.c.id == order_id).values(rider_id=None))
        await move(conn, order_id, DeliveryState.UNASSIGNED, actor, reason)
        await outbox.append(conn, f"order:{order_id}", "order.rider", {"rider": None})
    await trips.announce(conn, trip.id)


async def arrive(
    conn: AsyncConnection, rider_id: str, actor: str, trip_id: str, n: int, at: datetime | None
) -> Trip:
    """The rider stands at a stop.  Saying it twice is fine.  Raises NotFound, IllegalTransition."""
    locked, trip, stop = await _stop(conn, rider_id, trip_id, n)
    if stop.status in (StopStatus.ARRIVED, StopStatus.COMPLETED):
        return trip
    _check_open(trip, stop)
    await trips.set_stop(conn, trip_id, n, StopStatus.ARRIVED, await _event_time(conn, at))
    if stop.kind is StopKind.PICKUP:
        await move(conn, stop.order_id, DeliveryState.AT_STORE, actor)
    else:
        await move(conn, stop.order_id, DeliveryState.AT_DOOR, actor)
        await move(conn, stop.order_id, OrderState.ARRIVING, actor)
    await trips.announce(conn, trip_id)
    if stop.kind is StopKind.PICKUP:
        name = await conn.scalar(select(riders.c.name).where(riders.c.id == rider_id))
        data = {"order_id": stop.order_id, "rider_name": name}
        store_id = locked[stop.order_id].store_id
        await outbox.append(conn, f"store:{store_id}", "rider.at_store", data)
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
    await trips.set_stop(conn, trip_id, n, StopStatus.COMPLETED, await _event_time(conn, at))
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
    await trips.set_stop(conn, trip_id, n, StopStatus.FAILED, await _event_time(conn, at))
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
    locked, trip = await _lock_trip(conn, seen)
    stop = trip.stop(n)
    if stop is None:
        raise NotFound("The trip has no such stop.")
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
