"""The made-up city: same seed, same city; a river with bridges; strongly connected streets."""

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from geo.distances import Point, distances_m
from geo.procedural import BENGALURU, DistrictKind, ProceduralCity, procedural_city
from geo.roads import RoadGraph

SEEDS = (1, 2, 3)


@pytest.fixture(name="city", scope="module", params=SEEDS)
def city_of_eight_km(request: pytest.FixtureRequest) -> ProceduralCity:
    """A city of the default size."""
    return procedural_city(request.param)


def lines_of(roads: RoadGraph) -> NDArray[np.object_]:
    """Every edge as a line."""
    places = np.stack([roads.lon, roads.lat], axis=-1)
    return np.asarray(shapely.linestrings(np.stack([places[roads.tail], places[roads.head]], 1)))


def test_the_same_seed_gives_the_same_city() -> None:
    """Streets to the byte, river, bridges and districts are equal; another seed gives another."""
    first, again, other = procedural_city(7), procedural_city(7), procedural_city(8)
    assert first.roads.to_bytes() == again.roads.to_bytes()
    assert first.river.equals_exact(again.river)
    assert first.bridges == again.bridges
    assert first.districts == again.districts
    assert first.roads.to_bytes() != other.roads.to_bytes()
    assert not first.river.equals(other.river)


def test_every_crossing_reaches_every_other(city: ProceduralCity) -> None:
    """The streets are one strong component."""
    parts, _ = connected_components(city.roads.weights, directed=True, connection="strong")
    assert parts == 1


def test_it_is_as_large_as_a_town(city: ProceduralCity) -> None:
    """8 km across within its square, with thousands of crossings."""
    west, south, east, north = city.roads.bounds
    half = city.size_m / 2.0
    reach = distances_m(
        BENGALURU.lat, BENGALURU.lon, [south, north, BENGALURU.lat, BENGALURU.lat],
        [BENGALURU.lon, BENGALURU.lon, west, east],
    )  # fmt: skip
    assert (reach <= half).all()
    assert (reach >= 0.9 * half).all()
    assert 3_000 <= city.roads.node_count <= 6_000


def test_streets_meet_the_river_on_bridges_only(city: ProceduralCity) -> None:
    """Exactly the bridges, in both directions, touch the water; there are a handful."""
    wet = shapely.intersects(lines_of(city.roads), city.river)
    crossing = {shapely.normalize(line).wkt for line in lines_of(city.roads)[wet]}
    assert crossing == {shapely.normalize(bridge).wkt for bridge in city.bridges}
    assert wet.sum() == 2 * len(city.bridges)
    assert 4 <= len(city.bridges) <= 8


def test_without_its_bridges_the_city_falls_apart(city: ProceduralCity) -> None:
    """The river parts the city into two large halves."""
    roads = city.roads
    dry = ~shapely.intersects(lines_of(roads), city.river)
    banks = RoadGraph.from_edges(
        roads.lat, roads.lon, roads.tail[dry], roads.head[dry], roads.length_m[dry],
        roads.seconds[dry],
    )  # fmt: skip
    parts, label = connected_components(banks.weights, connection="weak")
    assert parts >= 2
    assert np.sort(np.bincount(label))[-2] > 0.15 * roads.node_count


def test_some_streets_are_one_way_and_some_are_fast(city: ProceduralCity) -> None:
    """A fair share of pieces has no way back; arterials are faster than side streets."""
    roads = city.roads
    there = roads.tail.astype(np.int64) * roads.node_count + roads.head
    back = roads.head.astype(np.int64) * roads.node_count + roads.tail
    assert 0.05 < 1.0 - np.isin(there, back).mean() < 0.4
    speed_kmh = np.rint(roads.length_m / roads.seconds * 3.6)
    assert set(speed_kmh.tolist()) == {22.0, 32.0, 40.0}


def test_blocks_differ_in_size(city: ProceduralCity) -> None:
    """The long pieces of street are at least half as long again as the short ones."""
    low, high = np.quantile(city.roads.length_m, [0.1, 0.9])
    assert high > 1.5 * low
    assert city.roads.length_m.min() > 20.0


def test_every_street_has_a_name(city: ProceduralCity) -> None:
    """Each edge has one, bridges are called bridges, and lines on the map are long."""
    assert city.roads.name is not None
    assert (city.roads.name >= 0).all()
    used = {city.roads.names[index] for index in set(city.roads.name.tolist())}
    assert len([name for name in used if name.endswith(" Bridge")]) == len(city.bridges)
    assert len(used) > 100


def test_districts_tile_the_city(city: ProceduralCity) -> None:
    """Districts do not overlap, hold every crossing, have names of their own, and a centre."""
    polygons = [district.polygon for district in city.districts]
    together = shapely.union_all(polygons)
    assert sum(p.area for p in polygons) == pytest.approx(together.area, rel=1e-5)
    assert shapely.contains_xy(together, city.roads.lon, city.roads.lat).all()
    assert len({district.name for district in city.districts}) == len(city.districts) >= 9
    centres = [d for d in city.districts if d.kind is DistrictKind.CENTRE]
    assert 1 <= len(centres) <= 2
    assert min(d.demand for d in centres) > max(
        d.demand for d in city.districts if d.kind is not DistrictKind.CENTRE
    )


@pytest.mark.parametrize("seed", range(12))
def test_small_cities_hold_together_too(seed: int) -> None:
    """The smallest size has streets, a river and at least one bridge, wherever it stands."""
    city = procedural_city(seed, Point(59.3, 18.1), size_m=2000.0)
    assert city.roads.node_count > 100
    assert city.bridges
    assert shapely.intersects(lines_of(city.roads), city.river).sum() == 2 * len(city.bridges)


def test_impossible_cities_are_refused() -> None:
    """Sizes and places that cannot be made are ValueErrors."""
    for size_m in (500.0, 50_000.0, float("nan")):
        with pytest.raises(ValueError, match="a city of"):
            procedural_city(1, size_m=size_m)
    with pytest.raises(ValueError, match="no city can be made"):
        procedural_city(1, Point(89.0, 0.0))
