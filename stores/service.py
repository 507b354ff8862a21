"""Use cases on stores and their stock.  Functions that take ``conn`` never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point, distance_m
from kit.db import Database
from kit.errors import Invalid
from kit.ids import is_id
from stores import availability_redis, repository, stock
from stores.errors import CityNotFound, CursorInvalid, StoreNotFound
from stores.layout import ShelvedProduct, lay_out
from stores.repository import City, Delivery, StockLine, Store
from stores.stock import Grounds, MovementKind, StockCount

REASON_MAX_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class LiveAvailability:
    """Units that a store can still promise: from Redis within a deadline, else from Postgres."""

    database: Database
    redis: Redis
    deadline_s: float

    async def __call__(self, store_id: str, sku_ids: Sequence[str]) -> Mapping[str, int]:
        """Units of each product, 0 for one that the store does not carry."""
        if not sku_ids:
            return {}
        units = await availability_redis.read(self.redis, store_id, sku_ids, self.deadline_s)
        if units is not None:
            return units
        async with self.database.begin() as conn:
            return await availability_redis.from_database(conn, store_id, sku_ids)


@dataclass(frozen=True, slots=True)
class NearStore:
    """A store and how far it is in a straight line, None when nobody said from where."""

    store: Store
    distance_m: float | None


async def get_city(conn: AsyncConnection, city_id: str) -> City:
    """Raises ``CityNotFound``."""
    city = await repository.find_city(conn, city_id) if is_id(city_id, "cty") else None
    if city is None:
        raise CityNotFound("There is no city with this id; GET /v1/cities lists them.")
    return city


async def get_store(conn: AsyncConnection, store_id: str) -> Store:
    """Raises ``StoreNotFound``."""
    store = await repository.find_store(conn, store_id) if is_id(store_id, "sto") else None
    if store is None:
        raise StoreNotFound("There is no store with this id; GET /v1/stores lists them.")
    return store


async def stores_near(conn: AsyncConnection, point: Point | None) -> list[NearStore]:
    """All stores, the nearest first; in the order of their ids when there is no point."""
    stores = await repository.list_stores(conn)
    if point is None:
        return [NearStore(store, None) for store in stores]
    near = [NearStore(store, distance_m(point, Point(store.lat, store.lon))) for store in stores]
    return sorted(near, key=lambda found: (found.distance_m or 0.0, found.store.id))


async def pause(conn: AsyncConnection, store_id: str, reason: str) -> Store:
    """Take no more orders; those that are placed go on.  Raises ``StoreNotFound``."""
    await get_store(conn, store_id)
    await repository.set_open(conn, store_id, reason)
    return await get_store(conn, store_id)


async def resume(conn: AsyncConnection, store_id: str) -> Store:
    """Take orders again.  Raises ``StoreNotFound``."""
    await get_store(conn, store_id)
    await repository.set_open(conn, store_id, None)
    return await get_store(conn, store_id)


async def carry(
    conn: AsyncConnection, store_id: str, products: Sequence[ShelvedProduct]
) -> list[str]:
    """Give a bin and an empty stock row to every product that the store has not carried so far.

    Returns the ids of those products.  What is carried already stays where it is.
    """
    carried = await repository.occupied_bins(conn, store_id)
    new = [product for product in products if product.sku_id not in carried]
    placements = lay_out(new, await repository.bin_codes(conn, store_id))
    return await repository.put_on_shelves(conn, store_id, placements)


async def receive_stock(
    conn: AsyncConnection,
    store_id: str,
    sku_id: str,
    quantity: int,
    expires_on: date | None,
    actor: str,
) -> StockCount:
    """A delivery becomes a lot.  Raises ``StockNotFound`` when the store has no bin for it."""
    if quantity <= 0:
        raise Invalid("A delivery has at least one unit.")
    await stock.lock_one(conn, store_id, sku_id)
    await repository.receive(conn, store_id, [Delivery(sku_id, quantity, expires_on)], actor)
    return (await stock.announce(conn, store_id, [sku_id]))[sku_id]


async def adjust_stock(
    conn: AsyncConnection, store_id: str, sku_id: str, delta: int, reason: str, actor: str
) -> StockCount:
    """Correct a count by ``delta`` units, found (positive) or gone (negative).

    Raises ``StockNotFound``, and ``StockReserved`` when fewer units would be left than orders
    have been promised: those orders have to be picked short first.
    """
    if delta == 0:
        raise Invalid("An adjustment changes the count: delta is not 0.")
    stock.check_free(await stock.lock_one(conn, store_id, sku_id), -delta)
    grounds = Grounds(actor, reason.strip()[:REASON_MAX_CHARACTERS])
    await stock.correct(conn, store_id, sku_id, delta, MovementKind.ADJUSTMENT, grounds)
    return (await stock.announce(conn, store_id, [sku_id]))[sku_id]


async def list_stock(
    conn: AsyncConnection, store_id: str, q: str | None, cursor: str | None, limit: int
) -> tuple[list[StockLine], str | None]:
    """A page of a store's stock for its staff.  Raises ``CursorInvalid``."""
    if cursor is not None and not is_id(cursor, "sku"):
        raise CursorInvalid("Start the list again without a cursor.")
    return await repository.list_stock(conn, store_id, q, cursor, limit)
