"""Set packing: which of many candidate trips to make, so that no order and no rider is in two.

A candidate is a rider, a set of orders and a cost; leaving an order out has a price. The model is
that of set partitioning over a pool of routes (Balinski & Quandt, 1964), solved by CP-SAT.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from dispatch.travel import FloatArray

IntArray = NDArray[np.intp]

# Costs are solved in tenths of a second: finer than any estimate in them.
SCALE = 10
# CP-SAT's own measure of work, about a second on a fast core: the same on every machine.
DETERMINISTIC_TIME = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """c candidates. rider, cost: shape (c,); cost finite, it may be below 0.

    order: the orders of all candidates one after the other; those of candidate ``i`` are
    ``order[begin[i]:begin[i + 1]]``, each once. begin: shape (c + 1,).

    Raises ValueError for arrays that do not fit together and for a cost that is not finite.
    """

    rider: IntArray
    begin: IntArray
    order: IntArray
    cost: FloatArray

    def __post_init__(self) -> None:
        c = self.rider.size
        if self.cost.shape != (c,) or self.begin.shape != (c + 1,):
            raise ValueError("a pool needs a rider, a begin and a cost for each candidate")
        if (
            self.begin[0] != 0
            or self.begin[-1] != self.order.size
            or (np.diff(self.begin) < 0).any()
        ):
            raise ValueError("begin must run from 0 up to the number of orders")
        if not np.isfinite(self.cost).all():
            raise ValueError("the cost of a candidate must be finite")

    @classmethod
    def of(cls, candidates: Sequence[tuple[int, Sequence[int], float]]) -> "Pool":
        """A pool of (rider, orders, cost)."""
        sizes = [len(orders) for _, orders, _ in candidates]
        return cls(
            rider=np.array([rider for rider, _, _ in candidates], dtype=np.intp),
            begin=np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp),
            order=np.array([one for _, orders, _ in candidates for one in orders], dtype=np.intp),
            cost=np.array([cost for _, _, cost in candidates], dtype=np.float64),
        )

    def orders_of(self, candidate: int) -> list[int]:
        """The orders of one candidate."""
        found: list[int] = self.order[self.begin[candidate] : self.begin[candidate + 1]].tolist()
        return found


@dataclass(frozen=True, slots=True)
class Packed:
    """chosen: candidates, ascending. objective: their cost and the price of what is left.

    bound: no choice from the pool can cost less. proven: neither can this one's be improved.
    """

    chosen: tuple[int, ...]
    objective: float
    bound: float
    proven: bool


def pack(
    pool: Pool,
    leave_price: FloatArray,
    *,
    start: Sequence[int] = (),
    deadline_s: float = math.inf,
    effort: float = DETERMINISTIC_TIME,
    seed: int = 0,
) -> Packed:
    """The cheapest choice found; never dearer than the greedy one, nor than ``start``.

    leave_price: shape (orders,), >= 0. start: candidates that fit together, known from elsewhere.
    effort: deterministic time of CP-SAT. Without a deadline the same pool gets the same answer.
    Raises ValueError for a candidate whose order has no price, or a start that does not fit.
    """
    if pool.order.size and not (pool.order.min() >= 0 and pool.order.max() < leave_price.size):
        raise ValueError("a candidate holds an order without a price")
    cost = np.rint(pool.cost * SCALE).astype(np.int64)
    price = np.rint(leave_price * SCALE).astype(np.int64)
    # What a candidate saves against leaving all its orders; one that saves nothing is no choice.
    owner = np.repeat(np.arange(pool.rider.size), np.diff(pool.begin))
    saved = np.bincount(owner, price[pool.order], minlength=cost.size).astype(np.int64) - cost
    best = _greedy(pool, saved)
    given = tuple(sorted(start))
    if not _fit_together(pool, given):
        raise ValueError("the candidates to start from share an order or a rider")
    best = max(best, given, key=lambda chosen: _saving(saved, chosen))
    useful = np.flatnonzero(saved > 0)
    bound = int(saved[useful].sum())
    if useful.size and deadline_s > 0:
        found, bound = _solve(pool, saved, useful, best, deadline_s, effort, seed)
        best = max(best, found, key=lambda chosen: _saving(saved, chosen))
    total, saving = int(price.sum()), _saving(saved, best)
    bound = max(bound, saving)
    return Packed(best, (total - saving) / SCALE, (total - bound) / SCALE, bound == saving)


def _saving(saved: NDArray[np.int64], chosen: Sequence[int]) -> int:
    return int(saved[list(chosen)].sum())


def _fit_together(pool: Pool, chosen: Sequence[int]) -> bool:
    riders = [int(pool.rider[one]) for one in chosen]
    orders = [order for one in chosen for order in pool.orders_of(one)]
    return len(set(riders)) == len(riders) and len(set(orders)) == len(orders)


def _greedy(pool: Pool, saved: NDArray[np.int64]) -> tuple[int, ...]:
    """The candidate that saves most an order first, then what still fits."""
    sizes = np.maximum(1, np.diff(pool.begin))
    useful = np.flatnonzero(saved > 0)
    ranked = useful[np.lexsort((useful, -(saved[useful] / sizes[useful])))]
    riders: set[int] = set()
    orders: set[int] = set()
    chosen: list[int] = []
    for one in ranked.tolist():
        rider, its = int(pool.rider[one]), pool.orders_of(one)
        if rider not in riders and orders.isdisjoint(its):
            riders.add(rider)
            orders.update(its)
            chosen.append(one)
    return tuple(sorted(chosen))


def _solve(
    pool: Pool,
    saved: NDArray[np.int64],
    useful: IntArray,
    hint: Sequence[int],
    deadline_s: float,
    effort: float,
    seed: int,
) -> tuple[tuple[int, ...], int]:
    """Candidates chosen by CP-SAT among the useful ones, and what no choice can save more than."""
    model = cp_model.CpModel()
    take = [model.new_bool_var("") for _ in range(useful.size)]
    wanted = set(hint)
    by_rider: dict[int, list[cp_model.IntVar]] = {}
    by_order: dict[int, list[cp_model.IntVar]] = {}
    for variable, one in zip(take, useful.tolist(), strict=True):
        by_rider.setdefault(int(pool.rider[one]), []).append(variable)
        for order in pool.orders_of(one):
            by_order.setdefault(order, []).append(variable)
        model.add_hint(variable, one in wanted)
    for group in (*by_rider.values(), *by_order.values()):
        if len(group) > 1:
            model.add_at_most_one(group)
    model.maximize(cp_model.LinearExpr.weighted_sum(take, saved[useful].tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = effort
    # The relaxation of such models is nearly whole: it does most of the work.
    solver.parameters.linearization_level = 2
    if math.isfinite(deadline_s):
        solver.parameters.max_time_in_seconds = deadline_s
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return tuple(sorted(wanted)), int(saved[useful].sum())
    chosen = [
        one for variable, one in zip(take, useful.tolist(), strict=True) if solver.value(variable)
    ]
    return tuple(chosen), math.floor(solver.best_objective_bound + 1e-6)
