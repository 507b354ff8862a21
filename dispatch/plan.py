"""The decision: which rider takes which orders now, which orders wait, which have nobody."""

from math import isfinite
from time import perf_counter

from dispatch import rolling
from dispatch.matched import plan_by_matching
from dispatch.parameters import Solver
from dispatch.parts import divide, plan_in_parts
from dispatch.result import Plan
from dispatch.snapshot import Snapshot


def plan(snapshot: Snapshot) -> Plan:
    """Decide for one snapshot, by the solver of its parameters.

    With an infinite ``deadline_s`` the same snapshot always gets the same plan. A finite one ends
    the search early on a slow machine, and answers with the matching while the rolling plan is not
    compiled (`rolling.warm_up`); zero asks for the matching alone. An order that cannot be served
    is in `Plan.unassigned`, never an error. A large city is planned in parts (`dispatch.parts`).
    """
    parts = divide(snapshot)
    return _plan_whole(snapshot) if len(parts) == 1 else plan_in_parts(parts, _plan_whole)


def _plan_whole(snapshot: Snapshot) -> Plan:
    started_s = perf_counter()
    fallback = plan_by_matching(snapshot, started_s)
    if snapshot.parameters.solver is Solver.MATCHING or snapshot.deadline_s == 0:
        return fallback
    if isfinite(snapshot.deadline_s) and not rolling.is_warm():
        return fallback
    return rolling.plan_ahead(snapshot, fallback, started_s)
