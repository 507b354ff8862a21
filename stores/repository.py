"""Every query on cities, stores, zones, bins and stock (but those of pick tasks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import new_id
from kit.sql import json_parameter, load
from stores.layout import Placement
from stores.tables import bins, cities, stock, stores, zones

_RECEIVE = load("stores", "receive")
_PUT_ON_SHELVES = load("stores", "put_on_shelves")
_LIST_STOCK = load("stores", "list_stock")


@dataclass(frozen=True, slots=True)
class City:
    """A city; ``lat`` and ``lon`` of its centre in degrees."""

    id: str
    name: str
    currency: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Store:
    """A dark store; ``paused_reason`` says why it is not ``open``."""

    id: str
    city_id: str
    name: str
    lat: float
    lon: float
    open: bool
    paused_reason: str | None


@dataclass(frozen=True, slots=True)
class StoreZone:
    """What a store serves: a GeoJSON Polygon or MultiPolygon; a higher ``priority`` wins."""

    id: str
    store_id: str
    polygon: Mapping[str, object]
    priority: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """Units of one product that arrive; ``expires_on`` None: they keep."""

    sku_id: str
    quantity: int
    expires_on: date | None


@dataclass(frozen=True, slots=True)
class StockLine:
    """A product on a store's shelves; ``expires_on`` of the lot that expires first."""

    sku_id: str
    name: str
    brand: str | None
    unit: str
    barcode: str
    temperature: str
    bin: str
    on_hand: int
    reserved: int
    available: int
    expires_on: date | None
    blocked: int


async def add_city(conn: AsyncConnection, city: City) -> None:
    await conn.execute(
        insert(cities).values(
            id=city.id, name=city.name, currency=city.currency, lat=city.lat, lon=city.lon
        )
    )


async def list_cities(conn: AsyncConnection) -> list[City]:
    """All cities, oldest first."""
    rows = await conn.execute(select(cities).order_by(cities.c.id))
    return [City(row.id, row.name, row.currency, row.lat, row.lon) for row in rows]


async def find_city(conn: AsyncConnection, city_id: str) -> City | None:
    row = (await conn.execute(select(cities).where(cities.c.id == city_id))).first()
    return None if row is None else City(row.id, row.name, row.currency, row.lat, row.lon)


async def find_city_named(conn: AsyncConnection, name: str) -> City | None:
    """The oldest city of a name."""
    rows = await conn.execute(
        select(cities).where(cities.c.name == name).order_by(cities.c.id).limit(1)
    )
    row = rows.first()
    return None if row is None else City(row.id, row.name, row.currency, row.lat, row.lon)


async def add_store(
    conn: AsyncConnection, store: Store, polygon: Mapping[str, object], priority: int = 0
) -> None:
    """A store with the one zone that it serves, a GeoJSON Polygon or MultiPolygon."""
    await conn.execute(
        insert(stores).values(
            id=store.id,
            city_id=store.city_id,
            name=store.name,
            lat=store.lat,
            lon=store.lon,
            open=store.open,
            paused_reason=store.paused_reason,
        )
    )
    await conn.execute(
        insert(zones).values(
            id=new_id("zon"), store_id=store.id, polygon=dict(polygon), priority=priority
        )
    )


async def list_stores(conn: AsyncConnection, city_id: str | None = None) -> list[Store]:
    """The stores of a city, or all of them, oldest first."""
    query = select(stores).order_by(stores.c.id)
    if city_id is not None:
        query = query.where(stores.c.city_id == city_id)
    rows = await conn.execute(query)
    return [
        Store(row.id, row.city_id, row.name, row.lat, row.lon, row.open, row.paused_reason)
        for row in rows
    ]


async def find_store(conn: AsyncConnection, store_id: str) -> Store | None:
    row = (await conn.execute(select(stores).where(stores.c.id == store_id))).first()
    if row is None:
        return None
    return Store(row.id, row.city_id, row.name, row.lat, row.lon, row.open, row.paused_reason)


async def set_open(conn: AsyncConnection, store_id: str, paused_reason: str | None) -> bool:
    """Open a store (reason None) or pause it; False when there is no such store."""
    changed = await conn.execute(
        update(stores)
        .where(stores.c.id == store_id)
        .values(open=paused_reason is None, paused_reason=paused_reason)
    )
    return changed.rowcount == 1


async def list_zones(conn: AsyncConnection, city_id: str | None = None) -> list[StoreZone]:
    """The zones of a city's stores, or of all stores, oldest first."""
    query = select(zones).join(stores, stores.c.id == zones.c.store_id).order_by(zones.c.id)
    if city_id is not None:
        query = query.where(stores.c.city_id == city_id)
    rows = await conn.execute(query)
    return [StoreZone(row.id, row.store_id, row.polygon, row.priority) for row in rows]


async def occupied_bins(conn: AsyncConnection, store_id: str) -> dict[str, str]:
    """The bin of every product that a store carries: sku id to code."""
    rows = await conn.execute(
        select(stock.c.sku_id, stock.c.bin).where(stock.c.store_id == store_id)
    )
    return {row.sku_id: row.bin for row in rows}


async def bin_codes(conn: AsyncConnection, store_id: str) -> frozenset[str]:
    """Every bin of a store, occupied or not."""
    rows = await conn.execute(select(bins.c.code).where(bins.c.store_id == store_id))
    return frozenset(row.code for row in rows)


async def put_on_shelves(
    conn: AsyncConnection, store_id: str, placements: Sequence[Placement]
) -> list[str]:
    """Bins and empty stock rows for new products; returns the ids of those that are new."""
    rows = [
        {
            "sku_id": placement.sku_id,
            "bin": placement.bin.code,
            "temperature": placement.bin.temperature,
            "walk_order": placement.bin.walk_order,
        }
        for placement in placements
    ]
    return [row.sku_id for row in await _PUT_ON_SHELVES.all(conn, store_id, json_parameter(rows))]


async def receive(
    conn: AsyncConnection,
    store_id: str,
    deliveries: Sequence[Delivery],
    actor: str,
    receipt_id: str | None = None,
) -> None:
    """Each delivery becomes a lot.  Raises DS404 in Postgres for a product that is not carried."""
    rows = [
        {
            "sku_id": delivery.sku_id,
            "quantity": delivery.quantity,
            "lot_id": new_id("lot"),
            "expires_on": delivery.expires_on,
        }
        for delivery in deliveries
    ]
    await _RECEIVE.run(conn, store_id, json_parameter(rows), actor, receipt_id)


async def list_stock(
    conn: AsyncConnection, store_id: str, q: str | None, cursor: str | None, limit: int
) -> tuple[list[StockLine], str | None]:
    """A page of a store's stock and the cursor of the next page, None after the last."""
    words = (q or "").replace("\0", "").lower().split()
    rows = await _LIST_STOCK.all(conn, store_id, words, cursor, limit + 1)
    lines = [StockLine(*row) for row in rows[:limit]]
    return lines, lines[-1].sku_id if len(rows) > limit else None
