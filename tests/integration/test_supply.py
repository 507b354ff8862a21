"""Scarcity and abundance on a real database: what rounds tell quotes, ops and riders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text

from dispatch.promise import PromiseRange
from geo.distances import Point
from kit.clock import Clock
from kit.db import Database
from kit.errors import NotFound
from kit.ids import new_id
from orders import quotes, supply
from orders.cancellation import cancel_as_staff
from orders.errors import StorePaused
from orders.quotes import QuoteRequest, WantedLine, create_plain_quote
from orders.settings import OrderSettings
from orders.supply_model import assess
from orders.territory import StorePlace, Territory
from orders.views import quote_view
from riders import proposals
from riders.locations import RiderFix
from riders.proposals import ProposalStatus
from server.supply import SupplyRounds, balance_city, forget_old_supply
from server.supply_metrics import GROWTH, read_supply
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


@pytest.fixture
async def town(database: Database) -> Town:
    shop = await open_shop(database)
    places = Places(clock=shop.clock)
    services = replace(
        make_services(database, clock=shop.clock),
        locations=places,  # type: ignore[arg-type]  # reads alone
        territory=Known(shop.territory),  # type: ignore[arg-type]  # reads alone
    )
    return Town(shop, services, places, shop.clock)


async def test_a_shortage_makes_the_promise_grow_and_shrink_back(town: Town) -> None:
    """Two riders and twelve orders: quotes grow within minutes, and are as before afterwards."""
    store = town.shop.place.store
    await town.on_shift(*[Point(store.lat, store.lon)] * 2)
    await town.round()
    calm = await town.promise()
    await town.wait(6)
    await town.rounds(8)
    short = await town.promise()
    assert short.high_s >= calm.high_s + 600
    assert (await town.told())["growth_s"] >= 600
    await town.nobody_waits()
    await town.rounds(60)
    assert await town.promise() == calm
    assert (await town.told())["growth_s"] == 0


async def test_ops_are_told_what_is_missing(town: Town) -> None:
    """The report names waiting orders, riders needed and missing; the city hears of each change."""
    store = town.shop.place.store
    await town.on_shift(Point(store.lat, store.lon))
    await town.wait(8)
    await town.rounds(6)
    report = await town.report()
    assert report["orders_waiting"] == 8
    assert report["riders"] == {"on_shift": 1, "on_trip": 0, "idle": 1, "silent": 0}
    now = report["outlook"][0]
    assert now["in_s"] == 0
    assert now["missing"] >= 5
    assert now["needed"] == now["missing"] + 1
    (mine,) = report["stores"]
    assert mine["growth_s"] > 0
    assert mine["orders_expected"]["low"] <= mine["orders_expected"]["mean"]
    assert mine["cells"][0]["share"] == pytest.approx(1.0)
    events = await town.events(f"city:{town.city_id}", "supply.changed")
    assert events[-1]["growth_s"] == mine["growth_s"]
    assert all(a != b for a, b in pairwise(events))
    async with town.shop.database.begin() as conn:
        assert await supply.grown(conn, town.city_id) == [events[-1]]


async def test_when_an_order_would_take_hours_the_store_says_so(town: Town) -> None:
    """Beyond the limit no quote is made, with a cause; a slot later today is still sold."""
    store = town.shop.place.store
    await town.on_shift(Point(store.lat, store.lon))
    await town.wait(12)
    await town.rounds(20)
    assert (await town.told())["riders_short"]
    (product,) = await town.shop.stock(5)
    with pytest.raises(StorePaused) as refused:
        await town.shop.quote({product.sku_id: 1})
    assert refused.value.extra == {"cause": "riders_short"}
    plain = QuoteRequest(
        town.shop.customer_id, None, (WantedLine(product.sku_id, 1),),
        Point(store.lat, store.lon), "1 Test Street",
    )  # fmt: skip
    pool, settings = town.shop.database.pool, town.shop.settings
    assert await create_plain_quote(pool, town.shop.territory, settings, town.clock, plain) is None
    point = Point(store.lat, store.lon)
    async with town.shop.database.begin() as conn:
        found = await quotes.serviceability(conn, town.shop.territory, settings, point)
    assert found.reason == "store_paused"
    await town.nobody_waits()
    await town.rounds(40)
    assert await town.shop.quote({product.sku_id: 1})


async def test_what_was_told_lapses(town: Town) -> None:
    """When rounds stop, quotes go back to the plain promise by themselves."""
    plain = await town.promise()
    async with town.shop.database.begin() as conn:
        await conn.execute(
            text(
                "INSERT INTO store_supply VALUES (:id, 600, 600, true, darkstore_now(),"
                " darkstore_now() - interval '1 second')"
            ),
            {"id": town.store_id},
        )
    assert await town.promise() == plain


async def test_both_ways_to_a_quote_promise_the_same(town: Town) -> None:
    """The short way and the long one read the same growth."""
    (product,) = await town.shop.stock(5)
    async with town.shop.database.begin() as conn:
        await conn.execute(
            text(
                "INSERT INTO store_supply VALUES (:id, 600, 600, false, darkstore_now(),"
                " darkstore_now() + interval '1 hour')"
            ),
            {"id": town.store_id},
        )
    long_way = await town.shop.quote({product.sku_id: 1})
    request = QuoteRequest(
        town.shop.customer_id, None, (WantedLine(product.sku_id, 1),),
        Point(town.shop.place.store.lat + 0.004, town.shop.place.store.lon), "1 Test Street",
    )  # fmt: skip
    short_way = await create_plain_quote(
        town.shop.database.pool, town.shop.territory, town.shop.settings, town.clock, request
    )
    assert short_way is not None
    async with town.shop.database.begin() as conn:
        made = await quote_view(conn, long_way, town.shop.customer_id)
    assert short_way["promise"] == made["promise"]
    assert made["promise"]["low_s"] > 600


async def test_a_city_that_never_had_riders_keeps_the_plain_promise(town: Town) -> None:
    """Orders without anybody on shift say nothing of a shortage of riders."""
    await town.wait(3)
    plain = await town.promise()
    await town.rounds(10)
    assert (await town.told())["growth_s"] == 0
    assert await town.promise() == plain
    assert (await town.report())["outlook"][0]["missing"] > 0


async def test_without_the_live_layer_every_rider_counts_as_near(town: Town) -> None:
    """Redis is away: the balance is made all the same, and nobody is proposed anything."""
    store = town.shop.place.store
    await town.on_shift(*[Point(store.lat, store.lon)] * 2)
    town.places.points = None
    await town.wait(6)
    await town.rounds(8)
    report = await town.report()
    assert report["riders"]["idle"] == 2
    assert report["idle_riders"] == []
    assert (await town.told())["growth_s"] > 0


async def test_silent_phones_do_not_close_a_store(town: Town) -> None:
    """On shift and never heard of: the promise grows to its bound, and the store stays open."""
    await town.shop.start_shift()
    await town.wait(6)
    await town.rounds(20)
    told = await town.told()
    assert told["growth_s"] == OrderSettings().supply.growth_max_s
    assert not told["riders_short"]
    assert (await town.report())["riders"]["silent"] == 1


async def test_only_one_of_two_rounds_at_once_is_told(town: Town) -> None:
    """Two processes do the same round: one writes, the other steps back."""
    store = town.shop.place.store
    await town.on_shift(Point(store.lat, store.lon))
    await town.round()
    both = await asyncio.gather(
        *(balance_city(town.services, town.shop.territory, town.city_id) for _ in range(2))
    )
    assert sorted(both) in ([False, True], [True, True])
    async with town.shop.database.begin() as conn:
        facts = await supply.read(
            conn, town.city_id, [town.store_id], town.clock.now(), town.shop.settings.supply
        )
    outcome = assess(facts, {}, town.shop.territory, town.shop.settings.supply, 120.0)
    await town.round()
    async with town.shop.database.begin() as conn:
        late = await supply.tell(conn, facts, outcome, town.clock.now())
    assert not late


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


async def test_an_idle_rider_is_proposed_the_store_where_orders_wait(town: Town) -> None:
    """A rider at the quiet store hears of the other one, once, on the channel and by asking."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    await town.wait(3)
    await town.rounds(3)
    async with town.shop.database.begin() as conn:
        standing = await proposals.current(conn, rider_id)
    assert standing is not None
    assert standing["store_id"] == town.store_id
    assert standing["status"] == "open"
    events = await town.events(f"rider:{rider_id}", "rider.proposal")
    assert [event["proposal"]["id"] for event in events] == [standing["id"]]
    assert town.places.points is not None
    town.places.points[rider_id] = town.shop.territory.stores[town.store_id].point
    await town.round()
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is None
    events = await town.events(f"rider:{rider_id}", "rider.proposal")
    assert events[-1] == {"proposal": None}


async def test_a_rider_with_a_trip_is_proposed_nothing(town: Town) -> None:
    """Work ends the proposal that stood, and while it lasts there is no other."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    order_id = await town.shop.order_at("packed")
    await town.wait(3)
    await town.round()
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is not None
    await town.shop.offer(order_id, rider_id=rider_id)
    await town.rounds(3)
    rows = await town.shop.rows(
        "SELECT status FROM rider_proposals WHERE rider_id = :id", id=rider_id
    )
    assert [row["status"] for row in rows] == ["withdrawn"]
    async with town.shop.database.begin() as conn:
        new = proposals.NewProposal(rider_id, town.city_id, far.store_id, 100.0, 0.9, 60.0)
        later = town.clock.now() + timedelta(minutes=5)
        assert await proposals.make(conn, new, town.clock.now(), later) is None


async def test_who_dismisses_is_left_alone(town: Town) -> None:
    """Dismissed: no other proposal for a while; the answer may be said twice, not changed."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    await town.wait(3)
    await town.round()
    async with town.shop.database.begin() as conn:
        standing = await proposals.current(conn, rider_id)
    assert standing is not None
    proposal_id, now = str(standing["id"]), town.clock.now()
    for _ in range(2):
        async with town.shop.database.begin() as conn:
            left = await proposals.answer(
                conn, rider_id, proposal_id, ProposalStatus.DISMISSED, now
            )
        assert left is None
    async with town.shop.database.begin() as conn:
        with pytest.raises(NotFound):
            await proposals.answer(conn, rider_id, proposal_id, ProposalStatus.ACCEPTED, now)
    await town.rounds(3)
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is None


async def test_quarters_are_counted_once_and_bend_the_forecast(town: Town) -> None:
    """Orders of the quarters that are over are counted, quiet ones as nothing, and not twice."""
    await town.wait(4)
    async with town.shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE orders SET placed_at = placed_at - interval '40 minutes'"
                " WHERE store_id = :id"
            ),
            {"id": town.store_id},
        )
    for _ in range(2):
        async with town.shop.database.begin() as conn:
            await supply.record_demand(conn, [town.store_id], town.clock.now())
    rows = await town.shop.rows(
        "SELECT count(*) AS quarters, sum(orders) AS orders FROM store_demand WHERE store_id = :id",
        id=town.store_id,
    )
    assert rows == [{"quarters": 12, "orders": 4}]
    await town.on_shift(town.shop.territory.stores[town.store_id].point)
    before = await _expected(town)
    async with town.shop.database.begin() as conn:
        await conn.execute(
            text(
                "INSERT INTO store_demand SELECT :id, date_bin('15 minutes', darkstore_now(),"
                " 'epoch') - interval '7 days' + n * interval '15 minutes',"
                " CASE WHEN n > 0 THEN 60 ELSE 1 END FROM generate_series(-12, 9) n"
            ),
            {"id": town.store_id},
        )
    assert await _expected(town) > 5 * before


async def _expected(town: Town) -> float:
    await town.round()
    return float((await town.report())["orders_expected"]["mean"])


async def test_the_job_looks_after_every_city_that_has_anything(town: Town) -> None:
    """One call brings this city's report about, and the next one waits for its turn."""
    await town.on_shift(town.shop.territory.stores[town.store_id].point)
    job = SupplyRounds()
    await job(town.services)
    first = (await town.report())["at"]
    await job(town.services)
    assert (await town.report())["at"] == first
    async with town.shop.database.begin() as conn:
        await read_supply(conn)
    assert GROWTH.labels(town.store_id)._value.get() == 0
    await forget_old_supply(town.services)


async def test_a_city_without_a_report_is_not_found(town: Town) -> None:
    """Ops of a city where no round has been are told so."""
    async with town.shop.database.begin() as conn:
        with pytest.raises(NotFound):
            await supply.report_of(conn, town.city_id)
