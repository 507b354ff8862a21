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
from math import isfinite
from time import perf_counter
from types import ModuleType

import numpy as np

from dispatch.ghosts import Ghost, foresee
from dispatch.instance import build
from dispatch.parameters import ScenarioParameters
from dispatch.readout import read_out
from dispatch.result import Held, HeldReason, Plan, Route, Trip
from dispatch.route_search import Meant, improve_routes, random_state, start_routes
from dispatch.scenarios import expected_orders, sample_future
from dispatch.snapshot import CurrentTrip, Rider, Snapshot
from dispatch.travel import FloatArray

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


@dataclass(frozen=True, slots=True)
class _Committed:
    """The world once ``trips`` are committed, and what is meant to follow."""

    after: Snapshot
    meant: Meant


def reconsider(kernel: ModuleType, snapshot: Snapshot, first: Plan, until_s: float) -> Plan:
    """``first``, or it with those swaps that cost less over the sampled futures.

    A plan that commits nothing is left alone: what costs nothing to decide later is decided later.
    The same snapshot gets the same answer as long as no deadline ends the comparison: then
    ``first`` stands. until_s: by `time.perf_counter`.
    """
    parameters = snapshot.parameters.scenarios
    if not first.trips:
        return first
    recent = sorted(snapshot.recent, key=lambda one: one.order_id)
    random = np.random.default_rng([snapshot.seed % 2**32, int(snapshot.now_s) % 2**32])

    def futures(number: int) -> list[list[Ghost]]:
        return [sample_future(recent, snapshot.now_s, parameters, random) for _ in range(number)]

    swaps = _swaps(kernel, snapshot, first, futures(parameters.proposing), until_s)
    if not swaps:
        return first
    orders = len(snapshot.orders) + expected_orders(recent, snapshot.now_s, parameters)
    swaps, number = _affordable(swaps, parameters, orders)
    valued = futures(number)
    kept = _costs(kernel, _commit(snapshot, first.trips, first.routes), valued, until_s)
    better: list[tuple[float, _Swap]] = []
    for swap in swaps:
        world = _commit(snapshot, _swapped(first.trips, [swap]), swap.source.routes)
        costs = _costs(kernel, world, valued, until_s)
        if _over(until_s):
            return first
        gain = float(np.mean(kept - costs))
        if gain > 0.0:
            better.append((gain, swap))
    if not better:
        return first
    better.sort(key=lambda one: -one[0])
    taken: list[_Swap] = []
    for _gain, swap in better:
        if not any(swap.tags & other.tags for other in taken):
            taken.append(swap)
    return _read_out(kernel, snapshot, first, taken)


def _over(until_s: float) -> bool:
    return isfinite(until_s) and perf_counter() >= until_s


def _swaps(
    kernel: ModuleType,
    snapshot: Snapshot,
    first: Plan,
    futures: Sequence[Sequence[Ghost]],
    until_s: float,
) -> list[_Swap]:
    """Where plans for other futures would commit otherwise; what most of them propose first."""
    parameters = snapshot.parameters.scenarios
    found: dict[tuple[frozenset[_Key], frozenset[_Key]], tuple[int, _Swap]] = {}
    meant = {one.rider_id: one.trips for one in first.routes}
    for number, future in enumerate(futures):
        if _over(until_s):
            break
        instance = build(snapshot, future)
        state = random_state(snapshot.seed + 1 + number)
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
    plans = int(parameters.most_valued_orders / max(1.0, orders))
    swaps = swaps[: max(1, plans // parameters.least_valuing - 1)]
    futures = plans // (len(swaps) + 1)
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


def _commit(
    snapshot: Snapshot, trips: Sequence[Trip], routes: Iterable[Route], *, may_grow: bool = True
) -> _Committed:
    """The snapshot in which ``trips`` are ridden and nobody else sets out before the next decision.

    routes: what the plan behind them means to do; what is committed is taken out of it, and so is
    what belongs to its own future. may_grow: whether ``trips`` may be added to until their pickup.
    """
    parameters = snapshot.parameters
    soon_s = snapshot.now_s + max(snapshot.epoch_s, 1.0)
    trip_of = {one.rider_id: one for one in trips}
    taken = {order_id for one in trips for order_id in one.order_ids}
    early_s = parameters.commitment.slack_s + parameters.offers.response_s
    likely_s = {
        one.order_id: one.ready_at_s - parameters.commitment.spread_factor * one.ready_spread_s
        for one in (*snapshot.orders, *snapshot.trip_orders)
    }
    half_s = {one.store_id: one.pickup_service_s / 2 for one in snapshot.stores}

    def handover_s(trip: CurrentTrip) -> float:
        door_s = trip.arrives_at_s + half_s[trip.store_id]
        return max(door_s, *(likely_s[one] for one in trip.order_ids)) - early_s

    def later(rider: Rider) -> Rider:
        trip = trip_of.get(rider.rider_id)
        if trip is not None:
            aboard = CurrentTrip(
                store_id=trip.store_id,
                order_ids=trip.order_ids,
                arrives_at_s=trip.stops[0].planned_arrival_s,
                may_add=may_grow,
            )
        elif rider.trip is not None:
            aboard = rider.trip
        else:
            return replace(rider, free_at_s=max(rider.free_at_s, soon_s))
        may_add = aboard.may_add and handover_s(aboard) > soon_s
        return replace(rider, trip=replace(aboard, may_add=may_add))

    after = replace(
        snapshot,
        riders=tuple(map(later, snapshot.riders)),
        orders=tuple(one for one in snapshot.orders if one.order_id not in taken),
        trip_orders=(
            *snapshot.trip_orders,
            *(one for one in snapshot.orders if one.order_id in taken),
        ),
        previous=None,
    )
    open_ids = {one.order_id for one in after.orders}
    meant = {
        one.rider_id: tuple(
            left for trip in one.trips if (left := tuple(o for o in trip if o in open_ids))
        )
        for one in routes
    }
    return _Committed(after, meant)


def _costs(
    kernel: ModuleType,
    committed: _Committed,
    futures: Sequence[Sequence[Ghost]],
    until_s: float,
) -> FloatArray:
    """Cost seconds of the best plan found under each future; shape (futures,)."""
    parameters = committed.after.parameters.scenarios
    costs = np.zeros(len(futures))
    for number, future in enumerate(futures):
        if _over(until_s):
            break
        instance = build(committed.after, future)
        # The same random numbers for each swap, so that they differ by what was committed.
        state = random_state(number)
        routes = start_routes(kernel, instance, committed.meant, state)
        rounds = max(parameters.least_rounds, round(parameters.valuing_rounds * instance.count))
        routes, _ = improve_routes(kernel, instance, routes, state, rounds, until_s)
        costs[number] = kernel.objective(instance.world, routes)
    return costs


def _read_out(kernel: ModuleType, snapshot: Snapshot, first: Plan, taken: Sequence[_Swap]) -> Plan:
    """The plan that commits the first one's trips with ``taken``, and holds all the rest."""
    trips = _swapped(first.trips, taken)
    committed = _commit(snapshot, trips, taken[0].source.routes, may_grow=False)
    ghosts = foresee(snapshot.recent, snapshot.now_s, snapshot.parameters.ghosts)
    instance = build(committed.after, ghosts)
    routes = start_routes(kernel, instance, committed.meant, random_state(snapshot.seed))
    rest = read_out(kernel, instance, routes, 0.0, first.statistics.rounds)
    due = {order_id for trip in first.trips for order_id in trip.order_ids}
    return replace(
        rest,
        trips=trips,
        held=tuple(_kept_back(one) if one.order_id in due else one for one in rest.held),
        statistics=replace(
            first.statistics,
            riders_missing=rest.statistics.riders_missing,
            swaps=len(taken),
        ),
    )


def _kept_back(held: Held) -> Held:
    return replace(held, reason=HeldReason.KEPT_BACK)
