"""Offers: put to a rider, taken, declined, run out; and what each of them means for dispatch.

Every function is one use case in the caller's transaction.  Orders are locked first, in the order
of their ids, then the trip, then the rider.

================  ======================================  =====================================
answer            the orders of the offer                 the rider
================  ======================================  =====================================
accept            the rider's                             rides
decline           never again for this rider              goes on getting offers
decline (pause)   not for this rider while the pause is   gets none until it ends (``PAUSING``)
no answer         not for this rider for a while, and     after ``missed_most`` in a row gets
                  after ``again_most`` never again        none until he says that he is there
================  ======================================  =====================================
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.wire import rfc3339
from orders import dispatch_alerts
from orders.errors import OfferExpired
from orders.model import DeliveryState
from orders.rows import OrderRow, lock_orders
from orders.tables import orders
from orders.transitions import SYSTEM, move
from riders import availability, declines, shifts, trip_views, trips
from riders.model import PAUSING, DeclineReason, OfferStatus, PauseReason, Trip
from riders.settings import OfferRules
from riders.tables import riders

STANDARD = OfferRules()


async def put_to_rider(conn: AsyncConnection, trip: Trip) -> Trip:
    """A trip that was just made with an open offer is shown to its rider.

    For a rider who takes every offer it is accepted in this transaction.  The caller holds the
    locks of the trip's orders; returns the trip as it stands then.
    """
    taken = await conn.scalar(select(riders.c.auto_accept).where(riders.c.id == trip.rider_id))
    for order_id in trip.kept_order_ids:
        await move(conn, order_id, DeliveryState.OFFERED, SYSTEM)
    await announce(conn, trip, auto_accept=bool(taken))
    if not taken:
        return trip
    await trips.mark_auto(conn, trip)
    return await take(conn, trip, SYSTEM, "auto_accept")


async def announce(conn: AsyncConnection, trip: Trip, *, auto_accept: bool) -> None:
    """The offer on the rider's phone."""
    data = {
        "id": trip.offer_id,
        "trip": trip_views.shape_work(trip),
        "expires_at": rfc3339(trip.expires_at),
        "auto_accept": auto_accept,
    }
    await outbox.append(conn, f"rider:{trip.rider_id}", "offer.made", data)


async def accept(conn: AsyncConnection, rider_id: str, offer_id: str) -> Trip:
    """The rider takes an offer.  Taking it twice is fine.  Raises NotFound, OfferExpired."""
    seen = await trips.by_offer(conn, offer_id, rider_id)
    _locked, trip = await lock_trip(conn, seen)
    if trip.offer_status is OfferStatus.ACCEPTED:
        return trip
    if (
        trip.offer_status is not OfferStatus.OPEN
        or trip.expires_at is None
        or trip.expires_at <= await database_now(conn)
    ):
        raise OfferExpired("The offer is no longer open; the next one is on its way.")
    await availability.acted(conn, rider_id)
    user_id = await conn.scalar(select(riders.c.user_id).where(riders.c.id == rider_id))
    return await take(conn, trip, str(user_id))


async def take(conn: AsyncConnection, trip: Trip, actor: str, reason: str | None = None) -> Trip:
    """An open offer becomes the rider's trip.  Orders and trip are locked by the caller."""
    await trips.close_offer(conn, trip, OfferStatus.ACCEPTED, None, await database_now(conn))
    for order_id in trip.kept_order_ids:
        await assign_order(conn, order_id, trip.rider_id, actor, reason)
    await close_on_phone(conn, trip, OfferStatus.ACCEPTED.value)
    await trips.announce(conn, trip.id)
    return await trips.read(conn, trip.id)


async def assign_order(
    conn: AsyncConnection, order_id: str, rider_id: str, actor: str, reason: str | None = None
) -> None:
    """An order is the rider's from now on, and its customer sees whose."""
    rider = (await conn.execute(select(riders).where(riders.c.id == rider_id))).one()
    card = {"name": rider.name.split()[0], "vehicle": rider.vehicle}
    await conn.execute(update(orders).where(orders.c.id == order_id).values(rider_id=rider_id))
    await move(conn, order_id, DeliveryState.ASSIGNED, actor, reason)
    await outbox.append(conn, f"order:{order_id}", "order.rider", {"rider": card})


async def decline(
    conn: AsyncConnection,
    rules: OfferRules,
    rider_id: str,
    offer_id: str,
    reason: DeclineReason,
    note: str | None = None,
) -> None:
    """The rider does not take an offer: the orders look for somebody else.

    A reason of ``PAUSING`` begins a pause.  Raises NotFound, OfferExpired.
    """
    seen = await trips.by_offer(conn, offer_id, rider_id)
    _locked, trip = await lock_trip(conn, seen)
    if trip.offer_status is OfferStatus.DECLINED:
        return
    if trip.offer_status is not OfferStatus.OPEN:
        raise OfferExpired("The offer is no longer open.")
    now = await database_now(conn)
    await trips.close_offer(conn, trip, OfferStatus.DECLINED, reason.value, now, note)
    until = await _pause_end(conn, rules, rider_id, reason, now)
    for order_id in trip.kept_order_ids:
        await declines.exclude(conn, order_id, rider_id, now, until)
    await availability.acted(conn, rider_id)
    await _free(conn, trip, OfferStatus.DECLINED)
    if reason in PAUSING:
        end = None if reason is DeclineReason.SHIFT_ENDS else until
        await availability.pause(conn, rider_id, PauseReason(reason.value), end)
    await dispatch_alerts.count_failed_offers(conn, trip.kept_order_ids, rules.failed_alert)


async def _pause_end(
    conn: AsyncConnection, rules: OfferRules, rider_id: str, reason: DeclineReason, now: datetime
) -> datetime | None:
    """Until when the rider is not asked about these orders; None: never again."""
    match reason:
        case DeclineReason.BREAK:
            return now + timedelta(seconds=rules.break_s)
        case DeclineReason.VEHICLE_PROBLEM:
            return now + timedelta(seconds=rules.repair_s)
        case DeclineReason.SHIFT_ENDS:
            shift = await shifts.open_shift(conn, rider_id)
            return now if shift is None else max(now, shift.ends_at)
        case _:
            return None


async def expire(conn: AsyncConnection, trip_id: str, rules: OfferRules = STANDARD) -> None:
    """An offer that nobody answered in time is over.  Saying it twice, or too early, does nothing.

    Raises NotFound.
    """
    _locked, trip = await lock_trip(conn, await trips.read(conn, trip_id))
    now = await database_now(conn)
    if trip.offer_status is not OfferStatus.OPEN or (trip.expires_at or now) > now:
        return
    await trips.close_offer(conn, trip, OfferStatus.EXPIRED, "no_answer", now)
    again_at = now + timedelta(seconds=rules.again_after_s)
    for order_id in trip.kept_order_ids:
        await declines.count_miss(conn, order_id, trip.rider_id, now, again_at, rules.again_most)
    await _free(conn, trip, OfferStatus.EXPIRED)
    await availability.missed_offer(conn, trip.rider_id, rules.missed_most)
    await dispatch_alerts.count_failed_offers(conn, trip.kept_order_ids, rules.failed_alert)


async def withdraw(conn: AsyncConnection, trip: Trip, actor: str, reason: str) -> None:
    """Take an open offer back; its orders are free again.  Orders and trip are locked."""
    now = await database_now(conn)
    await trips.close_offer(conn, trip, OfferStatus.WITHDRAWN, reason, now)
    for order_id in trip.kept_order_ids:
        await move(conn, order_id, DeliveryState.UNASSIGNED, actor, reason)
    await close_on_phone(conn, trip, OfferStatus.WITHDRAWN.value)


async def _free(conn: AsyncConnection, trip: Trip, status: OfferStatus) -> None:
    for order_id in trip.kept_order_ids:
        await move(conn, order_id, DeliveryState.UNASSIGNED, SYSTEM, f"offer_{status.value}")
    await close_on_phone(conn, trip, status.value)


async def close_on_phone(conn: AsyncConnection, trip: Trip, reason: str) -> None:
    """The offer disappears from the rider's phone."""
    data = {"offer_id": trip.offer_id, "reason": reason}
    await outbox.append(conn, f"rider:{trip.rider_id}", "offer.closed", data)


async def lock_trip(conn: AsyncConnection, seen: Trip) -> tuple[dict[str, OrderRow], Trip]:
    """Lock a trip that was read without a lock, its orders first.

    One that grew in between brings its new orders after it.  Whoever has one of them locked and
    wants the trip waits in a circle with us then: the database ends it, and one of the two is run
    again.
    """
    locked = await lock_orders(conn, seen.order_ids)
    trip = await trips.lock(conn, seen.id)
    if added := set(trip.order_ids) - locked.keys():
        locked |= await lock_orders(conn, sorted(added))
    return locked, trip
