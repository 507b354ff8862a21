"""What commitments cost over sampled futures: all that is left is planned again under each.

The arrays of a future are built once; commitments change riders and nothing else in them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dispatch.arrays import Routes
from dispatch.ghosts import Ghost
from dispatch.instance import Instance, with_ghosts, with_riders
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


@dataclass(slots=True)
class _Future:
    """One future, the routes under it once the first plan's trips are committed, and their cost."""

    instance: Instance
    kept: Instance
    routes: Routes


class Valuer:
    """What a swap of commitments saves, each time under the same futures.

    Under each future the rest is planned once with the first plan's ``trips`` committed. A swap
    changes a few of those routes; then both are improved for as many rounds around what it changed.
    Far from there they are equal, so that the difference is the swap's and not the search's.
    """

    def __init__(
        self,
        kernel: ModuleType,
        known: Instance,
        first: Plan,
        futures: Iterable[Sequence[Ghost]],
        until_s: float,
    ) -> None:
        self._kernel = kernel
        self._snapshot = known.snapshot
        self._until_s = until_s
        self._riders = riders_after(known.snapshot, first.trips)
        meant = {one.rider_id: one.trips for one in first.routes}
        kept = with_riders(known, self._riders)
        started = start_routes(kernel, kept, meant, random_state(0))
        self._futures: list[_Future] = []
        for number, future in enumerate(futures):
            if is_over(until_s):
                break
            self._futures.append(self._planned(with_ghosts(known, future), started, number))

    def _planned(self, instance: Instance, started: Routes, number: int) -> _Future:
        parameters = self._snapshot.parameters.scenarios
        kept, state = with_riders(instance, self._riders), random_state(number)
        routes = add_ghosts(self._kernel, kept, started, state)
        rounds = max(parameters.least_rounds, round(parameters.valuing_rounds * instance.count))
        routes, _ = improve_routes(self._kernel, kept, routes, state, rounds, self._until_s)
        return _Future(instance, kept, routes)

    def saves(self, trips: Sequence[Trip]) -> float:
        """Cost seconds less, on average, when ``trips`` are committed instead of the first plan's.

        Means nothing once the deadline has passed.
        """
        riders = riders_after(self._snapshot, trips)
        changed = [key for key, one in riders.items() if one != self._riders[key]]
        saved = 0.0
        for number, future in enumerate(self._futures):
            if is_over(self._until_s):
                break
            saved += self._saved(future, riders, changed, number)
        return saved / max(1, len(self._futures))

    def _saved(
        self, future: _Future, riders: Mapping[str, Rider], changed: Sequence[str], number: int
    ) -> float:
        kernel, kept = self._kernel, future.kept
        after = with_riders(future.instance, riders)
        columns = [at for at, one in enumerate(after.riders) if one.rider_id in changed]
        routes, again = exchange(kernel, kept, after, columns, future.routes)
        lost = np.isin(future.routes.owner, again)
        future.routes = self._improved(kept, future.routes, lost, number)
        routes = self._improved(after, routes, lost | np.isin(routes.owner, again), number)
        before = float(kernel.objective(kept.world, future.routes))
        return before - float(kernel.objective(after.world, routes))

    def _improved(
        self, instance: Instance, routes: Routes, around: NDArray[np.bool_], number: int
    ) -> Routes:
        rounds = self._snapshot.parameters.scenarios.swap_rounds
        near = np.flatnonzero(around & (instance.world.aboard == 0)).astype(np.int32)
        improved, _ = improve_routes(
            self._kernel, instance, routes, random_state(number), rounds, self._until_s, near=near
        )
        return improved


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
