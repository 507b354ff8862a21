"""A rider's way along streets as a function of time.  Pure.

A ride goes along the edges of a route, each at ``pace`` of the edge's speed, and never faster.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geo.distances import Point, bearing_deg, interpolate
from geo.roads import RoadGraph

_METRES_PER_DEGREE: Final = 111_195.0


@dataclass(frozen=True, slots=True)
class Fix:
    """Where somebody is; ``speed_mps`` 0 and ``heading_deg`` None while standing."""

    point: Point
    speed_mps: float
    heading_deg: float | None


@dataclass(frozen=True, slots=True)
class Ride:
    """From node to node: ``reached_s[i]`` is when ``points[i]`` is reached, ascending."""

    nodes: tuple[int, ...]
    points: tuple[Point, ...]
    reached_s: tuple[float, ...]
    lengths_m: tuple[float, ...]

    @property
    def arrives_s(self) -> float:
        return self.reached_s[-1]

    @property
    def distance_m(self) -> float:
        return sum(self.lengths_m)

    def at(self, t_s: float) -> Fix:
        """The place at a moment; before the start and after the end somebody stands."""
        if t_s >= self.reached_s[-1]:
            return Fix(self.points[-1], 0.0, None)
        if t_s <= self.reached_s[0]:
            return Fix(self.points[0], 0.0, None)
        i = bisect_right(self.reached_s, t_s) - 1
        start_s, end_s = self.reached_s[i], self.reached_s[i + 1]
        fraction = (t_s - start_s) / (end_s - start_s)
        here, there = self.points[i], self.points[i + 1]
        return Fix(
            interpolate(here, there, fraction),
            self.lengths_m[i] / (end_s - start_s),
            bearing_deg(here, there) % 360.0,
        )

    def node_at(self, t_s: float) -> int:
        """The last node that was passed: a ride that is broken off goes on from there."""
        i = min(max(bisect_right(self.reached_s, t_s) - 1, 0), len(self.nodes) - 1)
        return self.nodes[i]


def ride(
    roads: RoadGraph, origin: int, destination: int, starts_s: float, pace: float = 1.0
) -> Ride:
    """The quickest way, ridden at ``pace`` of each street's speed.

    Raises ValueError for a pace outside (0, 1], and where no way leads.
    """
    if not 0.0 < pace <= 1.0:
        raise ValueError(f"a pace of {pace} is not legal")
    nodes = roads.route(origin, destination).nodes
    edges = roads.edges_along(nodes)
    seconds = roads.seconds[edges].astype(np.float64) / pace
    reached: Sequence[float] = np.concatenate([[0.0], np.cumsum(seconds)]).tolist()
    return Ride(
        nodes=tuple(nodes),
        points=tuple(roads.points_along(nodes)),
        reached_s=tuple(starts_s + s for s in reached),
        lengths_m=tuple(roads.length_m[edges].astype(np.float64).tolist()),
    )


def standing(roads: RoadGraph, node: int, since_s: float) -> Ride:
    """Staying at a node."""
    (point,) = roads.points_along([node])
    return Ride((node,), (point,), (since_s,), ())


def with_noise(point: Point, rng: random.Random, sigma_m: float) -> Point:
    """A fix as a phone takes it: off by a normal error in each direction."""
    north_m, east_m = rng.gauss(0.0, sigma_m), rng.gauss(0.0, sigma_m)
    shrink = math.cos(math.radians(point.lat))
    return Point(
        point.lat + north_m / _METRES_PER_DEGREE,
        point.lon + east_m / (_METRES_PER_DEGREE * shrink),
    )


def redirected(
    roads: RoadGraph, current: Ride, now_s: float, destination: int, pace: float = 1.0
) -> Ride:
    """Turn to another destination: at the end of the street piece that one is on.

    Raises ValueError as ``ride`` does.
    """
    i = bisect_right(current.reached_s, now_s) - 1
    if not 0 <= i < len(current.nodes) - 1:
        return ride(roads, current.node_at(now_s), destination, now_s, pace)
    onward = ride(roads, current.nodes[i + 1], destination, current.reached_s[i + 1], pace)
    return Ride(
        nodes=(current.nodes[i], *onward.nodes),
        points=(current.points[i], *onward.points),
        reached_s=(current.reached_s[i], *onward.reached_s),
        lengths_m=(current.lengths_m[i], *onward.lengths_m),
    )
