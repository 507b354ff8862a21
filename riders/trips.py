"""Trips, their stops, offers and assignments as rows.  Each function runs in a transaction.

The orders' own states belong to ``orders.deliveries``, which calls this.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import load
from riders.model import (
    OfferStatus,
    PlannedStop,
    Stop,
    StopKind,
    StopStatus,
    Trip,
    TripStatus,
)
from riders.tables import assignments, offers, riders, trip_stops, trips

_TRIPS = load("riders", "trip_view")

# A rider who did not answer in time gets the same order again only after this long.
MISSED_OFFER_S = 600.0

OPEN_TRIPS = (TripStatus.OFFERED, TripStatus.ACTIVE)


def _trip(row: Mapping[str, Any]) -> Trip:
    values = {
        **row,
        "status": TripStatus(row["status"]),
        "offer_status": OfferStatus(row["offer_status"]) if row["offer_status"] else None,
        "stops": tuple(
            Stop(**{**s, "kind": StopKind(s["kind"]), "status": StopStatus(s["status"])})
            for s in row["stops"]
        ),
    }
    return Trip(**values)


async def read(conn: AsyncConnection, trip_id: str) -> Trip:
    """One trip.  Raises NotFound."""
    rows = await _TRIPS.dicts(conn, trip_id, None, None, 1)
    if not rows:
        raise NotFound("There is no such trip.")
    return _trip(rows[0])


async def of_rider(
    conn: AsyncConnection, rider_id: str, statuses: Sequence[TripStatus] | None, limit: int
) -> list[Trip]:
    """A rider's trips, newest first."""
    wanted = None if statuses is None else [status.value for status in statuses]
    return [_trip(row) for row in await _TRIPS.dicts(conn, None, rider_id, wanted, limit)]


async def active_of_order(conn: AsyncConnection, order_id: str) -> Trip | None:
    """The trip that has the order now, offered or accepted."""
    found = await conn.scalar(
        select(assignments.c.trip_id).where(
            assignments.c.order_id == order_id, assignments.c.active
        )
    )
    return None if found is None else await read(conn, found)


async def by_offer(conn: AsyncConnection, offer_id: str, rider_id: str) -> Trip:
    """The trip of a rider's offer.  Raises NotFound for a foreign one."""
    found = await conn.scalar(
        select(offers.c.trip_id).where(offers.c.id == offer_id, offers.c.rider_id == rider_id)
    )
    if found is None:
        raise NotFound("There is no such offer.")
    return await read(conn, found)


async def lock(conn: AsyncConnection, trip_id: str) -> Trip:
    """A trip, locked until the end of the transaction (after its orders)."""
    await conn.execute(select(trips.c.id).where(trips.c.id == trip_id).with_for_update())
    return await read(conn, trip_id)


async def offer(
    conn: AsyncConnection,
    *,
    rider_id: str,
    city_id: str,
    store_id: str,
    stops: Sequence[PlannedStop],
    pay_minor: int,
    currency: str,
    distance_m: int,
    now: datetime,
    expires_at: datetime,
    lease_epoch: int,
) -> Trip:
    """Create a trip with its stops and assignments and offer it to a rider.

    The partial unique indexes refuse a rider with an open trip and an order with a rider.
    """
    trip_id, offer_id = new_id("trp"), new_id("ofr")
    await conn.execute(
        insert(trips).values(
            id=trip_id, rider_id=rider_id, city_id=city_id, store_id=store_id,
            status=TripStatus.OFFERED.value, rider_code=f"{secrets.randbelow(10_000):04d}",
            pay_minor=pay_minor, currency=currency, distance_m=distance_m, created_at=now,
            lease_epoch=lease_epoch,
        )
    )  # fmt: skip
    await conn.execute(
        insert(trip_stops),
        [
            {
                "trip_id": trip_id, "n": n, "kind": stop.kind.value, "order_id": stop.order_id,
                "lat": stop.lat, "lon": stop.lon, "planned_at": stop.planned_at,
                "status": StopStatus.PENDING.value, "cash_due_minor": stop.cash_due_minor,
            }
            for n, stop in enumerate(stops, start=1)
        ],
    )  # fmt: skip
    await conn.execute(
        insert(assignments),
        [
            {
                "order_id": stop.order_id, "trip_id": trip_id, "rider_id": rider_id,
                "active": True, "assigned_at": now,
            }
            for stop in stops
            if stop.kind is StopKind.DROPOFF
        ],
    )  # fmt: skip
    await conn.execute(
        insert(offers).values(
            id=offer_id, trip_id=trip_id, rider_id=rider_id, status=OfferStatus.OPEN.value,
            made_at=now, expires_at=expires_at,
        )
    )  # fmt: skip
    await touch_rider(conn, rider_id)
    return await read(conn, trip_id)


async def close_offer(
    conn: AsyncConnection, trip: Trip, status: OfferStatus, reason: str | None, now: datetime
) -> None:
    """End an open offer; every end but acceptance frees the orders and the rider."""
    await conn.execute(
        update(offers)
        .where(offers.c.id == trip.offer_id)
        .values(status=status.value, reason=reason, answered_at=now)
    )
    if status is OfferStatus.ACCEPTED:
        await _set_status(conn, trip.id, TripStatus.ACTIVE)
        await touch_rider(conn, trip.rider_id)
    else:
        await cancel(conn, trip, now)
    if status in (OfferStatus.DECLINED, OfferStatus.EXPIRED):
        missed = status is OfferStatus.EXPIRED
        until = now + timedelta(seconds=MISSED_OFFER_S) if missed else None
        for order_id in trip.kept_order_ids:
            await exclude(conn, order_id, trip.rider_id, now, until)


async def exclude(
    conn: AsyncConnection,
    order_id: str,
    rider_id: str,
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Do not offer this order to this rider again: until a moment, or for good."""
    await conn.execute(
        text(
            "INSERT INTO declines (order_id, rider_id, at, until)"
            " VALUES (:order_id, :rider_id, :at, :until)"
            " ON CONFLICT (order_id, rider_id)"
            " DO UPDATE SET at = excluded.at, until = excluded.until"
        ),
        {"order_id": order_id, "rider_id": rider_id, "at": now, "until": until},
    )


async def cancel(conn: AsyncConnection, trip: Trip, now: datetime) -> None:
    """End a trip that nobody rides any more."""
    await _release_assignments(conn, trip.id)
    await conn.execute(
        update(trip_stops)
        .where(
            trip_stops.c.trip_id == trip.id,
            trip_stops.c.status.in_([StopStatus.PENDING.value, StopStatus.ARRIVED.value]),
        )
        .values(status=StopStatus.CANCELLED.value)
    )
    await _set_status(conn, trip.id, TripStatus.CANCELLED, ended_at=now)
    await touch_rider(conn, trip.rider_id)


async def set_stop(
    conn: AsyncConnection, trip_id: str, n: int, status: StopStatus, at: datetime
) -> None:
    """Move a stop; ``at`` is when the rider did it, which a replaying phone knows best."""
    column = "arrived_at" if status is StopStatus.ARRIVED else "completed_at"
    await conn.execute(
        update(trip_stops)
        .where(trip_stops.c.trip_id == trip_id, trip_stops.c.n == n)
        .values({"status": status.value, column: at})
    )


async def complete_pickup(conn: AsyncConnection, trip_id: str, order_id: str) -> None:
    """The store has handed the order over."""
    await conn.execute(
        text(
            "UPDATE trip_stops SET status = 'completed', completed_at = darkstore_now()"
            " WHERE trip_id = :trip_id AND order_id = :order_id AND kind = 'pickup'"
        ),
        {"trip_id": trip_id, "order_id": order_id},
    )


async def finish_if_done(conn: AsyncConnection, trip_id: str, now: datetime) -> Trip:
    """Complete a trip of which every stop is done; the rider is free then."""
    trip = await read(conn, trip_id)
    if trip.finished:
        await _release_assignments(conn, trip_id)
        await _set_status(conn, trip_id, TripStatus.COMPLETED, ended_at=now)
        await touch_rider(conn, trip.rider_id)
        return await read(conn, trip_id)
    return trip


async def drop_order(conn: AsyncConnection, trip_id: str, order_id: str) -> None:
    """Take an order off a trip: its open stops are cancelled, its assignment ends."""
    await conn.execute(
        update(assignments)
        .where(assignments.c.trip_id == trip_id, assignments.c.order_id == order_id)
        .values(active=False)
    )
    await conn.execute(
        update(trip_stops)
        .where(
            trip_stops.c.trip_id == trip_id,
            trip_stops.c.order_id == order_id,
            trip_stops.c.status.in_([StopStatus.PENDING.value, StopStatus.ARRIVED.value]),
        )
        .values(status=StopStatus.CANCELLED.value)
    )


async def move_dropoff(
    conn: AsyncConnection, trip_id: str, order_id: str, lat: float, lon: float, later: timedelta
) -> None:
    """The order of a locked trip goes to another door, so much later than planned."""
    await conn.execute(
        update(trip_stops)
        .where(
            trip_stops.c.trip_id == trip_id,
            trip_stops.c.order_id == order_id,
            trip_stops.c.kind == StopKind.DROPOFF.value,
            trip_stops.c.status == StopStatus.PENDING.value,
        )
        .values(lat=lat, lon=lon, planned_at=trip_stops.c.planned_at + later)
    )


async def set_cash_due(conn: AsyncConnection, order_id: str, amount_minor: int) -> str | None:
    """What the customer owes at the door has changed; returns the open trip that it changes."""
    found = await conn.scalar(
        update(trip_stops)
        .where(
            trip_stops.c.order_id == order_id,
            trip_stops.c.kind == StopKind.DROPOFF.value,
            trip_stops.c.status == StopStatus.PENDING.value,
            trip_stops.c.cash_due_minor != amount_minor,
        )
        .values(cash_due_minor=amount_minor)
        .returning(trip_stops.c.trip_id)
    )
    return None if found is None else str(found)


async def touch_rider(conn: AsyncConnection, rider_id: str) -> None:
    """Count the rider's version up, so that a plan made before is seen to be stale."""
    await conn.execute(
        update(riders).where(riders.c.id == rider_id).values(version=riders.c.version + 1)
    )


async def _release_assignments(conn: AsyncConnection, trip_id: str) -> None:
    await conn.execute(
        update(assignments).where(assignments.c.trip_id == trip_id).values(active=False)
    )


async def _set_status(
    conn: AsyncConnection, trip_id: str, status: TripStatus, **values: object
) -> None:
    await conn.execute(
        update(trips).where(trips.c.id == trip_id).values(status=status.value, **values)
    )


def shape(trip: Trip) -> dict[str, object]:
    """A trip as its rider's app shows it."""
    return {
        "id": trip.id,
        "status": trip.status.value,
        "store_id": trip.store_id,
        "rider_code": trip.rider_code,
        **shape_work(trip),
    }


def shape_work(trip: Trip) -> dict[str, object]:
    """What a trip asks of a rider and what it pays: the part that an offer shows."""
    return {
        "stops": [_shape_stop(stop, trip.currency) for stop in trip.stops],
        "orders": list(trip.order_ids),
        "distance_m": trip.distance_m,
        "pay": {"amount_minor": trip.pay_minor, "currency": trip.currency},
    }


def _shape_stop(stop: Stop, currency: str) -> dict[str, object]:
    due = stop.cash_due_minor
    return {
        "n": stop.n,
        "kind": stop.kind.value,
        "order_id": stop.order_id,
        "lat": stop.lat,
        "lon": stop.lon,
        "planned_at": stop.planned_at,
        "status": stop.status.value,
        "cash_due": {"amount_minor": due, "currency": currency} if due else None,
    }


async def announce(conn: AsyncConnection, trip_id: str) -> None:
    """Tell the rider's phone how the trip stands now."""
    trip = await read(conn, trip_id)
    await outbox.append(conn, f"rider:{trip.rider_id}", "trip.changed", shape(trip))
