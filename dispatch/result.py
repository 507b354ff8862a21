"""What the engine answers: trips to commit, orders held back, orders without a rider."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class StopKind(StrEnum):
    PICKUP = "pickup"
    DROPOFF = "dropoff"


class HeldReason(StrEnum):
    """Why an order that could be given away is not given away yet."""

    NOT_READY = "not_ready"
    """The rider would stand at the store; `look_again_at_s` is when he should set out."""
    RIDER_BUSY = "rider_busy"
    """The best rider is still delivering; deciding when he is free costs nothing."""
    JOINS_TRIP = "joins_trip"
    """It is to join a trip that is not picked up yet; until then a better place may turn up."""
    KEPT_BACK = "kept_back"
    """A rider could take it now; over sampled futures it costs less to look again first."""


class UnassignedReason(StrEnum):
    """Why nobody brings the order now. All but RIDERS_BUSY persist until something changes."""

    NO_RIDERS = "no_riders"
    """Nobody is on shift without a trip within the horizon."""
    UNREACHABLE = "unreachable"
    """No way from any rider over the store to the customer."""
    OVER_CAPACITY = "over_capacity"
    """Too heavy or too large for every rider who is left."""
    TEMPERATURE = "temperature"
    """No vehicle that is left keeps the goods cold."""
    CASH_LIMIT = "cash_limit"
    """Every rider who is left would hold too much cash."""
    DECLINED = "declined"
    """Every rider who is left has declined it."""
    PINNED = "pinned"
    """It waits for one rider, who cannot take it now."""
    SHIFT_END = "shift_end"
    """Every rider who is left ends the shift before the pickup."""
    RIDERS_BUSY = "riders_busy"
    """There are riders for it, but more urgent orders take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One halt. At a pickup ``order_ids`` are collected together, at a drop-off handed over.

    planned_arrival_s: at the door. planned_departure_s: after waiting for the goods and service.
    """

    kind: StopKind
    place: int
    order_ids: tuple[str, ...]
    planned_arrival_s: float
    planned_departure_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why this rider: the cost by term, in seconds of customer delay, and the second choice.

    runner_up_cost: what the order would have cost with the cheapest other rider, looked at for
    itself (that rider may be on another trip of the same plan). None: there was no other.
    """

    cost_terms: Mapping[str, float]
    runner_up_rider_id: str | None = None
    runner_up_cost: float | None = None

    @property
    def cost(self) -> float:
        return sum(self.cost_terms.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A rider's stops in sequence.

    store_id: the (first) place of pickup. order_ids: in sequence of delivery.
    leave_at_s: when the rider sets out. travel_s: riding time over all legs; distance_m the same
    in metres, None when distances were not handed in. extends: the rider has this trip already
    and orders were added; ``order_ids`` then holds the old ones too.
    order_versions: parallel to ``order_ids``. rider_version: as in the snapshot.
    """

    rider_id: str
    store_id: str
    stops: tuple[Stop, ...]
    order_ids: tuple[str, ...]
    leave_at_s: float
    travel_s: float
    explanation: Explanation
    order_versions: tuple[int, ...]
    rider_version: int
    distance_m: float | None = None
    extends: bool = False

    @property
    def cost(self) -> float:
        return self.explanation.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    order_id: str
    reason: HeldReason
    look_again_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unassigned:
    order_id: str
    reason: UnassignedReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How the answer came about; nothing here depends on the machine's speed.

    riders: those without a trip. pairs: candidate pairs and additions priced in the last round.
    objective, fallback_objective: cost seconds of the chosen matching and of the greedy one on
    the same pairs; each order left counts more than any matching, so compare, do not interpret.
    riders_missing: orders that lack nothing but a rider: nobody has time for them, or their goods
    would wait long for him. ghosts: expected orders that the plan left room for. swaps: groups of
    commitments that were changed because others cost less over sampled futures.
    In a rolling plan ``rounds`` counts ruins, and the objectives are those of its own routes and of
    the fallback's with every order that it leaves inserted greedily.
    """

    orders: int = 0
    riders: int = 0
    pairs: int = 0
    rounds: int = 0
    backend: str = ""
    objective: float = 0.0
    fallback_objective: float = 0.0
    riders_missing: int = 0
    ghosts: int = 0
    swaps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a rider is to do next, trip by trip, as ids; expected orders (ghosts) included."""

    rider_id: str
    trips: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer. Every open order is in exactly one of trips, held, unassigned.

    trips: commit these now. tentative: what the engine means to do with held orders; nothing to
    commit. A rider may have several, one after the other. routes: the whole plan in short form,
    from which the next one starts; opaque to everybody else.
    """

    trips: tuple[Trip, ...] = ()
    held: tuple[Held, ...] = ()
    unassigned: tuple[Unassigned, ...] = ()
    tentative: tuple[Trip, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    routes: tuple[Route, ...] = ()
