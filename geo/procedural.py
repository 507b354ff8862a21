"""A made-up city from a seed: streets, a river with a few bridges, one-way streets, districts.

For demos and tests without an OpenStreetMap extract. The ground plan is in ``geo.city_plan``.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon

from geo.city_plan import (
    DistrictKind,
    River,
    Site,
    plan_avenues,
    plan_crossings,
    plan_districts,
    plan_river,
)
from geo.distances import LocalProjection, Point, distances_m
from geo.roads import RoadGraph
from geo.street_names import unlike_names

__all__ = ["BENGALURU", "District", "DistrictKind", "ProceduralCity", "procedural_city"]

BENGALURU = Point(12.9716, 77.5946)
"""Where the city stands unless told otherwise: a town where such shops are much used."""

SMALLEST_CITY_M = 2000.0
LARGEST_CITY_M = 16_000.0


@dataclass(frozen=True, slots=True)
class District:
    """A part of the city. ``demand``: orders an area, as against a residential one of 1.0."""

    name: str
    kind: DistrictKind
    polygon: Polygon
    demand: float


@dataclass(frozen=True, slots=True)
class ProceduralCity:
    """``roads`` are strongly connected; polygons and lines are in (longitude, latitude) degrees.

    ``districts`` tile the square of the city. Streets touch the ``river`` on ``bridges`` only, each
    a straight line from bank to bank.
    """

    seed: int
    centre: Point
    size_m: float
    roads: RoadGraph
    river: Polygon
    bridges: tuple[LineString, ...]
    districts: tuple[District, ...]


@dataclass(frozen=True, slots=True)
class _Character:
    """What a kind of district makes of its side streets, and how much is ordered there."""

    omitted: float  # share of the pieces between two crossings that are not built: larger blocks
    one_way: float  # share of the side streets
    demand: float


_CHARACTER = {
    DistrictKind.CENTRE: _Character(omitted=0.02, one_way=0.75, demand=2.5),
    DistrictKind.RESIDENTIAL: _Character(omitted=0.12, one_way=0.35, demand=1.0),
    DistrictKind.SUBURB: _Character(omitted=0.30, one_way=0.10, demand=0.6),
    DistrictKind.INDUSTRIAL: _Character(omitted=0.45, one_way=0.0, demand=0.15),
}

_ARTERIAL_KMH, _COLLECTOR_KMH, _SIDE_KMH = 40.0, 32.0, 22.0
_BANK_M = 25.0  # crossings keep this far from the water
_BRIDGE_EVERY_M = 1400.0
_DECIMALS = 7  # places of a degree, 1 cm: hides the last bits in which maths libraries differ


@dataclass(frozen=True, slots=True)
class _Street:
    """A line of the grid, as straight as the bends let it be."""

    stem: str
    name: str
    speed_kmh: float

    @property
    def side_street(self) -> bool:
        return self.speed_kmh == _SIDE_KMH


@dataclass(slots=True)
class _Edges:
    """Streets as they are laid; crossings by their index in the flattened grid."""

    tail: list[int] = field(default_factory=list)
    head: list[int] = field(default_factory=list)
    speed_kmh: list[float] = field(default_factory=list)
    name: list[str] = field(default_factory=list)

    def lay(self, start: int, end: int, speed_kmh: float, name: str, way: int) -> None:
        """One piece of street: ``way`` 1 from start to end, -1 the other way, 0 both."""
        for tail, head in [(start, end)] * (way >= 0) + [(end, start)] * (way <= 0):
            self.tail.append(tail)
            self.head.append(head)
            self.speed_kmh.append(speed_kmh)
            self.name.append(name)


def procedural_city(seed: int, centre: Point = BENGALURU, size_m: float = 8000.0) -> ProceduralCity:
    """The city of a seed: the same arguments always give the same city. 8 km take 0.1 s.

    ``size_m`` is the side of its square. Raises ValueError for a size outside 2,000 to 16,000 m or
    a centre beyond 75° of latitude.
    """
    if not SMALLEST_CITY_M <= size_m <= LARGEST_CITY_M:
        raise ValueError(
            f"a city of {size_m} m: from {SMALLEST_CITY_M:.0f} to {LARGEST_CITY_M:.0f} can be made"
        )
    if not (abs(centre.lat) <= 75.0 and abs(centre.lon) <= 179.0):
        raise ValueError(f"no city can be made at {centre}")
    rng = random.Random(seed)
    river = plan_river(rng, size_m)
    column_at, row_at = plan_avenues(rng, size_m), plan_avenues(rng, size_m)
    crossings = plan_crossings(rng, column_at, row_at, size_m)
    sites = plan_districts(rng, size_m)
    stems = unlike_names(rng, len(column_at) + len(row_at) + len(sites))
    columns = _streets(rng, stems[: len(column_at)], "Street", "Avenue")
    rows = _streets(rng, stems[len(column_at) : len(column_at) + len(row_at)], "Lane", "Road")
    edges = _lay_streets(rng, crossings, columns, rows, river, sites)
    bridges = _lay_bridges(
        edges, crossings, columns, river, max(2, round(size_m / _BRIDGE_EVERY_M))
    )

    projection = LocalProjection(centre)
    roads = _graph(projection, crossings, edges)
    return ProceduralCity(
        seed=seed,
        centre=centre,
        size_m=size_m,
        roads=roads,
        river=_in_degrees(projection, river.polygon),
        bridges=tuple(_lines_named(roads, bridges)),
        districts=tuple(
            District(
                name=stem,
                kind=site.kind,
                polygon=_in_degrees(projection, site.polygon),
                demand=round(_CHARACTER[site.kind].demand * rng.uniform(0.8, 1.2), 2),
            )
            for site, stem in zip(sites, stems[len(column_at) + len(row_at) :], strict=True)
        ),
    )


def _streets(rng: random.Random, stems: list[str], small: str, large: str) -> list[_Street]:
    """Parallel streets: an arterial every five to eight, a collector between two of them."""
    speeds = [_SIDE_KMH] * len(stems)
    at = rng.randint(1, 4)
    while at < len(stems):
        speeds[at] = _ARTERIAL_KMH
        gap = rng.randint(5, 8)
        if at + gap < len(stems):
            speeds[at + gap // 2] = _COLLECTOR_KMH
        at += gap
    return [
        _Street(stem, f"{stem} {small if speed == _SIDE_KMH else large}", speed)
        for stem, speed in zip(stems, speeds, strict=True)
    ]


def _lay_streets(
    rng: random.Random,
    crossings: NDArray[np.float64],
    columns: list[_Street],
    rows: list[_Street],
    river: River,
    sites: list[Site],
) -> _Edges:
    """All streets on dry land; side streets are thinned and made one-way district by district."""
    number = np.arange(len(columns) * len(rows)).reshape(len(columns), len(rows))
    places = crossings.reshape(-1, 2)
    district = _nearest_site(places, sites)
    pieces = [
        (start, end, street, line)
        for line, (street, along) in enumerate(
            [*zip(columns, number, strict=True), *zip(rows, number.T, strict=True)]
        )
        for start, end in zip(along[:-1].tolist(), along[1:].tolist(), strict=True)
    ]
    ends = np.array([(start, end) for start, end, _, _ in pieces])
    dry = ~shapely.dwithin(shapely.linestrings(places[ends]), river.polygon, _BANK_M)
    edges = _Edges()
    one_way: dict[tuple[int, int], int] = {}
    for (start, end, street, line), is_dry in zip(pieces, dry.tolist(), strict=True):
        site = int(district[start])
        character = _CHARACTER[sites[site].kind]
        # Both draws are made for every piece, so that the river does not shift what follows.
        omitted, turned = rng.random() < character.omitted, rng.random() < character.one_way
        way = 0
        if street.side_street:
            # Neighbouring one-way streets run in opposite directions.
            way = one_way.setdefault((line, site), (1 - 2 * (line % 2)) * turned)
        if is_dry and not (omitted and street.side_street):
            edges.lay(start, end, street.speed_kmh, street.name, way)
    return edges


def _lay_bridges(
    edges: _Edges,
    crossings: NDArray[np.float64],
    columns: list[_Street],
    river: River,
    count: int,
) -> list[str]:
    """Carry ``count`` of the north-south arterials over the river, evenly apart; their names."""
    rows = crossings.shape[1]
    places = [
        (column, *banks)
        for column, street in enumerate(columns)
        if street.speed_kmh == _ARTERIAL_KMH
        and (banks := _banks(crossings[column], river)) is not None
    ]
    chosen = np.unique(np.rint(np.linspace(0, len(places) - 1, count)).astype(int)).tolist()
    names: list[str] = []
    for index in chosen:
        column, south, north = places[index]
        names.append(f"{columns[column].stem} Bridge")
        start, end = column * rows + south, column * rows + north
        edges.lay(start, end, _ARTERIAL_KMH, names[-1], way=0)
    return names


def _banks(along: NDArray[np.float64], river: River) -> tuple[int, int] | None:
    """The crossings of one avenue next to the water, south and north, if it has both."""
    dry = ~shapely.dwithin(shapely.points(along), river.polygon, _BANK_M)
    below = along[:, 1] < river.axis(along[:, 0])
    south, north = np.flatnonzero(dry & below), np.flatnonzero(dry & ~below)
    if not (south.size and north.size and south[-1] < north[0]):
        return None
    return int(south[-1]), int(north[0])


def _nearest_site(places: NDArray[np.float64], sites: list[Site]) -> NDArray[np.intp]:
    """The district of each place: districts are Voronoi cells, so the one with the nearest seed."""
    seeds = np.array([(site.east, site.north) for site in sites])
    apart = np.linalg.norm(places[:, None, :] - seeds[None, :, :], axis=-1)
    return np.asarray(apart.argmin(axis=1))


def _graph(projection: LocalProjection, crossings: NDArray[np.float64], edges: _Edges) -> RoadGraph:
    places = np.round(projection.to_degrees(crossings.reshape(-1, 2)), _DECIMALS)
    tail, head = np.array(edges.tail), np.array(edges.head)
    length_m = distances_m(places[tail, 0], places[tail, 1], places[head, 0], places[head, 1])
    names = sorted(set(edges.name))
    index = {name: position for position, name in enumerate(names)}
    return RoadGraph.from_edges(
        lat=places[:, 0],
        lon=places[:, 1],
        tail=tail,
        head=head,
        length_m=length_m,
        seconds=length_m / (np.array(edges.speed_kmh) / 3.6),
        name=np.array([index[name] for name in edges.name], dtype=np.int32),
        names=names,
    ).largest_strong_component()


def _lines_named(roads: RoadGraph, names: list[str]) -> Iterator[LineString]:
    """The straight pieces with these names in the finished graph, each once."""
    assert roads.name is not None
    for name in names:
        for edge in np.flatnonzero(roads.name == roads.names.index(name)).tolist():
            tail, head = int(roads.tail[edge]), int(roads.head[edge])
            if tail < head:
                ends = [(roads.lon[node], roads.lat[node]) for node in (tail, head)]
                yield LineString(ends)


def _in_degrees(projection: LocalProjection, area: Polygon) -> Polygon:
    """A polygon of metres as one of (longitude, latitude), rounded."""
    return shapely.transform(
        area, lambda metres: np.round(projection.to_degrees(metres)[:, ::-1], _DECIMALS)
    )
