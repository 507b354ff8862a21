"""A large city in parts: neighbouring stores and the riders for them, planned one after the other.

A plan costs more than in proportion to orders times riders, and a rider at one end of the city is
of no use at the other. So a large question is divided, each part is planned with its share of the
deadline, and the answers are put together. Where the borders lie changes from decision to decision,
so that no rider is kept behind one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from time import perf_counter

import numpy as np

from dispatch.problem import IntArray
from dispatch.result import Plan, Statistics
from dispatch.snapshot import Rider, Snapshot
from dispatch.travel import FloatArray

# Orders times riders that are planned as a whole: 300 orders among 500 riders.
WHOLE = 150_000
# Orders of a part, about. By matching, 2,000 x 5,000 take 0.3 s of processor time in parts of this
# size and 0.9 s as a whole; as a whole the rolling plan would hold 10 million pairs.
PART_ORDERS = 150
# Each store attracts riders for this many times its share, the nearest first.
ABUNDANCE = 1.25

NOBODY = -1


def divide(snapshot: Snapshot) -> list[Snapshot]:
    """The parts, or the snapshot alone when it is small; each order and rider is in one of them."""
    if len(snapshot.orders) * len(snapshot.riders) <= WHOLE or len(snapshot.stores) < 2:
        return [snapshot]
    stores = sorted(snapshot.stores, key=lambda store: store.store_id)
    row_of = {store.store_id: row for row, store in enumerate(stores)}
    demand = np.zeros(len(stores), dtype=np.intp)
    for order in snapshot.orders:
        demand[row_of[order.store_id]] += 1
    place = np.array([store.place for store in stores], dtype=np.intp)
    apart_s = snapshot.travel.seconds_between(place[:, None], place[None, :])
    turn = int(snapshot.now_s // max(1.0, snapshot.epoch_s)) % len(stores)
    part_of = _neighbours(np.minimum(apart_s, apart_s.T), demand, turn)
    riders = sorted(snapshot.riders, key=lambda rider: rider.rider_id)
    store_of = _attract(snapshot, riders, place, demand, row_of)
    return [
        _part(snapshot, set(np.flatnonzero(part_of == part).tolist()), riders, store_of, row_of)
        for part in range(int(part_of.max()) + 1)
    ]


def plan_in_parts(parts: Sequence[Snapshot], plan: Callable[[Snapshot], Plan]) -> Plan:
    """Each part planned with an equal share of the time that is left; the answers as one plan."""
    began_s = perf_counter()
    deadline_s = parts[0].deadline_s
    plans: list[Plan] = []
    for at, part in enumerate(parts):
        share_s = deadline_s
        if isfinite(deadline_s):
            left_s = deadline_s - (perf_counter() - began_s)
            share_s = max(0.0, left_s / (len(parts) - at))
        plans.append(plan(replace(part, deadline_s=share_s)))
    return _together(plans)


def _neighbours(apart_s: FloatArray, demand: IntArray, turn: int) -> IntArray:
    """Shape (stores,): the part of each. A part grows from its first store to the nearest ones."""
    part_of = np.full(demand.size, NOBODY, dtype=np.intp)
    part = 0
    for seed in [*range(turn, demand.size), *range(turn)]:
        if part_of[seed] != NOBODY:
            continue
        orders = 0
        for store in np.argsort(apart_s[seed], kind="stable").tolist():
            if part_of[store] == NOBODY and (orders == 0 or orders + demand[store] <= PART_ORDERS):
                part_of[store] = part
                orders += int(demand[store])
            if orders >= PART_ORDERS:
                break
        part += 1
    return part_of


def _attract(
    snapshot: Snapshot,
    riders: Sequence[Rider],
    store_place: IntArray,
    demand: IntArray,
    row_of: dict[str, int],
) -> IntArray:
    """Shape (riders,): the store that each rider is for.

    That of his trip, of an order that waits for him alone, or of what the last plan meant him for;
    else, soonest arrivals first, the store that he reaches soonest among those which lack riders.
    """
    meant = {
        order.pinned_rider: order.store_id
        for order in snapshot.orders
        if order.pinned_rider is not None
    }
    for trip in snapshot.previous.tentative if snapshot.previous is not None else ():
        meant.setdefault(trip.rider_id, trip.store_id)
    store_of = np.full(len(riders), NOBODY, dtype=np.intp)
    for at, rider in enumerate(riders):
        wanted = rider.trip.store_id if rider.trip is not None else meant.get(rider.rider_id)
        store_of[at] = row_of.get(wanted or "", NOBODY)
    rider_place = np.array([rider.place for rider in riders], dtype=np.intp)
    free_s = np.array([max(snapshot.now_s, one.free_at_s, one.shift_start_s) for one in riders])
    arrival_s = snapshot.travel.seconds_between(rider_place[:, None], store_place[None, :])
    arrival_s = arrival_s * np.array([one.travel_factor for one in riders])[:, None]
    arrival_s += free_s[:, None]
    share = len(riders) / max(1, int(demand.sum()))
    room = np.ceil(ABUNDANCE * share * demand).astype(np.intp)
    np.subtract.at(room, store_of[store_of != NOBODY], 1)
    for nth in range(store_place.size):
        free = np.flatnonzero(store_of == NOBODY)
        if not free.size:
            break
        wish = np.argsort(arrival_s[free], axis=1, kind="stable")[:, nth]
        for store in np.unique(wish):
            those = free[wish == store]
            soonest = those[np.argsort(arrival_s[those, store], kind="stable")]
            taken = soonest[: max(0, int(room[store]))]
            store_of[taken] = store
            room[store] -= taken.size
    left = store_of == NOBODY
    store_of[left] = arrival_s[left].argmin(axis=1)
    return store_of


def _part(
    snapshot: Snapshot,
    rows: set[int],
    riders: Sequence[Rider],
    store_of: IntArray,
    row_of: dict[str, int],
) -> Snapshot:
    """The snapshot of the stores ``rows``, with the previous plan's share."""
    ours = [rider for rider, store in zip(riders, store_of.tolist(), strict=True) if store in rows]
    ids = {rider.rider_id for rider in ours}
    previous = snapshot.previous
    if previous is not None:
        previous = replace(
            previous,
            trips=(),
            tentative=tuple(trip for trip in previous.tentative if trip.rider_id in ids),
            routes=tuple(route for route in previous.routes if route.rider_id in ids),
        )
    return replace(
        snapshot,
        stores=tuple(store for store in snapshot.stores if row_of[store.store_id] in rows),
        orders=tuple(order for order in snapshot.orders if row_of[order.store_id] in rows),
        trip_orders=tuple(
            order for order in snapshot.trip_orders if row_of[order.store_id] in rows
        ),
        recent=tuple(order for order in snapshot.recent if row_of[order.store_id] in rows),
        riders=tuple(ours),
        previous=previous,
    )


def _together(plans: Sequence[Plan]) -> Plan:
    counted = [plan.statistics for plan in plans]
    return Plan(
        trips=tuple(trip for plan in plans for trip in plan.trips),
        held=tuple(sorted((h for plan in plans for h in plan.held), key=lambda h: h.order_id)),
        unassigned=tuple(
            sorted((u for plan in plans for u in plan.unassigned), key=lambda u: u.order_id)
        ),
        tentative=tuple(trip for plan in plans for trip in plan.tentative),
        statistics=Statistics(
            orders=sum(one.orders for one in counted),
            riders=sum(one.riders for one in counted),
            pairs=sum(one.pairs for one in counted),
            rounds=sum(one.rounds for one in counted),
            backend=counted[0].backend,
            objective=sum(one.objective for one in counted),
            fallback_objective=sum(one.fallback_objective for one in counted),
            riders_missing=sum(one.riders_missing for one in counted),
            ghosts=sum(one.ghosts for one in counted),
            swaps=sum(one.swaps for one in counted),
        ),
        routes=tuple(route for plan in plans for route in plan.routes),
    )
