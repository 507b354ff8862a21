"""The hand on the wheel on a real database: pins, exclusions, pauses."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from geo.distances import Point
from kit.db import Database
from kit.errors import IllegalTransition, Invalid, NotFound
from orders import controlling, dispatch_controls, quotes
from orders.errors import (
    AlreadyPinned,
    OrderHasRider,
    QuoteExpired,
    StaleAssignment,
    StorePaused,
)
from orders.model import PaymentMethod
from tests.dispatch_support import (
    applied,
    events,
    exclude,
    later,
    pause,
    pin,
    release,
    riders_of,
)
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    shop = await open_shop(judged_database)
    await later(shop, 0.0)
    return shop


# Pins.


async def test_a_pinned_order_is_planned_for_its_rider_alone(shop: Shop) -> None:
    """Until it is released, and the plan that was made before is void."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    await shop.start_shift(second)
    planned = await shop.planned([order_id], second)
    control_id = await pin(shop, order_id, first)
    assert (await applied(shop)).pins == {order_id: first}
    with pytest.raises(StaleAssignment):
        await shop.commit(planned)
    await release(shop, control_id)
    assert (await applied(shop)).pins == {}


async def test_an_order_is_pinned_once_to_a_rider_of_its_city(shop: Shop) -> None:
    """A second pin, a foreign rider, an order that somebody else has or that has left: refused."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    await pin(shop, order_id, first)
    with pytest.raises(AlreadyPinned):
        await pin(shop, order_id, second)
    foreign = await open_shop(shop.database)
    with pytest.raises(NotFound):
        await pin(shop, order_id, foreign.rider_id)
    taken = await shop.order_at("assigned")
    with pytest.raises(OrderHasRider):
        await pin(shop, taken, second)
    await shop.arrive(taken, 1)
    await shop.hand_over(taken)
    with pytest.raises(IllegalTransition):
        await pin(shop, taken, first)


async def test_two_pins_at_once_are_one(shop: Shop) -> None:
    """The order's lock decides who was first."""
    order_id = await shop.order_at("packed")
    outcomes = await asyncio.gather(
        *(pin(shop, order_id, rider) for rider in riders_of(shop)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in outcomes) == ["AlreadyPinned", "str"]


# Exclusions.


async def test_riders_are_excluded_from_an_order_a_store_or_all(shop: Shop) -> None:
    """Each takes away what it names, and nothing else."""
    order_id, other_id = await shop.order_at("packed"), await shop.order_at("packed")
    first, second = riders_of(shop)
    of_order = await exclude(shop, first, order_id=order_id)
    now = await applied(shop)
    assert now.excluded == {order_id: frozenset({first})}
    of_store = await exclude(shop, second, store_id=shop.place.store.id)
    now = await applied(shop)
    assert now.excluded == {
        order_id: frozenset({first, second}), other_id: frozenset({second}),
    }  # fmt: skip
    await exclude(shop, second)
    assert set((await applied(shop)).riders) == {first}
    for control_id in (of_order, of_store):
        await release(shop, control_id)
    assert (await applied(shop)).excluded == {}


async def test_who_is_excluded_is_not_offered_what_was_planned_before(shop: Shop) -> None:
    """The rider's version has changed."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    planned = await shop.planned([order_id], shop.rider_id)
    await exclude(shop, shop.rider_id)
    with pytest.raises(StaleAssignment):
        await shop.commit(planned)


async def test_a_store_of_another_city_is_none(shop: Shop) -> None:
    """Nor can an order and a store be named together."""
    foreign = await open_shop(shop.database)
    with pytest.raises(NotFound):
        await exclude(shop, shop.rider_id, store_id=foreign.place.store.id)
    with pytest.raises(Invalid):
        await exclude(shop, shop.rider_id, store_id="sto_x", order_id="ord_x")


# Pauses.


async def test_a_held_zone_is_not_planned_and_says_why(shop: Shop) -> None:
    """A pause of the zone, the store or the city holds; another zone does not concern it."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    planned = await shop.planned([order_id], shop.rider_id)
    for target in (
        {"zone_id": "zon_test"}, {"store_id": shop.place.store.id}, {},
    ):  # fmt: skip
        control_id = await pause(shop, **target)
        now = await applied(shop)
        assert (set(now.orders), now.held[order_id].control_id) == (set(), control_id)
        assert now.held[order_id].reason == "the bridge is closed"
        await release(shop, control_id)
        assert set((await applied(shop)).orders) == {order_id}
    elsewhere = await pause(shop, zone_id="zon_elsewhere")
    assert set((await applied(shop)).orders) == {order_id}
    await release(shop, elsewhere)
    with pytest.raises(StaleAssignment):
        await shop.commit(planned)


async def test_a_hold_takes_orders_and_a_stop_does_not(shop: Shop) -> None:
    """Two flags: with the one nobody rides, with the other nobody buys."""
    (product,) = await shop.stock(20)
    point = Point(shop.place.store.lat + 0.004, shop.place.store.lon)
    held = await pause(shop, hold=True, stop=False)
    quote_id = await shop.quote({product.sku_id: 1})
    await release(shop, held)
    stopped = await pause(shop, hold=False, stop=True, zone_id="zon_test")
    assert set((await applied(shop)).held) == set()
    with pytest.raises(StorePaused):
        await shop.quote({product.sku_id: 1})
    with pytest.raises(QuoteExpired):
        await shop.check_out(quote_id, method=PaymentMethod.COD)
    async with shop.database.begin() as conn:
        served = await quotes.serviceability(conn, shop.territory, shop.settings, point)
    assert (served.store, served.reason) == (None, "store_paused")
    await release(shop, stopped)
    assert await shop.quote({product.sku_id: 1})


async def test_a_pause_pauses_something(shop: Shop) -> None:
    """Neither flag is a mistake."""
    with pytest.raises(Invalid):
        await pause(shop, hold=False, stop=False)


# Ends.


async def test_every_control_has_an_end_and_an_owner(shop: Shop) -> None:
    """The use case refuses what has none, and so does the table."""
    for minutes in (-1.0, 0.0, 60.0 * 24 * 8):
        with pytest.raises(Invalid):
            await pause(shop, minutes=minutes)
    for column in ("until", "set_by", "reason"):
        with pytest.raises(DBAPIError, match="null value"):
            async with shop.database.begin() as conn:
                await conn.execute(
                    text(
                        "INSERT INTO dispatch_controls"
                        " (id, city_id, kind, hold_dispatch, reason, set_by, set_at, until)"
                        " SELECT 'dct_x', :city, 'pause', true,"
                        " CASE WHEN :c <> 'reason' THEN 'r' END,"
                        " CASE WHEN :c <> 'set_by' THEN 'u' END, darkstore_now(),"
                        " CASE WHEN :c <> 'until' THEN darkstore_now() + interval '1 h' END"
                    ),
                    {"city": shop.place.city.id, "c": column},
                )


async def test_a_control_counts_no_more_when_its_time_is_over(shop: Shop) -> None:
    """At once, before any job has run; the job then closes the row and tells the consoles."""
    order_id = await shop.order_at("packed")
    control_id = await pause(shop, minutes=10)
    assert set((await applied(shop)).held) == {order_id}
    await later(shop, 601)
    assert set((await applied(shop)).held) == set()
    async with shop.database.begin() as conn:
        assert await controlling.close_expired(conn) == 1
    async with shop.database.begin() as conn:
        assert await controlling.close_expired(conn) == 0
        row = await dispatch_controls.read(conn, control_id)
    assert (row["released_by"], row["release_reason"]) == ("system", "over")
    told = await events(shop, f"city:{shop.place.city.id}", "dispatch.control")
    assert [each["status"] for each in told if each["id"] == control_id] == ["active", "over"]


async def test_a_pin_is_over_when_its_order_has_left(shop: Shop) -> None:
    """Fulfilled controls do not stay on the console."""
    order_id = await shop.order_at("packed")
    control_id = await pin(shop, order_id, shop.rider_id, minutes=600)
    await shop.offer(order_id)
    await shop.accept(order_id)
    await shop.arrive(order_id, 1)
    async with shop.database.begin() as conn:
        assert await controlling.close_expired(conn) == 0
    await shop.hand_over(order_id)
    async with shop.database.begin() as conn:
        assert await controlling.close_expired(conn) == 1
        assert (await dispatch_controls.read(conn, control_id))["released_by"] == "system"


async def test_anybody_of_the_ops_releases_once(shop: Shop) -> None:
    """Whoever set it; the second release changes nothing."""
    control_id = await pause(shop)
    for who in ("usr_other", "usr_third"):
        async with shop.database.begin() as conn:
            row = await controlling.release(conn, control_id, who, None)
    assert row["released_by"] == "usr_other"
    with pytest.raises(NotFound):
        await release(shop, "dct_nothing")


async def test_the_audit_log_cannot_be_rewritten(shop: Shop) -> None:
    """Not even by the owner of the tables; the application's role is not even asked."""
    await pause(shop)
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with shop.database.begin() as conn:
                await conn.execute(text(statement))
    with pytest.raises(DBAPIError, match="append-only"):
        async with shop.database.begin() as conn:
            await conn.execute(text("TRUNCATE audit_log"))
