"""Rounds, and what ops are told of orders, riders and what is to come."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from sqlalchemy import text

from geo.distances import Point
from kit.db import Database
from kit.errors import NotFound
from orders import supply
from orders.supply_model import assess
from server.supply import SupplyRounds, balance_city, forget_old_supply
from server.supply_metrics import GROWTH, read_supply
from tests.supply_support import Town, open_town


@pytest.fixture
async def town(database: Database) -> Town:
    return await open_town(database)


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
