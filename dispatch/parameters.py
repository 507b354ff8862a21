"""Every tunable number of the engine, grouped by concern, with the reason for its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Temperature(StrEnum):
    """The warmest class in which the goods may travel."""

    AMBIENT = "ambient"
    CHILLED = "chilled"
    FROZEN = "frozen"


class Vehicle(StrEnum):
    """What the rider moves on."""

    FOOT = "foot"
    BICYCLE = "bicycle"
    SCOOTER = "scooter"
    CAR = "car"


class Backend(StrEnum):
    """How the assignment problem is solved."""

    FLOW = "flow"
    ASSIGNMENT = "assignment"
    GREEDY = "greedy"


class Solver(StrEnum):
    """Which engine makes the plan. Every one of them falls back to MATCHING."""

    ROLLING = "rolling"
    """Each rider's next trips over all known orders, ruined and recreated (`dispatch.rolling`)."""
    MATCHING = "matching"
    """One new trip a rider, by the backend of `MatchingParameters` (`dispatch.matching`)."""
    PACKING = "packing"
    """Next trips out of all small bundles, by OR-Tools CP-SAT (`dispatch.packing`)."""
    ROUTING = "routing"
    """Next trips by the routing solver of OR-Tools (`dispatch.routing`)."""


ALL_TEMPERATURES = frozenset(Temperature)

DEFAULT_CARRIES: Mapping[Vehicle, frozenset[Temperature]] = {
    # A rider on foot has a bag without a cold pack: ten minutes thaw frozen goods.
    Vehicle.FOOT: frozenset({Temperature.AMBIENT, Temperature.CHILLED}),
    Vehicle.BICYCLE: ALL_TEMPERATURES,
    Vehicle.SCOOTER: ALL_TEMPERATURES,
    Vehicle.CAR: ALL_TEMPERATURES,
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingParameters:
    """Which pairs of order and rider are looked at, and how they are matched."""

    # The nearest riders (by arrival at the store) that an order may choose from, besides one for
    # each other open order of its store. Widened fourfold while an order stays without a rider
    # and one is free, so a small number costs time, never an assignment.
    nearest_riders: int = 24
    # OR-Tools min-cost flow: 3 ms at 200 x 300 and 43 ms at 2,000 x 5,000 with 20 pairs an
    # order; its linear-sum assignment, which needs a dummy for each node, took twice that, and
    # 14 times when orders outnumbered riders.
    backend: Backend = Backend.FLOW
    # A rider who becomes free later than this is no candidate: his estimate is too loose.
    rider_horizon_s: float = 1200.0
    # An order whose goods are ready later than this reserves nobody yet.
    order_horizon_s: float = 900.0

    def __post_init__(self) -> None:
        _require(self.nearest_riders >= 1, "nearest_riders must be at least 1")
        _require(self.rider_horizon_s >= 0, "rider_horizon_s must not be negative")
        _require(self.order_horizon_s >= 0, "order_horizon_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatenessParameters:
    """What a second of delay and a second past the promise cost; the unit is one second."""

    # Seconds over the fastest possible delivery: the measure that everything else is traded for.
    delay_weight: float = 1.0
    # A late second hurts more than a slow one: the customer was told a time.
    late_weight: float = 2.0
    # Lateness counts as late + late^2 / (2 * this): at 10 minutes late the next second costs
    # double, so that two orders 5 minutes late are better than one 10 minutes late.
    late_scale_s: float = 600.0
    # Counted from this long before the promise, because arrival times are estimates.
    margin_s: float = 60.0
    # Each step of priority adds this share to the weight of lateness.
    priority_weight: float = 0.5

    def __post_init__(self) -> None:
        _require(self.late_scale_s > 0, "late_scale_s must be positive")
        _require(
            min(self.delay_weight, self.late_weight, self.margin_s, self.priority_weight) >= 0,
            "lateness weights must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RiderTimeParameters:
    """What a second of a rider's time costs, against one second of a customer's delay."""

    # Riding, empty or loaded. 0.2 scored 4.89, 0 scored 4.96 and 0.5 scored 5.36 minutes of excess
    # on five public days (1o50t100s1p100, 1r50t100s2p125, 6o50t100s1p100, 2o50t100s1p100,
    # 0o50t75s1p125).
    riding_weight: float = 0.2
    # Standing at the store until the goods are packed.
    wait_weight: float = 0.2
    # A tie-breaker: a rider who has been idle for longer goes first, up to ``idle_cap_s``.
    idle_weight: float = 0.01
    idle_cap_s: float = 1800.0
    # A tie-breaker: of riders who are as good, the one with the smaller share of work on this
    # shift; so many seconds lie between a rider who always worked and one who never did.
    fair_s: float = 10.0
    # A tie-breaker between riders at a store: seconds for each place further back in its queue.
    queue_place_s: float = 5.0
    # Seconds saved by keeping the rider that the last plan had in mind, so that equal choices
    # do not flap from tick to tick.
    keep_s: float = 10.0

    def __post_init__(self) -> None:
        _require(
            min(self.riding_weight, self.wait_weight, self.idle_weight, self.idle_cap_s) >= 0
            and min(self.fair_s, self.queue_place_s, self.keep_s) >= 0,
            "rider time weights must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UrgencyParameters:
    """Who goes first when riders run short: the price of leaving an order for later."""

    # How long an order that is left now is expected to wait for the next rider. The lateness
    # which that adds is its price; convex lateness makes the latest orders the dearest.
    postponed_s: float = 600.0
    # Orders with less slack than this pay ``slack_weight`` for each second that is missing.
    slack_horizon_s: float = 3600.0
    slack_weight: float = 0.2
    # Ageing: waited + waited^2 / (2 * scale) past the time at which goods were ready: 4,500 after
    # 30 minutes and growing faster than any detour in a city, so no order starves.
    age_weight: float = 1.0
    age_scale_s: float = 600.0

    def __post_init__(self) -> None:
        _require(self.age_scale_s > 0, "age_scale_s must be positive")
        _require(
            min(self.postponed_s, self.slack_horizon_s, self.slack_weight, self.age_weight) >= 0,
            "urgency weights must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentParameters:
    """When a pair becomes a trip: as late as costs nothing, because late decisions know more."""

    # The rider should be at the store this long before the goods are likely packed.
    slack_s: float = 30.0
    # How many spreads before the predicted ready time count as "likely packed".
    spread_factor: float = 1.0

    def __post_init__(self) -> None:
        _require(min(self.slack_s, self.spread_factor) >= 0, "commitment must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionParameters:
    """Adding orders to a trip until its pickup."""

    enabled: bool = True
    # More drops than this make the last customer wait for all the others.
    max_orders: int = 4
    # What an addition may cost above the price of leaving the order; beyond that it waits for a
    # rider of its own. 300 scored the same as 900 (excess 4.92 and 4.89 on five public days).
    max_extra_cost: float = 900.0

    def __post_init__(self) -> None:
        _require(self.max_orders >= 1, "max_orders must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferParameters:
    """What happens between a plan and a rider who sets out."""

    # Expected seconds until a rider has answered an offer and sets out.
    response_s: float = 10.0

    def __post_init__(self) -> None:
        _require(self.response_s >= 0, "response_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleParameters:
    """What each kind of vehicle may carry; a vehicle that is not named carries nothing."""

    carries: Mapping[Vehicle, frozenset[Temperature]] = field(
        default_factory=lambda: DEFAULT_CARRIES
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingParameters:
    """The search of the rolling plan."""

    # Ruin-and-recreate rounds for each order (ghosts included), and their bounds. Minutes of excess
    # on six small public days: 2.22 with 20, 2.11 with 80; on 6o50t100s1p100 3.97, 3.88, and 3.86
    # with 150. The last bound is of rounds times orders, for a round costs more where there are
    # more routes: the busiest minutes stay below about half a second.
    iterations_per_order: float = 100.0
    least_iterations: int = 300
    most_iterations: int = 6000
    most_order_rounds: int = 2_400_000
    # First and last temperature, in cost seconds. The start is warm, so it must not be melted:
    # 15, 20 and 60 score alike.
    hot_s: float = 60.0
    cold_s: float = 1.0
    # Orders taken out a round on average, and at most from one rider. 10 reach on average the same
    # objective as 6 and cost two thirds more; strings of 8 no better than those of 4.
    removed: float = 6.0
    longest_string: int = 4
    # Orders that one route may hold: more than any rider brings in the hours that are planned.
    route_length: int = 48
    # An order whose goods are ready later than this is not planned yet.
    order_horizon_s: float = 7200.0
    # Leaving an order out costs as much as this delay, and the lateness that goes with it: longer
    # than any queue, so that an order is left only when no rider can bring it at all.
    unserved_s: float = 10_800.0
    # A tie-breaker: each second of riding. A real price on riders' minutes made days short of
    # riders worse.
    riding_weight: float = 0.01

    def __post_init__(self) -> None:
        _require(
            1 <= self.least_iterations <= self.most_iterations and self.most_order_rounds >= 1,
            "iterations must be at least 1, and the least no more than the most",
        )
        _require(0 < self.cold_s <= self.hot_s, "temperatures must be positive, the first higher")
        _require(
            self.removed >= 1 and min(self.longest_string, self.route_length) >= 1,
            "removed, longest_string and route_length must be at least 1",
        )
        _require(
            min(
                self.iterations_per_order,
                self.order_horizon_s,
                self.unserved_s,
                self.riding_weight,
            )
            >= 0,
            "rolling weights and horizons must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GhostParameters:
    """Orders that nobody placed yet (`dispatch.ghosts`)."""

    enabled: bool = True
    # The last so many seconds are replayed as many seconds ahead.
    window_s: float = 1800.0
    # How far ahead ghosts are planned for; the window at most.
    horizon_s: float = 1800.0
    # Orders older than this are of no use to any forecast.
    memory_s: float = 7200.0
    # What a ghost's cost counts against that of an order: the place and the minute of a ghost are
    # guesses. 0.5 scored 2.15 minutes of excess on six public days, 0.3 scored 2.11.
    weight: float = 0.3
    # The delay that dropping a ghost costs, before its weight.
    unserved_s: float = 3600.0

    def __post_init__(self) -> None:
        _require(self.window_s > 0, "window_s must be positive")
        _require(
            min(self.horizon_s, self.memory_s, self.weight, self.unserved_s) >= 0,
            "ghosts must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioParameters:
    """Sampled futures, by which commitments are reconsidered (`dispatch.second_thoughts`)."""

    # Off: it takes some 6 % off the excess of public days for two to three times the computing; in
    # a city, where a decision has less time, six runs could not tell it from chance.
    enabled: bool = False
    # Futures that tell what else could be committed, and those by which each is valued.
    proposing: int = 4
    valuing: int = 16
    # How far ahead a future goes: 30 minutes score as 45 do. The orders of the last ``window_s``
    # say how many come, those of the last ``places_s`` at which stores and doors.
    horizon_s: float = 1800.0
    window_s: float = 1800.0
    places_s: float = 3600.0
    # Other commitments that are valued, those that most futures propose first.
    most_swaps: int = 8
    least_valuing: int = 6
    # Ruins for each order when a future proposes, and when the rest is planned under one; ruins
    # around a swap when it is valued under one.
    proposing_rounds: float = 30.0
    valuing_rounds: float = 1.0
    least_rounds: int = 60
    swap_rounds: int = 20
    # Bounds of rounds times orders, of all futures that propose, and of all that value: where there
    # are many orders, fewer swaps are valued under fewer futures.
    most_proposing_rounds: int = 600_000
    most_valuing_rounds: int = 2_000_000

    def __post_init__(self) -> None:
        _require(
            min(
                self.proposing,
                self.least_valuing,
                self.most_swaps,
                self.least_rounds,
                self.swap_rounds,
            )
            >= 1
            and self.valuing >= self.least_valuing,
            "proposing, least_valuing, most_swaps, least_rounds and swap_rounds must be at least 1,"
            " and valuing no less than least_valuing",
        )
        _require(self.window_s > 0, "window_s must be positive")
        _require(
            min(
                self.horizon_s,
                self.places_s,
                self.proposing_rounds,
                self.valuing_rounds,
                self.most_proposing_rounds,
                self.most_valuing_rounds,
            )
            >= 0,
            "scenarios must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingParameters:
    """The candidate trips of PACKING, and what leaving an order for a later trip costs."""

    # Riders a store by arrival there, besides one for each of its orders; of a bundle the cheapest.
    nearest_riders: int = 24
    riders_a_bundle: int = 8
    # Bundles are all sets of up to so many orders, each with those that lie best with one of them.
    largest_bundle: int = 3
    companions: int = 6
    # An order that is on no next trip is delayed about this long: a guess, not tuned.
    later_s: float = 1800.0
    # Deterministic time of CP-SAT: about as many seconds on a fast core.
    effort: float = 1.0
    # Steps of the routing solver's guided local search, for ROUTING.
    routing_solutions: int = 100

    def __post_init__(self) -> None:
        _require(
            min(self.nearest_riders, self.riders_a_bundle, self.routing_solutions) >= 1,
            "nearest_riders, riders_a_bundle and routing_solutions must be at least 1",
        )
        _require(1 <= self.largest_bundle <= 5, "largest_bundle must be from 1 to 5")
        _require(
            min(self.companions, self.later_s, self.effort) >= 0,
            "companions, later_s and effort must not be negative",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """All groups; the defaults are those of a dark store that promises about ten minutes."""

    # On the 24 public days ROLLING scored 1.55 minutes over the floor where MATCHING has 2.58.
    solver: Solver = Solver.ROLLING
    matching: MatchingParameters = MatchingParameters()
    rolling: RollingParameters = RollingParameters()
    ghosts: GhostParameters = GhostParameters()
    scenarios: ScenarioParameters = ScenarioParameters()
    packing: PackingParameters = PackingParameters()
    lateness: LatenessParameters = LatenessParameters()
    rider_time: RiderTimeParameters = RiderTimeParameters()
    urgency: UrgencyParameters = UrgencyParameters()
    commitment: CommitmentParameters = CommitmentParameters()
    extension: ExtensionParameters = ExtensionParameters()
    offers: OfferParameters = OfferParameters()
    vehicles: VehicleParameters = VehicleParameters()
