"""Why an order was given to whom, or was not: read from recorded decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from dispatch.cost import TERMS, price_pairs
from dispatch.decision import Decision
from dispatch.parameters import Backend
from dispatch.problem import Problem
from dispatch.result import HeldReason, Plan, StopKind, Trip, UnassignedReason
from dispatch.snapshot import Snapshot


class Outcome(StrEnum):
    """What a decision did with an order."""

    ASSIGNED = "assigned"
    HELD = "held"
    UNASSIGNED = "unassigned"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rider who could have had the order as a trip of its own.

    arrives_s: at the store. delivered_s: at the customer's door. terms: cost seconds by name.
    """

    rider_id: str
    place: int
    arrives_s: float
    delivered_s: float
    terms: Mapping[str, float]

    @property
    def cost(self) -> float:
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision in which an order occurred.

    trip: the one that it was given. until_s: when a held order is looked at again.
    margin: by how many cost seconds the chosen rider beat the runner-up (`decided_price` says what
    the two are of); negative when the runner-up was cheaper for this order and was needed
    elsewhere. None: nobody else could have it, or it shares its trip, whose cost says nothing of
    one order.
    """

    decision: Decision
    outcome: Outcome
    reason: HeldReason | UnassignedReason | None = None
    until_s: float | None = None
    trip: Trip | None = None

    @property
    def at_s(self) -> float:
        return self.decision.snapshot.now_s

    def new(self, order_id: str) -> bool:
        """Whether the order had no rider before; else its trip has only changed."""
        return any(one.order_id == order_id for one in self.decision.snapshot.orders)

    @property
    def margin(self) -> float | None:
        if self.trip is None or len(self.trip.order_ids) > 1:
            return None
        why = self.trip.explanation
        if why.runner_up_cost is None:
            return None
        return why.runner_up_cost - why.cost


HELD_SENTENCES: Final[Mapping[HeldReason, str]] = {
    HeldReason.NOT_READY: "The goods are not packed in time for a rider who sets out now.",
    HeldReason.RIDER_BUSY: "The best rider is still delivering, and waiting costs nothing.",
    HeldReason.JOINS_TRIP: "It is to join a trip not collected yet; a better place may turn up.",
    HeldReason.KEPT_BACK: "A rider could take it now, but waiting likely costs all customers less.",
}

UNASSIGNED_SENTENCES: Final[Mapping[UnassignedReason, tuple[str, str]]] = {
    UnassignedReason.NO_RIDERS: (
        "Nobody is on shift and free within the horizon.",
        "A rider who starts a shift, or comes over from another part of the city.",
    ),
    UnassignedReason.UNREACHABLE: (
        "No way leads from any rider over the store to the customer.",
        "A look at the map: the address, the store or a bridge may be wrong.",
    ),
    UnassignedReason.OVER_CAPACITY: (
        "It is too heavy or too large for every rider who is left.",
        "A rider with a larger vehicle, or an order that is split.",
    ),
    UnassignedReason.TEMPERATURE: (
        "No vehicle that is left keeps the goods cold.",
        "A rider with a cold box.",
    ),
    UnassignedReason.CASH_LIMIT: (
        "Every rider who is left would hold too much cash.",
        "Riders who deposit their cash, or a customer who pays online.",
    ),
    UnassignedReason.DECLINED: (
        "Every rider who is left has declined it.",
        "A rider who has not been asked yet, or a call to one who has.",
    ),
    UnassignedReason.PINNED: (
        "It waits for one rider, who cannot take it now.",
        "That rider, or somebody who takes the pin off.",
    ),
    UnassignedReason.SHIFT_END: (
        "Every rider who is left ends the shift before the pickup.",
        "A rider whose shift is made longer.",
    ),
    UnassignedReason.RIDERS_BUSY: (
        "More urgent orders take the riders there are.",
        "One rider more now; else it is its turn as soon as one is free.",
    ),
}


CANDIDATE_PRICE: Final = (
    "A candidate's price is of this order alone, as a trip of its own that the rider begins next."
)
_PAIR_PRICE: Final = (
    "The engine weighs the candidates' prices; an order that joins a trip costs what it adds."
)
_ROUTE_PRICE: Final = (
    "The engine weighs whole routes: a trip's price is its new orders and riding, "
    "a runner-up's what these add to that rider's route."
)


def decided_price(plan: Plan) -> str:
    """What the prices in a plan's explanations are of."""
    # Every other engine's trips are written down from the routes of the rolling plan.
    return _PAIR_PRICE if plan.statistics.backend in set(Backend) else _ROUTE_PRICE


def why_not(reason: UnassignedReason) -> tuple[str, str]:
    """Why nobody brings an order, and what would help."""
    return UNASSIGNED_SENTENCES.get(reason, (f"{reason.value.replace('_', ' ')}.", ""))


def why_later(reason: HeldReason) -> str:
    """Why an order is held."""
    return HELD_SENTENCES.get(reason, f"{reason.value.replace('_', ' ')}.")


def moments(decisions: Iterable[Decision], order_id: str) -> list[Moment]:
    """What each of the decisions did with the order; decisions without it are left out."""
    found = (moment_of(decision, order_id) for decision in decisions)
    return sorted((one for one in found if one is not None), key=lambda one: one.at_s)


def moment_of(decision: Decision, order_id: str) -> Moment | None:
    """What a decision did with the order."""
    plan = decision.plan
    for trip in plan.trips:
        if order_id in trip.order_ids:
            return Moment(decision, Outcome.ASSIGNED, trip=trip)
    for held in plan.held:
        if held.order_id == order_id:
            meant = next((trip for trip in plan.tentative if order_id in trip.order_ids), None)
            return Moment(decision, Outcome.HELD, held.reason, held.look_again_at_s, meant)
    for left in plan.unassigned:
        if left.order_id == order_id:
            return Moment(decision, Outcome.UNASSIGNED, left.reason)
    return None


def turning_points(history: Iterable[Moment]) -> list[Moment]:
    """The first moment of each stretch in which the same was done for the same reason."""
    kept: list[Moment] = []
    for moment in history:
        if not kept or _gist(kept[-1]) != _gist(moment):
            kept.append(moment)
    return kept


def _gist(moment: Moment) -> tuple[object, ...]:
    trip = moment.trip if moment.outcome is Outcome.ASSIGNED else None
    rider = None if trip is None else (trip.rider_id, trip.order_ids)
    return moment.outcome, moment.reason, rider


def candidates(snapshot: Snapshot, order_id: str) -> list[Candidate]:
    """Every rider who could have had the order as a trip of its own, cheapest first."""
    problem = Problem.of(snapshot)
    rows = [
        row
        for row, order in enumerate(problem.orders[: problem.open_count])
        if order.order_id == order_id
    ]
    if not rows:
        return []
    order_row, rider_row, _ = problem.candidates(
        np.array(rows, dtype=np.intp), max(1, len(problem.riders))
    )
    pairs = price_pairs(problem, order_row, rider_row)
    store = problem.order_store[order_row]
    half_s = problem.service_s[store] / 2
    arrival_s = problem.arrival_s[store, rider_row]
    delivered_s = (
        np.maximum(arrival_s + half_s, problem.ready_s[order_row])
        + half_s
        + problem.direct_s[order_row] * problem.factor[rider_row]
    )
    found = [
        Candidate(
            rider_id=problem.riders[column].rider_id,
            place=problem.riders[column].place,
            arrives_s=float(arrival_s[at]),
            delivered_s=float(delivered_s[at]),
            terms=dict(zip(TERMS, pairs.terms[at].tolist(), strict=True)),
        )
        for at, column in enumerate(rider_row.tolist())
    ]
    return sorted(found, key=lambda one: (one.cost, one.rider_id))


def runner_up(moment: Moment, others: Iterable[Candidate]) -> Candidate | None:
    """The second choice for this order: as the engine said, else the cheapest of ``others``.

    For a trip with several orders the engine's own second choice may be another order's.
    """
    trip = moment.trip
    if trip is None:
        return None
    rest = [one for one in others if one.rider_id != trip.rider_id]
    if len(trip.order_ids) > 1:
        return rest[0] if rest else None
    said = trip.explanation.runner_up_rider_id
    return next((one for one in rest if one.rider_id == said), None)


def planned_s(trip: Trip, order_id: str, kind: StopKind) -> float | None:
    """When the trip means to be at the order's stop of a kind."""
    for stop in trip.stops:
        if stop.kind is kind and order_id in stop.order_ids:
            return stop.planned_arrival_s
    return None
