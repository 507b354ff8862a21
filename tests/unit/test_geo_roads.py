"""The street graph on a town small enough to check by hand.

Five crossings: 0, 1, 2 on a line eastwards, 3 north of 1, and 4, from which a one-way street leads
to 0 but to which nothing leads.

    3
    |            0 -> 1 takes 10 s, 1 -> 0 20 s; 1 - 2 10 s both ways;
    0 - 1 - 2    1 -> 3 5 s, 3 -> 2 4 s; 4 -> 0 1 s
"""

import json
import pickle

import numpy as np
import pytest

from geo.distances import Point
from geo.packing import pack
from geo.roads import RoadGraph

LAT = [10.0, 10.0, 10.0, 10.001, 9.999]
LON = [20.0, 20.001, 20.002, 20.001, 20.0]
TAIL = [0, 1, 1, 2, 1, 3, 4]
HEAD = [1, 0, 2, 1, 3, 2, 0]
SECONDS = [10.0, 20.0, 10.0, 10.0, 5.0, 4.0, 1.0]
LENGTH_M = [110.0, 110.0, 110.0, 110.0, 111.0, 156.0, 111.0]
NAME = [0, 0, 1, 1, -1, -1, -1]


@pytest.fixture(name="town")
def town_of_five() -> RoadGraph:
    """The town above."""
    return RoadGraph.from_edges(
        LAT, LON, TAIL, HEAD, LENGTH_M, SECONDS, name=NAME, names=("West Street", "East Street")
    )


def test_the_quickest_way_wins_over_the_shortest(town: RoadGraph) -> None:
    """From 0 to 2 the detour over 3 takes 19 s, the straight way 20 s."""
    route = town.route(0, 2)
    assert route.nodes == (0, 1, 3, 2)
    assert route.seconds == pytest.approx(19.0)
    assert route.length_m == pytest.approx(110.0 + 111.0 + 156.0)


def test_directions_have_their_own_times(town: RoadGraph) -> None:
    """Back from 2 to 0 there is no way over 3, and the last piece is slower."""
    assert town.route(2, 0).nodes == (2, 1, 0)
    assert town.route(2, 0).seconds == pytest.approx(30.0)


def test_a_route_to_where_one_is_has_no_length(town: RoadGraph) -> None:
    """Origin and destination may be the same node."""
    route = town.route(3, 3)
    assert (route.nodes, route.length_m, route.seconds) == ((3,), 0.0, 0.0)


def test_no_way_and_no_such_node_are_value_errors(town: RoadGraph) -> None:
    """Nothing leads to node 4, and there is no node 5 or -1."""
    with pytest.raises(ValueError, match="no way by road from node 0 to node 4"):
        town.route(0, 4)
    for origin, destination in ((5, 0), (0, -1)):
        with pytest.raises(ValueError, match="no node"):
            town.route(origin, destination)


def test_the_largest_strong_component_leaves_the_dead_end_out(town: RoadGraph) -> None:
    """Node 4 cannot be reached and goes; names and places of the rest stay."""
    core = town.largest_strong_component()
    assert core.node_count == 4
    assert core.edge_count == 6
    assert core.lat.tolist() == LAT[:4]
    assert core.name is not None
    assert [core.names[i] for i in core.name if i >= 0] == ["West Street"] * 2 + ["East Street"] * 2


def test_the_nearest_node_is_nearest_in_metres(town: RoadGraph) -> None:
    """Degrees of longitude count less than degrees of latitude; arrays keep their shape."""
    north = RoadGraph.from_edges([60.0, 60.006], [0.0, 0.01], [0], [1], [1.0], [1.0])
    assert north.nearest_node(Point(60.0, 0.0075)) == 0  # 417 m to 0, 682 m to 1
    assert town.nearest_node(Point(10.0009, 20.0011)) == 3
    nodes = town.nearest_nodes([[10.0, 10.0]], [[20.0, 20.0019]])
    assert nodes.tolist() == [[0, 2]]


def test_parallel_edges_keep_the_quickest_and_loops_go() -> None:
    """Of two edges between the same nodes the quicker stays; an edge to itself is dropped."""
    graph = RoadGraph.from_edges(
        [0.0, 0.0], [0.0, 0.001], [0, 0, 1, 1], [1, 1, 1, 0], [100.0, 90.0, 5.0, 90.0],
        [8.0, 9.0, 1.0, 9.0],
    )  # fmt: skip
    assert graph.edge_count == 2
    assert (graph.route(0, 1).seconds, graph.route(0, 1).length_m) == (8.0, 100.0)


def test_an_edge_of_no_time_is_still_a_way() -> None:
    """Two nodes at one place stay connected, by an edge that takes a hundredth of a second."""
    graph = RoadGraph.from_edges([0.0, 0.0], [0.0, 0.0], [0, 1], [1, 0], [0.0, 0.0], [0.0, 0.0])
    assert graph.route(0, 1).nodes == (0, 1)
    assert graph.seconds.tolist() == pytest.approx([0.01, 0.01])


def test_edges_and_points_along_a_way(town: RoadGraph) -> None:
    """The pieces of a route sum up to it; places come in order; a leap is refused."""
    route = town.route(0, 2)
    assert town.seconds[town.edges_along(route.nodes)].tolist() == [10.0, 5.0, 4.0]
    assert town.points_along(route.nodes)[2] == Point(10.001, 20.001)
    assert town.edges_along([2]).size == 0
    for leap in ([0, 2], [3, 4], [2, 3]):
        with pytest.raises(ValueError, match="no street leads from node"):
            town.edges_along(leap)


def test_bytes_return_the_same_graph(town: RoadGraph) -> None:
    """Arrays and names survive to_bytes, and so does pickling to another process."""
    for copy in (RoadGraph.from_bytes(town.to_bytes()), pickle.loads(pickle.dumps(town))):
        assert copy.to_bytes() == town.to_bytes()
        assert copy.names == town.names
        assert copy.route(0, 2) == town.route(0, 2)


def test_json_returns_the_graph_rounded(town: RoadGraph) -> None:
    """Through JSON places stay within 1e-6 degrees and times within a hundredth of a second."""
    copy = RoadGraph.from_json_dict(json.loads(json.dumps(town.to_json_dict())))
    np.testing.assert_allclose(copy.lat, town.lat, atol=5.1e-7)
    np.testing.assert_allclose(copy.lon, town.lon, atol=5.1e-7)
    np.testing.assert_allclose(copy.seconds, town.seconds, atol=0.0051)
    np.testing.assert_allclose(copy.length_m, town.length_m, atol=0.051)
    assert copy.head.tolist() == town.head.tolist()
    assert copy.names == town.names
    assert copy.route(0, 2).nodes == town.route(0, 2).nodes


def test_the_shortest_times_survive_json() -> None:
    """A thousandth of a second is rounded up to a hundredth, not down to no time at all."""
    graph = RoadGraph(
        lat=np.zeros(2), lon=np.array([0.0, 1e-6]), indptr=np.array([0, 1, 2], dtype=np.int32),
        head=np.array([1, 0], dtype=np.int32), length_m=np.full(2, 0.1, dtype=np.float32),
        seconds=np.full(2, 0.001, dtype=np.float32),
    )  # fmt: skip
    assert RoadGraph.from_json_dict(graph.to_json_dict()).route(0, 1).seconds == pytest.approx(0.01)


def test_a_graph_without_names_needs_none() -> None:
    """Names are optional in every form."""
    graph = RoadGraph.from_edges([0.0, 0.0], [0.0, 0.001], [0, 1], [1, 0], [111.0] * 2, [9.0] * 2)
    assert RoadGraph.from_bytes(graph.to_bytes()).name is None
    assert "names" not in graph.to_json_dict()
    assert RoadGraph.from_json_dict(graph.to_json_dict()).name is None


@pytest.mark.parametrize("data", [b"", b"not a zip", pack("travel times", {})])
def test_other_bytes_are_refused(data: bytes) -> None:
    """What to_bytes did not write is a ValueError."""
    with pytest.raises(ValueError, match="not a road graph"):
        RoadGraph.from_bytes(data)


def test_damaged_bytes_are_refused(town: RoadGraph) -> None:
    """Half a file is a ValueError, and so is one that lacks an array."""
    data = town.to_bytes()
    with pytest.raises(ValueError, match="not a road graph"):
        RoadGraph.from_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="lacks head"):
        RoadGraph.from_bytes(pack("road graph", {"lat": town.lat, "lon": town.lon}))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("version", 2, "version 2"),
        ("head", [0, 1], "differ in size"),
        ("head", "none", "head must be a list"),
        ("time_cs", [1.5] * 7, "integers only"),
        ("names", None, "names must be a list"),
        ("names", [], "name that does not exist"),
        ("lat", [91_000_000, 0, 0, 0, 0], "not on the globe"),
        ("time_cs", [0] * 7, "takes no time"),
        ("length_dm", [-1] * 7, "length below 0"),
    ],
)
def test_other_json_is_refused(town: RoadGraph, field: str, value: object, complaint: str) -> None:
    """A wrong field is a ValueError that names it."""
    with pytest.raises(ValueError, match=complaint):
        RoadGraph.from_json_dict(town.to_json_dict() | {field: value})


def test_edges_between_nodes_that_do_not_exist_are_refused() -> None:
    """from_edges checks both ends."""
    for tail, head in (([0], [2]), ([2], [0]), ([-1], [0])):
        with pytest.raises(ValueError, match="does not exist"):
            RoadGraph.from_edges([0.0, 0.0], [0.0, 0.001], tail, head, [1.0], [1.0])


def test_a_graph_cannot_be_changed(town: RoadGraph) -> None:
    """Arrays are read-only, and are copies of what was given."""
    with pytest.raises(ValueError, match="read-only"):
        town.seconds[0] = 0.0


def test_an_empty_graph_says_so() -> None:
    """Without nodes there are no bounds and no nearest node, and its core is empty too."""
    empty = RoadGraph.from_edges([], [], [], [], [], [])
    assert empty.largest_strong_component().node_count == 0
    assert RoadGraph.from_json_dict(empty.to_json_dict()).node_count == 0
    with pytest.raises(ValueError, match="without nodes"):
        empty.nearest_node(Point(0, 0))


def test_bounds_are_west_south_east_north(town: RoadGraph) -> None:
    """The order is GeoJSON's."""
    assert town.bounds == (20.0, 9.999, 20.002, 10.001)


def test_lines_cover_each_street_once() -> None:
    """Pieces of one name and speed join into one line; a one-way line runs as it is driven."""
    lon = [20.0, 20.001, 20.002, 20.003]
    graph = RoadGraph.from_edges(
        [10.0] * 4, lon, [0, 1, 1, 2, 3], [1, 0, 2, 1, 2], [100.0] * 5, [10.0] * 5,
        name=[0, 0, 0, 0, 1], names=("Long Street", "Back Lane"),
    )  # fmt: skip
    features = graph.to_geojson()["features"]
    assert isinstance(features, list)
    lines = {line["properties"]["name"]: line for line in features}
    assert len(features) == 2
    assert lines["Long Street"]["properties"] == {
        "name": "Long Street", "speed_kmh": 36, "oneway": False
    }  # fmt: skip
    assert len(lines["Long Street"]["geometry"]["coordinates"]) == 3
    assert lines["Back Lane"]["properties"]["oneway"] is True
    assert lines["Back Lane"]["geometry"]["coordinates"] == [[20.003, 10.0], [20.002, 10.0]]


def test_one_way_pieces_that_meet_head_on_stay_apart() -> None:
    """Two pieces of one street, both driven towards its middle, are two lines as driven."""
    graph = RoadGraph.from_edges(
        [10.0] * 3, [20.0, 20.001, 20.002], [0, 2], [1, 1], [100.0] * 2, [10.0] * 2
    )
    features = graph.to_geojson()["features"]
    assert isinstance(features, list)
    drawn = sorted(line["geometry"]["coordinates"] for line in features)
    assert drawn == [[[20.0, 10.0], [20.001, 10.0]], [[20.002, 10.0], [20.001, 10.0]]]
