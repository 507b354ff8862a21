"""A city in the middle of its day: what a dispatcher sees, decision after decision.

Streets and travel times by road are those of an OpenStreetMap extract or of a procedural city.
What the engine commits leaves the open orders and keeps its rider busy; as many new orders come
in, so that every decision has the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dispatch import Order, Parameters, Plan, Rider, Snapshot, Store
from dispatch.travel_blocks import NO_STORE, TravelBlocks
from geo.osm import read_roads
from geo.procedural import District, procedural_city
from geo.travel import TravelTimes
from server.seed_places import place_stores

EPOCH_S = 10.0
PICK_S = (60.0, 300.0)
"""How long goods are picked, least and most."""
PROMISE_S = 900.0
IDLE_SHARE = 0.2
"""Of the riders; the others bring something and are free within the next 15 minutes."""
BUSY_S = 900.0
SIZE_M = 14_000.0
_SHIFT_S = 4 * 3600.0
_FURTHEST_S = 720.0


@dataclass(frozen=True, slots=True, eq=False)
class Streets:
    """Doors on streets, and the stores that serve them.

    lat, lon: shape (doors,). store_of: shape (doors,), the store that reaches a door soonest.
    store_lat, store_lon: shape (stores,).
    """

    name: str
    times: TravelTimes
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    store_of: NDArray[np.intp]
    direct_s: NDArray[np.float64]
    store_lat: NDArray[np.float64]
    store_lon: NDArray[np.float64]

    @classmethod
    def of(cls, osm: Path | None, stores: int, seed: int, size_m: float = SIZE_M) -> Streets:
        """The city with ``stores`` stores; the same input gives the same.

        size_m: edge of the procedural city, where there is no extract.
        """
        districts: tuple[District, ...] = ()
        if osm is not None:
            name, roads = osm.name, read_roads(osm)
        else:
            made = procedural_city(seed, size_m=size_m)
            name, roads, districts = f"procedural:{seed}", made.roads, made.districts
        times = TravelTimes.compute(roads)
        places = [place.point for place in place_stores(roads, stores, districts)]
        store_lat = np.array([point.lat for point in places])
        store_lon = np.array([point.lon for point in places])
        to_door_s = times.between(store_lat[:, None], store_lon[:, None], roads.lat, roads.lon)
        store_of = to_door_s.argmin(axis=0)
        direct_s = to_door_s.min(axis=0).astype(np.float64)
        served = direct_s <= _FURTHEST_S
        return cls(
            name=name,
            times=times,
            lat=roads.lat[served],
            lon=roads.lon[served],
            store_of=store_of[served],
            direct_s=direct_s[served],
            store_lat=store_lat,
            store_lon=store_lon,
        )


class Day:
    """``orders`` open orders and ``riders`` riders on ``streets``, decision after decision."""

    def __init__(self, streets: Streets, orders: int, riders: int, seed: int) -> None:
        self._streets = streets
        self._random = np.random.default_rng(seed)
        self._open_count = orders
        self._made = 0
        self.now_s = 0.0
        self._orders: dict[str, tuple[Order, int]] = {}
        """By id, with the door; an order's place is set when a snapshot is taken."""
        self._arrive(self._random.uniform(-PICK_S[1], 0.0, orders))
        busy = self._random.random(riders) >= IDLE_SHARE
        free_s = np.where(busy, self._random.uniform(0.0, BUSY_S, riders), -1.0)
        self._riders = {
            f"rider-{n:05}": (float(at), int(door))
            for n, (at, door) in enumerate(
                zip(free_s, self._random.integers(len(streets.lat), size=riders), strict=True)
            )
        }

    def snapshot(
        self, parameters: Parameters, deadline_s: float, previous: Plan | None
    ) -> Snapshot:
        """The question of this moment, travel times gathered from the city's own."""
        streets = self._streets
        stores = len(streets.store_lat)
        order_doors = np.array([door for _, door in self._orders.values()], dtype=np.intp)
        rider_doors = np.array([door for _, door in self._riders.values()], dtype=np.intp)
        doors = np.concatenate([order_doors, rider_doors])
        travel = self._travel(
            np.concatenate([streets.store_lat, streets.lat[doors]]),
            np.concatenate([streets.store_lon, streets.lon[doors]]),
            np.concatenate(
                [
                    np.arange(stores),
                    streets.store_of[order_doors],
                    np.full(rider_doors.size, NO_STORE),
                ]
            ),
        )
        first_rider = stores + len(self._orders)
        return Snapshot(
            now_s=self.now_s,
            epoch_s=EPOCH_S,
            dropoff_service_s=60.0,
            orders=tuple(
                replace(order, place=stores + n)
                for n, (order, _) in enumerate(self._orders.values())
            ),
            riders=tuple(
                Rider(
                    rider_id=rider_id,
                    place=first_rider + n,
                    free_at_s=free_s,
                    shift_start_s=0.0,
                    shift_end_s=_SHIFT_S,
                )
                for n, (rider_id, (free_s, _)) in enumerate(self._riders.items())
            ),
            stores=tuple(Store(store_id=f"store-{n:03}", place=n) for n in range(stores)),
            travel=travel,
            parameters=parameters,
            previous=previous,
            deadline_s=deadline_s,
        )

    def commit(self, plan: Plan) -> None:
        """Give the trips out, let an epoch pass and as many new orders come in."""
        for trip in plan.trips:
            door = self._orders[trip.order_ids[-1]][1]
            self._riders[trip.rider_id] = (trip.stops[-1].planned_departure_s, door)
            for order_id in trip.order_ids:
                del self._orders[order_id]
        self.now_s += EPOCH_S
        missing = self._open_count - len(self._orders)
        self._arrive(self.now_s + self._random.uniform(-EPOCH_S, 0.0, missing))

    def _travel(
        self, lat: NDArray[np.float64], lon: NDArray[np.float64], store_of: NDArray[np.intp]
    ) -> TravelBlocks:
        times = self._streets.times
        rows = times.rows_of(lat, lon)

        def between(start: NDArray[np.intp], end: NDArray[np.intp]) -> NDArray[np.float32]:
            return times.between_rows(
                rows[start], lat[start], lon[start], rows[end], lat[end], lon[end]
            )

        return TravelBlocks.gather(store_of, np.arange(len(self._streets.store_lat)), between)

    def _arrive(self, placed_s: NDArray[np.float64] | Sequence[float]) -> None:
        streets = self._streets
        for at in placed_s:
            door = int(self._random.integers(len(streets.lat)))
            order_id = f"order-{self._made:07}"
            self._made += 1
            order = Order(
                order_id=order_id,
                store_id=f"store-{streets.store_of[door]:03}",
                place=0,
                placed_at_s=float(at),
                ready_at_s=float(at) + float(self._random.uniform(*PICK_S)),
                ready_spread_s=20.0,
                promised_by_s=float(at) + PROMISE_S + float(streets.direct_s[door]),
                weight_g=int(self._random.integers(500, 6_000)),
                volume_ml=int(self._random.integers(1_000, 12_000)),
            )
            self._orders[order_id] = (order, door)
