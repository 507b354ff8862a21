"""The hand on the wheel on a real database: pins, exclusions, pauses, assigning by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from geo.distances import Point
from kit.db import Database
from kit.errors import DarkstoreError, IllegalTransition, Invalid, NotFound
from orders import assigning, controlling, dispatch_controls, quotes
from orders.assigning import Assigned, Seen
from orders.errors import (
    AlreadyPinned,
    CannotAssign,
    OrderHasRider,
    QuoteExpired,
    StaleAssignment,
    StorePaused,
    WouldOverride,
)
from orders.model import PaymentMethod
from riders import availability
from riders.model import PauseReason
from riders.settings import RiderSettings
from server.verify import verify_database
from tests.dispatch_support import (
    OPS,
    audited,
    decline,
    events,
    later,
    pin,
    riders_of,
    said,
)
from tests.order_support import Shop, open_shop
from tests.support import Addresses, new_database, opened_database

HERE = Seen(None, silent=False)


@pytest.fixture(scope="module")
async def own_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """One database for this module, so that its last test can judge all that the others did."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database


@pytest.fixture
async def shop(own_database: Database) -> Shop:
    shop = await open_shop(own_database)
    await later(shop, 0.0)
    return shop


async def exclude(shop: Shop, rider_id: str, minutes: float = 30.0, **target: Any) -> str:
    async with shop.database.begin() as conn:
        row = await controlling.exclude(conn, rider_id, said(shop, minutes), **target)
        return await audited(conn, row)


async def pause(
    shop: Shop, *, hold: bool = True, stop: bool = False, minutes: float = 30.0, **target: Any
) -> str:
    async with shop.database.begin() as conn:
        row = await controlling.pause(
            conn, shop.territory.zones, shop.place.city.id, said(shop, minutes),
            hold_dispatch=hold, stop_orders=stop, **target,
        )  # fmt: skip
        return await audited(conn, row)


async def release(shop: Shop, control_id: str) -> None:
    async with shop.database.begin() as conn:
        await controlling.release(conn, control_id, OPS, "enough")


async def applied(shop: Shop) -> dispatch_controls.Applied:
    """What would be planned of the shop's city now."""
    async with shop.database.begin() as conn:
        controls = await dispatch_controls.read_controls(conn, shop.place.city.id)
        orders = (
            await conn.execute(
                text("SELECT * FROM orders WHERE city_id = :c AND delivery_status = 'unassigned'"),
                {"c": shop.place.city.id},
            )
        ).all()
        riders = (
            await conn.execute(
                text("SELECT * FROM riders WHERE city_id = :c"), {"c": shop.place.city.id}
            )
        ).all()
    return dispatch_controls.apply(
        controls, shop.territory.zones, {row.id: row for row in orders},
        {row.id: row for row in riders},
    )  # fmt: skip


async def assign(
    shop: Shop,
    order_id: str,
    rider_id: str,
    *,
    force: bool = False,
    seen: Seen = HERE,
    settings: RiderSettings | None = None,
) -> Assigned:
    async with shop.database.begin() as conn:
        return await assigning.assign(
            conn, shop.territory, settings or shop.rider_settings, order_id, rider_id, OPS,
            "I know better", seen, force=force,
        )  # fmt: skip


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


# Assigning by hand.


async def test_an_order_is_given_to_a_rider_who_is_not_asked(shop: Shop) -> None:
    """The trip is there at once, pays as always, and can be ridden to its end."""
    order_id = await shop.order_at("packed")
    rider_id = riders_of(shop)[1]
    await shop.start_shift(rider_id)
    done = await assign(shop, order_id, rider_id)
    assert (done.trip.status.value, done.overridden) == ("active", ())
    assert (await shop.order(order_id))["rider_id"] == rider_id
    assert done.trip.pay_minor >= shop.rider_settings.pay_base_minor
    (made,) = await events(shop, f"rider:{rider_id}", "offer.made")
    assert made["auto_accept"] is True
    await shop.arrive(order_id, 1)
    await shop.hand_over(order_id)
    await shop.arrive(order_id, 2)
    await shop.deliver(order_id)
    again = await shop.states(order_id)
    assert again[0] == "delivered"


async def test_giving_it_to_who_has_it_changes_nothing(shop: Shop) -> None:
    """An open offer is accepted by it."""
    order_id = await shop.order_at("offered")
    done = await assign(shop, order_id, shop.rider_id)
    assert done.trip.status.value == "active"
    twice = await assign(shop, order_id, shop.rider_id)
    assert (twice.trip.id, twice.overridden) == (done.trip.id, ())


async def test_what_nobody_can_carry_out_is_refused_even_with_force(shop: Shop) -> None:
    """Off shift, on a trip, too heavy, left the store, another city: each by name."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)

    async def because(rider_id: str, order: str = order_id) -> list[str]:
        with pytest.raises(CannotAssign) as refused:
            await assign(shop, order, rider_id, force=True)
        found = refused.value.extra["because"]
        assert isinstance(found, list)
        return found

    assert await because(second) == ["rider_off_shift"]
    busy = await shop.order_at("assigned")
    assert await because(first) == ["rider_on_trip"]
    await shop.start_shift(second)
    await shop.arrive(busy, 1)
    await shop.hand_over(busy)
    assert await because(second, busy) == ["order_not_open"]
    async with shop.database.begin() as conn:
        await conn.execute(text("UPDATE riders SET capacity_g = 1 WHERE id = :id"), {"id": second})
    assert await because(second) == ["over_capacity"]
    foreign = await open_shop(shop.database)
    with pytest.raises(NotFound):
        await assign(shop, order_id, foreign.rider_id, force=True)


async def test_what_speaks_against_a_rider_is_told_and_overridden(shop: Shop) -> None:
    """All of it at once, by name; with force it is done and the answer says what was overridden."""
    order_id = await shop.order_at("packed", method=PaymentMethod.COD)
    first, second = riders_of(shop)
    await shop.offer(order_id, rider_id=second)
    await decline(shop, order_id)
    await shop.offer(order_id, rider_id=first)
    await shop.accept(order_id)
    async with shop.database.begin() as conn:
        await availability.pause(conn, second, PauseReason.BREAK, None)
    await exclude(shop, second)
    await pin(shop, order_id, first)
    await pause(shop)
    far = Seen(Point(shop.place.store.lat + 3.0, shop.place.store.lon), silent=True)
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE shifts SET ends_at = darkstore_now() + interval '1 min'"
                " WHERE rider_id = :id AND stopped_at IS NULL"
            ),
            {"id": second},
        )
    tight = RiderSettings(cash_limit_minor=1)
    against = [
        "rider_paused", "rider_silent", "rider_declined_it", "rider_excluded",
        "pinned_to_another_rider", "dispatch_held", "shift_ends_before_pickup", "cash_limit",
        "takes_it_from_another_rider",
    ]  # fmt: skip
    before = await shop.order(order_id)
    with pytest.raises(WouldOverride) as refused:
        await assign(shop, order_id, second, seen=far, settings=tight)
    assert refused.value.extra["overrides"] == against
    assert await shop.order(order_id) == before
    done = await assign(shop, order_id, second, seen=far, settings=tight, force=True)
    assert list(done.overridden) == against
    assert (await shop.order(order_id))["rider_id"] == second
    # The pin said something else: whoever assigns has the last word.
    assert (await applied(shop)).pins == {}
    (told,) = await events(shop, f"rider:{first}", "trip.taken_off")
    assert told["order_ids"] == [order_id]


async def test_one_order_of_a_batch_is_given_to_another_rider(shop: Shop) -> None:
    """The other order of the trip stays with its rider."""
    (product,) = await shop.stock(20)
    first_order = await shop.order_at("packed", {product.sku_id: 1})
    second_order = await shop.order_at("packed", {product.sku_id: 1})
    await shop.offer(first_order, second_order)
    await shop.accept(first_order)
    other = riders_of(shop)[1]
    await shop.start_shift(other)
    await assign(shop, second_order, other, force=True)
    assert (await shop.order(first_order))["rider_id"] == shop.rider_id
    assert (await shop.order(second_order))["rider_id"] == other


async def test_two_assignments_at_once_give_the_order_one_rider(shop: Shop) -> None:
    """Both may be told yes, one after the other; the order has the rider of the last."""
    order_id = await shop.order_at("packed")
    for rider_id in riders_of(shop):
        await shop.start_shift(rider_id)
    outcomes = await asyncio.gather(
        *(assign(shop, order_id, rider_id, force=True) for rider_id in riders_of(shop)),
        return_exceptions=True,
    )
    assert all(isinstance(each, Assigned | DarkstoreError) for each in outcomes), outcomes
    rows = await shop.rows(
        "SELECT rider_id FROM assignments WHERE order_id = :id AND active", id=order_id
    )
    assert [row["rider_id"] for row in rows] == [(await shop.order(order_id))["rider_id"]]


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


async def test_all_of_this_is_clean(shop: Shop) -> None:
    """After all that the tests of this module did, no invariant is broken."""
    await shop.relay()
    checks = await verify_database(shop.database, None, patience_s=3600.0 * 24)
    broken = {check.name: check.examples for check in checks if check.broken_rows}
    assert broken == {}
