"""Riders without a trip who stand at a store, first come first.

Positions live in Redis and only the newest is known, so who came first is a row here.  A periodic
job brings the rows up to date with ``bring_up_to_date``; whoever plans reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point, distance_m
from kit.clock import database_now
from riders.tables import riders, store_queue


def standing(
    known: Mapping[str, str],
    places: Mapping[str, Point],
    stores: Mapping[str, Point],
    at_store_m: float,
) -> dict[str, str]:
    """(rider id -> store id) of those who stand at a store.

    known: the store at which each rider stood before, who stays there up to twice the distance,
    since a standing phone's fixes wander. places: the riders of whom it is to be told.
    """
    found: dict[str, str] = {}
    for rider_id, place in places.items():
        before = known.get(rider_id)
        if (
            before is not None
            and before in stores
            and distance_m(place, stores[before]) <= 2 * at_store_m
        ):
            found[rider_id] = before
            continue
        near = {s: distance_m(place, point) for s, point in stores.items()}
        nearest = min(near, key=lambda store_id: (near[store_id], store_id), default=None)
        if nearest is not None and near[nearest] <= at_store_m:
            found[rider_id] = nearest
    return found


async def read(conn: AsyncConnection, city_id: str) -> dict[str, tuple[str, ...]]:
    """The queue of each store of a city at which somebody stands."""
    rows = await conn.execute(
        select(store_queue.c.store_id, store_queue.c.rider_id)
        .join(riders, riders.c.id == store_queue.c.rider_id)
        .where(riders.c.city_id == city_id)
        .order_by(store_queue.c.store_id, store_queue.c.since, store_queue.c.rider_id)
    )
    queues: dict[str, tuple[str, ...]] = {}
    for row in rows:
        queues[row.store_id] = (*queues.get(row.store_id, ()), row.rider_id)
    return queues


async def place_of(conn: AsyncConnection, rider_id: str) -> tuple[str, int, int] | None:
    """(store id, place from 1, how many stand there), or None."""
    store_id = await conn.scalar(
        select(store_queue.c.store_id).where(store_queue.c.rider_id == rider_id)
    )
    if store_id is None:
        return None
    rows = await conn.scalars(
        select(store_queue.c.rider_id)
        .where(store_queue.c.store_id == store_id)
        .order_by(store_queue.c.since, store_queue.c.rider_id)
    )
    queue = list(rows)
    return (store_id, queue.index(rider_id) + 1, len(queue)) if rider_id in queue else None


async def bring_up_to_date(
    conn: AsyncConnection, city_id: str, present: Mapping[str, str]
) -> tuple[int, int]:
    """Let the rows of a city say what ``standing`` found; (joined, left).

    Whoever stays keeps the place.  Two processes that do it at once do no harm.
    """
    rows = await conn.execute(
        select(store_queue.c.rider_id, store_queue.c.store_id)
        .join(riders, riders.c.id == store_queue.c.rider_id)
        .where(riders.c.city_id == city_id)
    )
    known = {row.rider_id: row.store_id for row in rows}
    gone = sorted(rider for rider, store in known.items() if present.get(rider) != store)
    if gone:
        await conn.execute(delete(store_queue).where(store_queue.c.rider_id.in_(gone)))
    come = sorted(rider for rider, store in present.items() if known.get(rider) != store)
    if come:
        now = await database_now(conn)
        await conn.execute(
            insert(store_queue).on_conflict_do_nothing(),
            [{"rider_id": r, "store_id": present[r], "since": now} for r in come],
        )
    return len(come), len(gone)
