"""The rolling plan: every rider's next trips over all known orders, and what must start now.

1. The orders are joined by ghosts, the demand that is foreseen (`dispatch.ghosts`).
2. Routes start from what the last plan meant or from the matching, whichever is cheaper once the
   orders that it leaves have been inserted; so the plan is never worse than its fallback.
3. Ruin and recreate improves them (`dispatch.kernel_search`).
4. A trip is committed only when it must leave before the next decision; until then everything may
   change (`dispatch.readout`).

The kernel is imported, and by that compiled or loaded from its cache, with the first plan or by
`warm_up`; nothing else here needs it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from time import perf_counter
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dispatch.arrays import Routes, empty_routes, scratch
from dispatch.ghosts import foresee
from dispatch.instance import Instance, build
from dispatch.parameters import Solver
from dispatch.readout import read_out
from dispatch.result import Plan
from dispatch.snapshot import Order, Rider, Snapshot, Store
from dispatch.travel import TravelTimes
from dispatch.variants import propose

# The clock is looked at once in so many iterations: a few milliseconds.
CHUNK = 100

_State = NDArray[np.uint64]
# Rider id -> order ids trip by trip.
_Meant = Mapping[str, tuple[tuple[str, ...], ...]]

_warm = False


def is_warm() -> bool:
    """Whether a plan would start at once, without compiling anything."""
    return _warm


def warm_up() -> None:
    """Compile the kernel, or load it from its cache, on a world of one order and one rider.

    Takes half a minute of computing when nothing is cached. The cache lies beside this package,
    or, where that cannot be written, in the user's cache folder (``NUMBA_CACHE_DIR`` overrides).
    """
    travel = TravelTimes(seconds=np.zeros((1, 1)), row_of=np.zeros(1, np.int32))
    order = Order(
        order_id="o", store_id="s", place=0, placed_at_s=0.0, ready_at_s=0.0, promised_by_s=60.0
    )
    rider = Rider(rider_id="r", place=0, free_at_s=0.0, shift_start_s=0.0, shift_end_s=60.0)
    other = replace(rider, rider_id="q")
    snapshot = Snapshot(
        now_s=0.0,
        epoch_s=1.0,
        dropoff_service_s=0.0,
        orders=(order,),
        riders=(rider, other),
        stores=(Store(store_id="s", place=0, pickup_service_s=0.0),),
        travel=travel,
    )
    plan_ahead(snapshot, Plan(), perf_counter())


def load_kernel() -> ModuleType:
    """The compiled core; the first call imports numba."""
    from dispatch import kernel

    return kernel


def plan_ahead(snapshot: Snapshot, fallback: Plan, began_s: float) -> Plan:
    """The rolling plan; ``fallback`` is what the matching would do with the same snapshot."""
    global _warm
    ghosts = foresee(snapshot.recent, snapshot.now_s, snapshot.parameters.ghosts)
    instance = build(snapshot, ghosts)
    kernel = load_kernel()
    state = np.array([_seed(snapshot.seed)], np.uint64)
    started = _start(kernel, instance, _as_ids(fallback), state)
    fallback_objective = kernel.objective(instance.world, started)
    if snapshot.previous is not None:
        warm_ids = {one.rider_id: one.trips for one in snapshot.previous.routes}
        warm = _start(kernel, instance, warm_ids, state)
        if kernel.objective(instance.world, warm) <= fallback_objective:
            started = warm
    solver = snapshot.parameters.solver
    if solver not in (Solver.PACKING, Solver.ROUTING):
        routes, rounds = _search(kernel, instance, started, state, began_s)
    else:
        left_s = snapshot.deadline_s - (perf_counter() - began_s)
        proposed = _start(kernel, instance, propose(instance, solver, left_s), state)
        better = kernel.objective(instance.world, proposed) < kernel.objective(
            instance.world, started
        )
        routes, rounds = proposed if better else started, 0
    _warm = True
    return read_out(kernel, instance, routes, fallback_objective, rounds)


def _seed(seed: int) -> int:
    """A state for xorshift, never 0: splitmix64 of the seed."""
    z = (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    return (z ^ (z >> 27)) | 1


def _as_ids(plan: Plan) -> _Meant:
    """What a plan would do."""
    ids: dict[str, tuple[tuple[str, ...], ...]] = {}
    for trip in (*plan.trips, *plan.tentative):
        ids[trip.rider_id] = (*ids.get(trip.rider_id, ()), trip.order_ids)
    return ids


def _start(
    kernel: ModuleType,
    instance: Instance,
    meant: _Meant,
    state: _State,
) -> Routes:
    """Current trips, then what is ``meant`` as far as it is still possible, then the rest greedily.

    meant: unknown ids are passed over.
    """
    world = instance.world
    width = instance.snapshot.parameters.rolling.route_length
    width = max(width, int(world.fixed.max(initial=0))) + 1
    routes = empty_routes(instance.count, len(instance.riders), width)
    row_of = {key: row for row, key in enumerate(instance.keys)}
    for column, rider in enumerate(instance.riders):
        if rider.trip is not None:
            _lay(routes, column, [row_of[one] for one in rider.trip.order_ids])
    for column, rider in enumerate(instance.riders):
        for index, ids in enumerate(meant.get(rider.rider_id, ())):
            rows = [row_of[one] for one in ids if one in row_of]
            aboard = set(rider.trip.order_ids) if rider.trip is not None else set()
            if index == 0 and aboard & set(ids):
                # New orders that are to join the current trip, in their sequence with the old.
                if world.grows[column] and aboard <= set(ids):
                    rows = [o for o in rows if _free(instance, routes, o, column)]
                    routes.size[column] = 0
                    _lay(routes, column, rows)
                continue
            rows = [o for o in rows if routes.owner[o] < 0 and world.allowed[o, column]]
            if routes.size[column] + len(rows) < width and _one_store(world.store[rows]):
                _lay(routes, column, rows)
    for column in range(len(instance.riders)):
        kernel.shorten(world, routes, column)
    left = np.flatnonzero(routes.owner < 0)
    left = left[np.lexsort((left, world.ready[left], world.ghost[left]))]
    kernel.fill(world, routes, left[left < instance.open_count].astype(np.int32), state)
    kernel.fill(world, routes, left[left >= len(instance.orders)].astype(np.int32), state)
    return routes


def _free(instance: Instance, routes: Routes, row: int, column: int) -> bool:
    if routes.owner[row] == column:
        return True
    return bool(routes.owner[row] < 0 and instance.world.allowed[row, column])


def _one_store(stores: Iterable[int]) -> bool:
    return len(set(stores)) == 1


def _lay(routes: Routes, column: int, rows: Sequence[int]) -> None:
    """Append one trip, without times."""
    at = int(routes.size[column])
    for index, row in enumerate(rows):
        routes.order[column, at + index] = row
        routes.head[column, at + index] = index == 0
        routes.owner[row] = column
    routes.size[column] = at + len(rows)


def _search(
    kernel: ModuleType,
    instance: Instance,
    routes: Routes,
    state: _State,
    began_s: float,
) -> tuple[Routes, int]:
    """The best routes found and how many rounds that took; ``routes`` is used up."""
    snapshot, world = instance.snapshot, instance.world
    parameters = snapshot.parameters.rolling
    riders, width = routes.order.shape
    best = empty_routes(instance.count, riders, width)
    kernel.copy(routes, best)
    if not instance.open_count or not riders:
        return best, 0
    spare = empty_routes(instance.count, riders, width)
    memory = scratch(instance.count, riders)
    movable = np.ones(instance.count, np.uint8)
    movable[instance.open_count : len(instance.orders)] = 0
    total = min(
        round(parameters.iterations_per_order * instance.count),
        parameters.most_order_rounds // instance.count,
    )
    total = min(parameters.most_iterations, max(parameters.least_iterations, total))
    from dispatch import kernel_search as search

    done = 0
    while done < total:
        if isfinite(snapshot.deadline_s) and perf_counter() - began_s >= snapshot.deadline_s:
            break
        stop = min(total, done + CHUNK)
        search.improve(
            world, routes, best, spare, memory, movable, state, parameters.hot_s,
            parameters.cold_s, done, stop, total, parameters.removed, parameters.longest_string,
        )  # fmt: skip
        done = stop
    return best, done
