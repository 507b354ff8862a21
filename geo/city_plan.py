"""The ground plan of a made-up city, in metres east and north of its centre.

Avenues on an uneven grid, bent by slow waves so that streets curve; a river that winds from west
to east; districts around seed points. ``geo.procedural`` lays the streets on it.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPoint, Polygon, box

# The outermost avenues, as a share of the city's side from its centre: with the bends (0.024 at the
# most) and the jitter of crossings everything stays inside the square.
_OUTER_AVENUE = 0.465

_BLOCKS_M = (75.0, 90.0, 105.0, 120.0, 165.0)
_CROSSING_JITTER_M = 6.0


class DistrictKind(StrEnum):
    """What a part of the city is like; blocks, one-way streets and demand follow from it."""

    CENTRE = "centre"
    RESIDENTIAL = "residential"
    SUBURB = "suburb"
    INDUSTRIAL = "industrial"


@dataclass(frozen=True, slots=True)
class Wave:
    """A sum of sines over the plane: smooth, and the same wherever it is computed."""

    terms: tuple[tuple[float, float, float, float], ...]  # amplitude, per metre east, north, phase

    def at(self, east: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
        """The height of the wave at places in metres: arrays of one shape."""
        total = np.zeros(np.broadcast(east, north).shape)
        for amplitude, per_east, per_north, phase in self.terms:
            total += amplitude * np.sin(per_east * east + per_north * north + phase)
        return total


@dataclass(frozen=True, slots=True)
class River:
    """Water from the west edge to the east edge; ``axis`` gives its middle line, north by east."""

    polygon: Polygon
    axis: Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Site:
    """A district before it has a name: seed point, kind, and its part of the square."""

    east: float
    north: float
    kind: DistrictKind
    polygon: Polygon


def square(size_m: float) -> Polygon:
    """The city's outline."""
    half = size_m / 2.0
    return box(-half, -half, half, half)


def plan_river(rng: random.Random, size_m: float) -> River:
    """A winding river, 90 to 190 m wide where the city is large enough."""
    wave = Wave(
        (
            (0.05 * size_m, math.tau / (rng.uniform(0.8, 1.2) * size_m), 0.0, _phase(rng)),
            (0.012 * size_m, math.tau / (rng.uniform(0.2, 0.3) * size_m), 0.0, _phase(rng)),
        )
    )
    middle = rng.uniform(-0.15, 0.15) * size_m
    half_width = min(70.0, size_m / 40.0)

    def axis(east: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(middle + wave.at(east, np.zeros_like(east)))

    east = np.arange(-0.55 * size_m, 0.55 * size_m, 40.0)
    swell = half_width * (1.0 + 0.35 * np.sin(east * math.tau / (0.37 * size_m) + _phase(rng)))
    north_bank = np.stack([east, axis(east) + swell], axis=-1)
    south_bank = np.stack([east, axis(east) - swell], axis=-1)
    water = Polygon(np.concatenate([south_bank, north_bank[::-1]])).intersection(square(size_m))
    assert isinstance(water, Polygon), "waves are too low for the river to leave the city"
    return River(water, axis)


def plan_avenues(rng: random.Random, size_m: float) -> list[float]:
    """Where parallel avenues run, from one side of the city to the other, unevenly apart."""
    end = _OUTER_AVENUE * size_m
    at = [-end]
    while (step := rng.choice(_BLOCKS_M) * rng.uniform(0.9, 1.1)) < end - at[-1]:
        at.append(at[-1] + step)
    return at


def plan_crossings(
    rng: random.Random, columns: list[float], rows: list[float], size_m: float
) -> NDArray[np.float64]:
    """Where avenues meet: [columns, rows, (east, north)].

    The waves rise by less than 0.45 a metre, so the grid bends and never folds.
    """
    bend = [
        Wave(
            (
                _plane_wave(rng, 0.018 * size_m, 0.5 * size_m),
                _plane_wave(rng, 0.006 * size_m, 0.2 * size_m),
            )
        )
        for _ in range(2)
    ]
    east, north = np.meshgrid(np.array(columns), np.array(rows), indexing="ij")
    jitter = np.array(
        [rng.uniform(-_CROSSING_JITTER_M, _CROSSING_JITTER_M) for _ in range(2 * east.size)]
    ).reshape(*east.shape, 2)
    bent = np.stack([east + bend[0].at(east, north), north + bend[1].at(east, north)], axis=-1)
    return np.asarray(bent + jitter)


def plan_districts(rng: random.Random, size_m: float) -> list[Site]:
    """Districts that tile the square: Voronoi cells of seed points about 2 km apart.

    The one nearest the middle is the centre, with its neighbour in larger cities; the outermost are
    suburbs and, one in four, industrial.
    """
    across = min(6, max(2, round(size_m / 2000.0)))
    step = size_m / across
    seeds = [
        (
            (column + 0.5 + rng.uniform(-0.3, 0.3)) * step - size_m / 2.0,
            (row + 0.5 + rng.uniform(-0.3, 0.3)) * step - size_m / 2.0,
        )
        for column in range(across)
        for row in range(across)
    ]
    outline = square(size_m)
    cells = shapely.get_parts(shapely.voronoi_polygons(MultiPoint(seeds), extend_to=outline))
    by_distance = sorted(range(len(seeds)), key=lambda index: math.hypot(*seeds[index]))
    sites: list[Site] = []
    for index, (east, north) in enumerate(seeds):
        # The order of Voronoi cells is GEOS's own business; the cell of a seed is not.
        own = next(cell for cell in cells if shapely.contains_xy(cell, east, north))
        place = by_distance.index(index) / len(seeds)
        sites.append(Site(east, north, _kind(rng, place), own.intersection(outline)))
    return sites


def _kind(rng: random.Random, place: float) -> DistrictKind:
    """The kind of a district by its place (0 to 1) from the middle outwards."""
    outer = rng.choice([DistrictKind.SUBURB] * 3 + [DistrictKind.INDUSTRIAL])
    if place < 0.12:
        return DistrictKind.CENTRE
    return DistrictKind.RESIDENTIAL if place < 0.6 else outer


def _plane_wave(
    rng: random.Random, amplitude: float, length_m: float
) -> tuple[float, float, float, float]:
    heading = _phase(rng)
    per_metre = math.tau / length_m
    return (
        amplitude,
        per_metre * math.cos(heading),
        per_metre * math.sin(heading),
        _phase(rng),
    )


def _phase(rng: random.Random) -> float:
    return rng.uniform(0.0, math.tau)
