"""Where an order is: its ETA, its rider's positions, and the shared link."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.eta import EtaInputs, Stage, eta
from geo.distances import Point
from kit.clock import Clock
from kit.db import Database
from kit.errors import NotFound
from kit.redis import RedisError
from kit.sql import load
from kit.wire import rfc3339
from orders.model import DeliveryState, OrderState
from orders.picking import HANDOVER_S
from orders.tables import orders
from orders.territory import Territory
from orders.views import Record, read_order, rider_card
from realtime.bus import PositionUpdate, Publisher
from realtime.channels import Channel, ChannelKind
from realtime.events import Position
from riders.locations import RiderFix
from riders.locations_redis import RedisLocations
from server.territory import TerritoryCache

_CARRIED = load("orders", "carried")

# Until a rider sets out for an order that has none; a guess that dispatch soon replaces.
RIDER_WAIT_S = 60.0
# Picking that is overdue is not done in no time.
LEAST_PICK_S = 20.0
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
        territory = await self.territory.get()
        fix = await self._fix(order)
        inputs = _eta_inputs(order, fix, territory, self.clock.now())
        return self.clock.now() + timedelta(seconds=eta(inputs))

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


def _eta_inputs(
    order: Record, fix: RiderFix | None, territory: Territory, now: datetime
) -> EtaInputs:
    travel_s = float(order["travel_s"])
    pack_by = order["promised_low_at"] - timedelta(seconds=travel_s + HANDOVER_S)
    ready_in_s = max(LEAST_PICK_S, (pack_by - now).total_seconds())
    to_store_s = 0.0
    if fix is not None:
        here = Point(fix.lat, fix.lon)
        store = territory.stores[order["store_id"]].point
        door = Point(order["lat"], order["lon"])
        to_store_s = territory.travel_s(order["city_id"], here, store)
        to_door_s = territory.travel_s(order["city_id"], here, door)
    else:
        to_door_s = travel_s
    match DeliveryState(order["delivery_status"]):
        case DeliveryState.AT_DOOR:
            return EtaInputs(stage=Stage.AT_DOOR)
        case DeliveryState.COLLECTED:
            return EtaInputs(stage=Stage.EN_ROUTE, travel_s=to_door_s)
        case DeliveryState.ASSIGNED | DeliveryState.AT_STORE:
            packed = order["packed_at"] is not None
            return EtaInputs(
                stage=Stage.RIDER_TO_STORE,
                ready_in_s=0.0 if packed else ready_in_s,
                rider_to_store_s=to_store_s,
                travel_s=travel_s,
            )
        case _:
            packed = order["status"] == OrderState.PACKED
            return EtaInputs(
                stage=Stage.PACKED if packed else Stage.PICKING,
                ready_in_s=ready_in_s,
                rider_wait_s=RIDER_WAIT_S,
                travel_s=travel_s,
            )


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
        carried = await self._database.pool.fetch(_CARRIED.text, list(by_rider))
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


def _position(fix: RiderFix, *, eta_s: int | None = None, rider_id: str | None = None) -> Position:
    return Position(
        lat=fix.lat,
        lon=fix.lon,
        at=datetime.fromtimestamp(fix.t_ms / 1000, UTC),
        heading_deg=fix.heading_deg,
        eta_s=eta_s,
        rider_id=rider_id,
    )
