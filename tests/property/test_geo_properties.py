"""What holds for every point, cell and graph."""

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import dijkstra

from geo.cells import cell_of, disk, rings_for_radius
from geo.contraction import without_bends
from geo.distances import Point, bearing_deg, distance_m, interpolate
from geo.roads import RoadGraph
from geo.zones import Zone, ZoneIndex

lats = st.floats(-60.0, 70.0)
lons = st.floats(-180.0, 180.0)
points = st.builds(Point, lats, lons)


@given(points, points, points)
def test_distance_is_a_metric(a: Point, b: Point, c: Point) -> None:
    """It is symmetric, at least 0, and no detour is shorter."""
    assert distance_m(a, b) == pytest.approx(distance_m(b, a), abs=1e-6)
    assert distance_m(a, b) >= 0.0
    assert distance_m(a, c) <= distance_m(a, b) + distance_m(b, c) + 1e-3


@given(points, points)
def test_bearings_stay_on_the_compass(a: Point, b: Point) -> None:
    """A bearing is at least 0 and below 360."""
    assert 0.0 <= bearing_deg(a, b) < 360.0


@given(points, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01), st.floats(0.0, 1.0))
def test_a_point_between_is_between(a: Point, up: float, right: float, fraction: float) -> None:
    """The way over an interpolated point is no longer than the way itself, also over 180°."""
    b = Point(a.lat + up, (a.lon + right + 180.0) % 360.0 - 180.0)
    middle = interpolate(a, b, fraction)
    over = distance_m(a, middle) + distance_m(middle, b)
    assert over == pytest.approx(distance_m(a, b), abs=0.05)


@settings(max_examples=150)
@given(
    points,
    st.floats(0.0, math.tau),
    st.floats(1.0, 3000.0),
    st.sampled_from([8, 9, 10]),
)
def test_the_rings_of_a_radius_cover_it(
    middle: Point, heading: float, radius_m: float, resolution: int
) -> None:
    """Every point within the radius lies in the disk, wherever on the globe."""
    step = radius_m * 0.999 / 111_195.08
    lon = middle.lon + step * math.sin(heading) / math.cos(math.radians(middle.lat))
    edge = Point(middle.lat + step * math.cos(heading), (lon + 180.0) % 360.0 - 180.0)
    cells = disk(cell_of(*middle, resolution), rings_for_radius(radius_m, resolution))
    assert cell_of(*edge, resolution) in cells


@st.composite
def graphs(draw: st.DrawFn) -> RoadGraph:
    """Up to twelve nodes and forty edges of any kind."""
    n = draw(st.integers(1, 12))
    node = st.integers(0, n - 1)
    cost = st.integers(1, 9).map(float)
    edges = draw(st.lists(st.tuples(node, node, cost), max_size=40))
    tail, head, seconds = zip(*edges, strict=True) if edges else ((), (), ())
    place = st.floats(-0.01, 0.01)
    lat = draw(st.lists(place, min_size=n, max_size=n))
    lon = draw(st.lists(place, min_size=n, max_size=n))
    return RoadGraph.from_edges(lat, lon, tail, head, seconds, seconds)


@given(graphs())
def test_routes_are_as_quick_as_can_be(graph: RoadGraph) -> None:
    """Every route equals Floyd and Warshall's time, and there is none where they find none."""
    n = graph.node_count
    best = np.full((n, n), np.inf)
    best[graph.tail, graph.head] = graph.seconds
    np.fill_diagonal(best, 0.0)
    for via in range(n):
        best = np.minimum(best, best[:, via, None] + best[via])
    for origin in range(n):
        for destination in range(n):
            if np.isinf(best[origin, destination]):
                with pytest.raises(ValueError, match="no way by road"):
                    graph.route(origin, destination)
            else:
                route = graph.route(origin, destination)
                assert route.seconds == pytest.approx(best[origin, destination])
                assert (route.nodes[0], route.nodes[-1]) == (origin, destination)


@given(graphs())
def test_graphs_survive_both_forms(graph: RoadGraph) -> None:
    """Bytes return every array exactly, JSON the same edges."""
    assert RoadGraph.from_bytes(graph.to_bytes()).to_bytes() == graph.to_bytes()
    copy = RoadGraph.from_json_dict(json.loads(json.dumps(graph.to_json_dict())))
    assert copy.indptr.tolist() == graph.indptr.tolist()
    assert copy.head.tolist() == graph.head.tolist()
    assert copy.seconds.tolist() == graph.seconds.tolist()


@given(graphs(), st.data())
def test_times_stay_without_bends(graph: RoadGraph, data: st.DataObject) -> None:
    """Between nodes that remain, the quickest way takes as long as before, and exists as before."""
    flags = st.lists(st.booleans(), min_size=graph.node_count, max_size=graph.node_count)
    keep = np.array(data.draw(flags))
    slim = without_bends(graph, keep)
    degree = np.array([len({*graph.head[graph.tail == u], *graph.tail[graph.head == u]})
                       for u in range(graph.node_count)])  # fmt: skip
    stays = np.flatnonzero(keep | (degree != 2))
    assert slim.lat.tolist() == graph.lat[stays].tolist()
    before = dijkstra(graph.weights)[np.ix_(stays, stays)]
    np.testing.assert_allclose(dijkstra(slim.weights), before)


@given(graphs())
def test_the_core_of_a_graph_is_strongly_connected(graph: RoadGraph) -> None:
    """In the largest component every node has a way to every other."""
    core = graph.largest_strong_component()
    assert core.node_count >= 1
    for origin in range(core.node_count):
        for destination in range(core.node_count):
            assert core.route(origin, destination).nodes[-1] == destination


star = st.lists(st.floats(0.2, 1.0), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    star,
    star,
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=30),
    st.tuples(st.floats(-60.0, 60.0), st.floats(-170.0, 170.0)),
)
def test_zones_agree_with_the_polygons(
    first: list[float],
    second: list[float],
    offsets: list[tuple[float, float]],
    origin: tuple[float, float],
) -> None:
    """For star-shaped zones of about 1 km anywhere, each point gets what shapely says."""
    zones = []
    for zone_id, radii in (("a", first), ("b", second)):
        angles = np.linspace(0.0, math.tau, len(radii), endpoint=False)
        reach = np.array(radii) * 0.006
        ring = np.stack([np.cos(angles), np.sin(angles)], -1) * reach[:, None] + origin[::-1]
        zones.append(Zone(zone_id, shapely.Polygon(ring)))
    index = ZoneIndex(zones)
    for up, right in offsets:
        point = Point(origin[0] + up * 0.007, origin[1] + right * 0.007)
        place = shapely.Point(point.lon, point.lat)
        assert index.zones_at(point) == tuple(
            zone.zone_id for zone in zones if zone.polygon.intersects(place)
        )
