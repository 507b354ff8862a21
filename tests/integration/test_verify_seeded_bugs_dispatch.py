"""The checks on alerts and controls are green on the system and red on each seeded bug."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from control import audit
from control.audit import Deed
from kit.db import Database
from orders import controlling, dispatch_alerts
from orders.dispatch_alerts import AlertKind
from server.verify import verify_database
from tests.dispatch_support import OPS, pin, riders_of, said
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def broken(shop: Shop) -> set[str]:
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway)
    return {check.name for check in checks if check.broken_rows}


async def execute(shop: Shop, *statements: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


async def called(shop: Shop) -> str:
    """A packed order for which ops are called."""
    order_id = await shop.order_at("packed")
    async with shop.database.begin() as conn:
        await dispatch_alerts.call(conn, order_id, AlertKind.NEEDS_RIDER, "It waits.", {})
    return order_id


async def forget_the_alert(shop: Shop) -> set[str]:
    """An order that gets its rider while its alert stays open."""
    order_id = await called(shop)
    await execute(shop, "ALTER TABLE orders DISABLE TRIGGER dispatch_alerts_follow_orders")
    await shop.offer(order_id)
    await shop.accept(order_id)
    return {"alerts_match_orders"}


async def call_for_nothing(shop: Shop) -> set[str]:
    """Ops are called about a rider's silence for an order that nobody carries."""
    order_id = await called(shop)
    await execute(
        shop,
        "UPDATE dispatch_alerts SET kind = 'rider_silent' WHERE order_id = :id",
        id=order_id,
    )
    return {"alerts_match_orders"}


async def pin_to_another_city(shop: Shop) -> set[str]:
    """A pin that does not ask of which city the rider is."""
    order_id = await shop.order_at("packed")
    await pin(shop, order_id, shop.rider_id)
    foreign = await open_shop(shop.database)
    await execute(
        shop,
        "UPDATE dispatch_controls SET rider_id = :rider WHERE order_id = :id",
        rider=foreign.rider_id, id=order_id,
    )  # fmt: skip
    return {"controls_hold"}


async def ignore_the_pin(shop: Shop) -> set[str]:
    """A plan that does not look at what ops have pinned."""
    order_id = await shop.order_at("packed")
    first, second = riders_of(shop)
    await pin(shop, order_id, first)
    await shop.offer(order_id, rider_id=second)
    await shop.accept(order_id)
    return {"controls_hold"}


async def forget_the_audit(shop: Shop) -> set[str]:
    """A control that is set without a word in the audit log."""
    async with shop.database.begin() as conn:
        await controlling.exclude(conn, shop.rider_id, said(shop))
    return {"controls_audited"}


async def audit_twice(shop: Shop) -> set[str]:
    """A repeated request that is written down again."""
    order_id = await shop.order_at("packed")
    control_id = await pin(shop, order_id, shop.rider_id)
    async with shop.database.begin() as conn:
        await audit.record(
            conn, OPS, "ops", Deed("order.pin", "control", control_id, shop.place.city.id)
        )
    return {"controls_audited"}


@pytest.mark.parametrize(
    "bug",
    [
        forget_the_alert, call_for_nothing, pin_to_another_city, ignore_the_pin,
        forget_the_audit, audit_twice,
    ],
    ids=lambda bug: bug.__name__,
)  # fmt: skip
async def test_a_seeded_bug_turns_it_red(
    shop: Shop, bug: Callable[[Shop], Awaitable[set[str]]]
) -> None:
    """Exactly the checks that the bug breaks, and none of them before."""
    assert await broken(shop) == set()
    wanted = await bug(shop)
    assert await broken(shop) == wanted
