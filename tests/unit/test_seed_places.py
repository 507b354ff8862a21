"""Where the stores of a seeded city stand, and what they serve."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dispatch.parameters import Vehicle
from geo.distances import Point, distance_m
from geo.procedural import procedural_city
from geo.travel import TravelTimes
from geo.zones import ZoneIndex, zone_from_geojson
from server.seed_people import staff_of
from server.seed_places import place_stores, zones_of

CITY = procedural_city(3, size_m=4000.0)
PLACES = place_stores(CITY.roads, 2, CITY.districts)
ZONES = zones_of(TravelTimes.compute(CITY.roads), PLACES)
INDEX = ZoneIndex([zone_from_geojson(str(n), zone) for n, zone in enumerate(ZONES)])


def test_stores_stand_on_streets_and_apart() -> None:
    """Every store is a node of a street with its name, and two are more than a kilometre apart."""
    for place in PLACES:
        node = CITY.roads.nearest_node(place.point)
        there = Point(float(CITY.roads.lat[node]), float(CITY.roads.lon[node]))
        assert distance_m(place.point, there) < 0.5
        assert place.street in CITY.roads.names
    assert distance_m(PLACES[0].point, PLACES[1].point) > 1_000


def test_the_same_city_gives_the_same_places() -> None:
    """Placing draws no random numbers."""
    assert place_stores(CITY.roads, 2, CITY.districts) == PLACES


def test_no_point_lies_in_two_zones() -> None:
    """Each of many random points belongs to one zone at most, and most of the city to one."""
    rng = random.Random(1)
    bounds = CITY.roads.bounds
    owned = 0
    for _ in range(3_000):
        point = Point(
            rng.uniform(bounds.south, bounds.north), rng.uniform(bounds.west, bounds.east)
        )
        zones = INDEX.zones_at(point)
        assert len(zones) <= 1
        owned += len(zones)
    assert owned > 2_400


def test_a_zone_is_what_its_store_reaches_soonest() -> None:
    """Of the street nodes in a zone, nearly all are reached from its own store sooner."""
    rng = random.Random(2)
    nodes = rng.sample(range(CITY.roads.node_count), 300)
    stores = [CITY.roads.nearest_node(place.point) for place in PLACES]
    right = []
    for node in nodes:
        zone = INDEX.zone_at(Point(float(CITY.roads.lat[node]), float(CITY.roads.lon[node])))
        if zone is not None:
            seconds = [CITY.roads.route(store, node).seconds for store in stores]
            # A cell is given away whole, so near the border a minute may go the other way.
            right.append(seconds[int(zone)] <= min(seconds) + 60.0)
    assert np.mean(right) > 0.95


def test_each_store_lies_in_its_own_zone() -> None:
    """A customer next door is served by that store."""
    assert [INDEX.zone_at(place.point) for place in PLACES] == ["0", "1"]


def test_too_many_stores_are_refused() -> None:
    """A city with fewer busy places than stores is an error, not two stores in one place."""
    with pytest.raises(ValueError, match="stores"):
        place_stores(CITY.roads, 5_000)


def test_everybody_has_a_log_in_of_their_own() -> None:
    """E-mails are distinct and names are repeatable; every store has its manager and pickers."""
    people = staff_of("cty_1", "town", ["sto_1", "sto_2"], riders=40, pickers_per_store=3, seed=1)
    again = staff_of("cty_1", "town", ["sto_1", "sto_2"], riders=40, pickers_per_store=3, seed=1)
    assert people == again
    assert len({person.email for person in people}) == len(people) == 3 + 2 * 4 + 40
    assert sum(person.store_id == "sto_2" for person in people) == 4
    vehicles = {person.vehicle.name for person in people if person.vehicle}
    assert vehicles == {"scooter", "bicycle"}
    assert vehicles <= {vehicle.value for vehicle in Vehicle}
