"""Great-circle distances on a sphere, for one pair of points or for arrays of them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the WGS84 ellipsoid; within a city the sphere is wrong by at most 0.6 %."""

METRES_PER_DEGREE = math.radians(1.0) * EARTH_RADIUS_M
"""Metres in one degree of latitude; of longitude, times the cosine of the latitude."""


class Point(NamedTuple):
    """A place: WGS84 latitude and longitude in degrees."""

    lat: float
    lon: float


def distance_m(a: Point, b: Point) -> float:
    """Metres between two points (haversine formula, R. W. Sinnott 1984)."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat = math.sin((lat_b - lat_a) / 2.0)
    half_lon = math.sin(math.radians(b.lon - a.lon) / 2.0)
    h = half_lat * half_lat + math.cos(lat_a) * math.cos(lat_b) * half_lon * half_lon
    return 2.0 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, h)))


def distances_m(
    lat_a: ArrayLike, lon_a: ArrayLike, lat_b: ArrayLike, lon_b: ArrayLike
) -> NDArray[np.float64]:
    """Metres between arrays of points, broadcast against each other as numpy does.

    For a full matrix give the first pair as columns, ``lat[:, None]``.
    """
    phi_a = np.radians(np.asarray(lat_a, dtype=np.float64))
    phi_b = np.radians(np.asarray(lat_b, dtype=np.float64))
    lambda_a = np.radians(np.asarray(lon_a, dtype=np.float64))
    lambda_b = np.radians(np.asarray(lon_b, dtype=np.float64))
    h = (
        np.sin((phi_b - phi_a) / 2.0) ** 2
        + np.cos(phi_a) * np.cos(phi_b) * np.sin((lambda_b - lambda_a) / 2.0) ** 2
    )
    return np.asarray(2.0 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(1.0, h))))


def bearing_deg(a: Point, b: Point) -> float:
    """The way to face at ``a`` to go straight to ``b``: degrees clockwise from north, in [0, 360).

    0 if the points are the same.
    """
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    turn = math.radians(b.lon - a.lon)
    east = math.sin(turn) * math.cos(lat_b)
    north = math.cos(lat_a) * math.sin(lat_b) - math.sin(lat_a) * math.cos(lat_b) * math.cos(turn)
    # A tiny negative angle becomes exactly 360.0 under one modulo, and 0.0 under a second.
    return math.degrees(math.atan2(east, north)) % 360.0 % 360.0


def interpolate(a: Point, b: Point, fraction: float) -> Point:
    """The point at ``fraction`` of the way from ``a`` (0) to ``b`` (1).

    Linear in degrees, along the shorter way round: within 5 cm of the great circle for points
    1 km apart below 65°, which is what moving a rider
    along a street needs. Not for points near a pole.

    Raises ValueError if ``fraction`` is not within 0 to 1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction {fraction} is not between 0 and 1")
    turn = (b.lon - a.lon + 180.0) % 360.0 - 180.0
    if abs(b.lon - a.lon) <= 180.0:
        turn = b.lon - a.lon  # keeps exact ends where no wrapping is needed
    lon = a.lon + turn * fraction
    if abs(lon) > 180.0:
        lon -= math.copysign(360.0, lon)
    return Point(a.lat + (b.lat - a.lat) * fraction, lon)


class LocalProjection(NamedTuple):
    """Metres east and north of a point: equirectangular, good to 0.1 % over 50 km below 60°."""

    origin: Point

    def to_metres(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
        """Arrays of one shape to an array of that shape plus a last axis (east, north)."""
        east_scale = METRES_PER_DEGREE * math.cos(math.radians(self.origin.lat))
        east = (np.asarray(lon, dtype=np.float64) - self.origin.lon) * east_scale
        north = (np.asarray(lat, dtype=np.float64) - self.origin.lat) * METRES_PER_DEGREE
        return np.stack([east, north], axis=-1)

    def to_degrees(self, metres: ArrayLike) -> NDArray[np.float64]:
        """The inverse: last axis (east, north) to last axis (lat, lon)."""
        plane = np.asarray(metres, dtype=np.float64)
        east_scale = METRES_PER_DEGREE * math.cos(math.radians(self.origin.lat))
        return np.stack(
            [
                self.origin.lat + plane[..., 1] / METRES_PER_DEGREE,
                self.origin.lon + plane[..., 0] / east_scale,
            ],
            axis=-1,
        )
