"""Where we deliver: stores, their zones, and how long a rider takes from anywhere to anywhere.

Loaded whole and replaced whole, because it changes rarely and is read by every quote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point
from geo.travel import StraightLine, TravelTimes
from geo.zones import Zone, ZoneIndex, zone_from_geojson
from kit.sql import load
from riders.tables import road_networks
from stores.tables import cities, stores, zones

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StorePlace:
    store_id: str
    city_id: str
    name: str
    point: Point
    currency: str
    # Which part of the city's dispatch it belongs to.
    part: int = 0


@dataclass(frozen=True, slots=True)
class Territory:
    """Stores by id, zones by point, travel times by city."""

    stores: Mapping[str, StorePlace]
    zones: ZoneIndex
    store_of_zone: Mapping[str, str]
    travel: Mapping[str, TravelTimes | StraightLine]

    def store_for(self, point: Point) -> StorePlace | None:
        """The store whose zone owns the point."""
        zone_id = self.zones.zone_at(point)
        return None if zone_id is None else self.stores[self.store_of_zone[zone_id]]

    def travel_s(self, city_id: str, start: Point, end: Point) -> float:
        """Seconds for a rider from ``start`` to ``end``; a straight line where no map is."""
        times = self.travel.get(city_id) or StraightLine()
        return float(times.between(start.lat, start.lon, end.lat, end.lon))


_VERSION = load("orders", "territory_version")


async def territory_version(conn: AsyncConnection) -> str:
    """Changes whenever ``load_territory`` would give something else; cheap."""
    return str((await _VERSION.one(conn)).version)


async def load_territory(conn: AsyncConnection) -> Territory:
    """Read stores, zones and travel times; the heavy decoding runs in a thread."""
    store_rows = (
        await conn.execute(
            select(
                stores.c.id, stores.c.city_id, stores.c.name, stores.c.lat, stores.c.lon,
                cities.c.currency, stores.c.dispatch_part,
            ).join(cities, cities.c.id == stores.c.city_id)
        )
    ).all()  # fmt: skip
    zone_rows = (await conn.execute(select(zones))).all()
    road_rows = (
        await conn.execute(select(road_networks.c.city_id, road_networks.c.travel_times))
    ).all()

    def build() -> Territory:
        shapes: list[Zone] = [
            zone_from_geojson(row.id, row.polygon, row.priority) for row in zone_rows
        ]
        return Territory(
            stores={
                row.id: StorePlace(
                    row.id,
                    row.city_id,
                    row.name,
                    Point(row.lat, row.lon),
                    row.currency,
                    row.dispatch_part,
                )
                for row in store_rows
            },
            zones=ZoneIndex(shapes),
            store_of_zone={row.id: row.store_id for row in zone_rows},
            travel=_travel_of_cities(road_rows),
        )

    return await asyncio.to_thread(build)


def _travel_of_cities(rows: Iterable[Any]) -> dict[str, TravelTimes]:
    """Travel times by city.  A city whose own are damaged goes by straight lines."""
    found = {}
    for row in rows:
        try:
            found[row.city_id] = TravelTimes.from_bytes(row.travel_times)
        except ValueError as error:
            log.error("travel_times_damaged", city_id=row.city_id, error=str(error)[:200])
    return found
