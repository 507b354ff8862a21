"""The checks on delivery slots are green on what the system does and red on each seeded bug."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from kit.db import Database
from orders import slots
from server.verify import verify_database
from stores import hours
from stores.hours import Hours
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    shop = await open_shop(fresh_database)
    async with shop.database.begin() as conn:
        await hours.set_hours(conn, shop.place.store.id, None, Hours(0, 1440))
    return shop


async def broken(shop: Shop) -> set[str]:
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway)
    return {check.name for check in checks if check.broken_rows}


async def execute(shop: Shop, *statements: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


async def scheduled(shop: Shop) -> str:
    """A confirmed order of a slot in the afternoon."""
    (product,) = await shop.stock(5)
    now = shop.clock.now() + timedelta(hours=3)
    start = slots.first_start(shop.settings.slots, now, 0.0)
    return await shop.place_order({product.sku_id: 1}, slot=start)


async def lose_a_place(shop: Shop) -> set[str]:
    """A cancellation that forgets the slot."""
    order_id = await scheduled(shop)
    await execute(
        shop,
        "ALTER TABLE orders DISABLE TRIGGER orders_give_back_slot",
        "SELECT order_move(:id, 'order', 'cancelled', 'usr_x', 'no')",
        id=order_id,
    )
    return {"slots_match_orders"}


async def take_one_too_many(shop: Shop) -> set[str]:
    """A place that is taken without asking how many there are, and no CHECK to stop it."""
    await scheduled(shop)
    await execute(
        shop,
        "ALTER TABLE delivery_slots DROP CONSTRAINT ck_delivery_slots_taken",
        "UPDATE delivery_slots SET taken = capacity + 1",
    )
    return {"slots_match_orders"}


async def give_a_place_back_twice(shop: Shop) -> set[str]:
    """A reschedule that frees a place which a cancellation has freed already."""
    await scheduled(shop)
    await execute(shop, "UPDATE delivery_slots SET taken = taken - 1")
    return {"slots_match_orders"}


async def pick_too_early(shop: Shop) -> set[str]:
    """A queue that does not look at the slot: the bags stand about for hours."""
    order_id = await scheduled(shop)
    await execute(
        shop,
        "INSERT INTO pick_tasks (id, order_id, store_id, status, due_at, created_at)"
        " SELECT 'ptk_early', id, store_id, 'queued', promised_low_at, darkstore_now()"
        " FROM orders WHERE id = :id",
        id=order_id,
    )
    return {"scheduled_not_early"}


async def send_a_rider_too_early(shop: Shop) -> set[str]:
    """A dispatcher that sees orders which nobody picks yet."""
    order_id = await scheduled(shop)
    await execute(
        shop, "SELECT order_move(:id, 'delivery', 'offered', 'system', null)", id=order_id
    )
    return {"scheduled_not_early"}


async def forget_to_queue(shop: Shop) -> set[str]:
    """Nobody looks for scheduled orders whose time has come."""
    order_id = await scheduled(shop)
    await shop.relay()
    await execute(
        shop,
        "UPDATE orders SET pick_from = darkstore_now() - interval '5 minutes' WHERE id = :id",
        id=order_id,
    )
    return {"pick_tasks_match_orders"}


BUGS: tuple[Callable[[Shop], Awaitable[set[str]]], ...] = (
    lose_a_place, take_one_too_many, give_a_place_back_twice, pick_too_early,
    send_a_rider_too_early, forget_to_queue,
)  # fmt: skip


@pytest.mark.embedded_only
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_a_seeded_bug_turns_it_red(
    shop: Shop, bug: Callable[[Shop], Awaitable[set[str]]]
) -> None:
    """Each bug is found by the check that it should be found by, and all was clean before."""
    await scheduled(shop)
    assert await broken(shop) == set()
    expected = await bug(shop)
    assert await broken(shop) >= expected
