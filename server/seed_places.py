"""Where the dark stores of a seeded city stand, and which part of it each serves.  Pure.

Demand is counted on H3 cells of resolution 9 (the cells of ``TravelTimes``).  Stores are the
centres of a weighted k-means (S. Lloyd, 1982) over the cells of the busiest part of the city,
moved to the nearest street.  A cell belongs to the store from which it is reached soonest, so a
river without a bridge parts two zones; the cells of a store, merged, are its zone, and no point
lies in two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from geo.cells import RIDER_RESOLUTION, boundary, cells_of, disk
from geo.distances import LocalProjection, Point
from geo.procedural import District
from geo.roads import RoadGraph
from geo.travel import TravelTimes

# A disc of this radius a store: with four of them a drop-off is 1.6 km by road at the median.
_RADIUS_A_STORE_M: Final = 1_700.0
# Nobody is promised a quick delivery further away, in a straight line and by road.
_FURTHEST_M: Final = 2_700.0
_FURTHEST_S: Final = 720.0
# Beyond this many street nodes a cell is no busier: OSM draws bends with nodes as well.
_NODES_THAT_COUNT: Final = 12
_ROUNDS: Final = 30
# Corners of neighbouring cells agree to 1e-12 degrees; on this grid (1 cm) they are the same.
_GRID_DEG: Final = 1e-7


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store's place on a street, the street's name if it has one."""

    point: Point
    street: str | None


def place_stores(
    roads: RoadGraph, count: int, districts: tuple[District, ...] = ()
) -> list[StorePlace]:
    """``count`` places near demand and apart from each other; the same input gives the same.

    ``districts`` weigh demand; without them it goes by the density of streets.  Raises ValueError
    for a city with fewer busy cells than stores.
    """
    lat, lon, weight = _demand(roads, districts)
    projection = LocalProjection(Point(float(np.average(lat, weights=weight)),
                                       float(np.average(lon, weights=weight))))  # fmt: skip
    metres = projection.to_metres(lat, lon)
    near = _busiest_part(metres, weight, _RADIUS_A_STORE_M * float(np.sqrt(count)))
    if int(near.sum()) < count:
        raise ValueError(f"{int(near.sum())} cells with streets are too few for {count} stores")
    centres = projection.to_degrees(_k_means(metres[near], weight[near], count))
    nodes = sorted({int(n) for n in roads.nearest_nodes(centres[:, 0], centres[:, 1])})
    if len(nodes) < count:
        raise ValueError(f"the city is too small for {count} stores")
    return [_place(roads, node) for node in nodes]


def zones_of(times: TravelTimes, places: list[StorePlace]) -> list[dict[str, Any]]:
    """For each store the GeoJSON geometry (Polygon or MultiPolygon) of what it serves.

    ``Any`` is GeoJSON's nesting.  Raises ValueError when a store would serve nothing.
    """
    store_lat = np.array([place.point.lat for place in places])
    store_lon = np.array([place.point.lon for place in places])
    seconds = times.between(store_lat[:, None], store_lon[:, None], times.lat, times.lon)
    middle = Point(float(store_lat.mean()), float(store_lon.mean()))
    projection = LocalProjection(middle)
    apart = (
        projection.to_metres(times.lat, times.lon)[None, :, :]
        - projection.to_metres(store_lat, store_lon)[:, None, :]
    )
    served = (np.linalg.norm(apart, axis=-1) <= _FURTHEST_M) & (seconds <= _FURTHEST_S)
    cost = np.where(served, seconds, np.inf)
    owners = {
        int(cell): int(owner)
        for cell, owner, reached in zip(
            times.cells, cost.argmin(axis=0), served.any(axis=0), strict=True
        )
        if reached
    }
    _fill_gaps(owners)
    return [
        _merged([cell for cell, owner in owners.items() if owner == n]) for n in range(len(places))
    ]


def _demand(
    roads: RoadGraph, districts: tuple[District, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Latitude, longitude and weight of every cell with streets."""
    _, cell = np.unique(cells_of(roads.lat, roads.lon, RIDER_RESOLUTION), return_inverse=True)
    nodes = np.bincount(cell)
    lat = np.bincount(cell, roads.lat) / nodes
    lon = np.bincount(cell, roads.lon) / nodes
    weight = np.minimum(nodes, _NODES_THAT_COUNT).astype(np.float64)
    for district in districts:
        weight[shapely.contains_xy(district.polygon, lon, lat)] *= district.demand
    return lat, lon, weight


def _busiest_part(
    metres: NDArray[np.float64], weight: NDArray[np.float64], radius_m: float
) -> NDArray[np.bool_]:
    """The cells within ``radius_m`` of that cell around which most is ordered."""
    apart = np.linalg.norm(metres[:, None, :] - metres[None, :, :], axis=-1)
    return np.asarray(apart[((apart <= radius_m) @ weight).argmax()] <= radius_m)


def _k_means(
    metres: NDArray[np.float64], weight: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Weighted centres, begun with the heaviest cell and each time the one furthest from all."""
    chosen = [int(weight.argmax())]
    while len(chosen) < count:
        apart = np.linalg.norm(metres[:, None, :] - metres[chosen][None, :, :], axis=-1)
        chosen.append(int(apart.min(axis=1).argmax()))
    centres = metres[chosen]
    for _ in range(_ROUNDS):
        apart = np.linalg.norm(metres[:, None, :] - centres[None, :, :], axis=-1)
        owner = apart.argmin(axis=1)
        centres = np.array(
            [
                np.average(metres[owner == n], axis=0, weights=weight[owner == n])
                if bool((owner == n).any())
                else centres[n]
                for n in range(count)
            ]
        )
    return centres


def _place(roads: RoadGraph, node: int) -> StorePlace:
    street = None
    if roads.name is not None:
        labels = roads.name[roads.indptr[node] : roads.indptr[node + 1]].tolist()
        street = next((roads.names[label] for label in labels if label >= 0), None)
    return StorePlace(Point(float(roads.lat[node]), float(roads.lon[node])), street)


def _fill_gaps(owners: dict[int, int]) -> None:
    """Give a cell without streets to the store that most of its neighbours belong to."""
    around = {other for cell in owners for other in disk(cell, 1)} - owners.keys()
    for cell in sorted(around):
        neighbours = sorted(owners[other] for other in disk(cell, 1) if other in owners)
        # Fewer than four of six: the cell is not a gap but outside.
        if len(neighbours) >= 4:
            owners[cell] = max(neighbours, key=neighbours.count)


def _merged(cells: list[int]) -> dict[str, Any]:
    if not cells:
        raise ValueError("a store would serve nothing; seed fewer stores")
    areas = [Polygon([(lon, lat) for lat, lon in boundary(cell)]) for cell in sorted(cells)]
    merged = shapely.union_all(shapely.set_precision(np.array(areas), _GRID_DEG))
    geometry: dict[str, Any] = orjson.loads(shapely.to_geojson(merged))
    return geometry
