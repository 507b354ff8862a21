"""The map of all cities: what is wrong with one of them is not the others' trouble."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert

from geo.distances import Point
from geo.travel import StraightLine
from kit.db import Database
from orders.territory import load_territory
from riders.tables import road_networks
from tests.cities import make_place


async def test_a_city_with_damaged_travel_times_goes_by_straight_lines(
    fresh_database: Database,
) -> None:
    """The map loads, the other city keeps its own, and this one rides as the crow flies."""
    damaged, whole = [await make_place(fresh_database, n) for n in range(2)]
    async with fresh_database.begin() as conn:
        await conn.execute(
            insert(road_networks).values(
                city_id=damaged.city.id,
                source="osm:town.osm.pbf",
                roads=b"",
                travel_times=b"not an archive",
                built_at=datetime(2030, 1, 1, tzinfo=UTC),
            )
        )
        territory = await load_territory(conn)
    assert {damaged.city.id, whole.city.id} <= {
        store.city_id for store in territory.stores.values()
    }
    start, end = Point(12.90, 77.60), Point(12.92, 77.62)
    straight_s = float(StraightLine().between(start.lat, start.lon, end.lat, end.lon))
    assert territory.travel_s(damaged.city.id, start, end) == straight_s
