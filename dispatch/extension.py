"""Adding an order to a trip until its pickup, at the cheapest place in its sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dispatch.cost import TERMS, delay, lateness
from dispatch.problem import IntArray, Problem
from dispatch.schedule import Draft, handover_s
from dispatch.travel import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """One open order put into one trip: what that adds to each cost term, and the sequence.

    draft: index of the trip. sequence: rows of the problem's orders. terms: shape (len(TERMS),).
    """

    order_row: int
    draft: int
    sequence: tuple[int, ...]
    terms: FloatArray


def extensions(
    problem: Problem, drafts: Sequence[Draft], order_rows: IntArray, leave_price: FloatArray
) -> list[Extension]:
    """Every feasible addition that costs little enough.

    drafts: trips that may grow. order_rows: open orders to place. leave_price: shape (n,), what
    leaving each order would cost; an addition may cost that plus ``max_extra_cost``.
    """
    parameters = problem.snapshot.parameters.extension
    row_of = {order.order_id: row for row, order in enumerate(problem.orders)}
    found: list[Extension] = []
    for store_row, store in enumerate(problem.stores):
        rows = order_rows[problem.order_store[order_rows] == store_row]
        if not rows.size:
            continue
        for at, draft in enumerate(drafts):
            if draft.store is not store or len(draft.orders) >= parameters.max_orders:
                continue
            old = np.array([row_of[order.order_id] for order in draft.orders], dtype=np.intp)
            if not np.isfinite(_sequence_cost(problem, draft, old[None, :])).all():
                continue  # somebody aboard cannot be reached: this trip is for people to sort out
            fitting = np.array([row for row in rows if _fits(problem, draft, int(row))], np.intp)
            if not fitting.size:
                continue
            terms, sequences = _insert(problem, draft, old, fitting)
            affordable = terms.sum(axis=1) <= leave_price[fitting] + parameters.max_extra_cost
            found.extend(
                Extension(int(fitting[i]), at, tuple(sequences[i].tolist()), terms[i])
                for i in np.flatnonzero(affordable)
            )
    return found


def _fits(problem: Problem, draft: Draft, row: int) -> bool:
    """The hard rules for one order joining one trip."""
    rider, order, parameters = draft.rider, problem.orders[row], problem.snapshot.parameters
    if rider.rider_id in order.declined_by or order.order_id in rider.declined:
        return False
    if order.pinned_rider not in (None, rider.rider_id):
        return False
    if order.temperature not in parameters.vehicles.carries.get(rider.vehicle, ()):
        return False
    orders = (*draft.orders, order)
    handover = handover_s(
        problem.snapshot.now_s,
        draft.arrives_s,
        draft.store.pickup_service_s,
        [one.ready_at_s for one in orders],
    )
    aboard = draft.rider.trip.order_ids if draft.rider.trip is not None else ()
    cash = sum(one.cash_due_minor for one in orders if one.order_id not in aboard)
    return (
        len(orders) <= rider.capacity_orders
        and sum(one.weight_g for one in orders) <= rider.capacity_g
        and sum(one.volume_ml for one in orders) <= rider.capacity_ml
        and (cash == 0 or cash <= rider.cash_headroom_minor)
        and handover <= rider.shift_end_s
        and bool(np.isfinite(problem.direct_s[row]))
    )


def _insert(
    problem: Problem, draft: Draft, old: IntArray, fitting: IntArray
) -> tuple[FloatArray, IntArray]:
    """Cheapest insertion of each order alone.

    old: shape (k,). Returns added terms (orders, len(TERMS)) and sequences (orders, k + 1).
    """
    slots = old.size + 1
    sequences = np.empty((fitting.size, slots, slots), dtype=np.intp)
    for position in range(slots):
        sequences[:, position, :position] = old[:position]
        sequences[:, position, position] = fitting
        sequences[:, position, position + 1 :] = old[position:]
    new = _sequence_cost(problem, draft, sequences.reshape(-1, slots))
    new = new.reshape(fitting.size, slots, len(TERMS))
    best = new.sum(axis=2).argmin(axis=1)
    every = np.arange(fitting.size)
    before = _sequence_cost(problem, draft, old[None, :])[0]
    added = np.maximum(0.0, new[every, best] - before)
    return added, sequences[every, best]


def _sequence_cost(problem: Problem, draft: Draft, sequences: IntArray) -> FloatArray:
    """Cost terms of serving each sequence; sequences: shape (c, k), returns (c, len(TERMS))."""
    snapshot, store = problem.snapshot, draft.store
    parameters = snapshot.parameters
    half_s = store.pickup_service_s / 2
    handover = np.maximum(
        max(snapshot.now_s, draft.arrives_s + half_s), problem.ready_s[sequences].max(axis=1)
    )
    places = problem.order_place[sequences]
    starts = np.concatenate(
        [np.full((sequences.shape[0], 1), store.place, dtype=np.intp), places[:, :-1]], axis=1
    )
    legs_s = snapshot.travel.seconds_between(starts, places) * draft.rider.travel_factor
    service_s = snapshot.dropoff_service_s
    delivered_s = (
        (handover + half_s)[:, None]
        + np.cumsum(legs_s, axis=1)
        + service_s * (np.arange(sequences.shape[1]) + 0.5)
    )
    terms = np.zeros((sequences.shape[0], len(TERMS)))
    terms[:, TERMS.index("delay")] = delay(problem, sequences, delivered_s).sum(axis=1)
    terms[:, TERMS.index("lateness")] = lateness(problem, sequences, delivered_s).sum(axis=1)
    riding_weight = parameters.rider_time.riding_weight
    terms[:, TERMS.index("rider_time")] = riding_weight * legs_s.sum(axis=1)
    terms[:, TERMS.index("store_wait")] = parameters.rider_time.wait_weight * (
        handover - half_s - draft.arrives_s
    )
    return terms
