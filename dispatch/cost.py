"""What a pair of order and rider costs, and what leaving an order for later costs.

The unit is one second of delay of one customer. All terms are at least zero.
"""

from dataclasses import dataclass

import numpy as np

from dispatch.parameters import UrgencyParameters
from dispatch.problem import BoolArray, IntArray, Problem
from dispatch.travel import FloatArray

TERMS = ("delay", "lateness", "rider_time", "store_wait", "tie_break")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """p candidate pairs: order_row, rider_row, cost of shape (p,); terms of (p, len(TERMS))."""

    order_row: IntArray
    rider_row: IntArray
    terms: FloatArray
    cost: FloatArray


def price_pairs(problem: Problem, order_row: IntArray, rider_row: IntArray) -> Pairs:
    """Cost terms of one-order trips; the pairs must be feasible."""
    parameters = problem.snapshot.parameters
    weights = parameters.rider_time
    store = problem.order_store[order_row]
    half_s = problem.service_s[store] / 2
    arrival_s = problem.arrival_s[store, rider_row]
    ready_s = problem.ready_s[order_row]
    handover_s = np.maximum(arrival_s + half_s, ready_s)
    ride_s = problem.direct_s[order_row] * problem.factor[rider_row]
    delivered_s = handover_s + half_s + ride_s + problem.snapshot.dropoff_service_s / 2
    terms = np.column_stack(
        [
            delay(problem, order_row, delivered_s),
            lateness(problem, order_row, delivered_s),
            weights.riding_weight * (arrival_s - problem.leave_s[rider_row] + ride_s),
            weights.wait_weight * (handover_s - half_s - arrival_s),
            _tie_break(problem, order_row, rider_row),
        ]
    )
    return Pairs(order_row, rider_row, terms, terms.sum(axis=1))


def delay(problem: Problem, order_row: IntArray, delivered_s: FloatArray) -> FloatArray:
    """Weighted seconds over the earliest delivery still possible; shapes agree."""
    weight = problem.snapshot.parameters.lateness.delay_weight
    return weight * np.maximum(0.0, delivered_s - problem.earliest_s[order_row])


def lateness(problem: Problem, order_row: IntArray, delivered_s: FloatArray) -> FloatArray:
    """What this delivery adds to the lateness that nobody can avoid any more; shapes agree.

    Convex: w * (late + late^2 / (2 scale)), late counted from a margin before the promise.
    Lateness that is sunk is left out, or an order would be avoided for being late already.
    """
    avoidable = _late(problem, order_row, delivered_s) - _late(
        problem, order_row, problem.earliest_s[order_row]
    )
    return np.maximum(0.0, avoidable)


def urgency(problem: Problem) -> FloatArray:
    """Shape (orders,): the price of leaving each order for later, in cost seconds.

    The lateness that another ``postponed_s`` adds to the earliest delivery still possible, plus
    missing slack, plus ageing since the goods were ready. Convex lateness makes the price grow
    with how late the order already is, so the most urgent is served when riders run short.
    """
    parameters = problem.snapshot.parameters.urgency
    now_s = problem.snapshot.now_s
    earliest_s = problem.earliest_s
    rows = np.arange(len(problem.orders))
    postponed = _late(problem, rows, earliest_s + parameters.postponed_s)
    postponed -= _late(problem, rows, earliest_s)
    slack_s = problem.promised_s - earliest_s
    return postponed + _slack_and_age(slack_s, now_s - problem.ready_s, parameters)


def _late(problem: Problem, order_row: IntArray, delivered_s: FloatArray) -> FloatArray:
    parameters = problem.snapshot.parameters.lateness
    promised_s = problem.promised_s[order_row] - parameters.margin_s
    late_s = np.maximum(0.0, delivered_s - promised_s)
    weight = parameters.priority_weight * problem.priority[order_row]
    weight = parameters.late_weight * (1.0 + weight)
    return np.asarray(weight * (late_s + late_s**2 / (2 * parameters.late_scale_s)))


def _slack_and_age(
    slack_s: FloatArray, since_ready_s: FloatArray, parameters: UrgencyParameters
) -> FloatArray:
    missing_s = np.maximum(0.0, parameters.slack_horizon_s - slack_s)
    age_s = np.maximum(0.0, since_ready_s)
    aged = age_s + age_s**2 / (2 * parameters.age_scale_s)
    return np.asarray(parameters.slack_weight * missing_s + parameters.age_weight * aged)


def _tie_break(problem: Problem, order_row: IntArray, rider_row: IntArray) -> FloatArray:
    """Longest idle, least worked, front of the store's queue, last plan's choice first."""
    weights = problem.snapshot.parameters.rider_time
    now_s = problem.snapshot.now_s
    idle_s = np.array(
        [
            0.0
            if rider.idle_since_s is None
            else min(weights.idle_cap_s, now_s - rider.idle_since_s)
            for rider in problem.riders
        ]
    )
    result = weights.idle_weight * (weights.idle_cap_s - np.maximum(0.0, idle_s[rider_row]))
    worked = np.array([rider.work_share or 0.0 for rider in problem.riders])
    result = result + weights.fair_s * worked[rider_row]
    result = (
        result
        + weights.queue_place_s * _queue_places(problem)[problem.order_store[order_row], rider_row]
    )
    return np.asarray(result + weights.keep_s * ~_kept(problem, order_row, rider_row))


def _queue_places(problem: Problem) -> FloatArray:
    """Shape (stores, riders): how many riders stand before this one at the store."""
    places = np.zeros((len(problem.stores), len(problem.riders)))
    column = {rider.rider_id: at for at, rider in enumerate(problem.riders)}
    for row, store in enumerate(problem.stores):
        waiting = [column[rider_id] for rider_id in store.queue if rider_id in column]
        for place, at in enumerate(waiting):
            places[row, at] = place
    return places


def _kept(problem: Problem, order_row: IntArray, rider_row: IntArray) -> BoolArray:
    """Shape (pairs,), bool: the previous plan meant this rider for this order."""
    previous = problem.snapshot.previous
    meant: dict[str, str] = {}
    for trip in previous.tentative if previous is not None else ():
        meant.update(dict.fromkeys(trip.order_ids, trip.rider_id))
    column = {rider.rider_id: at for at, rider in enumerate(problem.riders)}
    wanted = np.array(
        [column.get(meant.get(order.order_id, ""), -1) for order in problem.orders], dtype=np.intp
    )
    return np.asarray(wanted[order_row] == rider_row)
