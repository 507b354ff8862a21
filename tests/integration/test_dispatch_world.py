"""What the engine is asked in production: riders of every kind, trips that may grow, parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from prometheus_client import generate_latest

from dispatch.plan import plan
from dispatch.snapshot import Snapshot
from geo.distances import Point
from kit.db import Database
from orders.dispatch_snapshot import DROPOFF_SERVICE_S, ask
from orders.dispatch_world import (
    Partition,
    Unmanned,
    World,
    of_partition,
    partitions,
    read_rows,
    unmanned,
)
from orders.territory import StorePlace
from riders import leases
from riders.locations import RiderFix
from server.dispatch_figures import Figures, add
from server.dispatch_gauges import FIGURES, read_dispatch_gauges
from tests.addresses import Addresses
from tests.order_support import Shop, open_shop
from tests.support import new_database, opened_database


@pytest.fixture(scope="module")
async def own_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database


@pytest.fixture
async def shop(own_database: Database) -> Shop:
    return await open_shop(own_database)


def fix_of(shop: Shop, rider_id: str, north: float = 0.001, age_s: float = 0.0) -> RiderFix:
    """So many degrees north of the store, heard so long ago."""
    store = shop.place.store
    t_ms = round((shop.clock.now_s() - age_s) * 1000)
    return RiderFix(rider_id, shop.place.city.id, t_ms, store.lat + north, store.lon)


async def look(shop: Shop, *fixes: RiderFix) -> World:
    (partition,) = partitions(shop.territory)
    async with shop.database.begin() as conn:
        rows = await read_rows(conn, partition)
    by_rider = {fix.rider_id: fix for fix in fixes}
    mine = of_partition(rows.riders, by_rider, partition, shop.territory)
    return World(partition.city_id, rows.orders, mine, by_rider, rows.trip_orders, rows.demand)


def asked(shop: Shop, world: World, deadline_s: float = 1.0) -> Snapshot:
    question = ask(world, shop.territory, shop.rider_settings, shop.clock.now(), 5.0, deadline_s)
    assert len(question.points) == question.snapshot.travel.places
    return question.snapshot


def other_rider(shop: Shop) -> str:
    rider_id = shop.place.riders[1].rider_id
    assert rider_id is not None
    return rider_id


async def test_a_free_rider_and_an_open_order(shop: Shop) -> None:
    """Both are in the question, with the demand of the last while and whole seconds between."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    snapshot = asked(shop, await look(shop, fix_of(shop, shop.rider_id)))
    assert [order.order_id for order in snapshot.orders] == [order_id]
    (rider,) = snapshot.riders
    assert (rider.rider_id, rider.trip, rider.free_at_s) == (shop.rider_id, None, snapshot.now_s)
    assert [one.order_id for one in snapshot.recent] == [order_id]
    way_s = snapshot.travel.seconds_between(rider.place, snapshot.orders[0].place)
    assert way_s == np.rint(way_s)
    assert way_s > 0
    assert plan(snapshot).trips[0].order_ids == (order_id,)


async def test_a_trip_that_is_only_offered_does_not_grow(shop: Shop) -> None:
    """Its rider is on it for the engine, and nothing may be added."""
    order_id = await shop.order_at("offered")
    snapshot = asked(shop, await look(shop, fix_of(shop, shop.rider_id)))
    (rider,) = snapshot.riders
    assert rider.trip is not None
    assert (rider.trip.order_ids, rider.trip.may_add) == ((order_id,), False)
    assert [order.order_id for order in snapshot.trip_orders] == [order_id]


async def test_an_order_joins_a_trip_that_was_accepted(shop: Shop) -> None:
    """At the counter the engine adds it, and the plan can be committed as it is."""
    first = await shop.order_at("at_store")
    second = await shop.order_at("packed")
    snapshot = asked(shop, await look(shop, fix_of(shop, shop.rider_id)))
    (rider,) = snapshot.riders
    assert rider.trip is not None
    assert rider.trip.may_add
    (trip,) = plan(snapshot).trips
    assert trip.extends
    assert set(trip.order_ids) == {first, second}
    await shop.commit(trip)
    assert set((await shop.trip(second)).kept_order_ids) == {first, second}


async def test_a_rider_at_the_counter_has_no_way_left(shop: Shop) -> None:
    """Wherever the phone says that they are."""
    order_id = await shop.order_at("at_store")
    far = fix_of(shop, shop.rider_id, north=0.05)
    snapshot = asked(shop, await look(shop, far))
    (rider,) = snapshot.riders
    assert rider.trip is not None
    assert rider.trip.order_ids == (order_id,)
    assert rider.trip.arrives_at_s == snapshot.now_s


async def test_who_delivers_is_free_at_the_last_door(shop: Shop) -> None:
    """Where and when the stops that are left are done; then the next trip can be planned."""
    order_id = await shop.order_at("collected")
    order = await shop.order(order_id)
    world = await look(shop, fix_of(shop, shop.rider_id, north=0.0))
    question = ask(world, shop.territory, shop.rider_settings, shop.clock.now(), 5.0, 1.0)
    (rider,) = question.snapshot.riders
    assert rider.trip is None
    assert question.points[rider.place] == Point(order["lat"], order["lon"])
    way_s = rider.free_at_s - question.snapshot.now_s - DROPOFF_SERVICE_S
    assert 30.0 < way_s < 300.0
    assert question.snapshot.trip_orders == ()


async def test_a_silent_phone_and_an_unknown_place_get_nothing(shop: Shop) -> None:
    """Nobody knows where these riders are."""
    await shop.order_at("packed")
    await shop.start_shift()
    await shop.start_shift(other_rider(shop))
    silent = fix_of(shop, shop.rider_id, age_s=shop.rider_settings.silent_after_s + 5)
    assert asked(shop, await look(shop, silent)).riders == ()


async def test_pins_and_exclusions_reach_the_engine(shop: Shop) -> None:
    """A pinned order has one rider, and an excluded one none of those."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    world = await look(shop, fix_of(shop, shop.rider_id))
    (pinned,) = asked(shop, replace(world, pins={order_id: "rdr_other"})).orders
    assert pinned.pinned_rider == "rdr_other"
    excluded = replace(world, excluded={order_id: frozenset({shop.rider_id})})
    assert plan(asked(shop, excluded)).trips == ()


async def test_without_anybody_on_shift_orders_are_counted_and_not_read(shop: Shop) -> None:
    """As many as would be read; a rider who comes, or ends a break, has them read."""
    (partition,) = partitions(shop.territory)
    pool = shop.database.pool
    assert await unmanned(pool, partition) == Unmanned(0, 0)
    for stage in ("packed", "picking", "confirmed"):
        await shop.order_at(stage)
    later = await shop.order_at("confirmed")
    await pool.execute("UPDATE orders SET pick_from = now() + interval '1 h' WHERE id = $1", later)
    await pool.execute("DELETE FROM pick_tasks WHERE order_id = $1", later)
    async with shop.database.begin() as conn:
        assert len((await read_rows(conn, partition)).orders) == 3
    assert await unmanned(pool, partition) == Unmanned(3, 3)
    await shop.start_shift()
    assert await unmanned(pool, partition) is None
    pause = (
        "UPDATE riders SET paused_at = now(), paused_until = now() + $2,"
        " pause_reason = 'a break' WHERE id = $1"
    )
    await pool.execute(pause, shop.rider_id, timedelta(hours=1))
    assert await unmanned(pool, partition) == Unmanned(3, 3)
    await pool.execute(pause, shop.rider_id, timedelta(0))
    assert await unmanned(pool, partition) is None


async def test_a_split_city_shares_its_riders_by_the_nearest_store(shop: Shop) -> None:
    """Those on a trip belong to the part of its store, wherever they are."""
    order_id = await shop.order_at("assigned")
    await shop.start_shift(other_rider(shop))
    store = shop.territory.stores[shop.place.store.id]
    north = StorePlace(
        "sto_north",
        store.city_id,
        "North",
        Point(store.point.lat + 0.05, store.point.lon),
        "INR",
        1,
    )
    split = replace(shop.territory, stores={store.store_id: store, "sto_north": north})
    here, there = partitions(split)
    assert (here.id, there.id) == (store.city_id, f"{store.city_id}/1")
    async with shop.database.begin() as conn:
        rows = await read_rows(conn, here)
        none = await read_rows(conn, there)
    assert (list(rows.trip_orders), list(none.trip_orders)) == ([order_id], [])
    fixes = {
        rider_id: fix_of(shop, rider_id, north=0.049)
        for rider_id in (shop.rider_id, other_rider(shop))
    }
    assert set(of_partition(rows.riders, fixes, here, split)) == {shop.rider_id}
    assert set(of_partition(rows.riders, fixes, there, split)) == {other_rider(shop)}


async def test_figures_add_up_under_the_lease_alone(shop: Shop) -> None:
    """What a dispatcher past its lease has counted is not added, and the gauges show the rest."""
    city_id, pool = shop.place.city.id, shop.database.pool
    partition = Partition(city_id, 0, frozenset({shop.place.store.id}))
    epoch = await leases.acquire(pool, city_id, city_id, "tests", 60.0)
    assert epoch is not None
    for seconds in (0.02, 0.3, 9.0):
        figures = Figures(orders_held=2)
        figures.decided(seconds)
        figures.counts["offered"] = 2
        figures.stale("rider_changed")
        figures.stale("no such reason")
        await add(shop.database, partition, epoch, figures)
        await add(shop.database, partition, epoch - 1, figures)
    await shop.order_at("delivered")
    await read_dispatch_gauges(shop.database, shop.territory)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in FIGURES.collect()
        for sample in family.samples
        if sample.labels["partition"] == city_id
    }
    name = "darkstore_dispatch"
    mine = ("partition", city_id)
    assert samples[f"{name}_decision_seconds_count", mine] == 3
    assert samples[f"{name}_decision_seconds_sum", mine] == pytest.approx(9.32)
    assert samples[f"{name}_decision_seconds_bucket", ("le", "0.5"), mine] == 2
    assert samples[f"{name}_trips_total", ("outcome", "offered"), mine] == 6
    assert samples[f"{name}_stale_total", mine, ("reason", "rider_changed")] == 3
    assert samples[f"{name}_stale_total", mine, ("reason", "changed")] == 3
    delivered = generate_latest().decode()
    assert f'darkstore_promise_kept_ratio{{city="{city_id}",zone="zon_test"}} 1.0' in delivered
    assert f'darkstore_offers_hour{{city="{city_id}",outcome="accepted"}} 1.0' in delivered
