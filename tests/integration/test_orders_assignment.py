"""What keeps a plan from assigning an order that it may not assign any more."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from kit.db import Database
from orders.errors import (
    LeaseLost,
    StaleAssignment,
)
from riders import leases
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    return await open_shop(judged_database)


async def test_a_dispatcher_past_its_lease_writes_nothing(shop: Shop) -> None:
    """An epoch that is not the city's any more is refused inside the assignment itself."""
    order_id = await shop.order_at("packed")
    await shop.start_shift()
    planned = await shop.planned([order_id], shop.rider_id)
    city_id = shop.place.city.id
    pool = shop.database.pool
    old = await leases.acquire(pool, city_id, city_id, "first", 60.0)
    await leases.release(pool, "first")
    assert await leases.acquire(pool, city_id, city_id, "second", 60.0) == (old or 0) + 1
    with pytest.raises(LeaseLost):
        await shop.commit(planned, old)
    assert (await shop.states(order_id))[1] == "unassigned"


async def test_a_plan_of_yesterdays_world_is_stale(shop: Shop) -> None:
    """An order or a rider that has changed since the snapshot is planned anew."""
    (product,) = await shop.stock(20)
    first = await shop.order_at("packed", {product.sku_id: 1})
    second = await shop.order_at("packed", {product.sku_id: 1})
    await shop.start_shift()
    planned = await shop.planned([first], shop.rider_id)
    other = await shop.planned([second], shop.rider_id)
    await shop.commit(planned)
    with pytest.raises(StaleAssignment):
        await shop.commit(planned)
    with pytest.raises((StaleAssignment, IntegrityError)):
        await shop.commit(other)
    assert (await shop.states(second))[1] == "unassigned"


async def test_the_index_refuses_a_second_rider(shop: Shop) -> None:
    """Whatever the code forgets, an order has one active rider."""
    order_id = await shop.order_at("assigned")
    trip = await shop.trip(order_id)
    with pytest.raises(DBAPIError, match="uq_assignments_active"):
        async with shop.database.begin() as conn:
            await conn.exec_driver_sql(
                "INSERT INTO assignments (order_id, trip_id, rider_id, active, assigned_at)"
                " SELECT $1, id, rider_id, true, darkstore_now() FROM trips"
                " WHERE id <> $2 LIMIT 1", (order_id, trip.id),
            )  # fmt: skip
