"""``darkstore bench dispatch``: how fast a large city is decided, how well short trips are laid.

One core decides, over and over, a city of 2,000 open orders and 5,000 riders with travel times by
road, and the same at half, twice and four times that size.  In the same run: scipy's dense
assignment of that size, with nothing but the matrix to solve, and a routing program of its own
kind (VROOM) on trips of up to ten drops.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from scipy.optimize import linear_sum_assignment

from dispatch import Parameters, Plan, Snapshot, plan
from dispatch.cost import price_pairs
from dispatch.parameters import Solver
from dispatch.problem import Problem
from dispatch.travel import FloatArray
from server.bench.dispatch_city import SIZE_M, Day, Streets
from server.bench.dispatch_trips import compare_trips
from server.bench.report import Ratio, Report, environment, percentile, progress

ORDERS, RIDERS, STORES = 2_000, 5_000, 30
CURVE = (0.5, 2.0, 4.0)
# A decision is allowed a second; gathering the question and writing out the answer take the rest.
DEADLINE_S = 0.6
DECISIONS, DECISIONS_ON_THE_CURVE = 100, 5
# A smaller look has fewer stores in a smaller city, down to these.
_FEWEST_STORES, _SMALLEST_M = 4, 4_000.0
_DENSE_ROWS = 100
_PACKAGES = ("numpy", "numba", "ortools", "scipy")


def bench_dispatch(
    *, osm: Path | None, size: float = 1.0, decisions: int = DECISIONS, seed: int = 1
) -> Report:
    """Run it; ``size`` scales orders and riders, for a look that takes less long."""
    report = Report("dispatch")
    with _one_core() as core:
        progress("streets and travel times by road")
        share = min(1.0, size) ** 0.5
        stores = max(_FEWEST_STORES, round(STORES * share))
        streets = Streets.of(osm, stores, seed, max(_SMALLEST_M, SIZE_M * share))
        _warm_up(streets)
        _decide(report, streets, size, decisions, seed)
        report.figures["peak_memory_mb"] = _peak_memory_mb()
        _against_dense(report, streets, size, seed)
        for factor in CURVE:
            _on_the_curve(report, streets, factor, size, seed)
        compare_trips(report, streets, seed)
        report.context = environment(_PACKAGES) | {
            "pinned_to_core": core,
            "streets": streets.name,
            "orders": round(ORDERS * size),
            "riders": round(RIDERS * size),
            "stores": stores,
            "decisions": decisions,
            "deadline_s": DEADLINE_S,
            "solver": _PARAMETERS.solver.value,
        }
    return report


_PARAMETERS = replace(Parameters(), solver=Solver.ROLLING)


def _warm_up(streets: Streets) -> None:
    """Compile, or load what was compiled: not what a decision costs."""
    progress("compiling")
    day = Day(streets, 20, 30, seed=0)
    first = plan(day.snapshot(_PARAMETERS, math.inf, None))
    plan(day.snapshot(_PARAMETERS, math.inf, first))


def _decide(report: Report, streets: Streets, size: float, decisions: int, seed: int) -> None:
    """Decisions one after the other: each with the time to gather travel times and to write out."""
    progress(f"{decisions} decisions of {round(ORDERS * size)} x {round(RIDERS * size)}")
    day = Day(streets, round(ORDERS * size), round(RIDERS * size), seed)
    previous: Plan | None = None
    took_s: list[float] = []
    cpu_s: list[float] = []
    for _ in range(decisions):
        previous, wall, cpu = _decision(day, previous)
        took_s.append(wall)
        cpu_s.append(cpu)
        day.commit(previous)
    figures = report.figures
    figures["decision_p50_s"] = median(took_s)
    figures["decision_max_s"] = max(took_s)
    figures["decision_cpu_p50_s"] = median(cpu_s)
    figures["decision_cpu_max_s"] = max(cpu_s)
    report.ratios["decision_p99_s"] = Ratio(percentile(sorted(took_s), 0.99), 1.0, at_most=True)


def _decision(day: Day, previous: Plan | None) -> tuple[Plan, float, float]:
    """The answer to this moment, and the seconds by the clock and of the processor."""
    began, cpu_began = time.perf_counter(), time.process_time()
    snapshot = day.snapshot(_PARAMETERS, DEADLINE_S, previous)
    answer = plan(snapshot)
    return answer, time.perf_counter() - began, time.process_time() - cpu_began


def _first_plan(day: Day) -> tuple[Snapshot, float, float]:
    """A city that was never decided: the question, seconds to the first complete plan, and how
    much of its cost the rest of the deadline saves."""
    snapshot = day.snapshot(_PARAMETERS, 0.0, None)
    began = time.perf_counter()
    plan(snapshot)
    first_s = time.perf_counter() - began
    better = plan(replace(snapshot, deadline_s=first_s + DEADLINE_S)).statistics
    saved = better.fallback_objective - better.objective
    return snapshot, first_s, saved / better.fallback_objective if saved else 0.0


def _against_dense(report: Report, streets: Streets, size: float, seed: int) -> None:
    progress("the first complete plan, and a dense assignment of the same size")
    day = Day(streets, round(ORDERS * size), round(RIDERS * size), seed)
    snapshot, first_s, saved = _first_plan(day)
    cost, priced_s = _dense_cost(snapshot)
    began = time.perf_counter()
    linear_sum_assignment(cost)
    dense_s = time.perf_counter() - began
    figures = report.figures
    figures["first_plan_s"], figures["dense_assignment_s"] = first_s, dense_s
    figures["dense_pricing_s"] = priced_s
    report.ratios["first_plan_against_dense_assignment"] = Ratio(
        first_s / dense_s, 4.0, at_most=True
    )
    report.ratios["cost_saved_within_the_deadline"] = Ratio(saved, 0.0)


def _dense_cost(snapshot: Snapshot) -> tuple[FloatArray, float]:
    """Shape (orders, riders): what every pair costs, a large number where it is impossible."""
    began = time.perf_counter()
    problem = Problem.of(snapshot)
    columns = np.arange(len(problem.riders))
    cost = np.empty((problem.open_count, columns.size))
    for first in range(0, problem.open_count, _DENSE_ROWS):
        rows = np.arange(first, min(first + _DENSE_ROWS, problem.open_count))
        pairs = price_pairs(problem, np.repeat(rows, columns.size), np.tile(columns, rows.size))
        cost[rows] = pairs.cost.reshape(rows.size, columns.size)
    return np.nan_to_num(cost, posinf=1e9), time.perf_counter() - began


def _on_the_curve(report: Report, streets: Streets, factor: float, size: float, seed: int) -> None:
    """Orders and riders times ``factor``; the stores stay, so each has as many more."""
    orders, riders = round(ORDERS * size * factor), round(RIDERS * size * factor)
    progress(f"{DECISIONS_ON_THE_CURVE} decisions of {orders} x {riders}")
    day = Day(streets, orders, riders, seed)
    _, first_s, saved = _first_plan(day)
    took_s: list[float] = []
    previous: Plan | None = None
    for _ in range(DECISIONS_ON_THE_CURVE):
        previous, wall, _ = _decision(day, previous)
        took_s.append(wall)
        day.commit(previous)
    name = f"{factor:g}x".replace(".", "_")
    report.figures[f"first_plan_s_at_{name}"] = first_s
    report.figures[f"decision_mean_s_at_{name}"] = fmean(took_s)
    report.figures[f"decision_max_s_at_{name}"] = max(took_s)
    report.figures[f"cost_saved_at_{name}"] = saved
    report.figures[f"peak_memory_mb_at_{name}"] = _peak_memory_mb()


@contextmanager
def _one_core() -> Iterator[int | None]:
    """Only one core for this process, where the system can do that; which one it is."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def _peak_memory_mb() -> float:
    """The most that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (1024.0 if sys.platform != "darwin" else 1024.0**2)
