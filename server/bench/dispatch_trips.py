"""Trips of two to ten drops: our sequence against that of VROOM, on the same matrix of seconds.

VROOM knows no price on the delivery of each drop, so both minimise the riding time of an open way
from the store.  Its time is counted twice: of its solver alone, and with the making of its input.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import fmean

import numpy as np

from dispatch.sequencing import Drops, best_sequence
from dispatch.travel import FloatArray
from server.bench.dispatch_city import Streets
from server.bench.report import Ratio, Report, progress

SIZES = range(2, 11)
TRIPS_A_SIZE = 40
_NEAR_S = 900.0


@dataclass(slots=True)
class _Took:
    """Seconds of each trip."""

    ours: list[float] = field(default_factory=list)
    solver: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def compare_trips(report: Report, streets: Streets, seed: int) -> None:
    """Mean gap of cost (ours over theirs, less one) and of time, into ``report``."""
    if find_spec("vroom") is None:
        progress("trips are not compared: the development packages bring VROOM")
        return
    progress(f"{TRIPS_A_SIZE * len(SIZES)} trips of up to {SIZES[-1]} drops")
    random = np.random.default_rng(seed)
    best_sequence(_drops(np.zeros((3, 3))))
    every = _Took()
    for size in SIZES:
        took = _Took()
        for _ in range(TRIPS_A_SIZE):
            _compare(took, _legs(streets, size, random))
        figures = report.figures
        figures[f"trip_of_{size}_ms"] = fmean(took.ours) * 1000
        figures[f"trip_of_{size}_ms_vroom_solver"] = fmean(took.solver) * 1000
        for name in ("ours", "solver", "whole", "gaps"):
            getattr(every, name).extend(getattr(took, name))
    report.figures["trip_gap_worst"] = max(every.gaps)
    report.figures["trip_time_against_vroom_solver_alone"] = fmean(every.ours) / fmean(every.solver)
    report.ratios["trip_cost_gap"] = Ratio(fmean(every.gaps), 0.01, at_most=True)
    report.ratios["trip_time_against_vroom"] = Ratio(
        fmean(every.ours) / fmean(every.whole), 1.0, at_most=True
    )


def _legs(streets: Streets, size: int, random: np.random.Generator) -> FloatArray:
    """Shape (size + 1, size + 1): whole seconds between a store, which is first, and its doors."""
    store = int(random.integers(len(streets.store_lat)))
    doors = np.flatnonzero((streets.store_of == store) & (streets.direct_s <= _NEAR_S))
    chosen = random.choice(doors, size, replace=doors.size < size)
    lat = np.concatenate([streets.store_lat[[store]], streets.lat[chosen]])
    lon = np.concatenate([streets.store_lon[[store]], streets.lon[chosen]])
    return np.rint(streets.times.between(lat[:, None], lon[:, None], lat, lon)).astype(np.float64)


def _drops(legs_s: FloatArray) -> Drops:
    """Drops whose cost is the riding time alone."""
    n = legs_s.shape[0] - 1
    return Drops(
        leave_s=0.0,
        out_s=legs_s[0, 1:],
        between_s=legs_s[1:, 1:],
        service_s=0.0,
        earliest_s=np.zeros(n),
        promised_s=np.zeros(n),
        late_weight=np.zeros(n),
        delay_weight=0.0,
        riding_weight=1.0,
    )


def _compare(took: _Took, legs_s: FloatArray) -> None:
    import vroom

    began = time.perf_counter()
    ours = best_sequence(_drops(legs_s))
    took.ours.append(time.perf_counter() - began)
    began = time.perf_counter()
    problem = vroom.Input()
    problem.set_durations_matrix("car", legs_s.astype(np.uint32))
    problem.add_vehicle([vroom.Vehicle(1, start=0)])
    problem.add_job([vroom.Job(drop, location=drop) for drop in range(1, legs_s.shape[0])])
    made = time.perf_counter()
    solution = problem.solve(exploration_level=5, nb_threads=1)
    ended = time.perf_counter()
    took.solver.append(ended - made)
    took.whole.append(ended - began)
    theirs = float(solution.summary.cost)
    took.gaps.append(ours.cost / theirs - 1 if theirs else 0.0)
