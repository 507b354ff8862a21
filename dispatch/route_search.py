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

from dispatch.arrays import Ints, Routes, empty_routes, scratch, spans
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
    kernel.shorten_all(world, routes)
    left = np.flatnonzero(routes.owner < 0)
    left = left[np.lexsort((left, world.ready[left], world.ghost[left]))]
    kernel.fill(world, routes, left[left < instance.open_count].astype(np.int32), state)
    kernel.fill(world, routes, left[left >= len(instance.orders)].astype(np.int32), state)
    return routes


def add_ghosts(kernel: ModuleType, instance: Instance, known: Routes, state: State) -> Routes:
    """Routes of the known orders, which stay as they are, with the ghosts inserted greedily."""
    routes = empty_routes(instance.count, *known.order.shape)
    kernel.copy(known, routes)
    count = len(instance.orders)
    rows = count + np.argsort(instance.world.ready[count:], kind="stable")
    kernel.fill(instance.world, routes, rows.astype(np.int32), state)
    return routes


def exchange(
    kernel: ModuleType, before: Instance, after: Instance, columns: Iterable[int], routes: Routes
) -> tuple[Routes, Ints]:
    """Routes of ``before`` made to fit ``after``, where other orders are on current trips.

    columns: the riders whose current trips differ. Those come first, the rest of their routes
    follows as far as it can, what is on no route then is inserted greedily. Also returns the riders
    whose routes were laid anew.
    """
    world = after.world
    laid = empty_routes(after.count, *routes.order.shape)
    kernel.copy(routes, laid)
    row_of = {one.order_id: row for row, one in enumerate(after.orders)}
    current = {
        column: [row_of[one] for one in trip.order_ids]
        for column, rider in enumerate(after.riders)
        if (trip := rider.trip) is not None
    }
    owners = {int(routes.owner[row]) for column in columns for row in current.get(column, ())}
    again = np.array(sorted({*columns, *owners} - {-1}), np.int32)
    was_on = np.flatnonzero(np.isin(laid.owner, again))
    laid.owner[was_on] = -1
    laid.size[again] = 0
    for column in again.tolist():
        trips = trips_of(routes, column)
        first = trips.pop(0) if trips and before.world.fixed[column] else []
        aboard = current.get(column, [])
        # What was to join the trip joins it still.
        joins = [row for row in first if not world.aboard[row] or row in aboard]
        grows = bool(world.grows[column]) and set(aboard) <= set(joins)
        _lay(laid, column, joins if aboard and grows else aboard)
        for trip_rows in trips:
            rows = [row for row in trip_rows if not world.aboard[row]]
            if laid.size[column] + len(rows) <= laid.order.shape[1]:
                _lay(laid, column, rows)
        kernel.shorten(world, laid, column)
    lost = was_on[laid.owner[was_on] < 0]
    lost = lost[np.lexsort((lost, world.ready[lost], world.ghost[lost]))]
    kernel.fill(world, laid, lost.astype(np.int32), random_state(0))
    return laid, again


def trips_of(routes: Routes, column: int) -> list[list[int]]:
    """Rows of each trip of a route."""
    rows = routes.order[column].tolist()
    return [rows[begin:end] for begin, end in spans(routes, column)]


def is_over(until_s: float) -> bool:
    """Whether a deadline, by `time.perf_counter`, has passed."""
    return isfinite(until_s) and perf_counter() >= until_s


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
    *,
    near: Ints | None = None,
) -> tuple[Routes, int]:
    """The best routes found in so many rounds, and how many were made; ``routes`` is used up.

    until_s: when to stop at the latest, by `time.perf_counter`. near: rows around which alone to
    look, and without melting what is far from them; all that may move if not given.
    """
    world, parameters = instance.world, instance.snapshot.parameters.rolling
    movable = 1 - world.aboard
    seeds = np.flatnonzero(movable).astype(np.int32) if near is None else near
    hot_s = parameters.hot_s if near is None else parameters.cold_s
    riders, width = routes.order.shape
    best = empty_routes(instance.count, riders, width)
    kernel.copy(routes, best)
    if not seeds.size or not riders:
        return best, 0
    spare = empty_routes(instance.count, riders, width)
    memory = scratch(instance.count, riders)
    from dispatch import kernel_search as search

    done = 0
    while done < rounds:
        if is_over(until_s):
            break
        stop = min(rounds, done + CHUNK)
        search.improve(
            world, routes, best, spare, memory, movable, seeds, state, hot_s, parameters.cold_s,
            done, stop, rounds, parameters.removed, parameters.longest_string,
        )  # fmt: skip
        done = stop
    return best, done
