"""One new trip a rider, by a sparse matching: the fallback of every other solver.

1. Feasible pairs of order and rider among each store's nearest riders, priced (`dispatch.cost`),
   and additions to trips that are not picked up yet (`dispatch.extension`).
2. A sparse assignment with a price for leaving an order (`dispatch.matching`), widened while an
   order stays without a rider and a rider without an order.
3. A pair is committed only when waiting for the next decision would cost something; the others
   are held with their time. What has nobody may still join a trip of this plan.
"""

from dataclasses import dataclass, replace
from math import isfinite
from time import perf_counter

import numpy as np

from dispatch.cost import TERMS, Pairs, price_pairs, urgency
from dispatch.extension import Extension, extensions
from dispatch.matching import UNMATCHED, Matching, match_orders
from dispatch.parameters import Backend
from dispatch.problem import IntArray, Problem
from dispatch.result import (
    Explanation,
    Held,
    HeldReason,
    Plan,
    Statistics,
    Unassigned,
    UnassignedReason,
)
from dispatch.schedule import Draft, write_out_all
from dispatch.snapshot import Snapshot
from dispatch.travel import FloatArray

# How much wider each round of candidates is than the one before.
WIDEN = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The matching and what it chose from: pairs with free riders first, then additions."""

    pairs: Pairs
    additions: tuple[Extension, ...]
    matching: Matching
    rounds: int


def plan_by_matching(snapshot: Snapshot, started_s: float) -> Plan:
    """Decide for one snapshot; the same snapshot always gets the same plan.

    started_s: when the engine was asked, on the clock of `perf_counter`; a finite ``deadline_s``
    counts from then and stops the widening of candidates. An order that cannot be served is in
    `Plan.unassigned`, never an error.
    """
    problem = Problem.of(snapshot)
    leave_price = urgency(problem)[: problem.open_count]
    current = _current_trips(snapshot)
    horizon_s = snapshot.now_s + snapshot.parameters.matching.order_horizon_s
    near = problem.ready_s[: problem.open_count] <= horizon_s
    rows = np.flatnonzero(near)
    choice = _choose(problem, rows, leave_price, current, started_s)
    decision = _Decision(problem, leave_price)
    for row in np.flatnonzero(~near).tolist():
        look_again_s = float(problem.ready_s[row]) - horizon_s + snapshot.now_s
        decision.hold(row, HeldReason.NOT_READY, look_again_s)
    decision.take(choice, rows, current)
    decision.fill_up()
    return decision.finish(choice)


def _current_trips(snapshot: Snapshot) -> tuple[Draft, ...]:
    """Trips that may still grow, by rider id."""
    if not snapshot.parameters.extension.enabled:
        return ()
    orders = {order.order_id: order for order in snapshot.trip_orders}
    stores = {store.store_id: store for store in snapshot.stores}
    drafts: list[Draft] = []
    for rider in sorted(snapshot.riders, key=lambda rider: rider.rider_id):
        if rider.trip is None or not rider.trip.may_add:
            continue
        store, arrives_s = stores[rider.trip.store_id], rider.trip.arrives_at_s
        approach_s = float(snapshot.travel.seconds_between(rider.place, store.place))
        approach_s *= rider.travel_factor
        drafts.append(
            Draft(
                rider=rider,
                store=store,
                orders=tuple(orders[order_id] for order_id in rider.trip.order_ids),
                leave_s=arrives_s - (approach_s if isfinite(approach_s) else 0.0),
                arrives_s=arrives_s,
                extends=True,
                explanation=Explanation(cost_terms={}),
            )
        )
    return tuple(drafts)


def _choose(
    problem: Problem,
    rows: IntArray,
    leave_price: FloatArray,
    current: tuple[Draft, ...],
    started_s: float,
) -> _Choice:
    """Match the orders of ``rows``, widening until no free rider could help another order."""
    snapshot, parameters = problem.snapshot, problem.snapshot.parameters.matching
    additions = tuple(extensions(problem, current, rows, leave_price))
    backend = Backend.GREEDY if snapshot.deadline_s == 0 else parameters.backend
    columns = len(problem.riders) + len(current)
    row_at = np.full(problem.open_count, UNMATCHED, dtype=np.intp)
    row_at[rows] = np.arange(rows.size)
    width, rounds = parameters.nearest_riders, 0
    while True:
        rounds += 1
        order_row, rider_row, complete = problem.candidates(rows, width)
        pairs = price_pairs(problem, order_row, rider_row)
        matching = match_orders(
            row_at[np.append(order_row, [one.order_row for one in additions]).astype(np.intp)],
            np.append(rider_row, [len(problem.riders) + one.draft for one in additions]).astype(
                np.intp
            ),
            np.append(pairs.cost, [one.terms.sum() for one in additions]),
            leave_price[rows],
            columns,
            backend,
        )
        served = matching.pair_of[matching.pair_of != UNMATCHED]
        riders_used = int((served < order_row.size).sum())
        helped = served.size == rows.size or riders_used == len(problem.riders)
        late = perf_counter() - started_s >= snapshot.deadline_s
        if helped or complete or late:
            return _Choice(pairs, additions, matching, rounds)
        width *= WIDEN


class _Decision:
    """Collects trips, held and unassigned orders while one plan is being made."""

    def __init__(self, problem: Problem, leave_price: FloatArray) -> None:
        self.problem = problem
        self.leave_price = leave_price
        self.trips: list[Draft] = []
        self.tentative: list[Draft] = []
        self.held: list[Held] = []
        self.left: list[int] = []

    def hold(self, row: int, reason: HeldReason, look_again_at_s: float) -> None:
        order_id = self.problem.orders[row].order_id
        self.held.append(Held(order_id=order_id, reason=reason, look_again_at_s=look_again_at_s))

    def take(self, choice: _Choice, rows: IntArray, current: tuple[Draft, ...]) -> None:
        """Commit, hold or leave each order of ``rows`` as it was matched."""
        pairs = choice.pairs
        second = _runners_up(pairs, choice.matching.pair_of)
        for row, pair in zip(rows.tolist(), choice.matching.pair_of.tolist(), strict=True):
            if pair == UNMATCHED:
                self.left.append(row)
            elif pair < pairs.order_row.size:
                self._take_pair(pairs, pair, second[pair])
            else:
                addition = choice.additions[pair - pairs.order_row.size]
                self.trips.append(_extended(self.problem, current[addition.draft], addition))

    def _take_pair(self, pairs: Pairs, pair: int, second: int) -> None:
        problem, snapshot = self.problem, self.problem.snapshot
        row, column = int(pairs.order_row[pair]), int(pairs.rider_row[pair])
        store_row = int(problem.order_store[row])
        leave_s, arrives_s = problem.leave_s[column], problem.arrival_s[store_row, column]
        draft = Draft(
            rider=problem.riders[column],
            store=problem.stores[store_row],
            orders=(problem.orders[row],),
            leave_s=float(leave_s),
            arrives_s=float(arrives_s),
            extends=False,
            explanation=_explain(problem, pairs, pair, second),
        )
        parameters = snapshot.parameters.commitment
        likely_ready_s = problem.ready_s[row] - parameters.spread_factor * problem.spread_s[row]
        ride_s = arrives_s - leave_s
        # The latest moment to decide at which the rider still is at the store in time.
        set_out_s = float(
            likely_ready_s
            - parameters.slack_s
            - problem.service_s[store_row] / 2
            - ride_s
            - snapshot.parameters.offers.response_s
        )
        free_s = max(draft.rider.free_at_s, draft.rider.shift_start_s)
        look_again_s = max(set_out_s, free_s)
        if look_again_s < snapshot.now_s + snapshot.epoch_s or look_again_s <= snapshot.now_s:
            self.trips.append(draft)
            return
        self.tentative.append(draft)
        busy = free_s > set_out_s
        self.hold(row, HeldReason.RIDER_BUSY if busy else HeldReason.NOT_READY, look_again_s)

    def fill_up(self) -> None:
        """Let orders that have nobody join trips of this plan, one each a round."""
        while self.left and self.problem.snapshot.parameters.extension.enabled:
            rows = np.array(self.left, dtype=np.intp)
            found = extensions(self.problem, self.trips, rows, self.leave_price)
            if not found:
                return
            at = {row: index for index, row in enumerate(self.left)}
            matching = match_orders(
                np.array([at[one.order_row] for one in found], dtype=np.intp),
                np.array([one.draft for one in found], dtype=np.intp),
                np.array([one.terms.sum() for one in found]),
                self.leave_price[rows],
                len(self.trips),
                Backend.GREEDY,
            )
            for pair in matching.pair_of[matching.pair_of != UNMATCHED].tolist():
                one = found[pair]
                self.trips[one.draft] = _extended(self.problem, self.trips[one.draft], one)
            self.left = [
                row
                for row, pair in zip(self.left, matching.pair_of.tolist(), strict=True)
                if pair == UNMATCHED
            ]

    def finish(self, choice: _Choice) -> Plan:
        problem, snapshot = self.problem, self.problem.snapshot
        reasons = problem.why_nobody_of(self.left)
        unassigned = [
            (problem.orders[row].order_id, reason)
            for row, reason in zip(self.left, reasons, strict=True)
        ]
        missing = sum(reason is UnassignedReason.RIDERS_BUSY for _, reason in unassigned)
        return Plan(
            trips=tuple(write_out_all(self.trips, snapshot)),
            held=tuple(sorted(self.held, key=lambda held: held.order_id)),
            unassigned=tuple(Unassigned(order_id=one, reason=why) for one, why in unassigned),
            tentative=tuple(write_out_all(self.tentative, snapshot)),
            statistics=Statistics(
                orders=problem.open_count,
                riders=len(problem.riders),
                pairs=choice.pairs.order_row.size + len(choice.additions),
                rounds=choice.rounds,
                backend=choice.matching.backend.value,
                objective=choice.matching.objective,
                fallback_objective=choice.matching.fallback_objective,
                riders_missing=missing,
            ),
        )


def _runners_up(pairs: Pairs, chosen: IntArray) -> dict[int, int]:
    """Each chosen pair -> the cheapest other pair of the same order, or UNMATCHED."""
    ranked = np.lexsort((pairs.cost, pairs.order_row))
    order_of = pairs.order_row[ranked]
    found: dict[int, int] = {}
    for pair in chosen[(chosen != UNMATCHED) & (chosen < pairs.order_row.size)].tolist():
        first = int(np.searchsorted(order_of, pairs.order_row[pair]))
        at = first + 1 if ranked[first] == pair else first
        other = at < ranked.size and order_of[at] == pairs.order_row[pair]
        found[pair] = int(ranked[at]) if other else UNMATCHED
    return found


def _explain(problem: Problem, pairs: Pairs, pair: int, second: int) -> Explanation:
    """Cost terms of the pair and the cheapest other rider that the order could have had."""
    terms = dict(zip(TERMS, pairs.terms[pair].tolist(), strict=True))
    if second == UNMATCHED:
        return Explanation(cost_terms=terms)
    return Explanation(
        cost_terms=terms,
        runner_up_rider_id=problem.riders[int(pairs.rider_row[second])].rider_id,
        runner_up_cost=float(pairs.cost[second]),
    )


def _extended(problem: Problem, draft: Draft, addition: Extension) -> Draft:
    """The trip with the order in it; its cost grows by what the order added."""
    terms = dict(draft.explanation.cost_terms)
    for name, value in zip(TERMS, addition.terms.tolist(), strict=True):
        terms[name] = terms.get(name, 0.0) + value
    return replace(
        draft,
        orders=tuple(problem.orders[row] for row in addition.sequence),
        explanation=replace(draft.explanation, cost_terms=terms),
    )
