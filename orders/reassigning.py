"""A trip changes hands: ops take a rider off, a rider hands it back, or is not heard of any more.

What is not collected is planned anew.  What is collected is never moved by itself: ops are called,
and they may have it brought back (``bring_back``: undeliverable, then returned) or leave it.

Every function is one use case in the caller's transaction: orders are locked first, then the trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import IllegalTransition, NotFound
from kit.wire import rfc3339
from orders import batches, dispatch_alerts, offers
from orders.dispatch_alerts import AlertKind
from orders.model import DeliveryState, OrderState
from orders.offers import lock_trip
from orders.returns import settle_undeliverable
from orders.rows import OrderRow
from orders.tables import orders
from orders.transitions import SYSTEM, move
from riders import availability, declines, stops, trips
from riders.model import (
    DONE_STOPS,
    HandBackReason,
    PauseReason,
    StopKind,
    StopStatus,
    Trip,
    TripStatus,
)
from riders.tables import riders
from riders.tables import trips as trips_table

_NOT_COLLECTED = frozenset({DeliveryState.OFFERED, DeliveryState.ASSIGNED, DeliveryState.AT_STORE})
_CARRIED = frozenset({DeliveryState.COLLECTED, DeliveryState.AT_DOOR})

# What a rider who fell silent or behind may be asked again after: nobody else may be left.
_AGAIN_AFTER = timedelta(minutes=10)


async def unassign(conn: AsyncConnection, trip_id: str, actor: str, reason: str) -> Trip:
    """Take a rider off a trip that has not collected anything; its orders are planned anew.

    Raises NotFound, IllegalTransition when the rider carries an order already.
    """
    locked, trip = await lock_trip(conn, await trips.read(conn, trip_id))
    if trip.status not in trips.OPEN_TRIPS:
        raise IllegalTransition(f"The trip is {trip.status.value}.")
    if any(locked[each].delivery_status not in _NOT_COLLECTED for each in trip.kept_order_ids):
        raise IllegalTransition("The rider has collected an order of this trip already.")
    now = await database_now(conn)
    for order_id in trip.kept_order_ids:
        await declines.exclude(conn, order_id, trip.rider_id, now)
    await take_off(conn, trip, trip.kept_order_ids, actor, reason)
    return await trips.read(conn, trip_id)


async def reassign(conn: AsyncConnection, trip_id: str, reason: str) -> list[str]:
    """Take everything that is not collected off a trip that goes wrong; ids of those orders.

    An offer that waits for an answer is left to its own time.
    """
    locked, trip = await lock_trip(conn, await trips.read(conn, trip_id))
    if trip.status is not TripStatus.ACTIVE:
        return []
    taken = _uncollected(locked, trip)
    if taken:
        now = await database_now(conn)
        for order_id in taken:
            await declines.exclude(conn, order_id, trip.rider_id, now, now + _AGAIN_AFTER)
        await take_off(conn, trip, taken, SYSTEM, reason)
    return taken


async def give_up_late(conn: AsyncConnection, trip_id: str) -> list[str]:
    """Somebody else is sooner at the store than the trip's rider; ids of the orders that are free.

    Nothing is done when the rider has arrived in the meantime.
    """
    _locked, trip = await lock_trip(conn, await trips.read(conn, trip_id))
    if trip.is_at_store:
        return []
    return await reassign(conn, trip_id, "rider_late")


async def give_up_silent(
    conn: AsyncConnection, trip_id: str, silent_since: datetime
) -> tuple[list[str], list[str]]:
    """The rider of a trip is not heard of; (orders that were taken off, orders that are carried).

    Taken off is what is not collected.  For what is carried ops are called, once, and the phone is
    asked whether anybody is there.  A rider who has done something after ``silent_since`` is there.
    """
    await lock_trip(conn, await trips.read(conn, trip_id))
    acted_at = await conn.scalar(
        select(riders.c.acted_at)
        .join(trips_table, trips_table.c.rider_id == riders.c.id)
        .where(trips_table.c.id == trip_id)
    )
    if acted_at is not None and acted_at > silent_since:
        return [], []
    taken = await reassign(conn, trip_id, "rider_silent")
    trip = await trips.read(conn, trip_id)
    carried = await _carried(conn, trip)
    called = [
        order_id
        for order_id in carried
        if await dispatch_alerts.call(
            conn, order_id, AlertKind.RIDER_SILENT,
            "The rider who carries it has not been heard of for a while.",
            {"cause": "rider_silent"}, trip_id=trip.id, rider_id=trip.rider_id,
        )
    ]  # fmt: skip
    if called:
        await _check_in(conn, trip, called)
    if taken:
        await availability.pause(conn, trip.rider_id, PauseReason.NOT_RESPONDING, None)
    return taken, carried


async def heard_again(conn: AsyncConnection, trip_id: str, actor: str) -> int:
    """Whoever was silent is there: the alerts about it are over; returns how many there were."""
    _locked, trip = await lock_trip(conn, await trips.read(conn, trip_id))
    closed = 0
    for order_id in trip.kept_order_ids:
        closed += await dispatch_alerts.resolve(
            conn, order_id, [AlertKind.RIDER_SILENT], actor, "heard_again"
        )
    return closed


async def check_in(conn: AsyncConnection, rider_id: str, actor: str, trip_id: str) -> Trip:
    """The rider answers that somebody is there.  Raises NotFound."""
    trip = await trips.read(conn, trip_id)
    if trip.rider_id != rider_id:
        raise NotFound("There is no such trip.")
    await heard_again(conn, trip_id, actor)
    await availability.acted(conn, rider_id)
    return await trips.read(conn, trip_id)


async def hand_back(
    conn: AsyncConnection,
    rider_id: str,
    actor: str,
    trip_id: str,
    reason: HandBackReason,
    note: str | None = None,
) -> Trip:
    """The rider cannot go on: what is not collected goes to others, for the rest ops are called.

    The rider gets no offers until saying so.  Handing back twice is fine.
    Raises NotFound, IllegalTransition.
    """
    seen = await trips.read(conn, trip_id)
    if seen.rider_id != rider_id:
        raise NotFound("There is no such trip.")
    locked, trip = await lock_trip(conn, seen)
    if trip.status is TripStatus.CANCELLED:
        return trip
    if trip.status is not TripStatus.ACTIVE:
        raise IllegalTransition(f"The trip is {trip.status.value}: there is nothing to hand back.")
    taken = _uncollected(locked, trip)
    now = await database_now(conn)
    for order_id in taken:
        await declines.exclude(conn, order_id, rider_id, now)
    if taken:
        await take_off(conn, trip, taken, actor, f"handed_back_{reason.value}")
    await availability.acted(conn, rider_id)
    await availability.pause(conn, rider_id, PauseReason.HANDED_BACK, None)
    for order_id in await _carried(conn, trip):
        await dispatch_alerts.call(
            conn, order_id, AlertKind.HANDED_BACK,
            f"The rider cannot bring it there: {reason.value}.",
            {"cause": reason.value, "note": note}, trip_id=trip.id, rider_id=rider_id,
        )  # fmt: skip
    return await trips.read(conn, trip_id)


async def bring_back(conn: AsyncConnection, order_id: str, actor: str, reason: str) -> Trip:
    """Ops decide that a carried order goes back to the store; the customer is not charged.

    It is undeliverable then, and returned once the store has it (``returns.take_back``).
    Raises IllegalTransition unless a rider carries it.
    """
    seen = await trips.active_of_order(conn, order_id)
    if seen is None:
        raise IllegalTransition("No rider carries this order.")
    locked, trip = await lock_trip(conn, seen)
    order = locked[order_id]
    if order.delivery_status not in _CARRIED:
        raise IllegalTransition(f"The delivery is {order.delivery_status}: nobody carries it.")
    now = await database_now(conn)
    for stop in trip.stops:
        open_door = stop.kind is StopKind.DROPOFF and stop.status not in DONE_STOPS
        if stop.order_id == order_id and open_door:
            await stops.set_stop(conn, trip.id, stop.n, StopStatus.FAILED, now)
    await move(conn, order_id, DeliveryState.FAILED, actor, reason)
    await move(conn, order_id, OrderState.UNDELIVERABLE, actor, reason)
    await settle_undeliverable(conn, order, actor, "brought_back", 0)
    trip = await trips.finish_if_done(conn, trip.id, now)
    await trips.announce(conn, trip.id)
    return trip


def _uncollected(locked: dict[str, OrderRow], trip: Trip) -> list[str]:
    return [each for each in trip.kept_order_ids if locked[each].delivery_status in _NOT_COLLECTED]


async def _carried(conn: AsyncConnection, trip: Trip) -> list[str]:
    if trip.status is not TripStatus.ACTIVE:
        return []
    rows = await conn.execute(
        orders.select().where(orders.c.id.in_(trip.kept_order_ids)).order_by(orders.c.id)
    )
    return [row.id for row in rows if row.delivery_status in _CARRIED]


async def take_off(
    conn: AsyncConnection, trip: Trip, order_ids: Sequence[str], actor: str, reason: str
) -> None:
    """Orders that are not collected leave a locked trip, and its rider hears why.

    An offer is withdrawn as a whole.
    """
    if trip.status is TripStatus.OFFERED:
        await offers.withdraw(conn, trip, actor, reason)
        for order_id in order_ids:
            await conn.execute(update(orders).where(orders.c.id == order_id).values(rider_id=None))
        await trips.announce(conn, trip.id)
        return
    await batches.leave_behind(conn, trip, order_ids, actor, reason)
    told = {"trip_id": trip.id, "order_ids": list(order_ids), "reason": reason}
    await outbox.append(conn, f"rider:{trip.rider_id}", "trip.taken_off", told)


async def _check_in(conn: AsyncConnection, trip: Trip, order_ids: Sequence[str]) -> None:
    asked = {
        "trip_id": trip.id,
        "order_ids": list(order_ids),
        "asked_at": rfc3339(await database_now(conn)),
    }
    await outbox.append(conn, f"rider:{trip.rider_id}", "trip.check_in", asked)
