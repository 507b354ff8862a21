"""Watching the streets: riders who vanish or fall behind, orders that wait, queues at stores.

Jobs of housekeeping.  What they know is read from the database and from positions, each deed is a
transaction of its own that checks again under locks, and what a job has not come to do is still
there at its next turn.  Any number of them may run at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point
from kit.errors import Conflict
from kit.sql import load
from orders import controlling, dispatch_alerts, dispatch_controls, reassigning
from orders.dispatch_alerts import AlertKind
from orders.tables import orders
from orders.territory import Territory
from orders.transitions import SYSTEM
from orders.trip_watch import Memory, WatchedTrip, judge, sooner
from riders import waiting
from riders.locations import RiderFix
from riders.settings import RiderSettings
from riders.tables import riders, store_queue
from server.wiring import Services

log = structlog.get_logger(__name__)

_TRIPS = load("orders", "watched_trips")
_FREE = load("orders", "free_riders")
_WAITING = load("orders", "waiting_orders")

# No order has this id: who is free for whatever it is.
_ANY_ORDER = ""

TRIPS_GIVEN_UP = Counter(
    "darkstore_trips_given_up_total",
    "Trips of which orders were taken off because their rider vanished, by why.",
    ("reason",),
)


class TripWatch:
    """Looks at every city's trips; what it remembers is only how riders moved lately."""

    def __init__(self) -> None:
        self._memories: dict[str, Memory] = {}

    async def __call__(self, services: Services) -> None:
        territory = await services.territory.get()
        for city_id in _cities(territory):
            await self._look(services, territory, city_id)

    async def _look(self, services: Services, territory: Territory, city_id: str) -> None:
        async with services.database.begin() as conn:
            trips = [WatchedTrip.of(row) for row in await _TRIPS.all(conn, city_id)]
        fixes = await services.locations.read(city_id, [trip.rider_id for trip in trips])
        memory = self._memories.setdefault(city_id, Memory())
        rules = services.settings.riders.watch
        verdict = judge(trips, fixes, memory, rules, services.clock.now())
        if verdict.deaf:
            log.error("riders_not_heard", city_id=city_id, trips=len(trips))
        for trip, since in verdict.silent:
            await _give_up_silent(services, trip, since)
        for trip in verdict.heard_again:
            async with services.database.begin() as conn:
                await reassigning.heard_again(conn, trip.trip_id, SYSTEM)
        for trip in verdict.late:
            await _give_up_late(services, territory, city_id, trip, fixes[trip.rider_id])


async def _give_up_silent(services: Services, trip: WatchedTrip, since: datetime) -> None:
    try:
        async with services.database.begin() as conn:
            taken, carried = await reassigning.give_up_silent(conn, trip.trip_id, since)
    except Conflict as error:
        # The rider has acted in the very moment.
        log.info("trip_not_given_up", trip_id=trip.trip_id, code=error.code)
        return
    if taken or carried:
        TRIPS_GIVEN_UP.labels("silent").inc()
        log.warning(
            "rider_silent", trip_id=trip.trip_id, rider_id=trip.rider_id, taken=taken,
            carried=carried,
        )  # fmt: skip


async def _give_up_late(
    services: Services, territory: Territory, city_id: str, trip: WatchedTrip, fix: RiderFix
) -> None:
    """Take a late rider's orders off if somebody else is at the store sooner."""
    assert trip.store is not None, "late is who has still to reach a store"
    settings = services.settings.riders
    async with services.database.begin() as conn:
        rows = await _FREE.all(conn, city_id, trip.order_id or _ANY_ORDER)
        controls = await dispatch_controls.read_controls(conn, city_id)
    out = controls.riders_out()
    places = await _places(services, city_id, [row.id for row in rows if row.id not in out])
    store = trip.store
    ways = {
        rider_id: territory.travel_s(city_id, place, store) for rider_id, place in places.items()
    }
    own_s = territory.travel_s(city_id, Point(fix.lat, fix.lon), store)
    if sooner(own_s, ways, settings.watch.sooner_by_s) is None:
        return
    try:
        async with services.database.begin() as conn:
            taken = await reassigning.give_up_late(conn, trip.trip_id)
    except Conflict as error:
        log.info("trip_not_given_up", trip_id=trip.trip_id, code=error.code)
        return
    if taken:
        TRIPS_GIVEN_UP.labels("late").inc()
        log.warning("rider_late", trip_id=trip.trip_id, rider_id=trip.rider_id, taken=taken)


async def watch_queues(services: Services) -> None:
    """Who stands at which store, first come first."""
    territory = await services.territory.get()
    for city_id in _cities(territory):
        async with services.database.begin() as conn:
            rows = await _FREE.all(conn, city_id, _ANY_ORDER)
            known = await _known_queues(conn, city_id)
        places = await _places(services, city_id, [row.id for row in rows])
        stores = {
            store.store_id: store.point
            for store in territory.stores.values()
            if store.city_id == city_id
        }
        at_store_m = services.settings.riders.watch.at_store_m
        present = waiting.standing(known, places, stores, at_store_m)
        if present != known:
            async with services.database.begin() as conn:
                await waiting.bring_up_to_date(conn, city_id, present)


async def _known_queues(conn: AsyncConnection, city_id: str) -> dict[str, str]:
    rows = await conn.execute(
        select(store_queue.c.rider_id, store_queue.c.store_id)
        .join(riders, riders.c.id == store_queue.c.rider_id)
        .where(riders.c.city_id == city_id)
    )
    return {row.rider_id: row.store_id for row in rows}


async def _places(
    services: Services, city_id: str, rider_ids: Sequence[str]
) -> Mapping[str, Point]:
    """Where riders are of whom something was heard lately."""
    fixes = await services.locations.read(city_id, rider_ids)
    since_ms = _heard_since_ms(services.settings.riders, services.clock.now())
    return {k: Point(fix.lat, fix.lon) for k, fix in fixes.items() if fix.t_ms >= since_ms}


def _heard_since_ms(settings: RiderSettings, now: datetime) -> float:
    return (now.timestamp() - settings.silent_after_s) * 1000


async def watch_orders(services: Services) -> None:
    """Call ops for orders that wait too long for a rider, but not for what they hold themselves."""
    territory = await services.territory.get()
    now = services.clock.now()
    patience = timedelta(seconds=services.settings.riders.watch.waiting_s)
    for city_id in _cities(territory):
        async with services.database.begin() as conn:
            rows = await _WAITING.all(conn, city_id)
            controls = await dispatch_controls.read_controls(conn, city_id)
        waiting_rows = {
            row.id: row
            for row in rows
            if (row.called_at is None or row.called_at <= now - patience)
            and (row.leave_by < now or (row.packed_at and row.packed_at < now - patience))
        }
        applied = dispatch_controls.apply(controls, territory.zones, waiting_rows, {})
        for order_id, row in applied.orders.items():
            cause = "promise_at_risk" if row.leave_by < now else "waits_packed"
            await _call_for(services, order_id, cause, applied.pins.get(order_id))


async def _call_for(
    services: Services, order_id: str, cause: str, pinned_rider: str | None
) -> None:
    said = {
        "promise_at_risk": "It has no rider, and its promise can hardly be kept any more.",
        "waits_packed": "It is packed and has waited for a rider for a while.",
    }[cause]
    if pinned_rider is not None:
        said += " It is pinned to a rider."
    async with services.database.begin() as conn:
        free = await conn.scalar(
            select(orders.c.id).where(orders.c.id == order_id).with_for_update(skip_locked=True)
        )
        if free is not None:
            await dispatch_alerts.call(
                conn, order_id, AlertKind.NEEDS_RIDER, said, {"cause": cause},
                rider_id=pinned_rider,
            )  # fmt: skip


async def close_controls(services: Services) -> None:
    """Controls of which the time is over disappear from every console."""
    while True:
        async with services.database.begin() as conn:
            if not await controlling.close_expired(conn):
                return


def _cities(territory: Territory) -> list[str]:
    return sorted({store.city_id for store in territory.stores.values()})
