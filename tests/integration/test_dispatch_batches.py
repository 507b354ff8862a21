"""Trips that grow until the pickup, on a real database: numbers that stay, one arrival, one pay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit.db import Database
from kit.errors import IllegalTransition
from orders import batches, deliveries, offers
from orders.cancellation import cancel_as_staff
from orders.dispatching import pay_minor
from orders.errors import LeaseLost, StaleAssignment
from riders import leases
from riders.model import StopKind, StopStatus, Trip
from server.verify import verify_database
from tests.addresses import Addresses
from tests.order_support import Shop, open_shop
from tests.support import new_database, opened_database


@pytest.fixture(scope="module")
async def own_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """One database for this module, so that its last test can judge all that the others did."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database


@pytest.fixture
async def shop(own_database: Database) -> Shop:
    shop = await open_shop(own_database)
    await give_room(shop, 3)
    return shop


async def give_room(shop: Shop, orders: int) -> None:
    async with shop.database.begin() as conn:
        await conn.exec_driver_sql(
            "UPDATE riders SET capacity_orders = $1 WHERE id = $2", (orders, shop.rider_id)
        )


async def orders_of(shop: Shop, stages: list[str]) -> list[str]:
    (product,) = await shop.stock(50)
    return [await shop.order_at(stage, {product.sku_id: 1}) for stage in stages]


async def grow(shop: Shop, *sequence: str) -> Trip:
    """Put on the rider's trip whatever of ``sequence`` is not on it, delivered in that order."""
    await shop.commit(await shop.planned(sequence, shop.rider_id, extends=True))
    return await shop.trip(sequence[0])


def doors(trip: Trip) -> list[tuple[int, str]]:
    """(number, order) of the drop-offs, as they are ridden."""
    return [
        (stop.n, stop.order_id)
        for stop in trip.stops
        if stop.kind is StopKind.DROPOFF and stop.status is not StopStatus.CANCELLED
    ]


async def started(shop: Shop, order_id: str) -> Trip:
    await shop.offer(order_id)
    return await shop.accept(order_id)


async def test_an_order_joins_a_trip_that_its_rider_has_taken(shop: Shop) -> None:
    """It is assigned without another offer, its customer sees the rider, and the pay grows."""
    first, second = await orders_of(shop, ["packed", "picking"])
    before = await started(shop, first)
    after = await grow(shop, second, first)
    assert after.id == before.id
    assert (await shop.states(second))[1] == "assigned"
    assert (await shop.order(second))["rider_id"] == shop.rider_id
    assert after.kept_order_ids == (second, first)
    assert after.pay_minor > before.pay_minor
    assert after.pay_minor == pay_minor(shop.rider_settings, after.distance_m, 2)
    told = await shop.rows(
        "SELECT data FROM outbox WHERE stream = :stream AND type = 'trip.changed'"
        " ORDER BY seq DESC LIMIT 1",
        stream=f"rider:{shop.rider_id}",
    )
    assert told[0]["data"]["orders"] == [second, first]
    assert await shop.rows("SELECT 1 FROM offers WHERE trip_id = :id", id=after.id) == [
        {"?column?": 1}
    ]


async def test_a_stop_keeps_its_number_when_the_trip_grows(shop: Shop) -> None:
    """What an offline phone has done at stop 2 is the same door, wherever that stands now."""
    first, second, third = await orders_of(shop, ["packed", "packed", "packed"])
    before = await started(shop, first)
    assert doors(before) == [(2, first)]
    await grow(shop, second, first)
    trip = await grow(shop, second, third, first)
    assert doors(trip) == [(4, second), (6, third), (2, first)]
    assert [stop.position for stop in trip.stops] == [1, 2, 3, 4, 5, 6]
    assert [stop.kind for stop in trip.stops[:3]] == [StopKind.PICKUP] * 3
    await shop.arrive(first, 1)
    for order_id in (first, second, third):
        await shop.hand_over(order_id)
    for order_id, n in ((first, 2), (second, 4), (third, 6)):
        await shop.arrive(order_id, n)
        done = await shop.deliver(order_id, n)
    assert done.status.value == "completed"
    earned = await shop.rows(
        "SELECT sum(amount_minor)::int AS n FROM earnings"
        " WHERE rider_id = :rider AND kind = 'delivery'",
        rider=shop.rider_id,
    )
    assert earned == [{"n": trip.pay_minor}]


async def test_the_store_is_reached_once_for_all_orders(shop: Shop) -> None:
    """One arrival stands for every bag, and each is handed over by itself."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    await grow(shop, first, second)
    trip = await shop.arrive(second, 1)
    assert [stop.status.value for stop in trip.stops[:2]] == ["arrived", "arrived"]
    assert {(await shop.states(each))[1] for each in (first, second)} == {"at_store"}
    again = await shop.arrive(second, 3)
    assert again == trip
    await shop.hand_over(second)
    assert (await shop.states(first))[1] == "at_store"
    assert (await shop.states(second))[1] == "collected"
    await shop.hand_over(first)


async def test_an_order_joins_a_rider_who_stands_at_the_counter(shop: Shop) -> None:
    """It is handed over at once: nobody has to say again that they have arrived."""
    first, second = await orders_of(shop, ["confirmed", "packed"])
    await started(shop, first)
    await shop.arrive(first, 1)
    trip = await grow(shop, first, second)
    assert (await shop.states(second))[1] == "at_store"
    assert {stop.status.value for stop in trip.stops[:2]} == {"arrived"}
    told = await shop.rows(
        "SELECT data ->> 'order_id' AS id FROM outbox WHERE type = 'rider.at_store'"
        " AND stream = :stream ORDER BY seq",
        stream=f"store:{shop.place.store.id}",
    )
    assert [row["id"] for row in told] == [first, second]
    await shop.hand_over(second)


async def refusal(shop: Shop, planned: Any) -> str:
    before = await shop.rows("SELECT * FROM trip_stops ORDER BY trip_id, n")
    with pytest.raises(StaleAssignment) as caught:
        await shop.commit(planned)
    assert await shop.rows("SELECT * FROM trip_stops ORDER BY trip_id, n") == before
    return caught.value.reason


async def test_an_offer_does_not_change_while_it_is_read(shop: Shop) -> None:
    """Only a trip that was accepted grows."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await shop.offer(first)
    planned = await shop.planned([first, second], shop.rider_id, extends=True)
    assert await refusal(shop, planned) == "trip_changed"
    assert (await shop.states(second))[1] == "unassigned"


async def test_nothing_joins_after_the_pickup(shop: Shop) -> None:
    """The rider has left, whatever the plan thought."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    planned = await shop.planned([first, second], shop.rider_id, extends=True)
    await shop.arrive(first, 1)
    await shop.hand_over(first)
    assert await refusal(shop, planned) == "trip_changed"


async def test_a_trip_does_not_outgrow_its_vehicle(shop: Shop) -> None:
    """Neither in orders nor in weight, even if the engine says so."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    planned = await shop.planned([first, second], shop.rider_id, extends=True)
    await give_room(shop, 1)
    assert await refusal(shop, planned) == "capacity"
    await give_room(shop, 3)
    async with shop.database.begin() as conn:
        await conn.exec_driver_sql(
            "UPDATE riders SET capacity_g = 1 WHERE id = $1", (shop.rider_id,)
        )
    assert await refusal(shop, planned) == "capacity"
    async with shop.database.begin() as conn:
        await conn.exec_driver_sql(
            "UPDATE riders SET capacity_g = 25000 WHERE id = $1", (shop.rider_id,)
        )
    await shop.commit(planned)


async def test_each_reason_for_a_stale_part_has_its_name(shop: Shop) -> None:
    """They are counted apart: an order that moved on, a rider who did, a trip that did."""
    first, second, third = await orders_of(shop, ["packed", "packed", "picking"])
    await started(shop, first)
    moved = await shop.planned([first, third], shop.rider_id, extends=True)
    await shop.pick(third, {})
    assert await refusal(shop, moved) == "order_changed"
    late = await shop.planned([first, third], shop.rider_id, extends=True)
    await grow(shop, first, second)
    assert await refusal(shop, late) == "trip_changed"
    touched = await shop.planned([first, second, third], shop.rider_id, extends=True)
    async with shop.database.begin() as conn:
        await conn.exec_driver_sql(
            "UPDATE riders SET version = version + 1 WHERE id = $1", (shop.rider_id,)
        )
    assert await refusal(shop, touched) == "rider_changed"
    new = await shop.planned([third], shop.rider_id)
    assert await refusal(shop, new) == "rider_busy"


async def test_a_dispatcher_past_its_lease_adds_nothing(shop: Shop) -> None:
    """The epoch is checked for additions as it is for offers."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    planned = await shop.planned([first, second], shop.rider_id, extends=True)
    pool, city_id = shop.database.pool, shop.place.city.id
    await leases.release(pool, "tests")
    old = await leases.acquire(pool, city_id, city_id, "first", 60.0)
    await leases.release(pool, "first")
    assert await leases.acquire(pool, city_id, city_id, "second", 60.0) == (old or 0) + 1
    with pytest.raises(LeaseLost):
        await shop.commit(planned, old)
    assert (await shop.states(second))[1] == "unassigned"
    await leases.release(pool, "second")


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "not checked"])
async def test_the_epoch_alone_keeps_a_woken_dispatcher_from_writing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Nothing has changed since its plan but the lease: without the check it would be committed."""
    (order_id,) = await orders_of(shop, ["packed"])
    await shop.start_shift()
    planned = await shop.planned([order_id], shop.rider_id)
    pool, city_id = shop.database.pool, shop.place.city.id
    old = await leases.acquire(pool, city_id, city_id, "stopped", 60.0)
    await leases.release(pool, "stopped")
    assert await leases.acquire(pool, city_id, city_id, "tests", 60.0) == (old or 0) + 1
    if checked:
        with pytest.raises(LeaseLost):
            await shop.commit(planned, old)
        assert (await shop.states(order_id))[1] == "unassigned"
        return

    async def believes(*_: object) -> bool:
        return True

    monkeypatch.setattr(leases, "holds", believes)
    await shop.commit(planned, old)
    assert (await shop.states(order_id))[1] == "offered"


async def wait_at_the_counter(shop: Shop, stage: str) -> tuple[str, str, Trip]:
    """A rider with one order in the bag, whose other order is at ``stage``."""
    first, second = await orders_of(shop, ["packed", stage])
    await started(shop, first)
    await grow(shop, first, second)
    await shop.arrive(first, 1)
    await shop.hand_over(first)
    return first, second, await shop.trip(first)


async def left(shop: Shop, trip: Trip, wait_s: float) -> int:
    city_id, store_id = shop.place.city.id, shop.place.store.id
    async with shop.database.begin() as conn:
        late = await batches.late_for_their_trips(conn, city_id, [store_id], wait_s)
        if trip.id not in late:
            return 0
        return await batches.leave_late_behind(conn, trip.id, wait_s)


async def test_an_order_that_is_not_ready_in_time_is_left_behind(shop: Shop) -> None:
    """The rider goes with what there is; the other order looks for somebody else."""
    first, second, trip = await wait_at_the_counter(shop, "picking")
    assert await left(shop, trip, 3600.0) == 0
    assert await left(shop, trip, 0.0) == 1
    assert await left(shop, trip, 0.0) == 0
    assert (await shop.states(second))[1] == "unassigned"
    assert (await shop.order(second))["rider_id"] is None
    assert (await shop.trip(first)).kept_order_ids == (first,)
    await shop.pick(second, {})
    other = shop.place.riders[1].rider_id
    assert other is not None
    await shop.offer(second, rider_id=other)
    assert (await shop.accept(second)).rider_id == other
    await shop.arrive(first, 2)
    done = await shop.deliver(first)
    assert done.status.value == "completed"


async def test_a_packed_order_is_waited_for(shop: Shop) -> None:
    """It is only a matter of the counter."""
    _first, second, trip = await wait_at_the_counter(shop, "packed")
    assert await left(shop, trip, 0.0) == 0
    await shop.hand_over(second)


async def test_who_stands_at_a_door_has_left_the_rest_behind(shop: Shop) -> None:
    """A rider who did not wait says so by arriving; an order that the store has is no door."""
    first, second, _trip = await wait_at_the_counter(shop, "picking")
    with pytest.raises(IllegalTransition):
        await shop.arrive(second, 4)
    await shop.arrive(first, 2)
    assert (await shop.states(second))[1] == "unassigned"
    assert (await shop.deliver(first)).status.value == "completed"


async def test_losing_all_orders_ends_the_trip(shop: Shop) -> None:
    """The rider is free again, and the orders are too."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    trip = await grow(shop, first, second)
    async with shop.database.begin() as conn:
        _locked, trip = await offers.lock_trip(conn, trip)
        await batches.leave_behind(conn, trip, trip.kept_order_ids, "usr_ops", "flat_tyre")
    rows = await shop.rows("SELECT status FROM trips WHERE id = :id", id=trip.id)
    assert rows == [{"status": "cancelled"}]
    assert {(await shop.states(each))[1] for each in (first, second)} == {"unassigned"}
    await shop.offer(second, first)


@pytest.mark.parametrize("seed", range(4))
async def test_growing_and_cancelling_at_once_ends_well(shop: Shop, seed: int) -> None:
    """Whoever comes first, a cancelled order is on no trip and the other one is on one."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    planned = await shop.planned([first, second], shop.rider_id, extends=True)
    victim, other = (first, second) if seed % 2 else (second, first)

    async def cancel() -> None:
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, victim, "usr_staff", "spilled")

    async def extend() -> str:
        try:
            await shop.commit(planned)
        except StaleAssignment:
            return "stale"
        return "grown"

    works = [cancel(), extend()] if seed < 2 else [extend(), cancel()]
    results = await asyncio.gather(*works)
    assert (await shop.states(victim))[1] == "cancelled"
    active = await shop.rows(
        "SELECT order_id FROM assignments WHERE active AND order_id IN (:a, :b)", a=first, b=second
    )
    expected = {other} if other == first or "grown" in results else set()
    assert {row["order_id"] for row in active} == expected


async def test_a_failed_door_does_not_hold_up_the_next(shop: Shop) -> None:
    """Nobody opens at the first door: the second order is delivered all the same."""
    first, second = await orders_of(shop, ["packed", "packed"])
    await started(shop, first)
    trip = await grow(shop, second, first)
    await shop.arrive(first, 1)
    await shop.hand_over(first)
    await shop.hand_over(second)
    await shop.arrive(second, 4)
    async with shop.database.begin() as conn:
        await deliveries.fail(
            conn, shop.rider_id, shop.rider_user_id, trip.id, 4, "nobody_there", None
        )
    await shop.arrive(first, 2)
    assert (await shop.deliver(first)).status.value == "completed"
    assert (await shop.states(second))[:2] == ("undeliverable", "failed")


async def test_all_of_this_is_clean(shop: Shop) -> None:
    """After all that the tests of this module did, with every refusal in it, no invariant broke."""
    await shop.relay()
    checks = await verify_database(shop.database, None, patience_s=3600.0)
    assert {check.name: check.examples for check in checks if check.broken_rows} == {}
