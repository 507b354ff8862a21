"""The stops of trips as rows.  Each function runs in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from riders.model import PlannedStop, StopKind, StopStatus
from riders.tables import trip_stops


async def insert_stops(
    conn: AsyncConnection,
    trip_id: str,
    stops: Sequence[PlannedStop],
    numbers: Sequence[int],
    positions: Sequence[int],
    pickup_status: StopStatus,
    now: datetime | None = None,
) -> None:
    """Write stops; pickups with ``pickup_status``, reached at ``now`` when that is arrived."""
    rows = []
    for n, position, stop in zip(numbers, positions, stops, strict=True):
        arrived = stop.kind is StopKind.PICKUP and pickup_status is StopStatus.ARRIVED
        rows.append(
            {
                "trip_id": trip_id, "n": n, "position": position, "kind": stop.kind.value,
                "order_id": stop.order_id, "lat": stop.lat, "lon": stop.lon,
                "planned_at": stop.planned_at, "cash_due_minor": stop.cash_due_minor,
                "status": (StopStatus.ARRIVED if arrived else StopStatus.PENDING).value,
                "arrived_at": now if arrived else None,
            }
        )  # fmt: skip
    await conn.execute(insert(trip_stops), rows)


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


async def arrive_at_pickups(conn: AsyncConnection, trip_id: str, at: datetime) -> list[str]:
    """The rider is at the store for all orders that wait there; the ids of those."""
    arrived = await conn.scalars(
        update(trip_stops)
        .where(
            trip_stops.c.trip_id == trip_id,
            trip_stops.c.kind == StopKind.PICKUP.value,
            trip_stops.c.status == StopStatus.PENDING.value,
        )
        .values(status=StopStatus.ARRIVED.value, arrived_at=at)
        .returning(trip_stops.c.order_id)
    )
    return sorted(arrived)


async def complete_pickup(conn: AsyncConnection, trip_id: str, order_id: str) -> None:
    """The store has handed the order over."""
    await conn.execute(
        text(
            "UPDATE trip_stops SET status = 'completed', completed_at = darkstore_now()"
            " WHERE trip_id = :trip_id AND order_id = :order_id AND kind = 'pickup'"
        ),
        {"trip_id": trip_id, "order_id": order_id},
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
