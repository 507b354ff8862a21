"""Real data: the streets of Porto Alegre and the wards of Bengaluru, from the shared data."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import shapely

from geo.distances import Point, distances_m
from geo.osm import read_roads
from geo.roads import RoadGraph
from geo.travel import TravelTimes
from geo.zones import Zone, ZoneIndex, zone_from_geojson

DATA = Path(__file__).parents[2] / "../shared/data"
PORTO_ALEGRE = DATA / "osm/porto-alegre.osm.pbf"
WARDS = DATA / "zones/bengaluru_BBMP_wards.geojson"

needs_streets = pytest.mark.skipif(
    not PORTO_ALEGRE.is_file(), reason="the shared extract of Porto Alegre is not here"
)
needs_wards = pytest.mark.skipif(
    not WARDS.is_file(), reason="the shared wards of Bengaluru are not here"
)


@pytest.fixture(name="roads", scope="module")
def streets_of_porto_alegre() -> RoadGraph:
    """The whole extract."""
    return read_roads(PORTO_ALEGRE)


@pytest.fixture(name="wards", scope="module")
def wards_of_bengaluru() -> list[Zone]:
    """All 243 wards."""
    features = json.loads(WARDS.read_text())["features"]
    return [zone_from_geojson(f["properties"]["KGISWardNo"], f["geometry"]) for f in features]


@pytest.fixture(name="ward_index", scope="module")
def index_of_bengaluru(wards: list[Zone]) -> ZoneIndex:
    """The index over all wards."""
    return ZoneIndex(wards)


def middle_of(roads: RoadGraph) -> RoadGraph:
    """The streets in the middle of the city, about 4 x 4 km."""
    inside = (
        (roads.lon > -51.23) & (roads.lon < -51.19) & (roads.lat > -30.06) & (roads.lat < -30.02)
    )
    keep = inside[roads.tail] & inside[roads.head]
    return RoadGraph.from_edges(
        roads.lat, roads.lon, roads.tail[keep], roads.head[keep], roads.length_m[keep],
        roads.seconds[keep],
    ).largest_strong_component()  # fmt: skip


@needs_streets
def test_porto_alegre_is_one_routable_network(roads: RoadGraph) -> None:
    """Nearly all driveable nodes are in the core, with names, and at a scooter's speeds."""
    assert 28_000 <= roads.node_count <= 33_000
    assert len(roads.names) > 2_000
    speed_kmh = roads.length_m / roads.seconds * 3.6
    long_enough = roads.length_m > 5.0
    assert 4.9 <= speed_kmh[long_enough].min() <= speed_kmh[long_enough].max() <= 45.1
    west, south, east, north = roads.bounds
    assert -51.27 < west < east < -51.13
    assert -30.12 < south < north < -29.98


@needs_streets
def test_a_cut_off_extract_is_refused(tmp_path: Path) -> None:
    """Half of the file is a ValueError that says to download it again."""
    half = tmp_path / "half.osm.pbf"
    whole = PORTO_ALEGRE.read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="download it again"):
        read_roads(half)


@needs_streets
def test_routes_are_real_and_quick(roads: RoadGraph) -> None:
    """Routes follow edges, are no shorter than straight lines; half take below 30 ms of CPU."""
    rng = np.random.default_rng(4)
    taken_s = []
    for origin, destination in rng.integers(0, roads.node_count, (60, 2)).tolist():
        begun = time.process_time()
        route = roads.route(origin, destination)
        taken_s.append(time.process_time() - begun)
        ends = [origin, destination]
        straight_m = distances_m(*(a[n] for n in ends for a in (roads.lat, roads.lon)))
        assert route.length_m >= float(straight_m) * 0.999
        assert route.seconds == pytest.approx(
            float(roads.seconds[roads.edges_along(route.nodes)].sum()), rel=1e-5
        )
    assert np.median(taken_s) < 0.030


@needs_streets
def test_the_forms_for_disk_wire_and_map_are_small(roads: RoadGraph) -> None:
    """Bytes, JSON and map lines of a city stay within a few megabytes, and JSON still routes."""
    assert len(roads.to_bytes()) < 1_200_000
    text = json.dumps(roads.to_json_dict(), separators=(",", ":"))
    assert len(text) < 2_000_000
    phone = RoadGraph.from_json_dict(json.loads(text))
    assert phone.route(10, 20_000).seconds == pytest.approx(
        roads.route(10, 20_000).seconds, rel=1e-3
    )
    lines = roads.to_geojson()["features"]
    assert isinstance(lines, list)
    assert len(lines) < roads.edge_count / 5
    drawn_m = sum(
        float(distances_m(*np.array(line["geometry"]["coordinates"])[:-1, ::-1].T,
                          *np.array(line["geometry"]["coordinates"])[1:, ::-1].T).sum())
        for line in lines
    )  # fmt: skip
    low, high = np.minimum(roads.tail, roads.head), np.maximum(roads.tail, roads.head)
    _, once = np.unique(low.astype(np.int64) * roads.node_count + high, return_index=True)
    assert drawn_m == pytest.approx(float(roads.length_m[once].sum()), rel=0.01)


@needs_streets
def test_travel_times_are_near_the_routes(roads: RoadGraph) -> None:
    """In the middle of the city, beyond 500 m: median error below 10 %, 95th centile below 40."""
    middle = middle_of(roads)
    times = TravelTimes.compute(middle)
    rng = np.random.default_rng(5)
    a = np.repeat(rng.integers(0, middle.node_count, 40), 25)
    b = rng.integers(0, middle.node_count, a.size)
    far = distances_m(middle.lat[a], middle.lon[a], middle.lat[b], middle.lon[b]) > 500.0
    a, b = a[far], b[far]
    true_s = np.array(
        [middle.route(i, j).seconds for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    )
    seconds = times.between(middle.lat[a], middle.lon[a], middle.lat[b], middle.lon[b])
    error = np.abs(seconds - true_s) / true_s
    assert np.median(error) < 0.10
    assert np.quantile(error, 0.95) < 0.40


@needs_wards
def test_wards_agree_with_brute_force(wards: list[Zone], ward_index: ZoneIndex) -> None:
    """20,000 random points, and 4,000 close to borders, get exactly the wards shapely finds."""
    rng = np.random.default_rng(6)
    corners = shapely.get_coordinates([zone.polygon for zone in wards])
    near = corners[rng.integers(0, len(corners), 4_000)] + rng.normal(0.0, 2e-5, (4_000, 2))
    wide = rng.uniform([77.45, 12.82], [77.79, 13.15], (20_000, 2))
    places = np.concatenate([wide, near])
    want: list[list[str]] = [[] for _ in places]
    for zone in sorted(wards, key=lambda zone: zone.zone_id):
        polygon = shapely.from_wkb(shapely.to_wkb(zone.polygon))  # not the index's own, prepared
        for hit in np.flatnonzero(shapely.intersects_xy(polygon, places[:, 0], places[:, 1])):
            want[hit].append(zone.zone_id)
    points = [Point(lat, lon) for lon, lat in places.tolist()]
    assert [ward_index.zones_at(point) for point in points] == [tuple(ids) for ids in want]
    assert [ward_index.zone_at(point) for point in points] == [
        ids[0] if ids else None for ids in want
    ]
    assert sum(1 for ids in want if ids) > 10_000


@needs_wards
def test_corners_of_wards_have_one_owner(wards: list[Zone], ward_index: ZoneIndex) -> None:
    """On corners that neighbours share, several wards hold the point and one owns it."""
    corners = shapely.get_coordinates([zone.polygon for zone in wards])[::20]
    shared = 0
    for lon, lat in corners.tolist():
        holders = ward_index.zones_at(Point(lat, lon))
        shared += len(holders) > 1
        assert ward_index.zone_at(Point(lat, lon)) == holders[0]
    assert shared > 0.1 * len(corners)
