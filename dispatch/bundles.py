"""Candidate trips for set packing: orders of one store that could share a rider, and who could.

For each store every order alone, and with up to three of the orders that lie best with it, in the
best sequence for each of the riders who are there soonest (`dispatch.sequencing_kernel`). Costs
are those of the rolling plan's arrays (`dispatch.arrays.World`).
"""

from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from dispatch.arrays import World
from dispatch.packing import Pool
from dispatch.parameters import PackingParameters
from dispatch.travel import FloatArray

IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_Found = tuple[IntArray, IntArray, FloatArray]
"""Of candidates of one size: riders, sequences of shape (c, size), costs."""


def leave_price(world: World, parameters: PackingParameters) -> FloatArray:
    """Shape (n,): what it costs that an order is on no rider's next trip.

    It will be on some later one, so the price is a delay, with the lateness that it brings.
    """
    late_s = np.maximum(0.0, world.earliest + parameters.later_s - world.promised)
    late = np.where(late_s > 0, late_s + late_s**2 * world.late_curve, 0.0)
    return np.asarray(world.weight * (world.delay_weight * parameters.later_s + world.late * late))


def bundle_pool(world: World, open_count: int, parameters: PackingParameters) -> Pool:
    """Next trips for riders who have none, each cheaper than leaving its orders.

    open_count: the orders that may be planned are the first so many rows.
    """
    price = leave_price(world, parameters)
    free = np.flatnonzero(world.fixed == 0)
    found: list[_Found] = []
    for store in np.unique(world.store[:open_count]).tolist():
        rows = np.flatnonzero(world.store[:open_count] == store)
        arrival_s = world.leave[free] + world.factor[free] * world.start_store[free, store]
        near = free[np.argsort(arrival_s, kind="stable")[: parameters.nearest_riders + rows.size]]
        near = near[np.isfinite(world.start_store[near, store])]
        if near.size:
            found += _of_store(world, store, rows, near, price, parameters)
    none = np.empty(0, dtype=np.intp)
    sizes = [np.full(rider.size, sequence.shape[1]) for rider, sequence, _ in found]
    return Pool(
        rider=np.concatenate([none, *(rider for rider, _, _ in found)]),
        begin=np.append(0, np.cumsum(np.concatenate([none, *sizes]))).astype(np.intp),
        order=np.concatenate([none, *(sequence.ravel() for _, sequence, _ in found)]),
        cost=np.concatenate([np.empty(0), *(cost for _, _, cost in found)]),
    )


def _of_store(
    world: World,
    store: int,
    rows: IntArray,
    near: IntArray,
    price: FloatArray,
    parameters: PackingParameters,
) -> list[_Found]:
    # Here and not above: it brings numba.
    from dispatch import sequencing_kernel as kernel

    between_s = world.order_order[np.ix_(rows, rows)].astype(np.float64)
    weight = world.weight[rows]
    prices = np.column_stack(
        [
            world.earliest[rows],
            np.minimum(world.promised[rows], 1e12),
            weight * world.delay_weight,
            weight * world.late[rows],
        ]
    )
    doors = kernel.Doors(
        out=world.direct[rows].astype(np.float64),
        between=between_s,
        cost=prices,
        late_curve=world.late_curve,
        riding=world.ride_weight,
        service=world.service,
    )
    ride_s = world.factor[near] * world.start_store[near, store]
    riders = np.column_stack(
        [world.leave[near] + ride_s, ride_s, world.factor[near], world.end[near]]
    )
    found: list[_Found] = []
    for bundle in _sets(world.ready[rows], between_s, parameters):
        ways = np.array(list(permutations(range(bundle.shape[1]))), dtype=np.int64)
        cost, way = kernel.price_bundles(
            doors, world.half[store], world.now, world.ready[rows], bundle, ways, riders
        )
        cost += world.first[near, store][None, :]
        cost[~_fits(world, rows, bundle, near)] = np.inf
        worth = cost < price[rows][bundle].sum(axis=1)[:, None]
        if bundle.shape[1] > 1:
            worth &= _cheapest(cost, parameters.riders_a_bundle)
        at, column = np.nonzero(worth)
        sequence = np.take_along_axis(bundle[at], ways[way[at, column]], axis=1)
        found.append((near[column], rows[sequence], cost[at, column]))
    return found


def _sets(
    ready_s: FloatArray, between_s: FloatArray, parameters: PackingParameters
) -> list[NDArray[np.int64]]:
    """Bundles by size: each of shape (bundles, size), rows ascending and different."""
    n = ready_s.size
    apart_s = np.minimum(between_s, between_s.T) + np.abs(ready_s[:, None] - ready_s[None, :])
    np.fill_diagonal(apart_s, np.inf)
    beside = np.argsort(apart_s, axis=1, kind="stable")[:, : parameters.companions].tolist()
    near = [
        [other for other in others if np.isfinite(apart_s[one, other])]
        for one, others in enumerate(beside)
    ]
    found = [np.arange(n, dtype=np.int64)[:, None]]
    for size in range(2, min(n, parameters.largest_bundle) + 1):
        sets = {
            tuple(sorted((one, *others)))
            for one in range(n)
            for others in combinations(near[one], size - 1)
        }
        if sets:
            found.append(np.array(sorted(sets), dtype=np.int64))
    return found


def _fits(world: World, rows: IntArray, bundle: NDArray[np.int64], near: IntArray) -> BoolArray:
    """Shape (bundles, riders): each order alone may go with the rider, and all of them together."""
    allowed = world.allowed[np.ix_(rows, near)].astype(np.bool_)
    loads = np.column_stack([np.ones(rows.size), world.loads[rows]])
    total = loads[bundle].sum(axis=1)[:, None, :]
    room = total <= world.capacity[near][None, :, :]
    room[:, :, 3] |= total[:, :, 3] == 0  # whoever owes cash may still carry what is paid for
    return np.asarray(allowed[bundle].all(axis=1) & room.all(axis=2))


def _cheapest(cost: FloatArray, count: int) -> BoolArray:
    """Shape of ``cost``: the ``count`` cheapest of each row, equal ones by column."""
    chosen = np.zeros(cost.shape, dtype=np.bool_)
    ranked = np.argsort(cost, axis=1, kind="stable")[:, :count]
    np.put_along_axis(chosen, ranked, True, axis=1)
    return chosen
