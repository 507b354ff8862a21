"""Routes of the rolling plan: where they start, and how ruin and recreate improves them.

What `dispatch.rolling` plans with and `dispatch.second_thoughts` values with. The compiled core is
handed in, so that importing this module compiles nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from time import perf_counter
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dispatch.arrays import Routes, empty_routes, scratch
from dispatch.instance import Instance
from dispatch.parameters import RollingParameters

# The clock is looked at once in so many iterations: a few milliseconds.
CHUNK = 100

State = NDArray[np.uint64]
Meant = Mapping[str, tuple[tuple[str, ...], ...]]
"""Rider id -> order ids, trip by trip."""


def random_state(seed: int) -> State:
    """A state for xorshift, never 0: splitmix64 of the seed."""
    z = (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    return np.array([(z ^ (z >> 27)) | 1], np.uint64)


def rounds_for(parameters: RollingParameters, orders: int) -> int:
    """Ruins for an instance of so many orders, ghosts included."""
    total = min(
        round(parameters.iterations_per_order * orders),
        parameters.most_order_rounds // max(1, orders),
    )
    return min(parameters.most_iterations, max(parameters.least_iterations, total))


def start_routes(
    kernel: ModuleType,
    instance: Instance,
    meant: Meant,
    state: State,
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


def improve_routes(
    kernel: ModuleType,
    instance: Instance,
    routes: Routes,
    state: State,
    rounds: int,
    until_s: float,
) -> tuple[Routes, int]:
    """The best routes found in so many rounds, and how many were made; ``routes`` is used up.

    until_s: when to stop at the latest, by `time.perf_counter`.
    """
    world, parameters = instance.world, instance.snapshot.parameters.rolling
    riders, width = routes.order.shape
    best = empty_routes(instance.count, riders, width)
    kernel.copy(routes, best)
    if not instance.open_count or not riders:
        return best, 0
    spare = empty_routes(instance.count, riders, width)
    memory = scratch(instance.count, riders)
    movable = np.ones(instance.count, np.uint8)
    movable[instance.open_count : len(instance.orders)] = 0
    from dispatch import kernel_search as search

    done = 0
    while done < rounds:
        if isfinite(until_s) and perf_counter() >= until_s:
            break
        stop = min(rounds, done + CHUNK)
        search.improve(
            world, routes, best, spare, memory, movable, state, parameters.hot_s,
            parameters.cold_s, done, stop, rounds, parameters.removed, parameters.longest_string,
        )  # fmt: skip
        done = stop
    return best, done
