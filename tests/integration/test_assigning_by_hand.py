"""Ops give an order to a rider who is not asked: what is refused, and what may be overridden."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from geo.distances import Point
from kit.db import Database
from kit.errors import DarkstoreError, NotFound
from orders import assigning
from orders.assigning import Assigned, Seen
from orders.errors import (
    CannotAssign,
    WouldOverride,
)
from orders.model import PaymentMethod
from riders import availability
from riders.model import PauseReason
from riders.settings import RiderSettings
from tests.dispatch_support import (
    OPS,
    applied,
    decline,
    events,
    exclude,
    later,
    pause,
    pin,
    riders_of,
)
from tests.order_support import Shop, open_shop

HERE = Seen(None, silent=False)


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    shop = await open_shop(judged_database)
    await later(shop, 0.0)
    return shop


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
