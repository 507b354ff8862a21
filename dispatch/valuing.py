"""What commitments cost over sampled futures: all that is left is planned again under each.

The arrays of a future are built once; commitments change riders and nothing else in them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dispatch.arrays import Routes
from dispatch.ghosts import Ghost
from dispatch.instance import Instance, with_ghosts, with_riders, with_riders_of
from dispatch.result import Plan, Trip
from dispatch.route_search import (
    add_ghosts,
    exchange,
    improve_routes,
    is_over,
    random_state,
    start_routes,
)
from dispatch.snapshot import CurrentTrip, Rider, Snapshot


class _Commitment(NamedTuple):
    """What is known once other trips are committed, and riders for whom that is a change."""

    instance: Instance
    columns: list[int]


def savings(
    kernel: ModuleType,
    known: Instance,
    first: Plan,
    instead: Iterable[Sequence[Trip]],
    futures: Iterable[Sequence[Ghost]],
    until_s: float,
) -> tuple[list[float], int]:
    """Seconds of cost less, on average, for each of ``instead`` in place of ``first``'s trips.

    Also returns under how many futures; one that was not finished by ``until_s`` does not count.

    Under each future the rest is planned once with the first plan's trips committed. What else is
    committed changes a few of those routes; then both are improved for as many rounds around what
    it changed. Far from there they are equal, so that the difference is the commitment's and not
    the search's.
    """
    parameters = known.snapshot.parameters.scenarios
    after = with_riders(known, riders_after(known.snapshot, first.trips))
    meant = {one.rider_id: one.trips for one in first.routes}
    started = start_routes(kernel, after, meant, random_state(0))
    others = [_commitment(known, after, trips) for trips in instead]
    sums, number = np.zeros(len(others)), 0
    for future in futures:
        kept, state = with_ghosts(after, future), random_state(number)
        routes = add_ghosts(kernel, kept, started, state)
        rounds = max(parameters.least_rounds, round(parameters.valuing_rounds * kept.count))
        routes, _ = improve_routes(kernel, kept, routes, state, rounds, until_s)
        saved = _saved(kernel, kept, routes, others, number, until_s)
        if is_over(until_s):
            break
        sums += saved
        number += 1
    return (sums / max(1, number)).tolist(), number


def _commitment(known: Instance, first: Instance, trips: Sequence[Trip]) -> _Commitment:
    instance = with_riders(known, riders_after(known.snapshot, trips))
    pairs = zip(first.riders, instance.riders, strict=True)
    return _Commitment(instance, [at for at, (one, other) in enumerate(pairs) if one != other])


def _saved(
    kernel: ModuleType,
    kept: Instance,
    routes: Routes,
    others: Iterable[_Commitment],
    number: int,
    until_s: float,
) -> list[float]:
    """What each of ``others`` saves in one future, ``kept``; not complete after ``until_s``."""
    saved = []
    for known, columns in others:
        if is_over(until_s):
            break
        instead = with_riders_of(known, kept)
        laid, again = exchange(kernel, kept, instead, columns, routes)
        lost = np.isin(routes.owner, again)
        routes = _improved(kernel, kept, routes, lost, number, until_s)
        lost |= np.isin(laid.owner, again)
        laid = _improved(kernel, instead, laid, lost, number, until_s)
        before = float(kernel.objective(kept.world, routes))
        saved.append(before - float(kernel.objective(instead.world, laid)))
    return saved


def _improved(
    kernel: ModuleType,
    instance: Instance,
    routes: Routes,
    around: NDArray[np.bool_],
    number: int,
    until_s: float,
) -> Routes:
    rounds = instance.snapshot.parameters.scenarios.swap_rounds
    near = np.flatnonzero(around & (instance.world.aboard == 0)).astype(np.int32)
    state = random_state(number)
    return improve_routes(kernel, instance, routes, state, rounds, until_s, near=near)[0]


def riders_after(
    snapshot: Snapshot, trips: Iterable[Trip], *, may_grow: bool = True
) -> dict[str, Rider]:
    """Riders by id once ``trips`` are committed and nobody else sets out before the next decision.

    may_grow: whether ``trips`` may be added to, like the others, while the next decision comes
    before their handover.
    """
    parameters = snapshot.parameters
    soon_s = snapshot.now_s + max(snapshot.epoch_s, 1.0)
    trip_of = {one.rider_id: one for one in trips}
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

    return {one.rider_id: later(one) for one in snapshot.riders}
