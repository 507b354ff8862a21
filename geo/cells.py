"""H3 cells as integers: the one place that speaks to the h3 library.

https://h3geo.org/docs/core-library/restable gives the sizes quoted below.
"""

import math
from collections.abc import Iterable

import h3.api.basic_int as h3  # type: ignore[import-untyped]  # h3 ships no type information
import numpy as np
from numpy.typing import ArrayLike, NDArray

RIDER_RESOLUTION = 9
"""Riders and travel times: mean edge 201 m."""

ZONE_RESOLUTION = 10
"""Covers of zones: mean edge 76 m, so few points need an exact polygon test."""

DEMAND_RESOLUTION = 8
"""Demand and surge: mean edge 531 m."""

# H3 cells differ in size and shape over the globe: on 7,000 random cells at each of resolutions 8
# to 10, what a 3-ring covers was 0.668 of the regular grid's with the mean edge, at the least.
_SMALLEST_SHARE = 0.65


def cell_of(lat: float, lon: float, resolution: int) -> int:
    """The H3 cell that holds a point.

    Raises ValueError if the point is not on the globe or the resolution is not 0 to 15.
    """
    if not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0):
        raise ValueError(f"no such place: latitude {lat}, longitude {lon}")
    _check_resolution(resolution)
    cell: int = h3.latlng_to_cell(lat, lon, resolution)
    return cell


def cells_of(lat: ArrayLike, lon: ArrayLike, resolution: int) -> NDArray[np.int64]:
    """The cell of each point: ``lat`` and ``lon`` of one shape, which the answer has too.

    About 0.7 us a point. Raises ValueError as ``cell_of`` does.
    """
    lats = np.asarray(lat, dtype=np.float64)
    lons = np.asarray(lon, dtype=np.float64)
    if lats.shape != lons.shape:
        raise ValueError(f"latitudes {lats.shape} and longitudes {lons.shape} differ in shape")
    _check_resolution(resolution)
    on_globe = (np.abs(lats) <= 90.0) & (np.abs(lons) <= 180.0)
    if not on_globe.all():
        raise ValueError(f"{int((~on_globe).sum())} of {lats.size} points are not on the globe")
    of_point = h3.latlng_to_cell
    cells = (
        of_point(a, b, resolution)
        for a, b in zip(lats.ravel().tolist(), lons.ravel().tolist(), strict=True)
    )
    return np.fromiter(cells, dtype=np.int64, count=lats.size).reshape(lats.shape)


def disk(cell: int, k: int) -> list[int]:
    """All cells at most ``k`` steps from ``cell``, itself included, in no promised order.

    Raises ValueError for an invalid cell or a negative ``k``.
    """
    if k < 0:
        raise ValueError(f"a disk cannot have {k} rings")
    return list(h3.grid_disk(cell, k))


def centre(cell: int) -> tuple[float, float]:
    """Latitude and longitude of a cell's centre. Raises ValueError for an invalid cell."""
    lat, lon = h3.cell_to_latlng(cell)
    return lat, lon


def boundary(cell: int) -> tuple[tuple[float, float], ...]:
    """The corners of a cell as (lat, lon), not closed. Raises ValueError for an invalid cell."""
    corners: tuple[tuple[float, float], ...] = h3.cell_to_boundary(cell)
    return corners


def cells_in_polygon(
    outer: Iterable[tuple[float, float]],
    holes: Iterable[Iterable[tuple[float, float]]],
    resolution: int,
) -> list[int]:
    """Cells whose centre lies in a polygon given as rings of (lat, lon).

    Raises ValueError for a ring that h3 refuses.
    """
    shape = h3.LatLngPoly(list(outer), *(list(hole) for hole in holes))
    return list(h3.polygon_to_cells(shape, resolution))


def rings_for_radius(radius_m: float, resolution: int) -> int:
    """Rings ``k`` so that ``disk(cell, k)`` holds all within ``radius_m`` of any point of ``cell``.

    On a regular hexagonal grid of edge e, the nearest side of the k-ring is (1.5 k + 0.5) e from
    the centre, and a point is at most e from the centre of its cell; so k must be at least
    (radius / e + 0.5) / 1.5. The edge is taken small enough for H3's smallest cells, so far from
    those the disk is somewhat larger than needed: filter by distance afterwards.

    Raises ValueError for a negative or non-finite radius or a resolution outside 0 to 15.
    """
    if not (math.isfinite(radius_m) and radius_m >= 0.0):
        raise ValueError(f"a radius of {radius_m} m makes no sense")
    edge_m = _SMALLEST_SHARE * mean_edge_m(resolution)
    return math.ceil((radius_m / edge_m + 0.5) / 1.5)


def mean_edge_m(resolution: int) -> float:
    """Metres of a cell's edge, the mean over the globe. Raises ValueError outside 0 to 15."""
    _check_resolution(resolution)
    return float(h3.average_hexagon_edge_length(resolution, unit="m"))


def _check_resolution(resolution: int) -> None:
    """h3 refuses it too, but with an empty message."""
    if not 0 <= resolution <= 15:
        raise ValueError(f"H3 has resolutions 0 to 15, not {resolution}")
