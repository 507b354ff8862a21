"""Scarcity and abundance on a real database: what rounds tell quotes."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from geo.distances import Point
from kit.db import Database
from orders import quotes
from orders.errors import StorePaused
from orders.quotes import QuoteRequest, WantedLine, create_plain_quote
from orders.settings import OrderSettings
from orders.views import quote_view
from tests.supply_support import Town, open_town


@pytest.fixture
async def town(database: Database) -> Town:
    return await open_town(database)


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
