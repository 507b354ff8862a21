"""Travel times between points, on a small procedural city."""

import dataclasses
import pickle

import numpy as np
import pytest

from geo.cells import cells_of
from geo.distances import distances_m
from geo.packing import pack
from geo.procedural import procedural_city
from geo.roads import RoadGraph
from geo.travel import UNKNOWN_S, StraightLine, TravelTimes, straight_line


@pytest.fixture(name="roads", scope="module")
def small_city() -> RoadGraph:
    """Streets of about 3 x 3 km."""
    return procedural_city(5, size_m=3000.0).roads


@pytest.fixture(name="times", scope="module")
def times_of_small_city(roads: RoadGraph) -> TravelTimes:
    """Its travel times."""
    return TravelTimes.compute(roads)


def test_there_is_a_row_for_every_cell_with_streets(roads: RoadGraph, times: TravelTimes) -> None:
    """Cells ascend, hold all crossings, and every pair of them is known."""
    assert times.cells.tolist() == sorted(set(cells_of(roads.lat, roads.lon, 9).tolist()))
    assert times.seconds.shape == (len(times.cells), len(times.cells))
    assert times.seconds.dtype == np.uint16
    assert not (times.seconds == UNKNOWN_S).any()
    rows = times.rows_of(roads.lat, roads.lon)
    assert rows.dtype == np.int32
    assert (times.cells[rows] == cells_of(roads.lat, roads.lon, 9)).all()


def test_the_mean_between_two_cells_is_the_mean_of_routes(
    roads: RoadGraph, times: TravelTimes
) -> None:
    """For two far cells, the matrix is within 10 % of the mean over all their pairs of nodes."""
    rows = times.rows_of(roads.lat, roads.lon)
    apart_m = distances_m(times.lat[:, None], times.lon[:, None], times.lat, times.lon)
    a, b = np.unravel_index(
        np.where((apart_m > 1500) & (apart_m < 2000), apart_m, 0).argmax(), apart_m.shape
    )
    mean_s = np.mean(
        [
            roads.route(origin, destination).seconds
            for origin in np.flatnonzero(rows == a).tolist()
            for destination in np.flatnonzero(rows == b).tolist()
        ]
    )
    assert times.seconds[a, b] == pytest.approx(mean_s, rel=0.1)


def test_between_is_near_the_route(roads: RoadGraph, times: TravelTimes) -> None:
    """Over random pairs more than 500 m apart, the median error is below 8 %, the 95th below 35."""
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, roads.node_count, (400, 2))
    a, b = pairs[:, 0], pairs[:, 1]
    far = distances_m(roads.lat[a], roads.lon[a], roads.lat[b], roads.lon[b]) > 500.0
    a, b = a[far], b[far]
    true_s = np.array([roads.route(int(i), int(j)).seconds for i, j in zip(a, b, strict=True)])
    seconds = times.between(roads.lat[a], roads.lon[a], roads.lat[b], roads.lon[b])
    error = np.abs(seconds - true_s) / true_s
    assert np.median(error) < 0.08
    assert np.quantile(error, 0.95) < 0.35
    assert abs(np.mean(seconds - true_s)) < 0.05 * true_s.mean()


def test_between_broadcasts_to_a_matrix(roads: RoadGraph, times: TravelTimes) -> None:
    """Columns against rows give every pair, float32, and equal single answers."""
    lat, lon = roads.lat[:4], roads.lon[:4]
    matrix = times.between(lat[:, None], lon[:, None], roads.lat[10:13], roads.lon[10:13])
    assert matrix.shape == (4, 3)
    assert matrix.dtype == np.float32
    one = times.between(lat[2], lon[2], roads.lat[11], roads.lon[11])
    assert one.shape == ()
    assert float(one) == pytest.approx(float(matrix[2, 1]))


def test_rows_known_beforehand_give_the_same(roads: RoadGraph, times: TravelTimes) -> None:
    """between_rows with rows_of is between."""
    lat, lon = roads.lat[:6], roads.lon[:6]
    rows = times.rows_of(lat, lon)
    np.testing.assert_array_equal(
        times.between_rows(rows[:3], lat[:3], lon[:3], rows[3:], lat[3:], lon[3:]),
        times.between(lat[:3], lon[:3], lat[3:], lon[3:]),
    )


def test_two_points_in_one_cell_are_apart(roads: RoadGraph, times: TravelTimes) -> None:
    """100 m within a cell take some time, 200 m about twice as long, and 0 m none."""
    lat, lon = float(times.lat[3]), float(times.lon[3])
    seconds = times.between(lat, lon, [lat, lat + 0.0009, lat + 0.0018], lon)
    assert seconds[0] == 0.0
    assert 9.0 < seconds[1] < 40.0
    assert seconds[2] == pytest.approx(2.0 * seconds[1], rel=0.5)


def test_an_eta_shrinks_smoothly_on_the_way(roads: RoadGraph, times: TravelTimes) -> None:
    """Along routes, seen every 20 m, an ETA moves by seconds, also from cell to cell, and is below
    a minute on the last 200 m."""
    rng = np.random.default_rng(2)
    moves_s: list[float] = []
    for origin, destination in rng.integers(0, roads.node_count, (20, 2)).tolist():
        places = np.array(roads.points_along(roads.route(origin, destination).nodes))
        if len(places) < 2:
            continue
        steps = np.linspace(0.0, len(places) - 1.0, 8 * len(places))
        lat = np.interp(steps, np.arange(len(places)), places[:, 0])
        lon = np.interp(steps, np.arange(len(places)), places[:, 1])
        eta_s = times.between(lat, lon, lat[-1], lon[-1])
        moves_s += np.abs(np.diff(eta_s)).tolist()
        assert eta_s[-1] == 0.0
        last = distances_m(lat, lon, lat[-1], lon[-1]) < 200.0
        assert eta_s[last].max() < 60.0
    assert len(moves_s) > 1_000
    assert np.quantile(moves_s, 0.99) < 6.0
    assert max(moves_s) < 20.0


def test_each_direction_has_its_own_time() -> None:
    """On a street of 2 km where east is driven at 10 m/s and west at 2.5, so says the matrix."""
    piece_deg = 50.0 / 111_195.08
    lon = 20.0 + piece_deg * np.arange(41)
    west, east = np.arange(40), np.arange(1, 41)
    roads = RoadGraph.from_edges(
        np.zeros(41), lon, [*west, *east], [*east, *west], [50.0] * 80, [5.0] * 40 + [20.0] * 40
    )
    eastwards = TravelTimes.compute(roads).between(0.0, lon[2], 0.0, lon[30])
    westwards = TravelTimes.compute(roads).between(0.0, lon[30], 0.0, lon[2])
    assert float(eastwards) == pytest.approx(140.0, rel=0.1)
    assert float(westwards) == pytest.approx(560.0, rel=0.1)


def test_never_faster_than_the_fastest_street(roads: RoadGraph, times: TravelTimes) -> None:
    """Even where the matrix says 0 s, no pair beats a straight street at 40 km/h."""
    instant = dataclasses.replace(times, seconds=np.zeros_like(times.seconds))
    lat, lon = roads.lat[::7], roads.lon[::7]
    seconds = instant.between(lat[:, None], lon[:, None], lat, lon)
    apart_m = distances_m(lat[:, None], lon[:, None], lat, lon)
    assert (seconds >= apart_m / (40.0 / 3.6) * 0.999).all()


def test_outside_the_city_a_straight_line_answers(roads: RoadGraph, times: TravelTimes) -> None:
    """A point 50 km away has no row, and its time is the distance at the city's pace."""
    lat, lon = float(times.lat[0]), float(times.lon[0])
    assert times.rows_of(lat + 0.45, lon) == -1
    seconds = float(times.between(lat, lon, lat + 0.45, lon))
    apart_m = float(distances_m(lat, lon, lat + 0.45, lon))
    assert seconds == pytest.approx(times.pace_s_per_m * apart_m, rel=1e-5)
    with pytest.raises(ValueError, match="not on the globe"):
        times.between(lat, lon, float("nan"), lon)


def test_a_cell_without_streets_borrows_the_row_beside_it(times: TravelTimes) -> None:
    """Just outside the outermost streets there is still a row, that of a neighbour."""
    lat, lon = float(times.lat.max()), float(times.lon[times.lat.argmax()])
    northward = lat + np.arange(0.0, 0.02, 0.0005)
    rows = times.rows_of(northward, lon)
    cells = cells_of(northward, np.full_like(northward, lon), 9)
    bare = ~np.isin(cells, times.cells)
    assert (rows[~bare] >= 0).all()
    assert (rows[bare] >= 0).any()
    assert rows[-1] == -1


def test_trips_beyond_the_bound_are_unknown_and_fall_back(roads: RoadGraph) -> None:
    """With a bound of two minutes far pairs have no entry, and are answered by a straight line."""
    short = TravelTimes.compute(roads, resolution=8, longest_s=120.0)
    rows, columns = np.nonzero(short.seconds == UNKNOWN_S)
    assert rows.size > 0
    a, b = rows[0], columns[0]
    lat, lon = short.lat, short.lon
    apart_m = distances_m(lat[a], lon[a], lat[b], lon[b])
    assert short.between(lat[a], lon[a], lat[b], lon[b]) == pytest.approx(
        float(apart_m) * short.pace_s_per_m, rel=1e-5
    )


def test_one_cell_is_enough() -> None:
    """Two nodes in a single cell make a matrix of one, with paces that are still sensible."""
    roads = RoadGraph.from_edges(
        [12.97, 12.9701], [77.59, 77.59], [0, 1], [1, 0], [11.1, 11.1], [2.0, 2.0]
    )
    times = TravelTimes.compute(roads)
    assert times.seconds.shape == (1, 1)
    assert 1.5 < float(times.between(12.97, 77.59, 12.9701, 77.59)) < 5.0


def test_bytes_return_the_same_times(times: TravelTimes) -> None:
    """to_bytes and pickling keep every answer."""
    lat, lon = times.lat, times.lon
    for copy in (TravelTimes.from_bytes(times.to_bytes()), pickle.loads(pickle.dumps(times))):
        assert copy.to_bytes() == times.to_bytes()
        np.testing.assert_array_equal(
            copy.between(lat[:, None], lon[:, None], lat, lon),
            times.between(lat[:, None], lon[:, None], lat, lon),
        )


def test_other_bytes_and_arguments_are_refused(roads: RoadGraph, times: TravelTimes) -> None:
    """Another file, a matrix of another form, a bound out of range and no streets: ValueErrors."""
    with pytest.raises(ValueError, match="road graph, not a travel times"):
        TravelTimes.from_bytes(roads.to_bytes())
    with pytest.raises(ValueError, match="another form"):
        TravelTimes.from_bytes(
            pack("travel times", {
                "cells": times.cells, "seconds": times.seconds.astype(float), "lat": times.lat,
                "lon": times.lon, "resolution": np.array(9), "paces": np.ones(3),
            })
        )  # fmt: skip
    with pytest.raises(ValueError, match="longest trip"):
        TravelTimes.compute(roads, longest_s=70_000.0)
    with pytest.raises(ValueError, match="with nodes"):
        TravelTimes.compute(RoadGraph.from_edges([], [], [], [], [], []))


def test_straight_lines_answer_in_the_same_shape() -> None:
    """1 km at 5 m/s with a detour of 1.5 takes 300 s; there are no rows."""
    line = straight_line(detour=1.5, speed_mps=5.0)
    degrees_of_1_km = 1.0 / 111.19508
    seconds = line.between(0.0, 0.0, [degrees_of_1_km, 0.0], [0.0, 0.0])
    assert seconds.dtype == np.float32
    assert seconds.tolist() == pytest.approx([300.0, 0.0], rel=1e-5)
    assert line.rows_of([0.0, 1.0], 0.0).tolist() == [-1, -1]
    for detour, speed_mps in ((0.9, 5.0), (1.3, 0.0), (float("nan"), 5.0)):
        with pytest.raises(ValueError, match="no way to travel"):
            StraightLine(detour, speed_mps)
