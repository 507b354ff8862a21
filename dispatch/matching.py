"""Sparse assignment of orders to riders, where leaving an order unmatched has a price.

All backends take the same integers and return the same form; the exact ones agree on the
objective, the greedy one is the fallback that no answer may be worse than.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from dispatch.parameters import Backend
from dispatch.problem import IntArray
from dispatch.travel import FloatArray

# Costs are solved in tenths of a second: finer than any estimate in them.
SCALE = 10
UNMATCHED = -1

CostArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """pair_of: shape (orders,), index of the chosen pair or UNMATCHED; costs in cost seconds."""

    pair_of: IntArray
    objective: float
    fallback_objective: float
    backend: Backend


def match_orders(
    order_of: IntArray,
    rider_of: IntArray,
    cost: FloatArray,
    leave_price: FloatArray,
    riders: int,
    backend: Backend,
) -> Matching:
    """As many orders as possible get a rider; among those plans, the cheapest.

    order_of, rider_of, cost: shape (pairs,), cost finite and >= 0, no pair twice.
    leave_price: shape (orders,), price of leaving the order, >= 0. riders: how many there are.
    Falls back to the greedy answer when the solver fails, and never returns a dearer one.
    """
    orders = leave_price.size
    pair_cost = np.rint(cost * SCALE).astype(np.int64)
    # Above the cost of any whole matching, so that a served order always beats a saved detour.
    base = np.int64(1)
    if pair_cost.size:
        dearest = np.zeros(orders, dtype=np.int64)
        np.maximum.at(dearest, order_of, pair_cost)
        base += dearest.sum()
    price = base + np.rint(leave_price * SCALE).astype(np.int64)
    fallback = _greedy(order_of, rider_of, pair_cost, price)
    fallback_objective = _objective(fallback, pair_cost, price)
    chosen: IntArray | None = None
    if pair_cost.size:
        match backend:
            case Backend.FLOW:
                chosen = _flow(order_of, rider_of, pair_cost, price, riders)
            case Backend.ASSIGNMENT:
                chosen = _assignment(order_of, rider_of, pair_cost, price, riders)
            case Backend.GREEDY:
                chosen = None
            case _:
                assert_never(backend)
    used = backend
    if chosen is None or _objective(chosen, pair_cost, price) > fallback_objective:
        chosen, used = fallback, Backend.GREEDY
    objective = _objective(chosen, pair_cost, price)
    return Matching(chosen, objective / SCALE, fallback_objective / SCALE, used)


def _objective(pair_of: IntArray, pair_cost: CostArray, price: CostArray) -> int:
    served = pair_of != UNMATCHED
    return int(pair_cost[pair_of[served]].sum() + price[~served].sum())


def _greedy(
    order_of: IntArray, rider_of: IntArray, pair_cost: CostArray, price: CostArray
) -> IntArray:
    """The dearest order to leave chooses first, each its cheapest rider who is still free."""
    pair_of = np.full(price.size, UNMATCHED, dtype=np.intp)
    by_order = np.lexsort((np.arange(pair_cost.size), pair_cost, order_of))
    starts = np.searchsorted(order_of[by_order], np.arange(price.size + 1))
    taken: set[int] = set()
    riders = rider_of.tolist()
    for order in np.argsort(-price, kind="stable").tolist():
        for pair in by_order[starts[order] : starts[order + 1]].tolist():
            if riders[pair] not in taken:
                taken.add(riders[pair])
                pair_of[order] = pair
                break
    return pair_of


def _flow(
    order_of: IntArray, rider_of: IntArray, pair_cost: CostArray, price: CostArray, riders: int
) -> IntArray | None:
    """Min-cost flow: order -> rider -> sink, or order -> sink at its price; None on failure."""
    orders, sink = price.size, price.size + riders
    every_order, every_rider = np.arange(orders), orders + np.arange(riders)
    # Here and not above: whoever only promises and predicts need not load it.
    from ortools.graph.python import min_cost_flow

    solver = min_cost_flow.SimpleMinCostFlow()
    arcs = solver.add_arcs_with_capacity_and_unit_cost(
        np.concatenate([order_of, every_order, every_rider]).astype(np.int32),
        np.concatenate([orders + rider_of, np.full(orders + riders, sink)]).astype(np.int32),
        np.ones(pair_cost.size + orders + riders, dtype=np.int64),
        np.concatenate([pair_cost, price, np.zeros(riders, dtype=np.int64)]),
    )
    supplies = np.append(np.ones(orders, dtype=np.int64), -orders)
    solver.set_nodes_supplies(np.append(every_order, sink).astype(np.int32), supplies)
    if solver.solve() != solver.OPTIMAL:
        return None
    used = np.flatnonzero(solver.flows(arcs[: pair_cost.size]))
    pair_of = np.full(orders, UNMATCHED, dtype=np.intp)
    pair_of[order_of[used]] = used
    return pair_of


def _assignment(
    order_of: IntArray, rider_of: IntArray, pair_cost: CostArray, price: CostArray, riders: int
) -> IntArray | None:
    """Linear-sum assignment made square: each order has a dummy rider at its price, each rider a
    dummy order at nothing, and dummies meet where the real ones could have met. None on failure.
    """
    orders = price.size
    every_order, every_rider = np.arange(orders), np.arange(riders)
    from ortools.graph.python import linear_sum_assignment

    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    solver.add_arcs_with_cost(
        np.concatenate([order_of, orders + rider_of, every_order, orders + every_rider]),
        np.concatenate([rider_of, riders + order_of, riders + every_order, every_rider]),
        np.concatenate([pair_cost, np.zeros_like(pair_cost), price, np.zeros(riders, np.int64)]),
    )
    if solver.solve() != solver.OPTIMAL:
        return None
    rider_for = np.array([solver.right_mate(order) for order in range(orders)], dtype=np.intp)
    used = np.flatnonzero(rider_for[order_of] == rider_of)
    pair_of = np.full(orders, UNMATCHED, dtype=np.intp)
    pair_of[order_of[used]] = used
    return pair_of
