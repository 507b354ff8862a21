"""What OR-Tools would do next with an instance of the rolling plan: by set packing, or by routing.

Both choose one next trip for each rider who has none; the rolling plan's greedy insertion places
what they leave out, behind those trips or in them.
"""

from math import isfinite
from time import perf_counter

import numpy as np

from dispatch.instance import Instance
from dispatch.parameters import Solver

Meant = dict[str, tuple[tuple[str, ...], ...]]
"""Rider id -> the orders' ids, trip by trip."""

_LEAST_S = 0.01


def propose(instance: Instance, solver: Solver, left_s: float) -> Meant:
    """The next trips; empty when there is nothing to choose. left_s: seconds of computing left."""
    if not instance.open_count or not instance.riders or left_s < _LEAST_S:
        return {}
    began_s = perf_counter()
    routes = (
        _packed(instance, began_s, left_s)
        if solver is Solver.PACKING
        else _routed(instance, left_s)
    )
    return {
        instance.riders[column].rider_id: (tuple(instance.keys[row] for row in rows),)
        for column, rows in routes.items()
    }


def _packed(instance: Instance, began_s: float, left_s: float) -> dict[int, list[int]]:
    # OR-Tools is imported where it is used: most who import this package never plan.
    from dispatch.bundles import bundle_pool, leave_price
    from dispatch.packing import pack

    parameters = instance.snapshot.parameters.packing
    pool = bundle_pool(instance.world, instance.open_count, parameters)
    price = leave_price(instance.world, parameters)[: instance.open_count]
    if isfinite(left_s):
        left_s = max(0.0, left_s - (perf_counter() - began_s))
    packed = pack(
        pool, price, deadline_s=left_s, effort=parameters.effort, seed=instance.snapshot.seed
    )
    return {int(pool.rider[one]): pool.orders_of(one) for one in packed.chosen}


def _routed(instance: Instance, left_s: float) -> dict[int, list[int]]:
    from dispatch.bundles import leave_price
    from dispatch.routing import RoutingOrder, RoutingProblem, RoutingRider, route

    world, parameters = instance.world, instance.snapshot.parameters
    n = instance.open_count
    free = np.flatnonzero(world.fixed == 0).tolist()
    price = leave_price(world, parameters.packing)
    first_row = {row: at for at, row in enumerate(free)}
    warm: list[list[int]] = [[] for _ in free]
    row_of = {key: row for row, key in enumerate(instance.keys[:n])}
    column_of = {rider.rider_id: column for column, rider in enumerate(instance.riders)}
    previous = instance.snapshot.previous
    for one in previous.routes if previous is not None else ():
        at = first_row.get(column_of.get(one.rider_id, -1))
        if at is not None and one.trips:
            warm[at] = [row_of[key] for key in one.trips[0] if key in row_of]
    problem = RoutingProblem(
        now_s=world.now,
        riders=tuple(
            RoutingRider(
                to_store_s=tuple((world.factor[row] * world.start_store[row]).tolist()),
                leave_s=float(world.leave[row]),
                end_s=float(world.end[row]),
                capacity=_four(world.capacity[row].tolist()),
                factor=float(world.factor[row]),
            )
            for row in free
        ),
        orders=tuple(
            RoutingOrder(
                store=int(world.store[row]),
                from_store_s=float(world.direct[row]),
                ready_s=float(world.ready[row]),
                earliest_s=float(world.earliest[row]),
                promised_s=min(float(world.promised[row]), world.now + 1e6),
                late_weight=float(world.late[row]),
                leave_price=float(price[row]),
                load=_three(world.loads[row].tolist()),
                riders=frozenset(at for at, rider in enumerate(free) if world.allowed[row, rider]),
            )
            for row in range(n)
        ),
        between_s=world.order_order[:n, :n].astype(np.float64),
        service_s=tuple((2 * world.half).tolist()),
        dropoff_service_s=world.service,
        delay_weight=world.delay_weight,
        late_scale_s=1 / (2 * world.late_curve),
        riding_weight=world.ride_weight,
    )
    found = route(
        problem, start=warm, deadline_s=left_s, solutions=parameters.packing.routing_solutions
    )
    return {free[at]: list(rows) for at, rows in enumerate(found.routes) if rows}


def _three(loads: list[float]) -> tuple[int, int, int]:
    grams, millilitres, cash = loads
    return int(grams), int(millilitres), int(cash)


def _four(limits: list[float]) -> tuple[int, int, int, int]:
    orders, grams, millilitres, cash = limits
    return int(orders), int(grams), int(millilitres), int(cash)
