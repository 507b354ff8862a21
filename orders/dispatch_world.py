"""What the database knows for one decision: open orders, riders on shift, recent demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point, distance_m
from kit.sql import load
from orders.model import DeliveryState
from orders.territory import Territory
from riders.leases import partition_id
from riders.locations import RiderFix

_ORDERS = load("orders", "dispatch_orders")
_RIDERS = load("orders", "dispatch_riders")
_UNMANNED = load("orders", "dispatch_unmanned")
_DEMAND = load("orders", "recent_demand")

# How far back orders tell what the next ones may look like.
DEMAND_WINDOW_S = 1800.0

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Partition:
    """A city, or a part of one: what one dispatcher decides about at a time.

    A store belongs to one part; a rider to that of the trip's store, and without a trip to that of
    the store which is nearest.
    """

    city_id: str
    part: int
    store_ids: frozenset[str]

    @property
    def id(self) -> str:
        return partition_id(self.city_id, self.part)


def partitions(territory: Territory) -> list[Partition]:
    """Every partition that has a store, in the order of their ids."""
    stores: dict[tuple[str, int], set[str]] = {}
    for store in territory.stores.values():
        stores.setdefault((store.city_id, store.part), set()).add(store.store_id)
    return [
        Partition(city_id, part, frozenset(found))
        for (city_id, part), found in sorted(stores.items())
    ]


@dataclass(frozen=True, slots=True)
class World:
    """Rows as they were read at one moment, by id.

    orders: without a rider. trip_orders: offered or accepted, and not collected. riders: on shift,
    ``trip`` is what they are on. demand: orders of the last while. fixes: where riders are.
    queues: riders who stand at a store, first come first. pins: the only rider who may have an
    order. excluded: riders who may not have an order, beside those who declined it.
    """

    city_id: str
    orders: Mapping[str, Any]
    riders: Mapping[str, Any]
    fixes: Mapping[str, RiderFix]
    trip_orders: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    demand: Sequence[Any] = ()
    queues: Mapping[str, Sequence[str]] = field(default_factory=lambda: _NONE)
    pins: Mapping[str, str] = field(default_factory=lambda: _NONE)
    excluded: Mapping[str, frozenset[str]] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Rows:
    """What one transaction read for a partition; riders are those of the whole city."""

    orders: Mapping[str, Any]
    trip_orders: Mapping[str, Any]
    riders: Mapping[str, Any]
    demand: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Unmanned:
    """Orders of a partition in whose city nobody is on shift: without a rider, and in all."""

    unassigned: int
    orders: int


async def unmanned(pool: Pool, partition: Partition) -> Unmanned | None:
    """What waits for riders to come; None when there are some.

    Asked first: without riders there is nothing to decide, however many orders wait, and reading
    four thousand of them takes Postgres 80 ms.
    """
    row = await pool.fetchrow(_UNMANNED.text, partition.city_id, sorted(partition.store_ids))
    return None if row is None else Unmanned(row["unassigned"], row["all"])


async def read_rows(conn: AsyncConnection, partition: Partition) -> Rows:
    """Everything about a partition that Postgres knows."""
    stores = sorted(partition.store_ids)
    found = await _ORDERS.all(conn, partition.city_id, stores)
    free = {row.id: row for row in found if row.delivery_status == DeliveryState.UNASSIGNED}
    riders = {row.id: row for row in await _RIDERS.all(conn, partition.city_id)}
    # Where there is nothing to plan nobody looks ahead.
    ahead = bool(free and riders)
    return Rows(
        orders=free,
        trip_orders={row.id: row for row in found if row.id not in free},
        riders=riders,
        demand=await _DEMAND.all(conn, partition.city_id, stores, DEMAND_WINDOW_S) if ahead else (),
    )


def of_partition(
    riders: Mapping[str, Any],
    fixes: Mapping[str, RiderFix],
    partition: Partition,
    territory: Territory,
) -> dict[str, Any]:
    """The riders of a city who belong to a partition; nobody knows where the others are."""
    stores = [one for one in territory.stores.values() if one.city_id == partition.city_id]
    whole = all(store.store_id in partition.store_ids for store in stores)
    mine: dict[str, Any] = {}
    for rider_id, row in riders.items():
        fix = fixes.get(rider_id)
        if fix is None:
            continue
        if row.trip is not None:
            store_id = row.trip["store_id"]
        elif whole:
            mine[rider_id] = row
            continue
        else:
            here = Point(fix.lat, fix.lon)
            near = min(stores, key=lambda store: (distance_m(here, store.point), store.store_id))
            store_id = near.store_id
        if store_id in partition.store_ids:
            mine[rider_id] = row
    return mine
