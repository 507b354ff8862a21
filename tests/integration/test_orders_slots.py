"""Scheduled deliveries on a real database: places in a slot, the time to pick, another slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from kit.clock import load_clock
from kit.db import Database
from kit.errors import DarkstoreError, IllegalTransition
from orders import picking, rescheduling, slots
from orders.cancellation import cancel, cancel_as_customer
from orders.dispatch_world import partitions, read_rows
from orders.errors import SlotFull, SlotUnavailable
from orders.slots import Slot
from orders.transitions import SYSTEM
from server.verify import verify_database
from stores import hours
from stores.hours import Hours
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await round_the_clock(await open_shop(database))


@pytest.fixture
async def lone_shop(fresh_database: Database) -> Shop:
    """A shop with a clock of its own."""
    return await round_the_clock(await open_shop(fresh_database))


async def round_the_clock(shop: Shop, capacity: int = 3) -> Shop:
    async with shop.database.begin() as conn:
        await hours.set_hours(conn, shop.place.store.id, None, Hours(0, 1440))
        await hours.set_capacity(conn, shop.place.store.id, None, capacity)
    return shop


def slot_after(shop: Shop, delay: timedelta) -> datetime:
    return slots.first_start(shop.settings.slots, shop.clock.now() + delay, 0.0)


async def slot(shop: Shop, start: datetime) -> Slot:
    async with shop.database.begin() as conn:
        (found,) = await slots.of_store(conn, shop.place.store.id, start, start)
    return found


async def taken(shop: Shop, start: datetime) -> int:
    return (await slot(shop, start)).taken


async def reschedule(shop: Shop, order_id: str, start: datetime) -> None:
    async with shop.database.begin() as conn:
        await rescheduling.reschedule(conn, shop.settings.slots, order_id, shop.customer_id, start)


async def pass_time(shop: Shop, by: timedelta) -> None:
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE clock SET anchor_virtual = anchor_virtual + :by"), {"by": by}
        )
        shop.clock = await load_clock(conn)


async def queue_due(shop: Shop) -> list[str]:
    queued: list[str] = []
    while True:
        async with shop.database.begin() as conn:
            order_id = await picking.queue_next_due(conn)
        if order_id is None:
            return queued
        queued.append(order_id)


async def outcomes(*attempts: Awaitable[object]) -> list[str]:
    """The class of what each attempt raised, sorted; ``ok`` for those that passed."""
    told = await asyncio.gather(*attempts, return_exceptions=True)
    for result in told:
        if isinstance(result, BaseException) and not isinstance(result, DarkstoreError):
            raise result
    return sorted("ok" if not isinstance(r, Exception) else type(r).__name__ for r in told)


async def test_a_scheduled_order_is_promised_its_slot(shop: Shop) -> None:
    """The promise is the slot's quarter of an hour, and the place is taken at checkout."""
    (product,) = await shop.stock(10)
    start = slot_after(shop, timedelta(hours=3))
    quote_id = await shop.quote({product.sku_id: 1}, slot=start)
    assert await taken(shop, start) == 0
    await shop.check_out(quote_id)
    rows = await shop.rows("SELECT * FROM orders WHERE quote_id = :id", id=quote_id)
    order = rows[0]
    assert (order["promised_low_at"], order["promised_high_at"]) == (start, start + slots.SLOT)
    assert order["pick_from"] < start - timedelta(seconds=order["travel_s"])
    assert await taken(shop, start) == 1
    assert await shop.stock_of(product.sku_id) == (10, 1)


async def test_fifty_at_once_for_the_last_place_are_one_order(shop: Shop) -> None:
    """Everybody has a quote for it; one gets the place, and nobody else's stock is touched."""
    await round_the_clock(shop, capacity=1)
    (product,) = await shop.stock(100)
    start = slot_after(shop, timedelta(hours=3))
    quotes = [await shop.quote({product.sku_id: 1}, slot=start) for _ in range(50)]
    told = await outcomes(*(shop.check_out(quote_id) for quote_id in quotes))
    assert told == ["SlotFull"] * 49 + ["ok"]
    assert await taken(shop, start) == 1
    assert await shop.stock_of(product.sku_id) == (100, 1)


async def test_a_full_slot_names_the_next_free_ones(shop: Shop) -> None:
    """The refusal is one that a customer can act on, at the quote already."""
    await round_the_clock(shop, capacity=1)
    (product,) = await shop.stock(10)
    start = slot_after(shop, timedelta(hours=3))
    await shop.place_order({product.sku_id: 1}, slot=start)
    with pytest.raises(SlotFull) as refused:
        await shop.quote({product.sku_id: 1}, slot=start)
    others = refused.value.extra["slots"]
    assert isinstance(others, list)
    assert len(others) == slots.OTHERS
    assert others[0] == slots.window(start + slots.SLOT) | {"remaining": 1}


@pytest.mark.parametrize(
    "offset",
    [timedelta(minutes=-60), timedelta(minutes=7), timedelta(days=9)],
    ids=["too soon", "between two slots", "too far ahead"],
)
async def test_what_is_no_slot_is_refused(shop: Shop, offset: timedelta) -> None:
    """Before there is time to bring it, off the quarters, and beyond the week."""
    (product,) = await shop.stock(10)
    with pytest.raises(SlotUnavailable):
        await shop.quote({product.sku_id: 1}, slot=slot_after(shop, timedelta(minutes=5)) + offset)


async def test_opening_hours_are_read_on_the_wall_of_the_store(shop: Shop) -> None:
    """Nine to ten in Kolkata is half past three to half past four in UTC; a day off has none."""
    store_id, city_id = shop.place.store.id, shop.place.city.id
    monday = datetime.fromisoformat("2030-01-07T00:00:00+00:00")
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE cities SET timezone = 'Asia/Kolkata' WHERE id = :id"), {"id": city_id}
        )
        await hours.set_hours(conn, store_id, None, Hours(9 * 60, 10 * 60))
        await hours.set_hours(conn, store_id, 1, Hours(0, 0))
        await hours.set_capacity(conn, store_id, (0, 9), 7)
        found = await slots.of_store(conn, store_id, monday, monday + timedelta(days=2))
    assert [s.start.strftime("%a %H:%M") for s in found] == [
        "Mon 03:30", "Mon 03:45", "Mon 04:00", "Mon 04:15",
    ]  # fmt: skip
    assert {s.capacity for s in found} == {7}


async def test_a_blocked_slot_keeps_its_orders_and_takes_no_more(shop: Shop) -> None:
    """Blocking is for those who come later; unblocking lets them in again."""
    (product,) = await shop.stock(10)
    start = slot_after(shop, timedelta(hours=3))
    await shop.place_order({product.sku_id: 1}, slot=start)
    quote_id = await shop.quote({product.sku_id: 1}, slot=start)
    async with shop.database.begin() as conn:
        await slots.block(conn, shop.place.store.id, start, "staff meeting")
    with pytest.raises(SlotFull):
        await shop.check_out(quote_id)
    assert await taken(shop, start) == 1
    async with shop.database.begin() as conn:
        await slots.block(conn, shop.place.store.id, start, None)
    await shop.check_out(quote_id)
    assert await taken(shop, start) == 2


async def test_less_capacity_takes_nobodys_place(shop: Shop) -> None:
    """With two orders in it a slot cut to one is full, until both have gone."""
    (product,) = await shop.stock(10)
    start = slot_after(shop, timedelta(hours=3))
    first, second = [await shop.place_order({product.sku_id: 1}, slot=start) for _ in range(2)]
    await round_the_clock(shop, capacity=1)
    for order_id, room in ((first, 0), (second, 1)):
        async with shop.database.begin() as conn:
            await cancel_as_customer(conn, order_id, shop.customer_id, "no", 0)
        assert (await slot(shop, start)).remaining == room


async def test_an_end_before_picking_gives_the_place_back(shop: Shop) -> None:
    """Cancelled, expired or declined: the place is free; cancelled while picked: it was used."""
    (product,) = await shop.stock(20)
    start = slot_after(shop, timedelta(hours=3))
    cancelled = await shop.place_order({product.sku_id: 1}, slot=start)
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, cancelled, shop.customer_id, "no", 0)
    assert await taken(shop, start) == 0
    expired = await shop.place_order({product.sku_id: 1}, slot=start)
    async with shop.database.begin() as conn:
        await cancel(conn, expired, SYSTEM, "reservation_expired")
    assert await taken(shop, start) == 0
    shop.gateway.script["authorise"] = [DECLINED]
    declined = await shop.place_order({product.sku_id: 1}, slot=start)
    assert (await shop.states(declined))[0] == "payment_failed"
    assert await taken(shop, start) == 0
    picked = await shop.place_order({product.sku_id: 1}, slot=start)
    await shop.rows(
        "UPDATE orders SET pick_from = darkstore_now() WHERE id = :id RETURNING 1", id=picked
    )
    await shop.drive(picked, "picking")
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, picked, shop.customer_id, "no", 0)
    assert await taken(shop, start) == 1


async def test_nobody_picks_or_rides_before_it_is_time(lone_shop: Shop) -> None:
    """Confirmed at once, it waits for its time; then one job queues it, and riders may be sent."""
    shop = lone_shop
    (product,) = await shop.stock(10)
    start = slot_after(shop, timedelta(hours=3))
    order_id = await shop.place_order({product.sku_id: 1}, slot=start)
    await shop.relay()
    assert await shop.rows("SELECT 1 FROM pick_tasks") == []
    assert await seen_by_dispatch(shop) == []
    assert await queue_due(shop) == []
    pick_from = (await shop.order(order_id))["pick_from"]
    await pass_time(shop, pick_from - shop.clock.now() - timedelta(seconds=30))
    assert await queue_due(shop) == []
    await pass_time(shop, timedelta(seconds=31))
    assert await queue_due(shop) == [order_id]
    assert await queue_due(shop) == []
    assert await seen_by_dispatch(shop) == [order_id]
    await shop.drive(order_id, "settled")
    assert await broken(shop) == {}


async def seen_by_dispatch(shop: Shop) -> list[str]:
    (partition,) = partitions(shop.territory)
    async with shop.database.begin() as conn:
        rows = await read_rows(conn, partition)
    return list(rows.orders)


async def broken(shop: Shop) -> dict[str, tuple[str, ...]]:
    checks = await verify_database(shop.database, shop.gateway)
    return {check.name: check.examples for check in checks if check.broken_rows}


async def test_a_queued_order_that_is_moved_leaves_the_store_alone(lone_shop: Shop) -> None:
    """Task and offer are taken back; when its time comes both begin anew, at the old price."""
    shop = lone_shop
    (product,) = await shop.stock(10)
    order_id = await shop.place_order({product.sku_id: 1})
    await shop.relay()
    await shop.offer(order_id)
    await shop.accept(order_id)
    before = await shop.order(order_id)
    start = slot_after(shop, timedelta(hours=3))
    await reschedule(shop, order_id, start)
    after = await shop.order(order_id)
    assert await shop.states(order_id) == ("confirmed", "unassigned", "authorised")
    assert (after["rider_id"], after["slot_start"]) == (None, start)
    assert after["total_minor"] == before["total_minor"]
    assert await shop.rows("SELECT 1 FROM pick_tasks") == []
    assert await shop.rows("SELECT 1 FROM assignments WHERE active") == []
    assert await seen_by_dispatch(shop) == []
    assert await broken(shop) == {}
    await pass_time(shop, after["pick_from"] - shop.clock.now() + timedelta(seconds=1))
    assert await queue_due(shop) == [order_id]
    await shop.claim(order_id)
    with pytest.raises(IllegalTransition):
        await reschedule(shop, order_id, start + slots.SLOT)
    await shop.relay()
    assert await broken(shop) == {}


async def test_two_orders_can_change_places(shop: Shop) -> None:
    """Eight rounds of two orders going both ways at once: no deadlock, no place lost."""
    await round_the_clock(shop, capacity=2)
    (product,) = await shop.stock(10)
    a = slot_after(shop, timedelta(hours=3))
    b = a + slots.SLOT
    first = await shop.place_order({product.sku_id: 1}, slot=a)
    second = await shop.place_order({product.sku_id: 1}, slot=b)
    for n in range(8):
        to_first, to_second = (b, a) if n % 2 == 0 else (a, b)
        told = await outcomes(
            reschedule(shop, first, to_first), reschedule(shop, second, to_second)
        )
        assert told == ["ok", "ok"]
        assert (await taken(shop, a), await taken(shop, b)) == (1, 1)


async def test_many_orders_move_to_one_last_place(shop: Shop) -> None:
    """One gets it; everybody else keeps the place that they had."""
    await round_the_clock(shop, capacity=20)
    (product,) = await shop.stock(40)
    old = slot_after(shop, timedelta(hours=3))
    new = old + slots.SLOT
    moving = [await shop.place_order({product.sku_id: 1}, slot=old) for _ in range(8)]
    await round_the_clock(shop, capacity=1)
    told = await outcomes(*(reschedule(shop, order_id, new) for order_id in moving))
    assert told == ["SlotFull"] * 7 + ["ok"]
    assert (await taken(shop, old), await taken(shop, new)) == (7, 1)


async def test_reschedule_against_cancel_loses_no_place(shop: Shop) -> None:
    """Whichever comes first, the order ends with no place and both slots are empty again."""
    (product,) = await shop.stock(40)
    a = slot_after(shop, timedelta(hours=3))
    b = a + slots.SLOT

    async def give_up(order_id: str) -> None:
        async with shop.database.begin() as conn:
            await cancel_as_customer(conn, order_id, shop.customer_id, "no", 0)

    for n in range(6):
        order_id = await shop.place_order({product.sku_id: 1}, slot=a)
        both = [reschedule(shop, order_id, b), give_up(order_id)]
        told = await outcomes(*(both if n % 2 else reversed(both)))
        assert told in (["IllegalTransition", "ok"], ["ok", "ok"])
        assert (await shop.states(order_id))[0] == "cancelled"
        assert (await taken(shop, a), await taken(shop, b)) == (0, 0)
    assert await shop.stock_of(product.sku_id) == (40, 0)
