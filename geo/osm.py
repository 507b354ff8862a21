"""Streets from an OpenStreetMap extract: what a motor scooter may drive, how fast, which way.

Tags are read as https://wiki.openstreetmap.org/wiki/Key:access and Key:oneway say. Speeds are
those of OSRM's car profile (profiles/car.lua) under the 45 km/h that Valhalla's
``motor_scooter`` costing takes as top speed; a ``maxspeed`` below caps them further. Data made from
an extract stays © OpenStreetMap contributors, ODbL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import osmium

from geo.distances import distances_m
from geo.roads import RoadGraph

TOP_SPEED_KMH = 45.0

SPEEDS_KMH: Mapping[str, float] = {
    "trunk": 85.0,
    "trunk_link": 40.0,
    "primary": 65.0,
    "primary_link": 30.0,
    "secondary": 55.0,
    "secondary_link": 25.0,
    "tertiary": 40.0,
    "tertiary_link": 20.0,
    "unclassified": 25.0,
    "residential": 25.0,
    "road": 25.0,
    "living_street": 10.0,
    "service": 15.0,
}
"""Highway classes that a scooter may use; a class that is not here is never driven."""

_SLOWEST_KMH = 5.0  # a maxspeed of 0 or "walk" still lets a rider through
_KMH_PER_MPH = 1.609344

# The most exact key that is there decides, as Key:access says.
_ACCESS_KEYS = ("motorcycle", "motor_vehicle", "vehicle", "access")
_CLOSED = frozenset({"no", "private", "agricultural", "forestry", "military", "emergency"})
_NEITHER_WAY = frozenset({"reversible", "alternating"})

_MAXSPEED = re.compile(r"(\d+(?:\.\d+)?)\s*(mph|km/h|kmh|kph)?")


@dataclass(slots=True)
class _Edges:
    """What is collected while the file is read: OSM node ids, in the direction of travel."""

    tail: list[int] = field(default_factory=list)
    head: list[int] = field(default_factory=list)
    speed_kmh: list[float] = field(default_factory=list)
    name: list[int] = field(default_factory=list)
    places: dict[int, tuple[float, float]] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)


def read_roads(path: Path) -> RoadGraph:
    """The largest strongly connected street network in an OSM file (``.osm.pbf``, ``.osm``, ...).

    Every node of a way becomes a node of the graph. 0.9 MB with 16,000 ways take half a second.

    Raises ValueError, saying what to do, if the file is missing, damaged, or without streets.
    """
    if not path.is_file():
        raise ValueError(
            f"no OpenStreetMap file at {path}; download an extract (.osm.pbf) of the city, "
            "for example from download.geofabrik.de, and give its path"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; download the extract again")
    try:
        edges = _read_edges(path)
    except RuntimeError as error:  # what osmium raises for anything that it cannot read
        raise ValueError(
            f"cannot read {path} as OpenStreetMap data ({error}); "
            "download it again, and keep its ending (.osm.pbf, .osm.bz2 or .osm)"
        ) from error
    if not edges.tail:
        raise ValueError(
            f"{path} has no street that a motor scooter may use; "
            "use an extract with ways and their nodes, not cut down to other features"
        )
    return _graph_of(edges).largest_strong_component()


def scooter_speed_kmh(tags: Mapping[str, str]) -> float | None:
    """How fast a scooter goes on a way with these tags; None where it may not go."""
    speed = SPEEDS_KMH.get(tags.get("highway", ""))
    if speed is None or tags.get("area") == "yes" or tags.get("motorroad") == "yes":
        return None
    access = next((tags[key] for key in _ACCESS_KEYS if key in tags), "yes")
    if access in _CLOSED or tags.get("service") == "emergency_access":
        return None
    limit = _maxspeed_kmh(tags.get("maxspeed", ""))
    return max(_SLOWEST_KMH, min(speed, TOP_SPEED_KMH, limit))


def directions(tags: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether the way may be driven (as it is drawn, against how it is drawn)."""
    oneway = tags.get("oneway:motorcycle", tags.get("oneway:motor_vehicle", tags.get("oneway")))
    if oneway in ("-1", "reverse"):
        return False, True
    if oneway in ("yes", "true", "1"):
        return True, False
    if oneway in _NEITHER_WAY:
        return False, False  # open one way or the other by the hour: never counted upon
    if oneway is None and tags.get("junction") in ("roundabout", "circular"):
        return True, False
    return True, True


def _maxspeed_kmh(text: str) -> float:
    """The lowest limit in the tag, as "50" or "30 mph; 40 mph"; infinite if there is no number."""
    if text == "walk":
        return _SLOWEST_KMH
    limits = [
        float(number) * (_KMH_PER_MPH if unit == "mph" else 1.0)
        for number, unit in _MAXSPEED.findall(text)
    ]
    return min(limits, default=float("inf"))


def _read_edges(path: Path) -> _Edges:
    edges = _Edges()
    ways = (
        osmium.FileProcessor(str(path), osmium.osm.NODE | osmium.osm.WAY)
        .with_locations()
        .with_filter(osmium.filter.EntityFilter(osmium.osm.WAY))
        .with_filter(osmium.filter.KeyFilter("highway"))
    )
    for way in ways:
        if isinstance(way, osmium.osm.Way):
            _add_way(edges, way)
    return edges


def _add_way(edges: _Edges, way: osmium.osm.Way) -> None:
    tags = dict(way.tags)
    speed_kmh = scooter_speed_kmh(tags)
    if speed_kmh is None:
        return
    with_it, against_it = directions(tags)
    street = tags.get("name")
    label = -1 if street is None else edges.names.setdefault(street, len(edges.names))
    previous: int | None = None
    for node in way.nodes:
        if not node.location.valid():  # the extract was cut through this way
            previous = None
            continue
        edges.places[node.ref] = (node.location.lat, node.location.lon)
        if previous is not None:
            ends = [(previous, node.ref)] * with_it + [(node.ref, previous)] * against_it
            for tail, head in ends:
                edges.tail.append(tail)
                edges.head.append(head)
                edges.speed_kmh.append(speed_kmh)
                edges.name.append(label)
        previous = node.ref


def _graph_of(edges: _Edges) -> RoadGraph:
    refs = np.array(sorted(edges.places), dtype=np.int64)
    places = np.array([edges.places[ref] for ref in refs.tolist()], dtype=np.float64)
    tail = np.searchsorted(refs, np.array(edges.tail, dtype=np.int64))
    head = np.searchsorted(refs, np.array(edges.head, dtype=np.int64))
    length_m = distances_m(places[tail, 0], places[tail, 1], places[head, 0], places[head, 1])
    return RoadGraph.from_edges(
        lat=places[:, 0],
        lon=places[:, 1],
        tail=tail,
        head=head,
        length_m=length_m,
        seconds=length_m / (np.array(edges.speed_kmh) / 3.6),
        name=np.array(edges.name, dtype=np.int32),
        names=tuple(edges.names),
    )
