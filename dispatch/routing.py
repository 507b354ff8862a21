"""Long trips with slots and promises, by the routing solver of OR-Tools.

One trip a rider: ride to one store, wait until all goods of the trip are packed, then drop them.
The solver may leave an order out at its price. Doors may have a *slot* that is kept strictly, with
waiting at the door until it opens; promises cost what lateness costs.

What the solver cannot say, and what stands in for it: a convex price of lateness needs
``SetCumulVarPiecewiseLinearCost``, which its Python form lacks (google/or-tools#2738), and a second
soft bound on a node overwrites the first (google/or-tools#3759). So delay, lateness and great
lateness are three dimensions of the same times, each with one bound.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from ortools.constraint_solver import pywrapcp, routing_enums_pb2

from dispatch.travel import FloatArray

# Costs are whole numbers in the solver: hundredths of a cost second.
_COST = 100
# Guided local search goes on for ever where no neighbour is left to accept (one order, one rider);
# rejected neighbours are counted, so that this ends it after the same steps on every machine.
_FAILURES_A_SOLUTION = 20
_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRider:
    """A rider who may take one trip.

    to_store_s: seconds to each store. leave_s: when he can set out; end_s: the last handover.
    factor: multiplies the legs between doors. capacity: orders, grams, millilitres, cash.
    """

    to_store_s: tuple[float, ...]
    leave_s: float
    end_s: float
    capacity: tuple[int, int, int, int] = (4, 25_000, 60_000, 0)
    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOrder:
    """An order, its slot and its price.

    store: index. from_store_s: store to door. slot_s: the handover lies within, whatever it costs.
    earliest_s, promised_s: where delay and lateness begin. late_weight: price of a late second.
    leave_price: price of leaving it out. load: grams, millilitres, cash. riders: indices of those
    who may take it, None for all.
    """

    store: int
    from_store_s: float
    ready_s: float
    earliest_s: float
    promised_s: float
    late_weight: float
    leave_price: float
    slot_s: tuple[float, float] = (-math.inf, math.inf)
    load: tuple[int, int, int] = (0, 0, 0)
    riders: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingProblem:
    """n orders and m riders; seconds on one axis, legs infinite where there is no way.

    between_s: shape (n, n), door to door; only pairs of one store are read. service_s: pickup
    service of each store; dropoff_service_s: at a door; handovers lie in the middle of both.
    """

    now_s: float
    riders: tuple[RoutingRider, ...]
    orders: tuple[RoutingOrder, ...]
    between_s: FloatArray
    service_s: tuple[float, ...]
    dropoff_service_s: float
    delay_weight: float = 1.0
    late_scale_s: float = 600.0
    riding_weight: float = 0.0

    def __post_init__(self) -> None:
        n, stores = len(self.orders), len(self.service_s)
        if self.between_s.shape != (n, n):
            raise ValueError(f"between_s must have shape ({n}, {n})")
        if any(not 0 <= order.store < stores for order in self.orders):
            raise ValueError("an order names a store that does not exist")
        if any(len(rider.to_store_s) != stores for rider in self.riders):
            raise ValueError("a rider needs the seconds to every store")
        if any(order.slot_s[0] > order.slot_s[1] for order in self.orders):
            raise ValueError("a slot ends before it begins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """routes: order indices in sequence of delivery, one tuple a rider, empty for no trip.

    unserved: the orders on none. objective: in cost seconds, as the solver counts (whole seconds,
    lateness in two straight pieces). warm: whether the given routes could be started from.
    """

    routes: tuple[tuple[int, ...], ...]
    unserved: tuple[int, ...]
    objective: float
    warm: bool


def route(
    problem: RoutingProblem,
    *,
    start: Sequence[Sequence[int]] | None = None,
    deadline_s: float = math.inf,
    solutions: int = 200,
) -> Routed:
    """The best routes found in ``solutions`` steps of guided local search, or until the deadline.

    start: routes to begin with, as in `Routed`; ignored where they break a rule. Without a deadline
    the same problem gets the same answer on any machine, unless that takes more than a minute.
    """
    n, m = len(problem.orders), len(problem.riders)
    nothing = Routed(
        routes=((),) * m, unserved=tuple(range(n)), objective=_unserved_price(problem), warm=False
    )
    if not n or not m or deadline_s <= 0:
        return nothing
    model = _Model(problem)
    parameters = _search_parameters(deadline_s, solutions)
    solver = model.routing.solver()
    model.routing.AddSearchMonitor(solver.FailuresLimit(_FAILURES_A_SOLUTION * solutions))
    model.routing.CloseModelWithParameters(parameters)
    first = model.assignment(start) if start is not None else None
    if first is not None:
        found = model.routing.SolveFromAssignmentWithParameters(first, parameters)
    else:
        found = model.routing.SolveWithParameters(parameters)
    return nothing if found is None else model.read(found, warm=first is not None)


class _Model:
    """Nodes 0..n-1 are pickups, n..2n-1 drop-offs, then the riders' starts, and one end."""

    def __init__(self, problem: RoutingProblem) -> None:
        self._problem = problem
        n, m = len(problem.orders), len(problem.riders)
        self._n = n
        self._manager = pywrapcp.RoutingIndexManager(
            2 * n + m + 1, m, list(range(2 * n, 2 * n + m)), [2 * n + m] * m
        )
        self.routing = pywrapcp.RoutingModel(self._manager)
        self._horizon_s = self._horizon()
        self._add_orders()
        self._add_loads()
        self._add_times()

    def _horizon(self) -> int:
        """Later than any trip can end, so that times fit in it."""
        problem = self._problem
        legs = np.concatenate(
            [
                problem.between_s.ravel(),
                [order.from_store_s for order in problem.orders],
                *(rider.to_store_s for rider in problem.riders),
            ]
        )
        longest_s = float(legs[np.isfinite(legs)].max(initial=0.0))
        factor = max(rider.factor for rider in problem.riders)
        steps = len(problem.orders) + 2
        per_step_s = longest_s * factor + problem.dropoff_service_s + max(problem.service_s)
        begins_s = max(
            0.0,
            *(rider.leave_s - problem.now_s for rider in problem.riders),
            *(order.ready_s - problem.now_s for order in problem.orders),
            *(
                order.slot_s[0] - problem.now_s
                for order in problem.orders
                if math.isfinite(order.slot_s[0])
            ),
        )
        return math.ceil(begins_s + steps * per_step_s)

    def _add_orders(self) -> None:
        """Pairs, prices of leaving them, who may take them, and which stop may follow which."""
        problem, routing, manager, n = self._problem, self.routing, self._manager, self._n
        of_store: dict[int, list[int]] = {}
        for at, order in enumerate(problem.orders):
            of_store.setdefault(order.store, []).append(at)
        every = range(routing.Size() + routing.vehicles())
        ends = {routing.End(vehicle) for vehicle in range(routing.vehicles())}
        for at, order in enumerate(problem.orders):
            pickup, drop = manager.NodeToIndex(at), manager.NodeToIndex(n + at)
            routing.AddPickupAndDelivery(pickup, drop)
            solver = routing.solver()
            solver.Add(routing.VehicleVar(pickup) == routing.VehicleVar(drop))
            routing.AddDisjunction([pickup], max(1, round(order.leave_price * _COST)))
            routing.AddDisjunction([drop], 0)
            drops = {
                manager.NodeToIndex(n + other)
                for other in of_store[order.store]
                if other == at or math.isfinite(problem.between_s[at, other])
            }
            pickups = {manager.NodeToIndex(other) for other in of_store[order.store]}
            first = drops if math.isfinite(order.from_store_s) else drops - {drop}
            routing.NextVar(pickup).RemoveValues(
                [index for index in every if index not in first | pickups | {pickup}]
            )
            routing.NextVar(drop).RemoveValues(
                [index for index in every if index not in drops | ends | {drop}]
            )
            allowed = [v for v in range(routing.vehicles()) if self._may_take(order, v)]
            for index in (pickup, drop):
                routing.VehicleVar(index).SetValues([-1, *allowed])
        for vehicle in range(routing.vehicles()):
            begin = routing.Start(vehicle)
            allowed_next = {manager.NodeToIndex(at) for at in range(n)} | {routing.End(vehicle)}
            routing.NextVar(begin).RemoveValues([i for i in every if i not in allowed_next])

    def _may_take(self, order: RoutingOrder, vehicle: int) -> bool:
        """Whether this rider can have the goods by the end of his shift: he and they are there."""
        rider = self._problem.riders[vehicle]
        half_s = self._problem.service_s[order.store] / 2
        there_s = rider.leave_s + rider.to_store_s[order.store] + half_s
        return (order.riders is None or vehicle in order.riders) and (
            max(there_s, order.ready_s, self._problem.now_s) <= rider.end_s
        )

    def _add_loads(self) -> None:
        """Orders, grams and millilitres aboard, and the cash that they bring."""
        problem, m = self._problem, len(self._problem.riders)
        for kind, name in enumerate(("orders", "grams", "millilitres", "cash")):
            taken = [1 if kind == 0 else order.load[kind - 1] for order in problem.orders]
            changes = [*taken, *(-load for load in taken), *([0] * (m + 1))]
            callback = self.routing.RegisterUnaryTransitVector(changes)
            limits = [max(0, rider.capacity[kind]) for rider in problem.riders]
            self.routing.AddDimensionWithVehicleCapacity(callback, 0, limits, True, name)

    def _add_times(self) -> None:
        """Times, slots, delay and lateness; the price of riding."""
        problem, routing = self._problem, self.routing
        by_factor: dict[float, tuple[int, int]] = {}
        for rider in problem.riders:
            if rider.factor not in by_factor:
                legs_s, ride_s = self._legs(rider.factor)
                price = np.rint(ride_s * (problem.riding_weight * _COST)).astype(np.int64)
                by_factor[rider.factor] = (
                    routing.RegisterTransitMatrix(legs_s.tolist()),
                    routing.RegisterTransitMatrix(price.tolist()),
                )
        for vehicle, rider in enumerate(problem.riders):
            routing.SetArcCostEvaluatorOfVehicle(by_factor[rider.factor][1], vehicle)
        callbacks = [by_factor[rider.factor][0] for rider in problem.riders]
        scale = problem.late_scale_s
        self._add_time(
            callbacks, "delay", lambda one: one.earliest_s, lambda _: problem.delay_weight
        )
        # late + late^2 / (2 scale) by two straight pieces that meet it at 0, scale and 2 scale.
        self._add_time(
            callbacks, "late", lambda one: one.promised_s, lambda one: 1.5 * one.late_weight
        )
        self._add_time(
            callbacks, "very late", lambda one: one.promised_s + scale, lambda one: one.late_weight
        )

    def _add_time(
        self,
        callbacks: list[int],
        name: str,
        bound_s: Callable[[RoutingOrder], float],
        weight: Callable[[RoutingOrder], float],
    ) -> None:
        """The times as a dimension, with a price on each second that a drop is past its bound."""
        problem, routing, manager, n = self._problem, self.routing, self._manager, self._n
        routing.AddDimensionWithVehicleTransits(
            callbacks, self._horizon_s, self._horizon_s, False, name
        )
        times = routing.GetDimensionOrDie(name)
        for vehicle, rider in enumerate(problem.riders):
            at_s = min(self._horizon_s, max(0, math.ceil(rider.leave_s - problem.now_s)))
            times.CumulVar(routing.Start(vehicle)).SetRange(at_s, at_s)
        for at, order in enumerate(problem.orders):
            pickup, drop = manager.NodeToIndex(at), manager.NodeToIndex(n + at)
            least = max(0, math.ceil(order.ready_s - problem.now_s))
            times.CumulVar(pickup).SetRange(least, self._horizon_s)
            opens, closes = (edge - problem.now_s for edge in order.slot_s)
            times.CumulVar(drop).SetRange(
                max(0, math.ceil(opens)) if math.isfinite(opens) else 0,
                max(0, math.floor(min(closes, self._horizon_s))),
            )
            coefficient = round(weight(order) * _COST)
            if coefficient > 0:
                bound = max(0, round(bound_s(order) - problem.now_s))
                times.SetCumulVarSoftUpperBound(drop, bound, coefficient)
            if name == "delay":
                routing.AddVariableMinimizedByFinalizer(times.CumulVar(drop))

    def _legs(self, factor: float) -> tuple[NDArray[np.int64], FloatArray]:
        """Seconds from each node's handover to the next one's, whole; riding alone, not whole."""
        problem, n, m = self._problem, self._n, len(self._problem.riders)
        size = 2 * n + m + 1
        ride_s = np.zeros((size, size))
        extra_s = np.zeros((size, size))
        store = np.array([order.store for order in problem.orders])
        half_s = np.array(problem.service_s)[store] / 2
        direct_s = np.array([order.from_store_s for order in problem.orders])
        ride_s[:n, n : 2 * n] = direct_s[None, :] * factor
        extra_s[:n, n : 2 * n] = half_s[None, :] + problem.dropoff_service_s / 2
        ride_s[n : 2 * n, n : 2 * n] = problem.between_s * factor
        extra_s[n : 2 * n, n : 2 * n] = problem.dropoff_service_s
        for at, rider in enumerate(problem.riders):
            ride_s[2 * n + at, :n] = np.array(rider.to_store_s)[store] * rider.factor
            extra_s[2 * n + at, :n] = half_s
        ride_s[~np.isfinite(ride_s)] = 0.0  # such a step is forbidden
        return np.rint(ride_s + extra_s).astype(np.int64), ride_s

    def assignment(self, start: Sequence[Sequence[int]]) -> pywrapcp.Assignment | None:
        """The routes as the solver's own; None when they break a rule."""
        manager, n = self._manager, self._n
        nodes = [
            [manager.NodeToIndex(at) for at in one] + [manager.NodeToIndex(n + at) for at in one]
            for one in start
        ]
        if len(nodes) != self.routing.vehicles():
            raise ValueError("start must hold one route a rider")
        return self.routing.ReadAssignmentFromRoutes(nodes, True)

    def read(self, found: pywrapcp.Assignment, *, warm: bool) -> Routed:
        routing, manager, n = self.routing, self._manager, self._n
        routes: list[tuple[int, ...]] = []
        for vehicle in range(routing.vehicles()):
            drops: list[int] = []
            index = found.Value(routing.NextVar(routing.Start(vehicle)))
            while not routing.IsEnd(index):
                node = manager.IndexToNode(index)
                if node >= n:
                    drops.append(node - n)
                index = found.Value(routing.NextVar(index))
            routes.append(tuple(drops))
        served = {at for one in routes for at in one}
        return Routed(
            routes=tuple(routes),
            unserved=tuple(at for at in range(n) if at not in served),
            objective=found.ObjectiveValue() / _COST,
            warm=warm,
        )


def _search_parameters(deadline_s: float, solutions: int) -> object:
    parameters = pywrapcp.DefaultRoutingSearchParameters()
    parameters.first_solution_strategy = (
        routing_enums_pb2.FirstSolutionStrategy.PARALLEL_CHEAPEST_INSERTION
    )
    parameters.local_search_metaheuristic = (
        routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
    )
    parameters.solution_limit = solutions
    parameters.time_limit.FromTimedelta(timedelta(seconds=min(deadline_s, _LONGEST_S)))
    return parameters


def _unserved_price(problem: RoutingProblem) -> float:
    return sum(order.leave_price for order in problem.orders)
