"""Taking an order off the rider who was to fetch it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from riders import trips
from riders.model import OfferStatus, TripStatus


async def take_off_trip(conn: AsyncConnection, order_id: str, reason: str) -> bool:
    """Take the order off its open trip; a trip of which nothing is left ends.

    The order's row is locked by the caller.  False when nobody had it.
    """
    found = await trips.active_of_order(conn, order_id)
    if found is None:
        return False
    trip = await trips.lock(conn, found.id)
    now = await database_now(conn)
    await trips.drop_order(conn, trip.id, order_id)
    left = await trips.read(conn, trip.id)
    if left.finished:
        if trip.status is TripStatus.OFFERED:
            await trips.close_offer(conn, trip, OfferStatus.WITHDRAWN, reason, now)
            await outbox.append(
                conn, f"rider:{trip.rider_id}", "offer.closed",
                {"offer_id": trip.offer_id, "reason": reason},
            )  # fmt: skip
        else:
            await trips.cancel(conn, trip, now)
    await trips.announce(conn, trip.id)
    return True
