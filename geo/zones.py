"""Which zone owns a point: polygons under an H3 cover.

Every zone is covered with H3 cells of resolution 10. A cell that lies wholly inside a zone answers
at once; in a cell on the rim the exact polygon decides (by H3 alone 0.23-0.57 % of points got the
wrong zone). Zones are closed sets: a point on a shared border lies in both neighbours, and
``zone_at`` gives it to one of them, always the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon, shape
from shapely.geometry.base import BaseGeometry

from geo.cells import ZONE_RESOLUTION, boundary, cell_of, cells_in_polygon
from geo.distances import METRES_PER_DEGREE, Point

LARGEST_ZONE_KM2 = 5_000.0
"""A cover takes about 66 cells a km2; a zone beyond this is a wrong polygon, not a zone."""

# A cell's centre is at most this far from its corners: resolution 10 has a mean edge of 76 m and
# its largest cells are 1.2 times the mean area.
_CELL_REACH_M = 100.0

# Cell edges are great circles and zone edges are straight in degrees. Over one cell they part by
# less than a millimetre; a cell counts as inside only if it still is with this margin (1 cm).
_MARGIN_DEG = 1e-7


@dataclass(frozen=True, slots=True)
class Zone:
    """A named area: ``polygon`` in (longitude, latitude) degrees; a higher ``priority`` wins."""

    zone_id: str
    polygon: Polygon | MultiPolygon
    priority: int = 0


def zone_from_geojson(zone_id: str, geometry: Mapping[str, object], priority: int = 0) -> Zone:
    """A zone from a GeoJSON Polygon or MultiPolygon geometry (RFC 7946).

    A ring that crosses itself is mended by shapely's ``make_valid``, keeping the areas.

    Raises ValueError, naming the zone and what is wrong: another type, a ring that is not closed
    or has fewer than four positions, a position that is not a place, no area, too large an area,
    or a zone across the antimeridian.
    """
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"zone {zone_id}: needs a Polygon or MultiPolygon, not {kind!r}")
    coordinates = geometry.get("coordinates")
    for ring in _rings(zone_id, coordinates, depth=1 if kind == "Polygon" else 2):
        _check_ring(zone_id, ring)
    polygon = _areas_of(shape({"type": kind, "coordinates": coordinates}))
    if polygon.is_empty or not polygon.area > 0.0:
        raise ValueError(f"zone {zone_id}: has no area")
    west, south, east, north = polygon.bounds
    if east - west > 180.0:
        raise ValueError(f"zone {zone_id}: crosses the antimeridian; split it there")
    area_km2 = _area_km2(polygon, (south + north) / 2.0)
    if area_km2 > LARGEST_ZONE_KM2:
        raise ValueError(
            f"zone {zone_id}: {area_km2:,.0f} km2 is more than {LARGEST_ZONE_KM2:,.0f}; "
            "are latitude and longitude swapped?"
        )
    return Zone(zone_id, polygon, priority)


class ZoneIndex:
    """Answers which zones hold a point, in a few microseconds.

    ``zones`` have distinct ids, else ValueError. Building takes about 40 us a cell, that is 2.7 ms
    a km2 of zones. Immutable afterwards, so it may be shared between threads.
    """

    def __init__(self, zones: Iterable[Zone]) -> None:
        ranked = sorted(zones, key=lambda zone: (-zone.priority, zone.zone_id))
        self.zones: tuple[Zone, ...] = tuple(ranked)
        if len({zone.zone_id for zone in ranked}) != len(ranked):
            raise ValueError("two zones have the same id")
        self._ids = tuple(zone.zone_id for zone in ranked)
        self._polygons = tuple(zone.polygon for zone in ranked)
        # A cell with zones that all hold it whole, and cells where some zone must be asked: there
        # each entry is (rank, whole). Both in rank order, as the loop below goes by rank.
        whole_cells: dict[int, list[int]] = {}
        rim_cells: dict[int, list[tuple[int, bool]]] = {}
        for rank, zone in enumerate(ranked):
            for cell, whole in _cover(zone.polygon):
                if cell in rim_cells:
                    rim_cells[cell].append((rank, whole))
                elif whole:
                    whole_cells.setdefault(cell, []).append(rank)
                else:
                    earlier = [(other, True) for other in whole_cells.pop(cell, [])]
                    rim_cells[cell] = [*earlier, (rank, False)]
            shapely.prepare(zone.polygon)
        self._whole = {
            cell: tuple(self._ids[rank] for rank in ranks) for cell, ranks in whole_cells.items()
        }
        self._rim = {cell: tuple(entries) for cell, entries in rim_cells.items()}

    def zones_at(self, point: Point) -> tuple[str, ...]:
        """Ids of all zones that hold ``point``, borders included: highest priority first, then id.

        Raises ValueError if the point is not on the globe.
        """
        cell = cell_of(point.lat, point.lon, ZONE_RESOLUTION)
        inside = self._whole.get(cell)
        if inside is not None:
            return inside
        return tuple(
            self._ids[rank]
            for rank, whole in self._rim.get(cell, ())
            if whole or shapely.intersects_xy(self._polygons[rank], point.lon, point.lat)
        )

    def zone_at(self, point: Point) -> str | None:
        """The one zone that owns ``point``: the first of ``zones_at``, or None.

        Raises ValueError if the point is not on the globe.
        """
        cell = cell_of(point.lat, point.lon, ZONE_RESOLUTION)
        inside = self._whole.get(cell)
        if inside is not None:
            return inside[0]
        for rank, whole in self._rim.get(cell, ()):
            if whole or shapely.intersects_xy(self._polygons[rank], point.lon, point.lat):
                return self._ids[rank]
        return None


def _rings(zone_id: str, coordinates: object, depth: int) -> Iterable[Sequence[object]]:
    """The rings found ``depth`` lists below ``coordinates``."""
    if isinstance(coordinates, str) or not isinstance(coordinates, Sequence) or not coordinates:
        raise ValueError(f"zone {zone_id}: coordinates must be lists of rings of positions")
    for part in coordinates:
        if depth > 1:
            yield from _rings(zone_id, part, depth - 1)
        elif isinstance(part, str) or not isinstance(part, Sequence):
            raise ValueError(f"zone {zone_id}: a ring must be a list of positions")
        else:
            yield part


def _check_ring(zone_id: str, ring: Sequence[object]) -> None:
    """Raise ValueError unless the ring is closed and each position is a place."""
    for position in ring:
        if not (isinstance(position, Sequence) and not isinstance(position, str)):
            raise ValueError(f"zone {zone_id}: {position!r} is not a position")
        numbers = [value for value in position if isinstance(value, int | float)]
        if len(numbers) != len(position) or not 2 <= len(numbers) <= 3:
            raise ValueError(f"zone {zone_id}: {list(position)!r} is not a position")
        lon, lat = numbers[:2]
        if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
            raise ValueError(f"zone {zone_id}: longitude {lon}, latitude {lat} is not a place")
    if len(ring) < 4:
        raise ValueError(f"zone {zone_id}: a ring needs four positions, the last being the first")
    if ring[0] != ring[-1]:
        raise ValueError(f"zone {zone_id}: a ring is not closed")


def _areas_of(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The geometry in two dimensions, made valid, without the lines and points that may leave."""
    flat = shapely.force_2d(geometry)
    valid = flat if flat.is_valid else shapely.make_valid(flat)
    parts = [part for part in shapely.get_parts(valid).tolist() if part.area > 0.0]
    polygons: list[Polygon] = []
    for part in parts:
        polygons += [p for p in shapely.get_parts(part).tolist() if isinstance(p, Polygon)]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _area_km2(polygon: Polygon | MultiPolygon, lat: float) -> float:
    """Square kilometres, with degrees taken at one latitude."""
    degree_km = METRES_PER_DEGREE / 1000.0
    return float(polygon.area * degree_km * degree_km * math.cos(math.radians(lat)))


def _cover(polygon: Polygon | MultiPolygon) -> tuple[tuple[int, bool], ...]:
    """Every cell that touches the polygon, and whether it lies wholly inside."""
    return _cover_of(shapely.to_wkb(polygon))


@lru_cache(maxsize=256)
def _cover_of(wkb: bytes) -> tuple[tuple[int, bool], ...]:
    """A cover is kept: where one zone of a city is drawn anew, all others are as they were."""
    polygon = shapely.from_wkb(wkb)
    assert isinstance(polygon, Polygon | MultiPolygon), "it was one before"
    cells = _candidates(polygon)
    if not cells:
        return ()
    corners = [[(lon, lat) for lat, lon in boundary(cell)] for cell in cells]
    areas = shapely.buffer(
        np.array([Polygon(corner) for corner in corners]), _MARGIN_DEG, join_style="mitre"
    )
    shapely.prepare(polygon)
    touches = shapely.intersects(polygon, areas)
    whole = shapely.contains_properly(polygon, areas)
    return tuple(
        (cell, inside)
        for cell, touching, inside in zip(cells, touches.tolist(), whole.tolist(), strict=True)
        if touching
    )


def _candidates(polygon: Polygon | MultiPolygon) -> list[int]:
    """Cells with their centre within one cell of the polygon: all that can touch it, and some."""
    _, south, _, north = polygon.bounds
    # Grow by a cell's reach in metres: a degree of longitude is shortest at the farther latitude.
    squeeze = math.cos(math.radians(min(89.0, max(abs(south), abs(north)))))
    square = shapely.transform(polygon, lambda xy: xy * [squeeze, 1.0])
    grown = shapely.buffer(square, _CELL_REACH_M / METRES_PER_DEGREE, quad_segs=2)
    grown = shapely.buffer(grown, 0.0)
    found: set[int] = set()
    for part in shapely.get_parts(grown).tolist():
        rings = [
            [(lat, lon / squeeze) for lon, lat in ring.coords]
            for ring in (part.exterior, *part.interiors)
        ]
        found.update(cells_in_polygon(rings[0], rings[1:], ZONE_RESOLUTION))
    return sorted(found)
