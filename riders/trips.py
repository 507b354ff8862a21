"""Trips, offers and assignments as rows; the stops are in ``riders.stops``.

Each function runs in a transaction.  The orders' own states belong to ``orders.deliveries``, which
calls this.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import load
from riders.model import (
    DONE_STOPS,
    OfferStatus,
    PlannedStop,
    Stop,
    StopKind,
    StopStatus,
    Trip,
    TripStatus,
)
from riders.stops import insert_stops
from riders.tables import assignments, offers, riders, trip_stops, trips
from riders.trip_views import shape

_TRIPS = load("riders", "trip_view")
_REORDER = load("riders", "reorder_stops")

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


async def active_of_rider(conn: AsyncConnection, rider_id: str) -> str | None:
    """The id of the trip that a rider has accepted and not finished."""
    found = await conn.scalar(
        select(trips.c.id).where(
            trips.c.rider_id == rider_id, trips.c.status == TripStatus.ACTIVE.value
        )
    )
    return None if found is None else str(found)


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
    empty_m: int = 0,
    parameter_set: str = "default",
    decision_id: str | None = None,
) -> Trip:
    """Create a trip with its stops and assignments and offer it to a rider.

    ``empty_m`` is the way from the rider's place to the first stop, as far as anybody knows;
    ``decision_id`` is where it was decided, with ``parameter_set``.  The partial unique indexes
    refuse a rider with an open trip and an order with a rider.
    """
    trip_id, offer_id = new_id("trp"), new_id("ofr")
    await conn.execute(
        insert(trips).values(
            id=trip_id, rider_id=rider_id, city_id=city_id, store_id=store_id,
            status=TripStatus.OFFERED.value, rider_code=f"{secrets.randbelow(10_000):04d}",
            pay_minor=pay_minor, currency=currency, distance_m=distance_m, empty_m=empty_m,
            created_at=now, lease_epoch=lease_epoch, parameter_set=parameter_set,
            decision_id=decision_id,
        )
    )  # fmt: skip
    numbers = range(1, len(stops) + 1)
    await insert_stops(conn, trip_id, stops, numbers, numbers, StopStatus.PENDING)
    await _assign(conn, trip_id, rider_id, [stop.order_id for stop in stops], now)
    await conn.execute(
        insert(offers).values(
            id=offer_id, trip_id=trip_id, rider_id=rider_id, status=OfferStatus.OPEN.value,
            made_at=now, expires_at=expires_at,
        )
    )  # fmt: skip
    await touch_rider(conn, rider_id)
    return await read(conn, trip_id)


async def extend(
    conn: AsyncConnection,
    trip: Trip,
    *,
    added: Sequence[PlannedStop],
    sequence: Sequence[str],
    planned_at: Mapping[str, datetime],
    pay_minor: int,
    distance_m: int,
    now: datetime,
) -> Trip:
    """Put more orders on a locked trip of which nothing has been collected.

    ``added`` are a pickup and a drop-off for each new order; ``sequence`` is how all orders of the
    trip are delivered now, and ``planned_at`` when.  Stops that the rider knows keep their
    numbers, so that what an offline phone has done and not told still means the same door.
    """
    first = max(stop.n for stop in trip.stops) + 1
    kept = [stop for stop in trip.stops if stop.status not in DONE_STOPS]
    over = [stop.n for stop in trip.stops if stop.status in DONE_STOPS]
    new_numbers = range(first, first + len(added))
    known = [(stop.n, stop.kind, stop.order_id) for stop in kept]
    known += [(n, stop.kind, stop.order_id) for n, stop in zip(new_numbers, added, strict=True)]
    pickups = [n for n, kind, _ in known if kind is StopKind.PICKUP]
    doors = {order_id: n for n, kind, order_id in known if kind is StopKind.DROPOFF}
    ridden = [*over, *pickups, *(doors[order_id] for order_id in sequence)]
    positions = {n: position for position, n in enumerate(ridden, start=1)}
    assert len(positions) == len(trip.stops) + len(added), "every stop is ridden once"
    moved = [stop for stop in trip.stops if stop.status in DONE_STOPS] + kept
    await _REORDER.run(
        conn,
        trip.id,
        [stop.n for stop in moved],
        [positions[stop.n] for stop in moved],
        [
            planned_at.get(stop.order_id) if stop.n in doors.values() else None for stop in moved
        ],
    )  # fmt: skip
    status = StopStatus.ARRIVED if trip.is_at_store else StopStatus.PENDING
    await insert_stops(
        conn, trip.id, added, new_numbers, [positions[n] for n in new_numbers], status, now
    )
    await _assign(conn, trip.id, trip.rider_id, [stop.order_id for stop in added], now)
    await conn.execute(
        update(trips)
        .where(trips.c.id == trip.id)
        .values(pay_minor=pay_minor, distance_m=distance_m)
    )
    await touch_rider(conn, trip.rider_id)
    return await read(conn, trip.id)


async def _assign(
    conn: AsyncConnection, trip_id: str, rider_id: str, order_ids: Sequence[str], now: datetime
) -> None:
    """The orders are this rider's now; one that was on the trip before comes back."""
    for order_id in dict.fromkeys(order_ids):
        await conn.execute(
            text(
                "INSERT INTO assignments (order_id, trip_id, rider_id, active, assigned_at)"
                " VALUES (:order_id, :trip_id, :rider_id, true, :now)"
                " ON CONFLICT (order_id, trip_id)"
                " DO UPDATE SET active = true, assigned_at = excluded.assigned_at"
            ),
            {"order_id": order_id, "trip_id": trip_id, "rider_id": rider_id, "now": now},
        )


async def close_offer(
    conn: AsyncConnection,
    trip: Trip,
    status: OfferStatus,
    reason: str | None,
    now: datetime,
    note: str | None = None,
) -> None:
    """End an open offer; every end but acceptance frees the orders and the rider."""
    await conn.execute(
        update(offers)
        .where(offers.c.id == trip.offer_id)
        .values(status=status.value, reason=reason, note=note, answered_at=now)
    )
    if status is OfferStatus.ACCEPTED:
        await _set_status(conn, trip.id, TripStatus.ACTIVE)
        await touch_rider(conn, trip.rider_id)
    else:
        await cancel(conn, trip, now)


async def mark_auto(conn: AsyncConnection, trip: Trip) -> None:
    """Nobody had to be asked about the trip's offer: the rider takes all, or ops decided."""
    await conn.execute(update(offers).where(offers.c.id == trip.offer_id).values(auto=True))


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


async def announce(conn: AsyncConnection, trip_id: str) -> None:
    """Tell the rider's phone how the trip stands now."""
    trip = await read(conn, trip_id)
    await outbox.append(conn, f"rider:{trip.rider_id}", "trip.changed", shape(trip))
