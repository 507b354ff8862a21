"""Low stock is told once, alerts fire once, and what is wrong in the live layer is found."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from kit.db import Database
from kit.redis import connect
from kit.relay import relay_batch
from server import availability_metrics
from server.consumers import CONSUMERS
from server.verify import availability_check
from server.workers.availability import AvailabilityFollower, DriftWatch
from stores import (
    availability_drift,
    availability_lag,
    availability_redis,
    service,
    shelf_life,
    watch,
)
from stores.availability_drift import DriftKind, judge
from stores.availability_redis import Projected, key_of
from stores.errors import AlertNotFound, InStock, StockNotFound, TooManyAlerts
from tests.http_support import make_services
from tests.order_support import Shop, open_shop
from tests.stock_support import events
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture
async def database(fresh_database: Database) -> Database:
    """One whose stores are all this test's."""
    return fresh_database


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk"), make_draft("Curd")], units=10)


@pytest.fixture
async def live(redis: Redis) -> Redis:
    """The live layer, without what other tests have measured."""
    await redis.delete(availability_lag.KEY, availability_metrics.DRIFT_KEY)
    return redis


async def adjust(database: Database, made: MadeStore, delta: int, name: str = "Milk") -> None:
    async with database.begin() as conn:
        await service.adjust_stock(conn, made.store.id, made.skus[name], delta, "test", "usr_m")


async def test_low_stock_is_told_once_until_it_has_risen(
    database: Database, made: MadeStore
) -> None:
    """At the threshold an event; none while it stays low; another after it has risen and sunk."""
    milk, store_id = made.skus["Milk"], made.store.id
    told = []
    for delta in (-6, -1, -1, +1, +7, -8):
        await adjust(database, made, delta)
        told.append(await watch.look(database))
    assert told == [(0, 0), (1, 0), (0, 0), (0, 0), (0, 0), (1, 0)]
    assert await events(database, store_id, "stock.low") == [
        {"sku_id": milk, "available": 3, "threshold": 3},
        {"sku_id": milk, "available": 2, "threshold": 3},
    ]
    async with database.begin() as conn:
        (low,) = await watch.list_low(conn, store_id, None, 10)
    assert (low["name"], low["available"], low["threshold"]) == ("Milk", 2, 3)


async def test_a_product_may_be_low_earlier_than_its_store_says(
    database: Database, made: MadeStore
) -> None:
    """The product's threshold wins over the store's; what was never stocked is not low."""
    store_id = made.store.id
    async with database.begin() as conn:
        await shelf_life.set_product_rules(
            conn, store_id, made.skus["Milk"], low_stock_at=10, expiry_block_days=None
        )
    other = await make_store(database, [make_draft("Ghee")], units={"Ghee": 0})
    assert await watch.look(database) == (1, 0)
    assert [e["sku_id"] for e in await events(database, store_id, "stock.low")] == [
        made.skus["Milk"]
    ]
    assert await events(database, other.store.id, "stock.low") == []


async def test_reserved_units_count_as_gone(database: Database, made: MadeStore) -> None:
    async with database.begin() as conn:
        await reserve(conn, made.store.id, made.skus["Milk"], 8)
    assert await watch.look(database) == (1, 0)


async def test_an_alert_fires_once_when_the_product_is_back(
    database: Database, made: MadeStore
) -> None:
    """Nothing while it is out, one event when it is back, and a row that says when."""
    milk, store_id = made.skus["Milk"], made.store.id
    await adjust(database, made, -10)
    async with database.begin() as conn:
        first = await watch.sign_up(conn, "usr_a", store_id, milk, 5)
        again = await watch.sign_up(conn, "usr_a", store_id, milk, 5)
        await watch.sign_up(conn, "usr_b", store_id, milk, 5)
    assert first["id"] == again["id"]
    assert (await watch.look(database))[1] == 0
    await adjust(database, made, 4)
    assert [(await watch.look(database))[1] for _ in range(2)] == [2, 0]
    (event,) = await events(database, store_id, "stock.back")
    assert (event["sku_id"], event["available"], len(event["alert_ids"])) == (milk, 4, 2)
    async with database.begin() as conn:
        (mine,) = await watch.list_alerts(conn, "usr_a", None, 10)
    assert mine["fired_at"] is not None
    assert (mine["id"], mine["in_stock"], mine["name"]) == (first["id"], True, "Milk")


async def test_alerts_are_bounded_and_can_be_given_up(database: Database, made: MadeStore) -> None:
    """So many at a time, none for what is there, none of somebody else's."""
    milk, curd, store_id = made.skus["Milk"], made.skus["Curd"], made.store.id
    await adjust(database, made, -10)
    await adjust(database, made, -10, "Curd")
    async with database.begin() as conn:
        alert = await watch.sign_up(conn, "usr_a", store_id, milk, 1)
        with pytest.raises(TooManyAlerts):
            await watch.sign_up(conn, "usr_a", store_id, curd, 1)
        with pytest.raises(AlertNotFound):
            await watch.give_up(conn, "usr_b", str(alert["id"]))
        await watch.give_up(conn, "usr_a", str(alert["id"]))
        await watch.sign_up(conn, "usr_a", store_id, curd, 1)
        with pytest.raises(StockNotFound):
            await watch.sign_up(conn, "usr_a", store_id, "sku_none", 9)
    await adjust(database, made, 1)
    async with database.begin() as conn:
        with pytest.raises(InStock):
            await watch.sign_up(conn, "usr_a", store_id, milk, 9)


@pytest.mark.parametrize(
    ("before", "now", "redis", "kind"),
    [
        (Projected(3, 5), Projected(3, 5), Projected(3, 5), None),
        (Projected(3, 5), Projected(3, 5), Projected(3, 6), DriftKind.DIFFERENT),
        (Projected(3, 5), Projected(4, 6), Projected(3, 6), DriftKind.DIFFERENT),
        (Projected(3, 5), Projected(4, 6), Projected(3, 5), None),
        (Projected(3, 5), Projected(6, 1), Projected(5, 9), None),
        (Projected(3, 5), Projected(4, 6), Projected(2, 5), DriftKind.STALE),
        (Projected(3, 5), Projected(3, 5), None, DriftKind.STALE),
        (Projected(3, 5), Projected(4, 6), Projected(9, 6), DriftKind.AHEAD),
    ],
)
def test_only_what_stays_wrong_has_drifted(
    before: Projected, now: Projected, redis: Projected | None, kind: DriftKind | None
) -> None:
    """What is on its way is not drift; another figure of a version, an old or a future one is."""
    assert judge(before, now, redis) is kind


async def test_drift_turns_verify_red_and_is_mended(
    database: Database, live: Redis, made: MadeStore
) -> None:
    """Wrong figures of all three kinds are found, counted, and put right at the second look."""
    store_id = made.store.id
    milk, curd = made.skus["Milk"], made.skus["Curd"]
    async with database.begin() as conn:
        await availability_redis.rebuild(conn, live, store_id)
    assert (await availability_check(database, live, 0.0)).broken_rows == 0
    true = {sku: await live.hget(key_of(store_id), sku) for sku in (milk, curd)}
    services = make_services(database, live)
    for wrong in ("2:7", "99:10", "1:10"):
        await live.hset(key_of(store_id), milk, wrong)
        red = await availability_check(database, live, 0.0)
        assert (red.broken_rows, red.examples[0].split()[0]) == (1, f"{store_id}/{milk}")
        drift_watch = DriftWatch()
        await drift_watch(services)
        await drift_watch(services)
        assert {sku: await live.hget(key_of(store_id), sku) for sku in (milk, curd)} == true
    assert (await availability_check(database, live, 0.0)).broken_rows == 0
    await availability_metrics.read_metrics(live)
    assert {kind: _drifts(kind) for kind in DriftKind} == dict.fromkeys(DriftKind, 1.0)


def _drifts(kind: DriftKind) -> float | None:
    return REGISTRY.get_sample_value("darkstore_availability_drifts_total", {"kind": kind.value})


async def test_a_store_that_redis_does_not_hold_has_not_drifted(
    database: Database, live: Redis, made: MadeStore
) -> None:
    """Reads of it go to Postgres; and without Redis the check is skipped, not red."""
    assert await availability_drift.find(database, live, made.store.id, 0.0) == []
    nobody = connect("redis://127.0.0.1:1/0")
    try:
        check = await availability_check(database, nobody, 0.0)
    finally:
        await nobody.aclose()
    assert (check.broken_rows, check.skipped) == (0, "Redis: ConnectionError")


async def test_the_lag_of_the_live_layer_is_measured(shop: Shop, live: Redis) -> None:
    """Every stock event leaves its lag; the age is that of the last round that left nothing."""
    (milk,) = await shop.stock(5)
    store_id, services = shop.place.store.id, make_services(shop.database, live, clock=shop.clock)
    follower = AvailabilityFollower(services)
    await availability_metrics.read_metrics(live)
    assert math.isnan(_age())
    await shop.place_order({milk.sku_id: 2})
    async with shop.database.begin() as conn:
        await service.adjust_stock(conn, store_id, milk.sku_id, -1, "test", "usr_m")
    began_s = time.time()
    relayed = await relay_batch(shop.database, CONSUMERS)
    await follower.follow(relayed, began_s)
    held = await availability_redis.read(live, store_id, [milk.sku_id])
    assert held == {milk.sku_id: 2}
    await availability_metrics.read_metrics(live)
    assert REGISTRY.get_sample_value("darkstore_availability_lag_seconds_count") == 2.0
    assert 0.0 <= _age() < 5.0


def _age() -> float:
    found = REGISTRY.get_sample_value("darkstore_availability_age_seconds")
    assert found is not None
    return found


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)
