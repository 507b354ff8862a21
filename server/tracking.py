"""Where an order is: its ETA, its rider's positions, and the shared link."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point
from kit.clock import Clock
from kit.db import Database, DatabaseUnavailable
from kit.errors import NotFound
from kit.redis import RedisError
from kit.sql import load
from kit.wire import rfc3339
from orders.model import DeliveryState
from orders.tables import orders
from orders.views import Record, read_order, rider_card
from realtime.bus import PositionUpdate, Publisher
from realtime.channels import Channel, ChannelKind
from realtime.events import Position
from riders.locations import RiderFix
from riders.locations_redis import RedisLocations
from server.territory import TerritoryCache

_CARRIED = load("orders", "carried")

_OVER = frozenset({DeliveryState.DONE, DeliveryState.FAILED, DeliveryState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Tracking:
    """Predictions and positions for those who watch an order."""

    database: Database
    locations: RedisLocations
    clock: Clock
    territory: TerritoryCache

    async def order_record(self, conn: AsyncConnection, order_id: str) -> Record:
        """An order as ``shape_order`` takes it.  Raises NotFound."""
        return await read_order(conn, order_id)

    async def eta_at(self, order: Record) -> datetime | None:
        """When the order will be at its door, as far as anybody can tell; None when it is over."""
        if order["delivery_status"] in _OVER:
            return None
        # Here and not above: it brings the dispatch engine, and workers start without asking.
        from server.eta import seconds_left

        territory = await self.territory.get()
        fix = await self._fix(order)
        now = self.clock.now()
        return now + timedelta(seconds=seconds_left(order, fix, territory, now))

    async def _fix(self, order: Record) -> RiderFix | None:
        rider_id = order["rider_id"]
        if rider_id is None:
            return None
        try:
            found = await self.locations.read(order["city_id"], [rider_id])
        except (RedisError, TimeoutError):
            # The live layer is away: predict from the stages alone.
            return None
        return found.get(rider_id)

    async def shared(self, token: str) -> dict[str, object]:
        """What a shared link shows; NotFound once the order is over."""
        async with self.database.begin() as conn:
            row = (
                await conn.execute(
                    select(orders.c.id, orders.c.tracking_token).where(
                        orders.c.tracking_token == token
                    )
                )
            ).first()
            if row is None or not secrets.compare_digest(row.tracking_token, token):
                raise NotFound("This link is not valid any more.")
            order = await read_order(conn, row.id)
        if order["delivery_status"] in _OVER:
            raise NotFound("This link is not valid any more.")
        fix = await self._fix(order) if order["delivery_status"] in _CARRYING else None
        eta_at = await self.eta_at(order)
        return {
            "number": order["number"],
            "status": order["status"],
            "delivery_status": order["delivery_status"],
            "promised_at": {
                "low": rfc3339(order["promised_low_at"]),
                "high": rfc3339(order["promised_high_at"]),
            },
            "eta": rfc3339(eta_at),
            "rider": rider_card(order),
            "position": None if fix is None else {"lat": fix.lat, "lon": fix.lon},
        }


_CARRYING = frozenset({DeliveryState.COLLECTED, DeliveryState.AT_DOOR})


class PositionFanOut:
    """Tells customers where their riders are: only while they carry the order.

    Who carries what is read from Postgres for each batch of positions, so that none is published
    after the delivery has been committed.
    """

    def __init__(self, database: Database, territory: TerritoryCache, publisher: Publisher) -> None:
        self._database = database
        self._territory = territory
        self._publisher = publisher

    async def write(self, fixes: Sequence[RiderFix]) -> None:
        """Publish a batch on the channels of the orders carried, and of the cities."""
        by_rider = {fix.rider_id: fix for fix in fixes}
        carried = await self._carried(list(by_rider))
        territory = await self._territory.get()
        updates: list[PositionUpdate] = [
            (Channel(ChannelKind.CITY, fix.city_id), _position(fix, rider_id=fix.rider_id))
            for fix in fixes
        ]
        for row in carried:
            fix = by_rider[row["rider_id"]]
            eta_s = 0
            if row["delivery_status"] == DeliveryState.COLLECTED:
                door = Point(row["lat"], row["lon"])
                eta_s = round(territory.travel_s(row["city_id"], Point(fix.lat, fix.lon), door))
            updates.append((Channel(ChannelKind.ORDER, row["id"]), _position(fix, eta_s=eta_s)))
        await self._publisher.publish_positions(updates)

    async def _carried(self, rider_ids: list[str]) -> list[asyncpg.Record]:
        """Who carries what now.  Raises DatabaseUnavailable."""
        try:
            return await self._database.pool.fetch(_CARRIED.text, rider_ids)
        except (
            asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError,
        ) as error:  # fmt: skip
            raise DatabaseUnavailable("The database does not answer; try again.") from error


def _position(fix: RiderFix, *, eta_s: int | None = None, rider_id: str | None = None) -> Position:
    return Position(
        lat=fix.lat,
        lon=fix.lon,
        at=datetime.fromtimestamp(fix.t_ms / 1000, UTC),
        heading_deg=fix.heading_deg,
        eta_s=eta_s,
        rider_id=rider_id,
    )
