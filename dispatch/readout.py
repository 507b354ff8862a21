"""From routes to a plan: what must start now, what can wait and until when, and why this rider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from dispatch.arrays import Routes, empty_routes, spans
from dispatch.instance import Instance
from dispatch.parameters import Solver
from dispatch.problem import Problem
from dispatch.result import (
    Explanation,
    Held,
    HeldReason,
    Plan,
    Route,
    Statistics,
    Stop,
    StopKind,
    Trip,
    Unassigned,
    UnassignedReason,
)

# An order whose goods will wait this long for a rider counts as one that lacks a rider.
SHORTAGE_S = 300.0


@dataclass(frozen=True, slots=True)
class _Leg:
    """A trip as rows: its place in the rider's route, the orders, and their times.

    decide_s: the last moment at which deciding it costs nothing. extends: the rider has it.
    """

    column: int
    index: int
    rows: tuple[int, ...]
    pickup_s: float
    left_s: tuple[float, ...]
    leave_s: float
    door_s: float
    decide_s: float
    extends: bool


def read_out(
    kernel: ModuleType, instance: Instance, routes: Routes, fallback_objective: float, rounds: int
) -> Plan:
    """The plan that ``routes`` mean; ghosts are taken out of them on the way."""
    objective = float(kernel.objective(instance.world, routes))
    short = _short_form(instance, routes)
    # A trip that waits for a ghost is decided as if it left without.
    served = routes.owner[: instance.open_count] >= 0
    kernel.take_ghosts_out(instance.world, routes)
    lost = np.flatnonzero(served & (routes.owner[: instance.open_count] < 0)).astype(np.int32)
    kernel.fill(instance.world, routes, lost, np.ones(1, np.uint64))
    legs = _legs(instance, routes)
    now_s, epoch_s = instance.snapshot.now_s, instance.snapshot.epoch_s
    trips: list[Trip] = []
    tentative: list[Trip] = []
    held: list[Held] = []
    missing = 0
    spare = empty_routes(instance.count, len(instance.riders), routes.order.shape[1])
    for leg in legs:
        new = [row for row in leg.rows if row < instance.open_count]
        if not new:
            continue
        soon = now_s + epoch_s
        if leg.index == 0 and (
            leg.decide_s < soon or leg.decide_s <= now_s or (leg.extends and leg.decide_s <= soon)
        ):
            trips.append(_trip(instance, leg, _explain(kernel, instance, routes, spare, leg, new)))
            continue
        trip = _trip(instance, leg, Explanation(cost_terms=_terms(instance, leg, new)))
        tentative.append(trip)
        for row in new:
            held.append(_held(instance, leg, row))
            waits_s = leg.pickup_s - max(now_s, float(instance.world.ready[row]))
            missing += waits_s > SHORTAGE_S
    unassigned = _unassigned(instance, routes)
    missing += sum(one.reason is UnassignedReason.RIDERS_BUSY for one in unassigned)
    planned = {one.order_id for one in instance.orders[: instance.open_count]}
    horizon_s = instance.snapshot.parameters.rolling.order_horizon_s
    held += [
        Held(
            order_id=one.order_id,
            reason=HeldReason.NOT_READY,
            look_again_at_s=one.ready_at_s - horizon_s,
        )
        for one in instance.snapshot.orders
        if one.order_id not in planned
    ]
    return Plan(
        trips=tuple(trips),
        held=tuple(sorted(held, key=lambda one: one.order_id)),
        unassigned=unassigned,
        tentative=tuple(tentative),
        statistics=Statistics(
            orders=len(instance.snapshot.orders),
            riders=len(instance.riders) - int(np.count_nonzero(instance.world.fixed)),
            rounds=rounds,
            backend=Solver.ROLLING.value,
            objective=objective,
            fallback_objective=fallback_objective,
            riders_missing=missing,
            ghosts=len(instance.ghosts),
        ),
        routes=short,
    )


def _short_form(instance: Instance, routes: Routes) -> tuple[Route, ...]:
    keys = instance.keys
    return tuple(
        Route(
            rider_id=rider.rider_id,
            trips=tuple(
                tuple(keys[row] for row in routes.order[column, begin:end].tolist())
                for begin, end in spans(routes, column)
            ),
        )
        for column, rider in enumerate(instance.riders)
        if routes.size[column]
    )


def _legs(instance: Instance, routes: Routes) -> list[_Leg]:
    world, parameters = instance.world, instance.snapshot.parameters
    early_s = parameters.commitment.slack_s + parameters.offers.response_s
    legs: list[_Leg] = []
    for column in range(len(instance.riders)):
        free_s, last = float(world.leave[column]), -1
        factor = float(world.factor[column])
        for index, (begin, end) in enumerate(spans(routes, column)):
            rows = tuple(routes.order[column, begin:end].tolist())
            store = int(world.store[rows[0]])
            half_s = float(world.half[store])
            extends = index == 0 and bool(world.fixed[column])
            likely_s = max(
                float(world.ready[row])
                - parameters.commitment.spread_factor * instance.spread_s[row]
                for row in rows
            )
            ride_s = factor * float(
                world.start_store[column, store] if last < 0 else world.store_order[store, last]
            )
            if extends:
                door_s = float(world.arrives[column])
                leave_s = door_s - (ride_s if np.isfinite(ride_s) else 0.0)
                aboard = [row for row in rows if row >= instance.open_count]
                likely_s = max(
                    float(world.ready[row])
                    - parameters.commitment.spread_factor * instance.spread_s[row]
                    for row in aboard
                )
                decide_s = max(door_s + half_s, likely_s) - early_s
            else:
                leave_s, door_s = free_s, free_s + ride_s
                # The latest start that still has him at the store when the goods are likely packed.
                decide_s = max(door_s, likely_s - half_s) - ride_s - early_s
                rider = instance.riders[column]
                decide_s = max(decide_s, rider.free_at_s, rider.shift_start_s)
            left_s = tuple(routes.done[column, begin:end].tolist())
            pickup_s = float(routes.pick[column, begin])
            legs.append(
                _Leg(column, index, rows, pickup_s, left_s, leave_s, door_s, decide_s, extends)
            )
            free_s, last = left_s[-1], rows[-1]
    return legs


def _held(instance: Instance, leg: _Leg, row: int) -> Held:
    now_s = instance.snapshot.now_s
    if leg.extends:
        reason = HeldReason.JOINS_TRIP
    elif leg.decide_s > now_s and instance.world.ready[row] >= leg.pickup_s - 1.0:
        reason = HeldReason.NOT_READY
    else:
        reason = HeldReason.RIDER_BUSY
    look_s = leg.decide_s if leg.decide_s > now_s else now_s + max(1.0, instance.snapshot.epoch_s)
    return Held(
        order_id=instance.orders[row].order_id, reason=reason, look_again_at_s=float(look_s)
    )


def _unassigned(instance: Instance, routes: Routes) -> tuple[Unassigned, ...]:
    rows = [row for row in range(instance.open_count) if routes.owner[row] < 0]
    if not rows:
        return ()
    problem = Problem.of(instance.snapshot)
    row_of = {one.order_id: row for row, one in enumerate(problem.orders)}
    ids = sorted(instance.orders[row].order_id for row in rows)
    reasons = problem.why_nobody_of([row_of[one] for one in ids])
    return tuple(
        Unassigned(order_id=one, reason=reason) for one, reason in zip(ids, reasons, strict=True)
    )


def _terms(instance: Instance, leg: _Leg, new: Sequence[int]) -> Mapping[str, float]:
    """Cost of the new orders by term, and of all riding of the trip."""
    world, service_s = instance.world, instance.snapshot.dropoff_service_s
    delay = lateness = 0.0
    for row, left_s in zip(leg.rows, leg.left_s, strict=True):
        if row not in new:
            continue
        at_s = left_s - service_s / 2
        delay += world.delay_weight * max(0.0, at_s - float(world.earliest[row]))
        late_s = max(0.0, at_s - float(world.promised[row]))
        lateness += float(world.late[row]) * (late_s + late_s**2 * world.late_curve)
    store = int(world.store[leg.rows[0]])
    return {
        "delay": delay,
        "lateness": lateness,
        "rider_time": world.ride_weight * _riding_s(instance, leg),
        "tie_break": 0.0 if leg.index else float(world.first[leg.column, store]),
    }


def _riding_s(instance: Instance, leg: _Leg) -> float:
    world = instance.world
    drops_s = leg.left_s[-1] - leg.pickup_s - float(world.half[world.store[leg.rows[0]]])
    return leg.door_s - leg.leave_s + drops_s - len(leg.rows) * world.service


def _explain(
    kernel: ModuleType,
    instance: Instance,
    routes: Routes,
    spare: Routes,
    leg: _Leg,
    new: Sequence[int],
) -> Explanation:
    """The terms, and what the same orders would add to the cheapest other rider's route."""
    terms = _terms(instance, leg, new)
    rows, state = np.array(new, np.int32), np.ones(1, np.uint64)
    cost, column = kernel.second_choice(instance.world, routes, spare, rows, leg.column, state)
    if column < 0:
        return Explanation(cost_terms=terms)
    return Explanation(
        cost_terms=terms,
        runner_up_rider_id=instance.riders[column].rider_id,
        runner_up_cost=float(cost),
    )


def _trip(instance: Instance, leg: _Leg, explanation: Explanation) -> Trip:
    snapshot, rider = instance.snapshot, instance.riders[leg.column]
    store = instance.stores[int(instance.world.store[leg.rows[0]])]
    orders = [instance.orders[row] for row in leg.rows]
    order_ids = tuple(one.order_id for one in orders)
    stops = [
        Stop(
            kind=StopKind.PICKUP,
            place=store.place,
            order_ids=order_ids,
            planned_arrival_s=leg.door_s,
            planned_departure_s=leg.pickup_s + store.pickup_service_s / 2,
        )
    ]
    for one, left_s in zip(orders, leg.left_s, strict=True):
        stops.append(
            Stop(
                kind=StopKind.DROPOFF,
                place=one.place,
                order_ids=(one.order_id,),
                planned_arrival_s=left_s - snapshot.dropoff_service_s,
                planned_departure_s=left_s,
            )
        )
    return Trip(
        rider_id=rider.rider_id,
        store_id=store.store_id,
        stops=tuple(stops),
        order_ids=order_ids,
        leave_at_s=leg.leave_s,
        travel_s=_riding_s(instance, leg),
        explanation=explanation,
        order_versions=tuple(one.version for one in orders),
        rider_version=rider.version,
        distance_m=_distance_m(instance, leg, [stop.place for stop in stops]),
        extends=leg.extends,
    )


def _distance_m(instance: Instance, leg: _Leg, places: Sequence[int]) -> float | None:
    """From where the rider is before the trip; of later trips without the way to the store."""
    start = [instance.riders[leg.column].place] if leg.index == 0 else []
    way = [*start, *places]
    metres = instance.snapshot.travel.metres_between(way[:-1], way[1:])
    return None if metres is None else float(np.sum(metres))
