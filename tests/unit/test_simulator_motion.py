"""A rider is always on a street, never faster than it allows, and never leaps."""

from __future__ import annotations

import random

import pytest

from geo.distances import Point, distance_m
from geo.procedural import procedural_city
from geo.roads import RoadGraph
from simulator import motion

ROADS = procedural_city(5).roads


def _two_nodes(rng: random.Random) -> tuple[int, int]:
    return rng.randrange(ROADS.node_count), rng.randrange(ROADS.node_count)


def test_a_ride_takes_as_long_as_its_route() -> None:
    """At pace 1 the route's seconds, at half the pace twice as long; the distance is the same."""
    origin, destination = _two_nodes(random.Random(1))
    route = ROADS.route(origin, destination)
    quick = motion.ride(ROADS, origin, destination, 100.0)
    slow = motion.ride(ROADS, origin, destination, 100.0, pace=0.5)
    assert quick.arrives_s - 100.0 == pytest.approx(route.seconds)
    assert slow.arrives_s - 100.0 == pytest.approx(2 * route.seconds)
    assert quick.distance_m == slow.distance_m == pytest.approx(route.length_m, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_every_moment_of_a_ride_is_on_an_edge_at_legal_speed(seed: int) -> None:
    """Each fix lies between the two ends of an edge of the route, at most at that edge's speed."""
    rng = random.Random(seed)
    ride = motion.ride(ROADS, *_two_nodes(rng), 0.0, pace=rng.uniform(0.5, 1.0))
    edges = ROADS.edges_along(ride.nodes).tolist()
    for i, edge in enumerate(edges):
        t_s = ride.reached_s[i] + rng.random() * (ride.reached_s[i + 1] - ride.reached_s[i])
        fix = ride.at(t_s)
        a, b = ride.points[i], ride.points[i + 1]
        around_m = distance_m(a, fix.point) + distance_m(fix.point, b)
        assert around_m == pytest.approx(distance_m(a, b), abs=0.1)
        legal_mps = float(ROADS.length_m[edge]) / float(ROADS.seconds[edge])
        assert fix.speed_mps <= legal_mps * 1.000001


def test_before_and_after_a_ride_the_rider_stands() -> None:
    """No speed and no heading at both ends."""
    ride = motion.ride(ROADS, *_two_nodes(random.Random(2)), 50.0)
    assert ride.at(0.0) == motion.Fix(ride.points[0], 0.0, None)
    assert ride.at(ride.arrives_s + 1) == motion.Fix(ride.points[-1], 0.0, None)


@pytest.mark.parametrize("seed", range(8))
def test_turning_to_another_place_is_no_leap(seed: int) -> None:
    """Where a ride is broken off the next one goes on: same place, every piece an edge."""
    rng = random.Random(seed)
    ride = motion.ride(ROADS, *_two_nodes(rng), 0.0)
    now_s = rng.random() * ride.arrives_s
    destination = rng.randrange(ROADS.node_count)
    turned = motion.redirected(ROADS, ride, now_s, destination)
    assert turned.nodes[-1] == destination
    assert distance_m(ride.at(now_s).point, turned.at(now_s).point) < 0.1
    ROADS.edges_along(turned.nodes)
    assert list(turned.reached_s) == sorted(turned.reached_s)


def test_somebody_who_stands_rides_on_from_there() -> None:
    """After the end of a ride, or from where somebody waits, the next one starts at once."""
    standing = motion.standing(ROADS, 4, 10.0)
    turned = motion.redirected(ROADS, standing, 500.0, 9)
    assert (turned.nodes[0], turned.reached_s[0]) == (4, 500.0)
    arrived = motion.redirected(ROADS, turned, turned.arrives_s + 5.0, 4)
    assert (arrived.nodes[0], arrived.reached_s[0]) == (9, turned.arrives_s + 5.0)


@pytest.mark.parametrize("pace", [0.0, -1.0, 1.01])
def test_nobody_is_faster_than_the_street(pace: float) -> None:
    """A pace above 1 is illegal, and one of 0 never arrives."""
    with pytest.raises(ValueError, match="legal"):
        motion.ride(ROADS, 0, 1, 0.0, pace)


def test_one_way_streets_are_kept() -> None:
    """Back from 1 to 0 leads round the block, because the short way is one-way."""
    town = RoadGraph.from_edges(
        [0.0, 0.0, 0.001], [0.0, 0.001, 0.0], [0, 1, 2], [1, 2, 0], [111.0] * 3, [10.0] * 3
    )
    assert motion.ride(town, 1, 0, 0.0).nodes == (1, 2, 0)


def test_gps_noise_is_metres_not_streets() -> None:
    """The mean error of many fixes is that of the asked-for deviation, in any latitude."""
    rng = random.Random(6)
    for lat in (0.0, -30.0, 60.0):
        here = Point(lat, 10.0)
        errors = [distance_m(here, motion.with_noise(here, rng, 3.0)) for _ in range(2000)]
        # Rayleigh distribution: sigma times the square root of pi / 2.
        assert sum(errors) / 2000 == pytest.approx(3.76, rel=0.06)
