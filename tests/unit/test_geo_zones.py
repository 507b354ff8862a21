"""Zones: reading polygons, and who owns a point."""

from collections.abc import Mapping

import pytest

from geo.distances import Point
from geo.zones import Zone, ZoneIndex, zone_from_geojson

Ring = list[list[float]]


def square(west: float, south: float, side: float = 0.02) -> Ring:
    """A closed ring, counter-clockwise."""
    east, north = round(west + side, 6), round(south + side, 6)
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def zone(zone_id: str, *rings: Ring, priority: int = 0) -> Zone:
    """A zone from rings, the first outer."""
    return zone_from_geojson(zone_id, {"type": "Polygon", "coordinates": list(rings)}, priority)


def test_points_inside_outside_and_far_away() -> None:
    """A point in the polygon has its zone; one outside, near or far, has none."""
    index = ZoneIndex([zone("a", square(77.60, 12.90))])
    assert index.zone_at(Point(12.91, 77.61)) == "a"
    assert index.zone_at(Point(12.91, 77.6201)) is None
    assert index.zone_at(Point(50.0, 8.0)) is None
    assert index.zones_at(Point(12.91, 77.6201)) == ()


def test_a_rim_cell_is_decided_by_the_polygon() -> None:
    """Two points a metre apart, in one cell, on either side of the border, differ."""
    index = ZoneIndex([zone("a", square(77.60, 12.90))])
    assert index.zone_at(Point(12.910, 77.619995)) == "a"
    assert index.zone_at(Point(12.910, 77.620005)) is None


def test_a_hole_is_not_part_of_the_zone() -> None:
    """A point in a hole has no zone, one beside the hole has."""
    index = ZoneIndex([zone("a", square(77.60, 12.90), square(77.608, 12.908, 0.004))])
    assert index.zone_at(Point(12.910, 77.610)) is None
    assert index.zone_at(Point(12.903, 77.603)) == "a"


def test_a_point_on_a_shared_border_has_one_owner() -> None:
    """Both neighbours hold it; one owns it, whatever the order in which they were given."""
    west, east = zone("w", square(77.60, 12.90)), zone("e", square(77.62, 12.90))
    border = Point(12.91, 77.62)
    for zones in ([west, east], [east, west]):
        index = ZoneIndex(zones)
        assert index.zones_at(border) == ("e", "w")
        assert index.zone_at(border) == "e"


def test_overlaps_go_by_priority_then_id() -> None:
    """The higher priority comes first, then the smaller id, deep inside as on a rim."""
    zones = [
        zone("c", square(77.60, 12.90)),
        zone("a", square(77.60, 12.90)),
        zone("b", square(77.60, 12.90), priority=5),
        zone("small", square(77.609, 12.909, 0.0002), priority=9),
    ]
    index = ZoneIndex(zones)
    assert index.zones_at(Point(12.905, 77.605)) == ("b", "a", "c")
    assert index.zones_at(Point(12.9091, 77.6091)) == ("small", "b", "a", "c")
    assert index.zones_at(Point(12.9093, 77.6093)) == ("b", "a", "c")


def test_a_zone_smaller_than_a_cell_is_found() -> None:
    """A polygon of 20 m that holds no cell centre still owns its points."""
    index = ZoneIndex([zone("tiny", square(77.6, 12.9, 0.0002))])
    assert index.zone_at(Point(12.9001, 77.6001)) == "tiny"


def test_a_multipolygon_owns_all_its_parts() -> None:
    """Both islands belong to the zone, the gap does not."""
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [[square(77.60, 12.90)], [square(77.65, 12.90)]],
    }
    index = ZoneIndex([zone_from_geojson("m", geometry)])
    assert index.zone_at(Point(12.91, 77.61)) == index.zone_at(Point(12.91, 77.66)) == "m"
    assert index.zone_at(Point(12.91, 77.635)) is None


def test_a_ring_that_crosses_itself_is_mended() -> None:
    """Both halves of a bow tie belong to the zone, and what lies beside them does not."""
    bow = [[77.60, 12.90], [77.62, 12.92], [77.62, 12.90], [77.60, 12.92], [77.60, 12.90]]
    mended = zone("bow", bow)
    assert mended.polygon.is_valid
    index = ZoneIndex([mended])
    assert index.zone_at(Point(12.91, 77.603)) == index.zone_at(Point(12.91, 77.617)) == "bow"
    assert index.zone_at(Point(12.903, 77.61)) is None


@pytest.mark.parametrize(
    ("geometry", "complaint"),
    [
        ({"type": "Point", "coordinates": [77.6, 12.9]}, "needs a Polygon"),
        ({"coordinates": [square(77.6, 12.9)]}, "needs a Polygon"),
        ({"type": "Polygon"}, "coordinates must be"),
        ({"type": "Polygon", "coordinates": []}, "coordinates must be"),
        ({"type": "Polygon", "coordinates": "no"}, "coordinates must be"),
        ({"type": "Polygon", "coordinates": [5]}, "ring must be"),
        ({"type": "Polygon", "coordinates": [[[77.6, 12.9], 4]]}, "not a position"),
        ({"type": "Polygon", "coordinates": [[[77.6, "12.9"]]]}, "not a position"),
        ({"type": "Polygon", "coordinates": [square(77.6, 12.9)[:-1]]}, "not closed"),
        ({"type": "Polygon", "coordinates": [[[77.6, 12.9], [77.6, 12.9]]]}, "four positions"),
        ({"type": "Polygon", "coordinates": [square(12.9, 97.6)]}, "not a place"),
        ({"type": "Polygon", "coordinates": [[[77.6, float("nan")]] * 4]}, "not a place"),
        ({"type": "Polygon", "coordinates": [[[77.6, 12.9], [77.7, 12.9]] * 2 + [[77.6, 12.9]]]},
         "no area"),
        ({"type": "Polygon", "coordinates": [square(77.6, 12.9, 5.0)]}, "km2"),
        ({"type": "MultiPolygon", "coordinates": [
            [square(179.97, 12.9)], [square(-179.99, 12.9)]]}, "antimeridian"),
    ],
)  # fmt: skip
def test_a_bad_geometry_is_refused_with_its_reason(
    geometry: Mapping[str, object], complaint: str
) -> None:
    """What is wrong with a polygon is named, with the zone's id."""
    with pytest.raises(ValueError, match=f"zone z1: .*{complaint}"):
        zone_from_geojson("z1", geometry)


def test_two_zones_of_one_id_are_refused() -> None:
    """An id names one zone."""
    with pytest.raises(ValueError, match="same id"):
        ZoneIndex([zone("a", square(77.6, 12.9)), zone("a", square(77.7, 12.9))])
