"""The parts of a city as rows: every store in one of them, and the territory told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kit.db import Database
from kit.errors import Invalid
from kit.ids import new_id
from orders.dispatch_world import partitions
from orders.territory import load_territory, territory_version
from stores import parts, repository
from tests.cities import Place, make_place


async def with_second_store(database: Database) -> tuple[Place, str]:
    place = await make_place(database, 3, 0)
    second = replace(place.store, id=new_id("sto"), name="Second", lat=place.store.lat + 0.05)
    ring = [[0.0, 0.0], [0.001, 0.0], [0.001, 0.001], [0.0, 0.001], [0.0, 0.0]]
    async with database.begin() as conn:
        await repository.add_store(conn, second, {"type": "Polygon", "coordinates": [ring]})
    return place, second.id


async def of_city(database: Database, city_id: str) -> list[tuple[str, frozenset[str]]]:
    async with database.begin() as conn:
        territory = await load_territory(conn)
    return [(one.id, one.store_ids) for one in partitions(territory) if one.city_id == city_id]


async def test_a_split_is_seen_and_undone(database: Database) -> None:
    """Each part is a partition with a key of its own; the city's own key is that of part 0."""
    place, second = await with_second_store(database)
    city_id, first = place.city.id, place.store.id
    assert await of_city(database, city_id) == [(city_id, frozenset({first, second}))]
    async with database.begin() as conn:
        before = await territory_version(conn)
        await parts.split(conn, city_id, [[second], [first]])
        assert await territory_version(conn) != before
    assert await of_city(database, city_id) == [
        (city_id, frozenset({second})),
        (f"{city_id}/1", frozenset({first})),
    ]
    async with database.begin() as conn:
        await parts.split(conn, city_id, [[second, first]])
    assert await of_city(database, city_id) == [(city_id, frozenset({first, second}))]


async def test_every_store_belongs_to_one_part(database: Database) -> None:
    """A store that is left out, named twice or of another city is refused, and nothing changes."""
    place, second = await with_second_store(database)
    other = await make_place(database, 4, 0)
    first = place.store.id
    for wrong in ([[first]], [[first], [first, second]], [[first, second, other.store.id]]):
        with pytest.raises(Invalid):
            async with database.begin() as conn:
                await parts.split(conn, place.city.id, wrong)
    assert len(await of_city(database, place.city.id)) == 1
