"""The rolling plan: every rider's next trips over all known orders, and what must start now.

1. The orders are joined by ghosts, the demand that is foreseen (`dispatch.ghosts`).
2. Routes start from what the last plan meant or from the matching, whichever is cheaper once the
   orders that it leaves have been inserted; so the plan is never worse than its fallback.
3. Ruin and recreate improves them (`dispatch.kernel_search`).
4. A trip is committed only when it must leave before the next decision; until then everything may
   change (`dispatch.readout`).
5. With ``scenarios.enabled``, what is to be committed is compared with what other futures would
   commit, over sampled demand (`dispatch.second_thoughts`).

The kernel is imported, and by that compiled or loaded from its cache, with the first plan or by
`warm_up`; nothing else here needs it.
"""

from dataclasses import replace
from time import perf_counter
from types import ModuleType

import numpy as np

from dispatch.ghosts import foresee
from dispatch.instance import build
from dispatch.parameters import Solver
from dispatch.readout import read_out
from dispatch.result import Plan
from dispatch.route_search import Meant, improve_routes, random_state, rounds_for, start_routes
from dispatch.second_thoughts import reconsider
from dispatch.snapshot import Order, Rider, Snapshot, Store
from dispatch.travel import TravelTimes
from dispatch.variants import propose

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
    kernel = load_kernel()
    until_s = began_s + snapshot.deadline_s
    first = _first_plan(kernel, snapshot, fallback, until_s)
    _warm = True
    parameters = snapshot.parameters
    if parameters.solver is Solver.ROLLING and parameters.scenarios.enabled:
        return reconsider(kernel, snapshot, first, until_s)
    return first


def _first_plan(kernel: ModuleType, snapshot: Snapshot, fallback: Plan, until_s: float) -> Plan:
    instance = build(snapshot, foresee(snapshot.recent, snapshot.now_s, snapshot.parameters.ghosts))
    state = random_state(snapshot.seed)
    started = start_routes(kernel, instance, _as_ids(fallback), state)
    fallback_objective = kernel.objective(instance.world, started)
    if snapshot.previous is not None:
        warm_ids = {one.rider_id: one.trips for one in snapshot.previous.routes}
        warm = start_routes(kernel, instance, warm_ids, state)
        if kernel.objective(instance.world, warm) <= fallback_objective:
            started = warm
    solver = snapshot.parameters.solver
    if solver not in (Solver.PACKING, Solver.ROUTING):
        # Where only ghosts are left there is nothing to decide.
        total = rounds_for(snapshot.parameters.rolling, instance.count)
        total = total if instance.open_count else 0
        routes, rounds = improve_routes(kernel, instance, started, state, total, until_s)
    else:
        meant = propose(instance, solver, until_s - perf_counter())
        proposed = start_routes(kernel, instance, meant, state)
        better = kernel.objective(instance.world, proposed) < kernel.objective(
            instance.world, started
        )
        routes, rounds = proposed if better else started, 0
    return read_out(kernel, instance, routes, fallback_objective, rounds)


def _as_ids(plan: Plan) -> Meant:
    """What a plan would do."""
    ids: dict[str, tuple[tuple[str, ...], ...]] = {}
    for trip in (*plan.trips, *plan.tentative):
        ids[trip.rider_id] = (*ids.get(trip.rider_id, ()), trip.order_ids)
    return ids
