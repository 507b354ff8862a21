"""From a snapshot and its ghosts to the arrays of the rolling plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dispatch.arrays import Flags, Floats, Ints, Legs, World
from dispatch.ghosts import Ghost
from dispatch.parameters import Parameters, Temperature
from dispatch.problem import IntArray
from dispatch.snapshot import Order, Rider, Snapshot, Store

_TEMPERATURES = tuple(Temperature)


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """Row by row what the arrays mean: open orders, then those on current trips, then ghosts.

    Each part is sorted by id, so that the answer does not depend on the snapshot's sequence.
    Riders are sorted by when they can set out, those with a trip first (`kernel.cheapest`).
    """

    snapshot: Snapshot
    world: World
    orders: tuple[Order, ...]
    open_count: int
    ghosts: tuple[Ghost, ...]
    riders: tuple[Rider, ...]
    stores: tuple[Store, ...]
    spread_s: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.orders) + len(self.ghosts)

    @property
    def keys(self) -> list[str]:
        """Id of each row, ghosts by their key."""
        return [one.order_id for one in self.orders] + [one.key for one in self.ghosts]


def build(snapshot: Snapshot, ghosts: Sequence[Ghost] = ()) -> Instance:
    """Everything sorted, and as arrays; open orders beyond the horizon are left out."""
    horizon_s = snapshot.now_s + snapshot.parameters.rolling.order_horizon_s
    opened = sorted(
        (one for one in snapshot.orders if one.ready_at_s <= horizon_s),
        key=lambda one: one.order_id,
    )
    riding = sorted(snapshot.trip_orders, key=lambda one: one.order_id)
    riders = sorted(
        (one for one in snapshot.riders if one.trip or one.shift_end_s >= snapshot.now_s),
        key=lambda one: (one.trip is None, max(one.free_at_s, one.shift_start_s), one.rider_id),
    )
    orders = (*opened, *riding)
    stores = tuple(sorted(snapshot.stores, key=lambda one: one.store_id))
    world = _world(snapshot, orders, len(opened), riders, stores)
    spread_s = tuple(one.ready_spread_s for one in orders)
    known = Instance(snapshot, world, orders, len(opened), (), tuple(riders), stores, spread_s)
    return with_ghosts(known, ghosts) if ghosts else known


def with_ghosts(known: Instance, ghosts: Sequence[Ghost]) -> Instance:
    """An instance that has none, with ``ghosts``: what is of riders, stores and orders stays."""
    snapshot, world, count = known.snapshot, known.world, len(known.orders)
    row_of = {one.store_id: row for row, one in enumerate(known.stores)}
    added = np.array([row_of[one.store_id] for one in ghosts], np.int32)
    places = [one.place for one in known.orders] + [one.place for one in ghosts]
    place = np.array(places, np.intp)
    store_place = np.array([one.place for one in known.stores], np.intp)
    ready = np.array([one.ready_at_s for one in ghosts], np.float64)
    weight = np.array([one.weight for one in ghosts], np.float64)
    direct = snapshot.travel.seconds_between(store_place[added], place[count:]).astype(np.float32)
    to_stores = snapshot.travel.seconds_between(place[None, count:], store_place[:, None])
    parameters, size = snapshot.parameters, len(ghosts)
    dropped = weight * parameters.lateness.delay_weight * parameters.ghosts.unserved_s
    holds_one = np.broadcast_to(world.capacity[:, 0] >= 1, (size, len(known.riders)))
    store = np.concatenate([world.store, added])
    world = world._replace(
        store=store,
        ready=np.concatenate([world.ready, ready]),
        placed=np.concatenate([world.placed, [one.placed_at_s for one in ghosts]]),
        earliest=np.concatenate(
            [world.earliest, _earliest(snapshot, ready, world.half[added], direct)]
        ),
        promised=np.concatenate([world.promised, np.full(size, np.inf)]),
        weight=np.concatenate([world.weight, weight]),
        late=np.concatenate([world.late, np.zeros(size)]),
        price=np.concatenate([world.price, dropped]),
        # They weigh nothing, and anybody may bring them.
        loads=np.concatenate([world.loads, np.zeros((size, 3))]),
        ghost=np.concatenate([world.ghost, np.ones(size, np.uint8)]),
        aboard=np.concatenate([world.aboard, np.zeros(size, np.uint8)]),
        allowed=np.concatenate([world.allowed, holds_one.astype(np.uint8)]),
        store_order=np.concatenate([world.store_order, to_stores.astype(np.float32)], axis=1),
        order_order=_more_between_orders(snapshot, world.order_order, store, place),
        direct=np.concatenate([world.direct, direct]),
    )
    spread_s = known.spread_s + (0.0,) * size
    return replace(known, world=world, ghosts=tuple(ghosts), spread_s=spread_s)


def with_riders(instance: Instance, riders: Mapping[str, Rider]) -> Instance:
    """The same orders, when riders have got some of them, or set out later: their rows stay.

    riders: by id, those of the instance with other trips, times and nothing else changed.
    """
    changed = tuple(riders[one.rider_id] for one in instance.riders)
    row_of = {one.order_id: row for row, one in enumerate(instance.orders)}
    rows = [row_of[one] for rider in changed if rider.trip for one in rider.trip.order_ids]
    aboard, loads = instance.world.aboard.copy(), instance.world.loads.copy()
    aboard[rows] = 1
    loads[rows, 2] = 0.0
    world = instance.world._replace(
        aboard=aboard, loads=loads, **_riding(instance.snapshot, changed)
    )
    return replace(instance, world=world, riders=changed)


def with_riders_of(known: Instance, future: Instance) -> Instance:
    """``future``, when its riders' trips and times are those of ``known``, which has no ghosts."""
    world, size = known.world, len(future.ghosts)
    changed = future.world._replace(
        aboard=np.concatenate([world.aboard, np.zeros(size, np.uint8)]),
        loads=np.concatenate([world.loads, np.zeros((size, 3))]),
        leave=world.leave,
        fixed=world.fixed,
        arrives=world.arrives,
        grows=world.grows,
    )
    return replace(future, world=changed, riders=known.riders)


def _world(
    snapshot: Snapshot,
    orders: Sequence[Order],
    opened: int,
    riders: Sequence[Rider],
    stores: Sequence[Store],
) -> World:
    """All orders that are known, as arrays."""
    parameters, late = snapshot.parameters, snapshot.parameters.lateness
    row_of = {one.store_id: row for row, one in enumerate(stores)}
    n = len(orders)
    store = np.array([row_of[one.store_id] for one in orders], np.int32)
    place = np.array([one.place for one in orders], np.intp)
    ready = np.array([one.ready_at_s for one in orders], np.float64)
    half = np.array([one.pickup_service_s / 2 for one in stores], np.float64)
    store_place = np.array([one.place for one in stores], np.intp)
    rider_place = np.array([one.place for one in riders], np.intp)
    between = snapshot.travel.seconds_between
    direct = between(store_place[store], place).astype(np.float32)
    earliest = _earliest(snapshot, ready, half[store], direct)
    promised = np.array([one.promised_by_s - late.margin_s for one in orders], np.float64)
    late_weight = np.array(
        [late.late_weight * (1 + late.priority_weight * one.priority) for one in orders],
        np.float64,
    )
    aboard = np.zeros(n, np.uint8)
    aboard[opened:] = 1
    loads, capacity = _loads(orders, opened), _capacity(parameters, riders)
    return World(
        now=float(snapshot.now_s),
        service=float(snapshot.dropoff_service_s),
        delay_weight=float(late.delay_weight),
        late_curve=1 / (2 * late.late_scale_s),
        ride_weight=float(parameters.rolling.riding_weight),
        store=store,
        ready=ready,
        placed=np.full(n, -np.inf),
        earliest=earliest,
        promised=promised,
        weight=np.ones(n),
        late=late_weight,
        price=_price(snapshot, ready, earliest, promised, late_weight),
        loads=loads,
        ghost=np.zeros(n, np.uint8),
        aboard=aboard,
        half=half,
        end=np.array([one.shift_end_s for one in riders], np.float64),
        factor=np.array([one.travel_factor for one in riders], np.float64),
        capacity=capacity,
        allowed=_allowed(snapshot, orders, opened, riders, loads, capacity),
        start_store=between(rider_place[:, None], store_place[None, :]).astype(np.float32),
        # By store, for the search asks for the way of many orders to one store.
        store_order=between(place[None, :], store_place[:, None]).astype(np.float32),
        order_order=_more_between_orders(snapshot, np.empty((0, 0), np.float32), store, place),
        store_store=between(store_place[:, None], store_place[None, :]).astype(np.float32),
        direct=direct,
        first=_first(snapshot, riders, stores),
        **_riding(snapshot, riders),
    )


def _earliest(snapshot: Snapshot, ready: Floats, half: Floats, direct: Legs) -> Floats:
    """Shape (n,): the deliveries that nobody could beat; a door without a way counts as near."""
    reachable = np.where(np.isfinite(direct), direct, 0.0)
    handover = np.maximum(ready, snapshot.now_s) + half
    return np.asarray(handover + reachable + snapshot.dropoff_service_s / 2)


def _riding(snapshot: Snapshot, riders: Sequence[Rider]) -> dict[str, Any]:
    """What changes about riders with a trip that they get; each of shape (m,)."""
    answered_s = snapshot.now_s + snapshot.parameters.offers.response_s
    leave = [max(answered_s, one.free_at_s, one.shift_start_s) for one in riders]
    return {
        "leave": np.array(leave, np.float64),
        "fixed": np.array([len(one.trip.order_ids) if one.trip else 0 for one in riders], np.int32),
        "arrives": np.array([one.trip.arrives_at_s if one.trip else 0.0 for one in riders]),
        "grows": np.array([one.trip is not None and one.trip.may_add for one in riders], np.uint8),
    }


def _loads(orders: Sequence[Order], opened: int) -> Floats:
    """Shape (n, 3): grams, millilitres and cash."""
    loads = np.array(
        [(one.weight_g, one.volume_ml, one.cash_due_minor) for one in orders], np.float64
    ).reshape(-1, 3)
    # A rider's headroom is what is left beside the cash of the current trip.
    loads[opened:, 2] = 0.0
    return loads


def _capacity(parameters: Parameters, riders: Sequence[Rider]) -> Floats:
    """Shape (m, 4): orders, grams, millilitres and cash of one trip."""
    most = parameters.extension.max_orders if parameters.extension.enabled else 1
    return np.array(
        [
            (
                min(one.capacity_orders, most),
                one.capacity_g,
                one.capacity_ml,
                max(0, one.cash_headroom_minor),
            )
            for one in riders
        ],
        np.float64,
    ).reshape(-1, 4)


def _more_between_orders(snapshot: Snapshot, known: Legs, store: Ints, place: IntArray) -> Legs:
    """Shape (n, n): drop-off to drop-off of one store; infinite between stores, never ridden.

    known: what it is for the first of them.
    """
    count = len(known)
    legs = np.full((store.size, store.size), np.inf, np.float32)
    legs[:count, :count] = known
    one, other = np.nonzero(store[count:, None] == store[None, :])
    one += count
    legs[one, other] = snapshot.travel.seconds_between(place[one], place[other])
    legs[other, one] = snapshot.travel.seconds_between(place[other], place[one])
    return legs


def _price(
    snapshot: Snapshot, ready: Floats, earliest: Floats, promised: Floats, late_weight: Floats
) -> Floats:
    """What leaving each order out costs: as a very late delivery, and more the longer it waited."""
    parameters = snapshot.parameters
    age = np.maximum(0.0, snapshot.now_s - ready)
    late = np.maximum(0.0, earliest + parameters.rolling.unserved_s - promised)
    price = np.full(ready.size, parameters.lateness.delay_weight * parameters.rolling.unserved_s)
    price += late_weight * (late + late**2 / (2 * parameters.lateness.late_scale_s))
    urgency = parameters.urgency
    price += urgency.age_weight * (age + age**2 / (2 * urgency.age_scale_s))
    return price


def _allowed(
    snapshot: Snapshot,
    orders: Sequence[Order],
    opened: int,
    riders: Sequence[Rider],
    loads: Floats,
    capacity: Floats,
) -> Flags:
    """Shape (n, m): temperature, load, cash, declines and pins; times are the kernel's matter."""
    allowed = np.ones((len(orders), len(riders)), np.uint8)
    carries = snapshot.parameters.vehicles.carries
    for column, rider in enumerate(riders):
        kinds = carries.get(rider.vehicle, frozenset())
        if len(kinds) < len(_TEMPERATURES):
            allowed[:, column] = [one.temperature in kinds for one in orders]
    for c in range(3):
        if loads[:, c].any():
            allowed &= loads[:, c, None] <= capacity[None, :, c + 1]
    if capacity.size and capacity[:, 0].min() < 1:
        allowed &= capacity[None, :, 0] >= 1
    column_of = {one.rider_id: column for column, one in enumerate(riders)}
    row_of = {one.order_id: row for row, one in enumerate(orders)}
    for row, one in enumerate(orders[:opened]):
        for rider_id in one.declined_by:
            if rider_id in column_of:
                allowed[row, column_of[rider_id]] = 0
        if one.pinned_rider is not None:
            only = column_of.get(one.pinned_rider)
            allowed[row, np.arange(len(riders)) != (-1 if only is None else only)] = 0
    for column, rider in enumerate(riders):
        for order_id in rider.declined:
            if order_id in row_of:
                allowed[row_of[order_id], column] = 0
    return allowed


def _first(snapshot: Snapshot, riders: Sequence[Rider], stores: Sequence[Store]) -> Legs:
    """Shape (m, s): tie-breaks on who starts; longest idle, least worked, front of the queue."""
    weights = snapshot.parameters.rider_time
    first = np.zeros((len(riders), len(stores)), np.float32)
    for column, rider in enumerate(riders):
        idle_s = 0.0 if rider.idle_since_s is None else snapshot.now_s - rider.idle_since_s
        first[column] = weights.idle_weight * (
            weights.idle_cap_s - min(max(0.0, idle_s), weights.idle_cap_s)
        )
        first[column] += weights.fair_s * (rider.work_share or 0.0)
    column_of = {one.rider_id: column for column, one in enumerate(riders)}
    for row, store in enumerate(stores):
        waiting = [column_of[rider_id] for rider_id in store.queue if rider_id in column_of]
        for place, column in enumerate(waiting):
            first[column, row] += weights.queue_place_s * place
    # Only differences count: a rider must not look dearer for starting than for going on.
    return first - first.min(axis=0, initial=np.inf) if first.size else first
