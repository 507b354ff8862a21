"""Great-circle arithmetic."""

import numpy as np
import pytest

from geo.distances import LocalProjection, Point, bearing_deg, distance_m, distances_m, interpolate

PARIS = Point(48.8566, 2.3522)
LONDON = Point(51.5074, -0.1278)


def test_distance_between_known_cities() -> None:
    """Paris to London is 343.5 km on the sphere, either way; a place is 0 m from itself."""
    assert distance_m(PARIS, LONDON) == pytest.approx(343_556, rel=1e-4)
    assert distance_m(LONDON, PARIS) == distance_m(PARIS, LONDON)
    assert distance_m(PARIS, PARIS) == 0.0


def test_one_degree_along_a_meridian_and_opposite_points() -> None:
    """A degree of latitude is 111.195 km; opposite ends of the earth are half its girth apart."""
    assert distance_m(Point(0, 0), Point(1, 0)) == pytest.approx(111_195.08, abs=0.01)
    assert distance_m(Point(0, 0), Point(0, 180)) == pytest.approx(20_015_114, abs=1)


def test_arrays_broadcast_and_agree_with_the_scalar() -> None:
    """Columns against rows give the full matrix."""
    lat, lon = np.array([PARIS.lat, LONDON.lat]), np.array([PARIS.lon, LONDON.lon])
    matrix = distances_m(lat[:, None], lon[:, None], lat, lon)
    assert matrix.shape == (2, 2)
    assert matrix[0, 1] == pytest.approx(distance_m(PARIS, LONDON), rel=1e-12)
    assert matrix[0, 0] == 0.0


@pytest.mark.parametrize(
    ("to", "degrees"),
    [(Point(1, 0), 0.0), (Point(0, 1), 90.0), (Point(-1, 0), 180.0), (Point(0, -1), 270.0)],
)
def test_bearings_of_the_compass(to: Point, degrees: float) -> None:
    """Bearings run clockwise from north."""
    assert bearing_deg(Point(0, 0), to) == pytest.approx(degrees, abs=1e-9)


def test_interpolate_keeps_the_ends_and_halves_the_way() -> None:
    """Fractions 0 and 1 are the points themselves; the middle is as far from both."""
    a, b = Point(12.97, 77.59), Point(12.98, 77.60)
    assert interpolate(a, b, 0.0) == a
    assert interpolate(a, b, 1.0) == b
    middle = interpolate(a, b, 0.5)
    assert distance_m(a, middle) == pytest.approx(distance_m(middle, b), rel=1e-4)


def test_interpolate_goes_the_short_way_over_the_antimeridian() -> None:
    """Between 179.9 and -179.9 degrees the middle is at 180, not at 0."""
    assert abs(interpolate(Point(0, 179.9), Point(0, -179.9), 0.5).lon) == pytest.approx(180.0)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_interpolate_refuses_other_fractions(fraction: float) -> None:
    """A fraction outside 0 to 1 is a ValueError."""
    with pytest.raises(ValueError, match="fraction"):
        interpolate(PARIS, LONDON, fraction)


def test_the_local_plane_measures_as_the_sphere_and_returns() -> None:
    """Within 10 km, plane and sphere agree to 0.1 %, and to_degrees undoes to_metres."""
    origin = Point(-30.05, -51.2)
    plane = LocalProjection(origin)
    lat, lon = np.array([-30.05, -30.10]), np.array([-51.2, -51.13])
    metres = plane.to_metres(lat, lon)
    straight = float(np.hypot(*(metres[1] - metres[0])))
    apart_m = distance_m(origin, Point(-30.10, -51.13))
    assert straight == pytest.approx(apart_m, rel=1e-3)
    np.testing.assert_allclose(plane.to_degrees(metres), np.stack([lat, lon], axis=-1), atol=1e-12)
