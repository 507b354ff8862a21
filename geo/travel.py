"""Seconds between any two points of a city, without a route: an array gather and a correction.

``TravelTimes`` knows the mean time by road between every two H3 cells. ``StraightLine`` answers the
same questions without a road network. Both are free-flow times of a scooter; the hour of the day
is a factor that the caller applies.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo.cells import RIDER_RESOLUTION, cells_of, centre, disk, mean_edge_m
from geo.contraction import without_bends
from geo.distances import distances_m
from geo.packing import pack, unpack
from geo.roads import RoadGraph
from geo.travel_matrix import best_pace, central_nodes, mean_seconds, median_pace

DETOUR = 1.35
"""Metres by road for one metre in a straight line: the median of 2,000 random trips in Porto Alegre
(middle half: 1.27 to 1.47); 1.28 in a procedural city."""

SPEED_MPS = 7.0
"""25 km/h, a scooter in town with its stops; used only where no road network is known."""

UNKNOWN_S = 65_535
"""In the matrix: no way by road within the longest trip."""

LONGEST_TRIP_S = 7200.0

_FORMAT = "travel times"
_OUTSIDE = -1

# Cells that a point is interpolated over. With all seven around it the error was the same and the
# gathers five times as many; with its own alone an ETA leapt by 15 s (median) between two cells.
_CORNERS = 3


@dataclass(frozen=True, slots=True)
class StraightLine:
    """The last fallback: straight line times ``detour``, at ``speed_mps``.

    Raises ValueError unless detour is at least 1 and the speed is above 0.
    """

    detour: float = DETOUR
    speed_mps: float = SPEED_MPS

    def __post_init__(self) -> None:
        if not (self.detour >= 1.0 and self.speed_mps > 0.0):
            raise ValueError(f"detour {self.detour} at {self.speed_mps} m/s is no way to travel")

    def rows_of(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
        """-1 for each point: no point has a row. ``lat`` and ``lon`` broadcast."""
        shape = np.broadcast(np.asarray(lat), np.asarray(lon)).shape
        return np.full(shape, _OUTSIDE, dtype=np.int32)

    def between(
        self, lat_a: ArrayLike, lon_a: ArrayLike, lat_b: ArrayLike, lon_b: ArrayLike
    ) -> NDArray[np.float32]:
        """Seconds from each a to each b, broadcast: float32."""
        apart_m = distances_m(lat_a, lon_a, lat_b, lon_b)
        return np.asarray(apart_m * (self.detour / self.speed_mps), dtype=np.float32)


def straight_line(detour: float = DETOUR, speed_mps: float = SPEED_MPS) -> StraightLine:
    """``StraightLine`` with these values. Raises ValueError as it does."""
    return StraightLine(detour, speed_mps)


@dataclass(frozen=True, eq=False)
class TravelTimes:
    """Mean seconds by road between the k H3 cells of a city that have streets.

    ``cells``: int64[k], ascending, of one ``resolution``. ``seconds``: uint16[k, k], from row to
    column, ``UNKNOWN_S`` where there is no way. ``lat``, ``lon``: float64[k], the mean place of
    each cell's junctions, which the seconds belong to. ``pace_s_per_m``: seconds a metre of
    straight line, the median over far cells; ``near_pace_s_per_m``: over cells next to each other
    (one-way streets and dead ends weigh more there); ``best_pace_s_per_m``: on the fastest street.

    Error of ``between`` against ``RoadGraph.route`` on the graph of porto-alegre.osm.pbf (1,260
    cells), 24,000 random pairs of street nodes more than 500 m apart: median 3.1 %, 95th percentile
    14.4 %, bias -2 s; by distance, 200-500 m 24 and 85 %, 500-1,000 m 12 and 49 %, 1-3 km 6 and
    22 %, beyond 2.7 and 10 %. On the procedural city of seed 1: 2.5 and 11.8 %. Straight lines at
    the best single pace: 12.1 and 44.5 %. It takes 4 us a pair with the look-up of both
    rows, 0.1 us in a matrix of 200 x 300, and 0.25 ms for a pair alone: ask for many at once.

    Raises ValueError if the arrays do not fit together. Compared by identity.
    """

    resolution: int
    cells: NDArray[np.int64]
    seconds: NDArray[np.uint16]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    pace_s_per_m: float
    near_pace_s_per_m: float
    best_pace_s_per_m: float

    def __post_init__(self) -> None:
        k = len(self.cells)
        if not (
            self.cells.shape == self.lat.shape == self.lon.shape == (k,)
            and self.seconds.shape == (k, k)
        ):
            raise ValueError("travel times: cells, places and matrix differ in size")
        if self.seconds.dtype != np.uint16 or bool((np.diff(self.cells) <= 0).any()):
            raise ValueError("travel times: cells must ascend, and seconds must be uint16")
        paces = (self.best_pace_s_per_m, self.pace_s_per_m, self.near_pace_s_per_m)
        if not all(0.0 < pace < float("inf") for pace in paces):
            raise ValueError(f"travel times: paces {paces} must be above 0")
        for array in (self.cells, self.seconds, self.lat, self.lon):
            array.setflags(write=False)

    def __getstate__(self) -> dict[str, object]:
        """Fields only: what is cached is built again in the other process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def compute(
        cls,
        roads: RoadGraph,
        resolution: int = RIDER_RESOLUTION,
        longest_s: float = LONGEST_TRIP_S,
    ) -> Self:
        """The matrix of a road graph, by Dijkstra's algorithm bounded at ``longest_s``.

        Takes about 3 ms a cell at 30,000 nodes (4 s for the 1,260 cells of Porto Alegre, 0.4 s for
        a procedural city), so keep ``to_bytes``. Raises ValueError for a graph without
        nodes or a bound outside 1 to 65,534 s.
        """
        if not roads.node_count:
            raise ValueError("travel times need a road graph with nodes")
        if not 1.0 <= longest_s < UNKNOWN_S:
            raise ValueError(f"longest trip of {longest_s} s: must be from 1 to {UNKNOWN_S - 1}")
        cells, cell_of_node = np.unique(
            cells_of(roads.lat, roads.lon, resolution), return_inverse=True
        )
        keep = np.zeros(roads.node_count, dtype=np.bool_)
        keep[central_nodes(roads, cells, cell_of_node)] = True  # so that each cell keeps a node
        nodes = without_bends(roads, keep)
        cell_of_node = np.searchsorted(cells, cells_of(nodes.lat, nodes.lon, resolution))
        sizes = np.bincount(cell_of_node)
        lat = np.bincount(cell_of_node, nodes.lat) / sizes
        lon = np.bincount(cell_of_node, nodes.lon) / sizes
        mean_s = mean_seconds(nodes, cells, cell_of_node, longest_s)
        known = mean_s <= longest_s
        apart_m = distances_m(lat[:, None], lon[:, None], lat, lon)
        reach_m = _near_m(resolution)
        pace = median_pace(mean_s, apart_m, known & (apart_m > reach_m), DETOUR / SPEED_MPS)
        near = known & (apart_m > 0.0) & (apart_m <= reach_m)
        return cls(
            resolution=resolution,
            cells=cells,
            seconds=np.where(known, np.rint(mean_s), UNKNOWN_S).astype(np.uint16),
            lat=lat,
            lon=lon,
            pace_s_per_m=pace,
            near_pace_s_per_m=median_pace(mean_s, apart_m, near, pace),
            best_pace_s_per_m=best_pace(roads, pace),
        )

    @cached_property
    def _row_of_cell(self) -> dict[int, int]:
        """The row of every cell that has one, and of cells without streets next to one that has."""
        rows = {cell: row for row, cell in enumerate(self.cells.tolist())}
        bare = {near for cell in rows for near in disk(cell, 1)} - rows.keys()
        for cell in sorted(bare):
            beside = np.array([rows[near] for near in disk(cell, 1) if near in self._streets])
            lat, lon = centre(cell)
            apart_m = distances_m(lat, lon, self.lat[beside], self.lon[beside])
            rows[cell] = int(beside[apart_m.argmin()])
        return rows

    @cached_property
    def _streets(self) -> frozenset[int]:
        return frozenset(self.cells.tolist())

    def rows_of(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
        """The row of each point's cell, -1 outside the city: int32, ``lat`` and ``lon`` broadcast.

        A cell without streets takes the row of the nearest cell beside it. About 0.8 us a point:
        for the same points again and again keep the rows. Raises ValueError for a point that is
        not on the globe.
        """
        lats, lons = np.broadcast_arrays(
            np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
        )
        row_of = self._row_of_cell
        cells = cells_of(lats, lons, self.resolution)
        rows = (row_of.get(cell, _OUTSIDE) for cell in cells.ravel().tolist())
        return np.fromiter(rows, dtype=np.int32, count=cells.size).reshape(cells.shape)

    def between(
        self, lat_a: ArrayLike, lon_a: ArrayLike, lat_b: ArrayLike, lon_b: ArrayLike
    ) -> NDArray[np.float32]:
        """Seconds from each a to each b, broadcast: float32. For a matrix give a as columns.

        Raises ValueError for a point that is not on the globe. See ``between_rows``.
        """
        row_a, row_b = self.rows_of(lat_a, lon_a), self.rows_of(lat_b, lon_b)
        return self.between_rows(row_a, lat_a, lon_a, row_b, lat_b, lon_b)

    def between_rows(
        self,
        row_a: ArrayLike,
        lat_a: ArrayLike,
        lon_a: ArrayLike,
        row_b: ArrayLike,
        lat_b: ArrayLike,
        lon_b: ArrayLike,
    ) -> NDArray[np.float32]:
        """``between`` for points whose rows are known from ``rows_of``.

        Far apart: seconds between the cells around a and the cells around b, interpolated so that
        nothing leaps where a rider enters another cell. Nearer than three cell edges (600 m) this
        goes over, in proportion to the distance, to the near pace on the straight line, which is 0
        for one and the same point: so an ETA shrinks smoothly as a rider comes close. Never faster
        than the fastest street. Outside the city, or without a way by road: straight line times the
        pace.
        """
        around_a, weight_a = self._around(row_a, lat_a, lon_a)
        around_b, weight_b = self._around(row_b, lat_b, lon_b)
        apart_m = distances_m(lat_a, lon_a, lat_b, lon_b)
        far_s = self.pace_s_per_m * apart_m
        for i, j in product(range(_CORNERS), repeat=2):
            extra_s = self._extra_s[around_a[..., i], around_b[..., j]]
            far_s = far_s + weight_a[..., i] * weight_b[..., j] * extra_s
        share = np.minimum(1.0, apart_m / _near_m(self.resolution))
        by_road = share * far_s + (1.0 - share) * self.near_pace_s_per_m * apart_m
        known = (np.asarray(row_a) >= 0) & (np.asarray(row_b) >= 0) & np.isfinite(by_road)
        seconds = np.where(known, by_road, self.pace_s_per_m * apart_m)
        return np.maximum(seconds, self.best_pace_s_per_m * apart_m).astype(np.float32)

    @cached_property
    def _extra_s(self) -> NDArray[np.float32]:
        """What each pair of cells takes beyond the pace on its straight line; NaN if unknown."""
        apart_m = distances_m(self.lat[:, None], self.lon[:, None], self.lat, self.lon)
        extra_s = self.seconds - self.pace_s_per_m * apart_m
        return np.where(self.seconds == UNKNOWN_S, np.nan, extra_s).astype(np.float32)

    @cached_property
    def _beside(self) -> NDArray[np.int32]:
        """Each row and the rows of the cells beside its own: int32[k, 7], itself where none is."""
        row_of = {cell: row for row, cell in enumerate(self.cells.tolist())}
        beside = np.repeat(np.arange(len(row_of), dtype=np.int32)[:, None], 7, axis=1)
        for cell, row in row_of.items():
            others = sorted(
                row_of[near] for near in disk(cell, 1) if near in row_of.keys() - {cell}
            )
            beside[row, 1 : 1 + len(others)] = others
        return beside

    def _around(
        self, rows: ArrayLike, lat: ArrayLike, lon: ArrayLike
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The rows to interpolate over for each point and their weights: last axis ``_CORNERS``.

        The nearest places weigh (1 - (d / reach)^2)^2, less what the first one left out weighs: so
        a weight is 0 when its place begins or ceases to be among the nearest.
        """
        own = np.asarray(rows)
        nearby = self._beside[own]
        off_m = distances_m(
            np.asarray(lat)[..., None], np.asarray(lon)[..., None],
            self.lat[nearby], self.lon[nearby],
        )  # fmt: skip
        reach_m = 2.0 * mean_edge_m(self.resolution)
        weights = np.maximum(0.0, 1.0 - (off_m / reach_m) ** 2) ** 2
        weights[..., 1:][nearby[..., 1:] == nearby[..., :1]] = 0.0  # filled in where no cell is
        order = np.argsort(-weights, axis=-1)[..., : _CORNERS + 1]
        nearby = np.take_along_axis(nearby, order, axis=-1)
        weights = np.take_along_axis(weights, order, axis=-1)
        weights = weights[..., :_CORNERS] - weights[..., _CORNERS:]
        total = weights.sum(axis=-1, keepdims=True)
        # Far from all streets of its cell a point takes the cell's own row.
        first_only = np.arange(_CORNERS) == 0
        weights = np.where(total > 0.0, weights / np.where(total > 0.0, total, 1.0), first_only)
        return np.where(weights > 0.0, nearby[..., :_CORNERS], own[..., None]), weights

    def to_bytes(self) -> bytes:
        """The matrix as a compressed ``.npz`` without pickle, about 1.5 bytes a pair of cells."""
        return pack(
            _FORMAT,
            {
                "cells": self.cells,
                "seconds": self.seconds,
                "lat": self.lat,
                "lon": self.lon,
                "resolution": np.array(self.resolution),
                "paces": np.array(
                    [self.pace_s_per_m, self.near_pace_s_per_m, self.best_pace_s_per_m]
                ),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What ``to_bytes`` wrote. Raises ValueError if ``data`` is anything else."""
        arrays = unpack(_FORMAT, data, ("cells", "seconds", "lat", "lon", "resolution", "paces"))
        paces = arrays["paces"].astype(np.float64)
        if paces.shape != (3,) or arrays["seconds"].dtype != np.uint16:
            raise ValueError("travel times: the stored matrix or its paces are of another form")
        return cls(
            resolution=int(arrays["resolution"].astype(np.int64)),
            cells=arrays["cells"].astype(np.int64),
            seconds=arrays["seconds"].astype(np.uint16),
            lat=arrays["lat"].astype(np.float64),
            lon=arrays["lon"].astype(np.float64),
            pace_s_per_m=float(paces[0]),
            near_pace_s_per_m=float(paces[1]),
            best_pace_s_per_m=float(paces[2]),
        )


def _near_m(resolution: int) -> float:
    """How near is too near for the matrix: three mean edges, a little under two cells."""
    return 3.0 * mean_edge_m(resolution)
