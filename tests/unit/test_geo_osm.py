"""Reading OpenStreetMap: what a scooter may drive, which way, how fast."""

from pathlib import Path

import pytest

from geo.distances import Point
from geo.osm import directions, read_roads, scooter_speed_kmh

NODES = {1: (10.0, 20.0), 2: (10.0, 20.001), 3: (10.001, 20.001), 4: (10.001, 20.0)}


def write_osm(path: Path, *ways: tuple[list[int], dict[str, str]]) -> Path:
    """An .osm file with the four corners of a block and these ways."""
    lines = ['<osm version="0.6">']
    lines += [f'<node id="{i}" lat="{lat}" lon="{lon}"/>' for i, (lat, lon) in NODES.items()]
    for number, (nodes, tags) in enumerate(ways, start=1):
        lines.append(f'<way id="{number}">')
        lines += [f'<nd ref="{node}"/>' for node in nodes]
        lines += [f'<tag k="{key}" v="{value}"/>' for key, value in tags.items()]
        lines.append("</way>")
    path.write_text("\n".join([*lines, "</osm>"]))
    return path


@pytest.mark.parametrize(
    ("tags", "speed_kmh"),
    [
        ({"highway": "residential"}, 25.0),
        ({"highway": "primary"}, 45.0),
        ({"highway": "primary", "maxspeed": "30"}, 30.0),
        ({"highway": "primary", "maxspeed": "20 mph"}, pytest.approx(32.187, abs=1e-3)),
        ({"highway": "residential", "maxspeed": "60"}, 25.0),
        ({"highway": "primary", "maxspeed": "50;40"}, 40.0),
        ({"highway": "primary", "maxspeed": "none"}, 45.0),
        ({"highway": "living_street", "maxspeed": "walk"}, 5.0),
        ({"highway": "residential", "maxspeed": "0"}, 5.0),
        ({"highway": "service", "access": "destination"}, 15.0),
        ({"highway": "service", "access": "no", "motor_vehicle": "yes"}, 15.0),
        ({"highway": "service", "access": "yes", "motorcycle": "no"}, None),
        ({"highway": "service", "access": "private"}, None),
        ({"highway": "residential", "motor_vehicle": "no"}, None),
        ({"highway": "residential", "vehicle": "private"}, None),
        ({"highway": "footway"}, None),
        ({"highway": "pedestrian"}, None),
        ({"highway": "steps"}, None),
        ({"highway": "cycleway"}, None),
        ({"highway": "motorway"}, None),
        ({"highway": "construction"}, None),
        ({"highway": "trunk", "motorroad": "yes"}, None),
        ({"highway": "service", "area": "yes"}, None),
        ({"waterway": "river"}, None),
    ],
)
def test_speed_and_access_follow_the_tags(tags: dict[str, str], speed_kmh: float | None) -> None:
    """Class, limit and the most exact access key decide."""
    assert scooter_speed_kmh(tags) == speed_kmh


@pytest.mark.parametrize(
    ("tags", "ways"),
    [
        ({}, (True, True)),
        ({"oneway": "no"}, (True, True)),
        ({"oneway": "yes"}, (True, False)),
        ({"oneway": "1"}, (True, False)),
        ({"oneway": "-1"}, (False, True)),
        ({"oneway": "reversible"}, (False, False)),
        ({"junction": "roundabout"}, (True, False)),
        ({"junction": "circular"}, (True, False)),
        ({"junction": "roundabout", "oneway": "no"}, (True, True)),
        ({"oneway": "yes", "oneway:motorcycle": "no"}, (True, True)),
    ],
)
def test_directions_follow_the_tags(tags: dict[str, str], ways: tuple[bool, bool]) -> None:
    """One-way streets, against the drawing too, roundabouts, and exceptions for motorcycles."""
    assert directions(tags) == ways


def test_a_block_becomes_a_graph(tmp_path: Path) -> None:
    """A loop of one-way ways, one drawn backwards, is driven around; names and times are right."""
    path = write_osm(
        tmp_path / "block.osm",
        ([1, 2, 3], {"highway": "residential", "oneway": "yes", "name": "Fore Street"}),
        ([1, 4, 3], {"highway": "residential", "oneway": "-1"}),
        ([1, 3], {"highway": "footway"}),
    )
    roads = read_roads(path)
    assert (roads.node_count, roads.edge_count) == (4, 4)
    route = roads.route(
        roads.nearest_node(Point(10.0, 20.001)), roads.nearest_node(Point(10.0, 20.0))
    )
    assert len(route.nodes) == 4
    assert route.length_m == pytest.approx(111.195 * 2 + 109.51, abs=0.05)
    assert route.seconds == pytest.approx(route.length_m / (25 / 3.6), rel=1e-5)
    assert roads.names == ("Fore Street",)
    assert roads.name is not None
    assert sorted(roads.name.tolist()) == [-1, -1, 0, 0]


def test_isolated_parts_are_left_out(tmp_path: Path) -> None:
    """A street that leads in but not out is no part of the network."""
    path = write_osm(
        tmp_path / "part.osm",
        ([1, 2, 3], {"highway": "residential"}),
        ([3, 4], {"highway": "residential", "oneway": "yes"}),
    )
    assert read_roads(path).node_count == 3


def test_a_way_cut_by_the_edge_of_the_extract_keeps_its_pieces(tmp_path: Path) -> None:
    """A node without a place splits the way; nothing is drawn across the gap."""
    path = write_osm(tmp_path / "cut.osm", ([1, 2, 99, 3], {"highway": "residential"}))
    roads = read_roads(path)
    assert (roads.node_count, roads.edge_count) == (2, 2)


def test_a_missing_empty_or_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    """Each is a ValueError with the path and a remedy."""
    with pytest.raises(ValueError, match=r"no OpenStreetMap file at .*download"):
        read_roads(tmp_path / "nowhere.osm.pbf")
    with pytest.raises(ValueError, match="no OpenStreetMap file"):
        read_roads(tmp_path)
    empty = tmp_path / "empty.osm.pbf"
    empty.touch()
    with pytest.raises(ValueError, match=r"is empty; download"):
        read_roads(empty)
    junk = tmp_path / "junk.osm.pbf"
    junk.write_bytes(b"this is not protobuf" * 40)
    with pytest.raises(ValueError, match=r"cannot read .*download it again"):
        read_roads(junk)
    strange = tmp_path / "streets.txt"
    strange.write_text("a text")
    with pytest.raises(ValueError, match=r"cannot read .*ending"):
        read_roads(strange)


def test_a_file_without_streets_says_so(tmp_path: Path) -> None:
    """A valid file with nothing to drive on is a ValueError."""
    path = write_osm(tmp_path / "park.osm", ([1, 2], {"highway": "footway"}))
    with pytest.raises(ValueError, match="no street that a motor scooter may use"):
        read_roads(path)
