"""A shop whose balance of orders and riders is taken by hand, at a time that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text

from dispatch.promise import PromiseRange
from geo.distances import Point
from kit.clock import Clock
from kit.db import Database
from kit.ids import new_id
from orders import quotes, supply
from orders.cancellation import cancel_as_staff
from orders.territory import StorePlace, Territory
from riders.locations import RiderFix
from server.supply import balance_city
from server.wiring import Services
from tests.http_support import make_services
from tests.order_support import Shop, open_shop


@dataclass
class Places:
    """Where riders are; None: the live layer is away."""

    points: dict[str, Point] | None = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    async def read(self, city_id: str, rider_ids: Sequence[str]) -> dict[str, RiderFix]:
        if self.points is None:
            raise RedisConnectionError("away")
        t_ms = round(self.clock.now_s() * 1000)
        return {
            rider_id: RiderFix(rider_id, city_id, t_ms, point.lat, point.lon)
            for rider_id, point in self.points.items()
            if rider_id in rider_ids
        }


@dataclass
class Known:
    territory: Territory

    async def get(self) -> Territory:
        return self.territory


@dataclass
class Town:
    """A shop whose rounds are taken by hand, at a time that the test moves."""

    shop: Shop
    services: Services
    places: Places
    clock: Clock

    @property
    def city_id(self) -> str:
        return self.shop.place.city.id

    @property
    def store_id(self) -> str:
        return self.shop.place.store.id

    async def round(self) -> None:
        assert await balance_city(self.services, self.shop.territory, self.city_id)

    async def rounds(self, count: int, apart_s: float = 30.0) -> None:
        """Rounds one after another, as if ``apart_s`` lay between two."""
        for _ in range(count):
            await self.round()
            await self.age(apart_s)

    async def age(self, seconds: float) -> None:
        """What was told is older by so much."""
        async with self.shop.database.begin() as conn:
            await conn.execute(
                text(
                    "UPDATE store_supply SET at = at - make_interval(secs => :s)"
                    " WHERE store_id = :store"
                ),
                {"s": seconds, "store": self.store_id},
            )

    async def report(self) -> dict[str, Any]:
        async with self.shop.database.begin() as conn:
            return await supply.report_of(conn, self.city_id)

    async def promise(self) -> PromiseRange:
        """What a customer round the corner is told now."""
        point = Point(self.shop.place.store.lat + 0.004, self.shop.place.store.lon)
        async with self.shop.database.begin() as conn:
            found = await quotes.serviceability(
                conn, self.shop.territory, self.shop.settings, point
            )
        assert found.promise is not None, found.reason
        return found.promise

    async def told(self) -> dict[str, Any]:
        rows = await self.shop.rows(
            "SELECT * FROM store_supply WHERE store_id = :id", id=self.store_id
        )
        return rows[0]

    async def wait(self, orders: int) -> None:
        """So many orders without a rider."""
        (product,) = await self.shop.stock(orders)
        for _ in range(orders):
            await self.shop.place_order({product.sku_id: 1})

    async def nobody_waits(self) -> None:
        """Nobody waits any more."""
        for row in await self.shop.rows(
            "SELECT id FROM orders WHERE store_id = :id", id=self.store_id
        ):
            async with self.shop.database.begin() as conn:
                await cancel_as_staff(conn, row["id"], "usr_staff", "test")

    async def events(self, stream: str, event_type: str) -> list[dict[str, Any]]:
        rows = await self.shop.rows(
            "SELECT data FROM outbox WHERE stream = :s AND type = :t ORDER BY seq",
            s=stream, t=event_type,
        )  # fmt: skip
        return [row["data"] for row in rows]

    async def on_shift(self, *points: Point) -> list[str]:
        """Riders on shift for an hour already, at these points."""
        made = []
        for n, point in enumerate(points):
            member = self.shop.place.riders[n]
            assert member.rider_id is not None
            await self.shop.start_shift(member.rider_id)
            assert self.places.points is not None
            self.places.points[member.rider_id] = point
            made.append(member.rider_id)
        async with self.shop.database.begin() as conn:
            await conn.execute(
                text(
                    "UPDATE shifts SET started_at = started_at - interval '1 hour'"
                    " WHERE rider_id = ANY (:ids)"
                ),
                {"ids": made},
            )
        return made


async def open_town(database: Database) -> Town:
    shop = await open_shop(database)
    places = Places(clock=shop.clock)
    services = replace(
        make_services(database, clock=shop.clock),
        locations=places,  # type: ignore[arg-type]  # reads alone
        territory=Known(shop.territory),  # type: ignore[arg-type]  # reads alone
    )
    return Town(shop, services, places, shop.clock)


def with_far_store(town: Town) -> StorePlace:
    """Another store of the city, five minutes away."""
    mine = town.shop.place.store
    point = Point(mine.lat + 0.012, mine.lon)
    far = StorePlace(new_id("sto"), town.city_id, "Far", point, "INR")
    territory = town.shop.territory
    town.shop.territory = replace(territory, stores={**territory.stores, far.store_id: far})
    return far


async def add_store(town: Town, store: StorePlace) -> None:
    async with town.shop.database.begin() as conn:
        await conn.execute(
            text("INSERT INTO stores (id, city_id, name, lat, lon) VALUES (:i, :c, :n, :a, :o)"),
            {
                "i": store.store_id, "c": store.city_id, "n": store.name,
                "a": store.point.lat, "o": store.point.lon,
            },
        )  # fmt: skip
