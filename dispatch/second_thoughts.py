"""What is to be committed now, compared over sampled futures with what else could be.

The rolling plan knows one future, the last half hour again. Here a few others propose what they
would commit; where they differ from the plan, each difference (a *swap*) is valued: the
commitments stand, the next decision is one epoch later, and all that is left is planned again under
each of the same futures. A swap that costs less on average is taken. This is the expectation
algorithm of online stochastic optimisation (Van Hentenryck & Bent, 2006), over what several plans
propose; votes among the same futures (their consensus algorithm) gained nothing where this does
(docs/dispatch.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from dispatch.ghosts import Ghost, foresee
from dispatch.instance import Instance, build, with_ghosts
from dispatch.parameters import ScenarioParameters
from dispatch.readout import read_out
from dispatch.result import Held, HeldReason, Plan, Trip
from dispatch.route_search import Meant, improve_routes, is_over, random_state, start_routes
from dispatch.scenarios import expected_orders, sample_future
from dispatch.snapshot import Snapshot
from dispatch.valuing import riders_after, savings

# Rider and orders of a trip.
_Key = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Swap:
    """Trips to commit instead of others; source: the plan that proposed it first.

    Whatever else the first plan commits shares no rider and no order with ``added``.
    """

    removed: tuple[Trip, ...]
    added: tuple[Trip, ...]
    source: Plan

    @property
    def tags(self) -> frozenset[tuple[str, str]]:
        """Riders and orders that it is about."""
        return frozenset(tag for trip in (*self.removed, *self.added) for tag in _tags(trip))


def reconsider(kernel: ModuleType, snapshot: Snapshot, first: Plan, until_s: float) -> Plan:
    """``first``, or it with those swaps that cost less over the sampled futures.

    A plan that commits nothing is left alone: what costs nothing to decide later is decided later.
    The same snapshot gets the same answer unless ``until_s``, by `time.perf_counter`, ends the
    comparison; then the futures count under which all had been valued by that time.
    """
    parameters = snapshot.parameters.scenarios
    if not first.trips:
        return first
    recent = sorted(snapshot.recent, key=lambda one: one.order_id)
    random = np.random.default_rng([snapshot.seed % 2**32, int(snapshot.now_s) % 2**32])

    def futures(number: int) -> list[list[Ghost]]:
        return [sample_future(recent, snapshot.now_s, parameters, random) for _ in range(number)]

    known = build(snapshot)
    swaps = _swaps(kernel, known, first, futures(parameters.proposing), until_s)
    if not swaps:
        return first
    orders = len(snapshot.orders) + expected_orders(recent, snapshot.now_s, parameters)
    swaps, number = _affordable(swaps, parameters, orders)
    choices = [_swapped(first.trips, [swap]) for swap in swaps]
    saves, valued = savings(kernel, known, first, choices, futures(number), until_s)
    if valued < parameters.least_valuing:
        return first
    better = [(saved, swap) for saved, swap in zip(saves, swaps, strict=True) if saved > 0.0]
    if not better:
        return first
    better.sort(key=lambda one: -one[0])
    taken: list[_Swap] = []
    for _saves, swap in better:
        if not any(swap.tags & other.tags for other in taken):
            taken.append(swap)
    return _read_out(kernel, snapshot, first, taken)


def _swaps(
    kernel: ModuleType,
    known: Instance,
    first: Plan,
    futures: Sequence[Sequence[Ghost]],
    until_s: float,
) -> list[_Swap]:
    """Where plans for other futures would commit otherwise; what most of them propose first."""
    parameters = known.snapshot.parameters.scenarios
    found: dict[tuple[frozenset[_Key], frozenset[_Key]], tuple[int, _Swap]] = {}
    meant = _meant(first)
    for number, future in enumerate(futures):
        if is_over(until_s):
            break
        instance = with_ghosts(known, future)
        state = random_state(known.snapshot.seed + 1 + number)
        routes = start_routes(kernel, instance, meant, state)
        most = parameters.most_proposing_rounds // (len(futures) * instance.count)
        wanted = max(parameters.least_rounds, round(parameters.proposing_rounds * instance.count))
        rounds = max(1, min(most, wanted))
        routes, _ = improve_routes(kernel, instance, routes, state, rounds, until_s)
        other = read_out(kernel, instance, routes, 0.0, rounds)
        for removed, added in _differences(first.trips, other.trips):
            key = (frozenset(map(_key, removed)), frozenset(map(_key, added)))
            votes, swap = found.get(key, (0, _Swap(removed, added, other)))
            found[key] = votes + 1, swap
    ranked = sorted(found.values(), key=lambda one: -one[0])
    return [swap for _votes, swap in ranked[: parameters.most_swaps]]


def _affordable(
    swaps: list[_Swap], parameters: ScenarioParameters, orders: float
) -> tuple[list[_Swap], int]:
    """Swaps that can be valued under ``least_valuing`` futures, and under how many they are."""
    rounds = parameters.most_valuing_rounds / max(1.0, orders)
    each = max(parameters.least_rounds, parameters.valuing_rounds * orders)
    most = (rounds / parameters.least_valuing - each) / (2 * parameters.swap_rounds)
    swaps = swaps[: max(1, int(most))]
    futures = int(rounds / (each + 2 * parameters.swap_rounds * len(swaps)))
    return swaps, min(parameters.valuing, max(parameters.least_valuing, futures))


def _key(trip: Trip) -> _Key:
    return trip.rider_id, frozenset(trip.order_ids)


def _tags(trip: Trip) -> list[tuple[str, str]]:
    return [("rider", trip.rider_id), *(("order", one) for one in trip.order_ids)]


def _differences(
    mine: Iterable[Trip], theirs: Iterable[Trip]
) -> list[tuple[tuple[Trip, ...], tuple[Trip, ...]]]:
    """Trips of mine only and of theirs only, in groups that share no rider and no order."""
    of_mine, of_theirs = {_key(one): one for one in mine}, {_key(one): one for one in theirs}
    groups: list[tuple[set[tuple[str, str]], list[Trip], list[Trip]]] = []
    sides = [(one, True) for key, one in of_mine.items() if key not in of_theirs]
    sides += [(one, False) for key, one in of_theirs.items() if key not in of_mine]
    for trip, is_mine in sides:
        tags = set(_tags(trip))
        removed = [trip] if is_mine else []
        added = [] if is_mine else [trip]
        for group in [one for one in groups if one[0] & tags]:
            groups.remove(group)
            tags |= group[0]
            removed, added = group[1] + removed, group[2] + added
        groups.append((tags, removed, added))
    return [(tuple(removed), tuple(added)) for _about, removed, added in groups]


def _swapped(trips: Sequence[Trip], swaps: Iterable[_Swap]) -> tuple[Trip, ...]:
    swaps = list(swaps)
    gone = {_key(trip) for swap in swaps for trip in swap.removed}
    kept = [trip for trip in trips if _key(trip) not in gone]
    return (*kept, *(trip for swap in swaps for trip in swap.added))


def _meant(source: Plan) -> Meant:
    return {one.rider_id: one.trips for one in source.routes}


def _read_out(kernel: ModuleType, snapshot: Snapshot, first: Plan, taken: Sequence[_Swap]) -> Plan:
    """The plan that commits the first one's trips with ``taken``, and holds all the rest."""
    trips = _swapped(first.trips, taken)
    going = {order_id for one in trips for order_id in one.order_ids}
    after = replace(
        snapshot,
        riders=tuple(riders_after(snapshot, trips, may_grow=False).values()),
        orders=tuple(one for one in snapshot.orders if one.order_id not in going),
        trip_orders=(
            *snapshot.trip_orders,
            *(one for one in snapshot.orders if one.order_id in going),
        ),
    )
    instance = build(after, foresee(snapshot.recent, snapshot.now_s, snapshot.parameters.ghosts))
    meant = _meant(taken[0].source)
    routes = start_routes(kernel, instance, meant, random_state(snapshot.seed))
    rest = read_out(kernel, instance, routes, 0.0, first.statistics.rounds)
    due = {order_id for trip in first.trips for order_id in trip.order_ids}
    return replace(
        rest,
        trips=(*trips, *rest.trips),
        held=tuple(_kept_back(one) if one.order_id in due else one for one in rest.held),
        statistics=replace(
            first.statistics,
            riders_missing=rest.statistics.riders_missing,
            swaps=len(taken),
        ),
    )


def _kept_back(held: Held) -> Held:
    return replace(held, reason=HeldReason.KEPT_BACK)
