"""The world as one decision sees it: everything that `dispatch.plan.plan` may know.

Times ending in ``_s`` are seconds on one axis of the caller's choice (say, seconds since the
epoch in virtual time); durations are seconds; places index into `TravelTimes`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatch.parameters import Parameters, Temperature, Vehicle
from dispatch.travel import TravelTimes
from dispatch.travel_blocks import TravelBlocks

if TYPE_CHECKING:
    from dispatch.result import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that still has to be brought to its customer.

    place: the drop-off. ready_at_s: when it is, or is predicted to be, packed.
    ready_spread_s: one standard deviation of that prediction; 0 when it is a fact.
    promised_by_s: the end of the range told to the customer. cash_due_minor: cash that the
    rider has to collect. priority: 0 is normal, higher is more important.
    declined_by: ids of riders who must not be asked again. pinned_rider: the only rider who may
    take it, None for anybody. version: handed back in the plan so
    that the caller can tell whether the order has changed since.
    """

    order_id: str
    store_id: str
    place: int
    placed_at_s: float
    ready_at_s: float
    promised_by_s: float
    ready_spread_s: float = 0.0
    weight_g: int = 0
    volume_ml: int = 0
    temperature: Temperature = Temperature.AMBIENT
    cash_due_minor: int = 0
    priority: int = 0
    declined_by: frozenset[str] = frozenset()
    pinned_rider: str | None = None
    version: int = 0

    def __post_init__(self) -> None:
        numbers = (self.placed_at_s, self.ready_at_s, self.promised_by_s, self.ready_spread_s)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"order {self.order_id}: times must be finite")
        loads = (self.weight_g, self.volume_ml, self.cash_due_minor, self.priority)
        if min(self.ready_spread_s, *loads) < 0:
            raise ValueError(f"order {self.order_id}: loads and spread must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """An order of the recent past, whatever became of it: what the next ones may look like.

    ready_at_s: when it was or will be packed.
    """

    order_id: str
    store_id: str
    place: int
    placed_at_s: float
    ready_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentTrip:
    """A trip that the rider was given and has not picked up yet.

    order_ids: in the planned sequence of delivery. arrives_at_s: when the rider reaches the
    store's door. may_add: whether further orders of that store may still join.
    """

    store_id: str
    order_ids: tuple[str, ...]
    arrives_at_s: float
    may_add: bool = True

    def __post_init__(self) -> None:
        if not self.order_ids or len(set(self.order_ids)) != len(self.order_ids):
            raise ValueError("a current trip needs orders, each once")
        if not math.isfinite(self.arrives_at_s):
            raise ValueError("arrives_at_s must be finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rider:
    """A rider on shift, or about to be.

    place, free_at_s: where and when the rider is done with what was already picked up. With a
    `trip`, that is where the rider was before it; such a rider takes nothing but additions to it.
    capacity_*: what one trip may hold at once. cash_headroom_minor: how much more cash the rider
    may collect, beside that of the current trip. shift_end_s: the last moment for a pickup;
    drop-offs may come later.
    zone_id: for figures by zone; matching does not restrict by it.
    declined: ids of orders the rider must not be asked again. travel_factor: multiplies the
    travel times for this rider and vehicle. idle_since_s: when the last work ended.
    work_share: seconds of work over seconds on this shift, 0 .. 1; None when unknown.
    """

    rider_id: str
    place: int
    free_at_s: float
    shift_start_s: float
    shift_end_s: float
    vehicle: Vehicle = Vehicle.SCOOTER
    capacity_g: int = 25_000
    capacity_ml: int = 60_000
    capacity_orders: int = 4
    zone_id: str | None = None
    cash_headroom_minor: int = 0
    trip: CurrentTrip | None = None
    declined: frozenset[str] = frozenset()
    idle_since_s: float | None = None
    work_share: float | None = None
    travel_factor: float = 1.0
    version: int = 0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.free_at_s, self.shift_start_s, self.shift_end_s))):
            raise ValueError(f"rider {self.rider_id}: times must be finite")
        if not (math.isfinite(self.travel_factor) and self.travel_factor > 0):
            raise ValueError(f"rider {self.rider_id}: travel_factor must be positive")
        if self.work_share is not None and not 0 <= self.work_share <= 1:
            raise ValueError(f"rider {self.rider_id}: work_share lies between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A dark store (or any place of pickup).

    pickup_service_s: from the rider's arrival to the departure with goods that are ready; the
    handover lies in its middle. queue: ids of the riders standing there, first come first.
    """

    store_id: str
    place: int
    pickup_service_s: float = 60.0
    queue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pickup_service_s) and self.pickup_service_s >= 0):
            raise ValueError(f"store {self.store_id}: pickup_service_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One question to the engine.

    now_s: the moment of the decision. epoch_s: seconds until the next one.
    dropoff_service_s: at the customer's door, the handover in its middle.
    orders: open and on no trip. trip_orders: those on riders' current trips.
    recent: orders of the last half hour or so, open or not, from which demand is foreseen.
    previous: the last plan, from which this one starts. deadline_s: seconds of computing
    allowed; 0 asks for the fallback alone, infinity for an answer that does not depend on the
    machine's speed. seed: for engines that draw random numbers.

    Raises ValueError for ids that are double or unknown and for places outside ``travel``.
    """

    now_s: float
    epoch_s: float
    dropoff_service_s: float
    orders: tuple[Order, ...]
    riders: tuple[Rider, ...]
    stores: tuple[Store, ...]
    travel: TravelTimes | TravelBlocks
    trip_orders: tuple[Order, ...] = ()
    recent: tuple[Demand, ...] = ()
    parameters: Parameters = field(default_factory=Parameters)
    previous: "Plan | None" = None
    deadline_s: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.now_s):
            raise ValueError("now_s must be finite")
        if min(self.epoch_s, self.dropoff_service_s, self.deadline_s) < 0:
            raise ValueError("durations must not be negative")
        stores = _distinct("store", (store.store_id for store in self.stores))
        _distinct("rider", (rider.rider_id for rider in self.riders))
        _distinct("order", (order.order_id for order in (*self.orders, *self.trip_orders)))
        for order in (*self.orders, *self.trip_orders):
            if order.store_id not in stores:
                raise ValueError(f"order {order.order_id}: unknown store {order.store_id}")
        if any(one.store_id not in stores for one in self.recent):
            raise ValueError("a recent order names an unknown store")
        self._check_trips(stores)
        places = [order.place for order in (*self.orders, *self.trip_orders)]
        places += [rider.place for rider in self.riders]
        places += [store.place for store in self.stores]
        places += [one.place for one in self.recent]
        if places and not (min(places) >= 0 and max(places) < self.travel.places):
            raise ValueError(f"a place lies outside 0..{self.travel.places - 1}")

    def _check_trips(self, stores: set[str]) -> None:
        known = {order.order_id: order.store_id for order in self.trip_orders}
        taken: set[str] = set()
        for rider in self.riders:
            if rider.trip is None:
                continue
            if rider.trip.store_id not in stores:
                raise ValueError(f"rider {rider.rider_id}: unknown store {rider.trip.store_id}")
            for order_id in rider.trip.order_ids:
                if known.get(order_id) != rider.trip.store_id or order_id in taken:
                    raise ValueError(
                        f"rider {rider.rider_id}: order {order_id} is missing from trip_orders, "
                        "belongs to another store, or is on two trips"
                    )
                taken.add(order_id)


def _distinct(what: str, ids: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise ValueError(f"{what} {one} appears twice")
        seen.add(one)
    return seen
