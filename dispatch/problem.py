"""A snapshot as arrays, and the pairs of order and rider that can work at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dispatch.parameters import Temperature, Vehicle
from dispatch.result import UnassignedReason
from dispatch.snapshot import Order, Rider, Snapshot, Store
from dispatch.travel import FloatArray

IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

ANYBODY = -1
NOBODY = -2

_TEMPERATURES = tuple(Temperature)
_VEHICLES = tuple(Vehicle)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """n orders, m riders without a trip, s stores; each sorted by id, so that the answer does
    not depend on the sequence in which the snapshot names them.

    orders: the first ``open_count`` are open, the others are on current trips.
    order_*: shape (n,). rider_*: shape (m,). arrival_s: shape (s, m), when the rider could stand
    at the store's door. direct_s: shape (n,), store to drop-off at the matrix's own pace.
    earliest_s: shape (n,), no dispatcher could deliver earlier, deciding now; finite even where
    there is no way. loads, limits: shapes (n, 3) and (m, 3), grams, millilitres and cash of each
    order, and what each rider may take of them. temperature, pinned: shape (n,), the class, and the
    row of the only rider allowed: ANYBODY, or NOBODY when he is not among ``riders``.
    """

    snapshot: Snapshot
    orders: tuple[Order, ...]
    open_count: int
    riders: tuple[Rider, ...]
    stores: tuple[Store, ...]
    order_store: IntArray
    order_place: IntArray
    ready_s: FloatArray
    spread_s: FloatArray
    promised_s: FloatArray
    priority: FloatArray
    direct_s: FloatArray
    earliest_s: FloatArray
    service_s: FloatArray
    rider_place: IntArray
    leave_s: FloatArray
    shift_end_s: FloatArray
    factor: FloatArray
    arrival_s: FloatArray
    carries: BoolArray
    refused: Mapping[int, IntArray]
    loads: IntArray
    limits: IntArray
    temperature: IntArray
    pinned: IntArray

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Problem":
        """Arrays of the snapshot's orders and of the riders who may start a trip."""
        orders = (
            *sorted(snapshot.orders, key=lambda order: order.order_id),
            *sorted(snapshot.trip_orders, key=lambda order: order.order_id),
        )
        riders = _available_riders(snapshot)
        stores = tuple(sorted(snapshot.stores, key=lambda store: store.store_id))
        store_row = {store.store_id: row for row, store in enumerate(stores)}
        order_store = _ints([store_row[order.store_id] for order in orders])
        order_place = _ints([order.place for order in orders])
        store_place = _ints([store.place for store in stores])
        service_s = _floats([store.pickup_service_s for store in stores])
        rider_place = _ints([rider.place for rider in riders])
        factor = _floats([rider.travel_factor for rider in riders])
        leave_s = _leave_s(snapshot, riders)
        ready_s = _floats([order.ready_at_s for order in orders])
        direct_s = snapshot.travel.seconds_between(store_place[order_store], order_place)
        to_store_s = snapshot.travel.seconds_between(rider_place[None, :], store_place[:, None])
        half_s = service_s[order_store] / 2
        first_s = np.maximum(ready_s, snapshot.now_s)
        return cls(
            snapshot=snapshot,
            orders=orders,
            open_count=len(snapshot.orders),
            riders=riders,
            stores=stores,
            order_store=order_store,
            order_place=order_place,
            ready_s=ready_s,
            spread_s=_floats([order.ready_spread_s for order in orders]),
            promised_s=_floats([order.promised_by_s for order in orders]),
            priority=_floats([order.priority for order in orders]),
            direct_s=direct_s,
            earliest_s=first_s
            + half_s
            + np.where(np.isfinite(direct_s), direct_s, 0.0)
            + snapshot.dropoff_service_s / 2,
            service_s=service_s,
            rider_place=rider_place,
            leave_s=leave_s,
            shift_end_s=_floats([rider.shift_end_s for rider in riders]),
            factor=factor,
            arrival_s=leave_s + to_store_s * factor,
            carries=_carries(snapshot, riders),
            refused=_refused(orders, riders),
            loads=_table([(one.weight_g, one.volume_ml, one.cash_due_minor) for one in orders], 3),
            limits=_table([_limits(rider) for rider in riders], 3),
            temperature=_ints([_TEMPERATURES.index(order.temperature) for order in orders]),
            pinned=_pinned(orders, riders),
        )

    def candidates(self, order_rows: IntArray, width: int) -> tuple[IntArray, IntArray, bool]:
        """Feasible pairs among each store's nearest riders.

        width: riders per store by arrival there, besides one for each of its orders.
        Returns order rows and rider rows of the pairs, and whether every rider was looked at.
        """
        pairs: list[tuple[IntArray, IntArray]] = []
        complete = True
        for store in np.unique(self.order_store[order_rows]):
            rows = order_rows[self.order_store[order_rows] == store]
            wanted = width + rows.size
            riders = np.arange(len(self.riders))
            if wanted < riders.size:
                complete = False
                # By arrival, equal arrivals by id: a partition alone would leave ties to chance.
                riders = np.argsort(self.arrival_s[store], kind="stable")[:wanted]
            mask = np.ones((rows.size, riders.size), dtype=np.bool_)
            for _, passes in self._checks(rows, riders):
                mask &= passes
            order_at, rider_at = np.nonzero(mask)
            pairs.append((rows[order_at], riders[rider_at]))
        if not pairs:
            return _ints([]), _ints([]), True
        order_of, rider_of = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return order_of, rider_of, complete

    def why_nobody(self, order_row: int) -> UnassignedReason:
        """The check that removed the last rider; RIDERS_BUSY when somebody is left."""
        return self.why_nobody_of([order_row])[0]

    def why_nobody_of(self, order_rows: Sequence[int]) -> list[UnassignedReason]:
        """`why_nobody` of each, a store at a time."""
        if not self.riders:
            return [UnassignedReason.NO_RIDERS] * len(order_rows)
        every, riders = _ints(list(order_rows)), np.arange(len(self.riders))
        found: dict[int, UnassignedReason] = {}
        for store in np.unique(self.order_store[every]):
            rows = every[self.order_store[every] == store]
            left = np.ones((rows.size, riders.size), dtype=np.bool_)
            for reason, passes in self._checks(rows, riders):
                left &= passes
                for row in rows[~left.any(axis=1)].tolist():
                    found.setdefault(row, reason)
        return [found.get(row, UnassignedReason.RIDERS_BUSY) for row in order_rows]

    def _checks(
        self, rows: IntArray, riders: IntArray
    ) -> Iterator[tuple[UnassignedReason, BoolArray]]:
        """Each hard rule in turn with its mask of shape (rows, riders); one store at a time."""
        store = self.order_store[rows[0]]
        arrival_s = self.arrival_s[store, riders]
        yield (
            UnassignedReason.UNREACHABLE,
            np.isfinite(arrival_s)[None, :] & np.isfinite(self.direct_s[rows])[:, None],
        )
        fits: BoolArray = np.asarray(
            self.loads[rows][:, None, :] <= self.limits[riders][None, :, :], dtype=np.bool_
        )
        yield UnassignedReason.OVER_CAPACITY, np.asarray(fits[:, :, :2].all(axis=2))
        yield UnassignedReason.TEMPERATURE, self.carries[np.ix_(riders, self.temperature[rows])].T
        yield UnassignedReason.CASH_LIMIT, fits[:, :, 2]
        willing = np.ones((rows.size, riders.size), dtype=np.bool_)
        for at, row in enumerate(rows.tolist()):
            if row in self.refused:
                willing[at] = ~np.isin(riders, self.refused[row])
        yield UnassignedReason.DECLINED, willing
        pinned = self.pinned[rows][:, None]
        anybody = np.equal(pinned, ANYBODY)
        yield UnassignedReason.PINNED, np.asarray(anybody | np.equal(pinned, riders[None, :]))
        handover_s = np.maximum(
            arrival_s[None, :] + self.service_s[store] / 2, self.ready_s[rows][:, None]
        )
        yield UnassignedReason.SHIFT_END, handover_s <= self.shift_end_s[riders][None, :]


def _available_riders(snapshot: Snapshot) -> tuple[Rider, ...]:
    """Riders without a trip who are free within the horizon, sorted by id."""
    horizon_s = snapshot.now_s + snapshot.parameters.matching.rider_horizon_s
    return tuple(
        sorted(
            (
                rider
                for rider in snapshot.riders
                if rider.trip is None
                and rider.shift_end_s >= snapshot.now_s
                and max(rider.free_at_s, rider.shift_start_s) <= horizon_s
            ),
            key=lambda rider: rider.rider_id,
        )
    )


def _leave_s(snapshot: Snapshot, riders: tuple[Rider, ...]) -> FloatArray:
    answered_s = snapshot.now_s + snapshot.parameters.offers.response_s
    return _floats([max(answered_s, rider.free_at_s, rider.shift_start_s) for rider in riders])


def _carries(snapshot: Snapshot, riders: tuple[Rider, ...]) -> BoolArray:
    """Shape (riders, temperatures): whether the rider's vehicle may carry the class."""
    allowed = snapshot.parameters.vehicles.carries
    by_vehicle = {
        vehicle: [temperature in allowed.get(vehicle, ()) for temperature in _TEMPERATURES]
        for vehicle in _VEHICLES
    }
    rows = [by_vehicle[rider.vehicle] for rider in riders]
    return np.array(rows, dtype=np.bool_).reshape(len(riders), len(_TEMPERATURES))


def _refused(orders: tuple[Order, ...], riders: tuple[Rider, ...]) -> dict[int, IntArray]:
    """Order row -> rows of the riders who declined it, whichever side remembers."""
    rider_row = {rider.rider_id: row for row, rider in enumerate(riders)}
    order_row = {order.order_id: row for row, order in enumerate(orders)}
    refused: dict[int, set[int]] = {}
    for row, order in enumerate(orders):
        known = {rider_row[rider_id] for rider_id in order.declined_by if rider_id in rider_row}
        if known:
            refused[row] = known
    for column, rider in enumerate(riders):
        for order_id in rider.declined:
            if order_id in order_row:
                refused.setdefault(order_row[order_id], set()).add(column)
    return {row: _ints(sorted(columns)) for row, columns in refused.items()}


def _limits(rider: Rider) -> tuple[int, int, int]:
    """Grams, millilitres and cash; nothing at all for a rider who may take no order."""
    if rider.capacity_orders < 1:
        return (-1, -1, 0)
    return (rider.capacity_g, rider.capacity_ml, max(0, rider.cash_headroom_minor))


def _pinned(orders: tuple[Order, ...], riders: tuple[Rider, ...]) -> IntArray:
    rider_row = {rider.rider_id: row for row, rider in enumerate(riders)}
    return _ints(
        [
            ANYBODY if one.pinned_rider is None else rider_row.get(one.pinned_rider, NOBODY)
            for one in orders
        ]
    )


def _table(rows: list[tuple[int, int, int]], width: int) -> IntArray:
    return np.array(rows, dtype=np.intp).reshape(-1, width)


def _ints(values: list[int]) -> IntArray:
    return np.array(values, dtype=np.intp)


def _floats(values: "list[float] | list[int]") -> FloatArray:
    return np.array(values, dtype=np.float64)
