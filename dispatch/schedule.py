"""From a rider and a sequence of orders to a trip with times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dispatch.result import Explanation, Stop, StopKind, Trip
from dispatch.snapshot import Order, Rider, Snapshot, Store


@dataclass(frozen=True, slots=True)
class Draft:
    """A trip before its times are written out.

    leave_s, arrives_s: setting out, and standing at the store's door.
    extends: the rider has the trip already.
    """

    rider: Rider
    store: Store
    orders: tuple[Order, ...]
    leave_s: float
    arrives_s: float
    extends: bool
    explanation: Explanation


def handover_s(
    now_s: float, arrives_s: float, pickup_service_s: float, ready_s: Sequence[float]
) -> float:
    """When the goods change hands: half a service after arrival, and all must be ready."""
    return max(now_s, arrives_s + pickup_service_s / 2, *ready_s)


def write_out(draft: Draft, snapshot: Snapshot) -> Trip:
    """The trip with every stop's planned times, its riding time and its length."""
    return write_out_all([draft], snapshot)[0]


def write_out_all(drafts: Sequence[Draft], snapshot: Snapshot) -> list[Trip]:
    """`write_out` for each; travel times are asked once for all of them."""
    starts: list[int] = []
    ends: list[int] = []
    for draft in drafts:
        places = [draft.store.place, *(order.place for order in draft.orders)]
        starts += [draft.rider.place, *places[:-1]]
        ends += places
    legs_s = snapshot.travel.seconds_between(starts, ends).tolist()
    legs_m = snapshot.travel.metres_between(starts, ends)
    trips: list[Trip] = []
    at = 0
    for draft in drafts:
        # The first leg leads to the store; it is in ``arrives_s`` already.
        to = at + 1 + len(draft.orders)
        length_m = None if legs_m is None else float(np.sum(legs_m[at:to]))
        trips.append(_written(draft, snapshot, legs_s[at + 1 : to], length_m))
        at = to
    return trips


def _written(
    draft: Draft, snapshot: Snapshot, legs_s: Sequence[float], length_m: float | None
) -> Trip:
    store = draft.store
    half_s = store.pickup_service_s / 2
    ready_s = [order.ready_at_s for order in draft.orders]
    clock_s = half_s + handover_s(snapshot.now_s, draft.arrives_s, store.pickup_service_s, ready_s)
    order_ids = tuple(order.order_id for order in draft.orders)
    stops = [
        Stop(
            kind=StopKind.PICKUP,
            place=store.place,
            order_ids=order_ids,
            planned_arrival_s=draft.arrives_s,
            planned_departure_s=clock_s,
        )
    ]
    riding_s = 0.0
    for order, plain_s in zip(draft.orders, legs_s, strict=True):
        leg_s = plain_s * draft.rider.travel_factor
        riding_s += leg_s
        arrival_s = clock_s + leg_s
        clock_s = arrival_s + snapshot.dropoff_service_s
        stops.append(
            Stop(
                kind=StopKind.DROPOFF,
                place=order.place,
                order_ids=(order.order_id,),
                planned_arrival_s=arrival_s,
                planned_departure_s=clock_s,
            )
        )
    return Trip(
        rider_id=draft.rider.rider_id,
        store_id=store.store_id,
        stops=tuple(stops),
        order_ids=order_ids,
        leave_at_s=draft.leave_s,
        travel_s=draft.arrives_s - draft.leave_s + riding_s,
        explanation=draft.explanation,
        order_versions=tuple(order.version for order in draft.orders),
        rider_version=draft.rider.version,
        distance_m=length_m,
        extends=draft.extends,
    )
