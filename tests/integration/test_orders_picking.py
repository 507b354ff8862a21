"""Scans, short picks and packing on a real database, with exact amounts."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.errors import Invalid
from orders import deliveries, picking
from orders.deliveries import Proof
from orders.errors import (
    NotPicked,
    TooMany,
    WrongBin,
    WrongProduct,
)
from orders.model import PaymentMethod
from orders.picking import NotYours
from stores import picking as pick_tasks
from tests.order_support import Shop, open_shop
from tests.waiting import eventually


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    return await open_shop(judged_database)


async def test_wrong_scans_change_nothing(shop: Shop) -> None:
    """Product, bin, number and hand are all checked."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("picking", {product.sku_id: 2})
    task_id = await shop.task_id(order_id)
    async with shop.database.begin() as conn:
        (line,) = (await pick_tasks.read(conn, task_id))["lines"]
    wanted = (line["line_id"], line["barcode"], line["bin"], 1)
    wrong: list[tuple[type[Exception], str, tuple[str, str, str, int]]] = [
        (WrongProduct, shop.picker_id, (wanted[0], "0000000000000", wanted[2], 1)),
        (WrongBin, shop.picker_id, (wanted[0], wanted[1], "Z99", 1)),
        (TooMany, shop.picker_id, (*wanted[:3], 3)),
        (Invalid, shop.picker_id, ("lin_9", *wanted[1:])),
        (NotYours, shop.place.pickers[1].user_id, wanted),
    ]
    for error, who, scan in wrong:
        with pytest.raises(error):
            async with shop.database.begin() as conn:
                await picking.scan(conn, task_id, who, *scan)
    with pytest.raises(NotPicked):
        async with shop.database.begin() as conn:
            await picking.pack(conn, task_id, shop.picker_id, 1, "A1")
    assert await shop.stock_of(product.sku_id) == (20, 2)


async def test_two_pickers_never_get_one_task(shop: Shop) -> None:
    """Claims at the same moment share out the queue; who holds a task gets it again."""
    (product,) = await shop.stock(20)
    orders = [await shop.order_at("confirmed", {product.sku_id: 1}) for _ in range(2)]
    await shop.relay()
    pickers = [member.user_id for member in shop.place.pickers]

    async def claim(picker: str) -> str:
        async with shop.database.begin() as conn:
            task = await picking.claim(conn, shop.place.store.id, picker, None)
        return str(task["order_id"])

    got = await asyncio.gather(*(claim(picker) for picker in pickers))
    assert sorted(got) == sorted(orders)
    assert await claim(pickers[0]) == got[0]


async def test_a_certain_task_is_waited_for_while_somebody_else_has_its_order(shop: Shop) -> None:
    """A dispatcher that commits this moment does not make a picker's tap fail."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("confirmed", {product.sku_id: 1})
    await shop.relay()
    picker = shop.place.pickers[0].user_id
    async with shop.database.begin() as other:
        await other.execute(
            text("SELECT 1 FROM orders WHERE id = :id FOR UPDATE"), {"id": order_id}
        )
        task_id = await other.scalar(
            text("SELECT id FROM pick_tasks WHERE order_id = :id"), {"id": order_id}
        )

        async def claim(wanted: str | None) -> str:
            async with shop.database.begin() as conn:
                await conn.execute(text("SET LOCAL application_name = 'claims'"))
                task = await picking.claim(conn, shop.place.store.id, picker, wanted)
            return str(task["order_id"])

        async def waits() -> bool:
            return bool(
                await shop.rows(
                    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'claims'"
                    " AND datname = current_database() AND wait_event_type = 'Lock'"
                )
            )

        with pytest.raises(picking.NothingToPick):
            await claim(None)
        tapped = asyncio.create_task(claim(task_id))
        await eventually(waits, "the claim to wait")
    assert await tapped == order_id


async def test_a_short_pick_is_refunded_to_the_paisa(shop: Shop) -> None:
    """Missing units and their tax leave the receivable and come back to the card after capture."""
    first, second = await shop.stock(20, 6_667, 3_333)
    order_id = await shop.order_at(
        "settled", {first.sku_id: 3, second.sku_id: 3}, missing={first.sku_id: 1}
    )
    # 20001 at 5 % is 1000.05, so 1000; a third of it is 333 by the cumulative rule.
    back = 6_667 + 333
    order = await shop.order(order_id)
    assert order["refunded_minor"] == back
    assert await shop.states(order_id) == ("delivered", "done", "partially_refunded")
    assert [(entry.kind.value, entry.amount.amount_minor) for entry in shop.gateway.log] == [
        ("authorise", order["total_minor"]),
        ("capture", order["total_minor"]),
        ("refund", back),
    ]
    balances = await shop.balances(order_id)
    assert "customer_receivable" not in balances
    assert balances["gateway_clearing"] == order["total_minor"] - back
    assert balances["tax_payable"] == -(order["tax_minor"] - 333)
    # What is not there leaves the books.
    assert await shop.stock_of(first.sku_id) == (17, 0)


async def test_cash_is_asked_for_net_of_what_is_missing(shop: Shop) -> None:
    """The rider takes exactly what is due, and owes it."""
    (product,) = await shop.stock(20, 5_000)
    order_id = await shop.order_at(
        "at_door", {product.sku_id: 2}, missing={product.sku_id: 1}, method=PaymentMethod.COD
    )
    order = await shop.order(order_id)
    owed = order["total_minor"] - 5_000 - 250
    trip = await shop.trip(order_id)
    assert trip.stops[1].cash_due_minor == owed
    for taken in (None, owed - 1, order["total_minor"]):
        with pytest.raises(Invalid):
            async with shop.database.begin() as conn:
                await deliveries.complete(
                    conn, trip.rider_id, "usr_rider", trip.id, 2,
                    Proof(order["delivery_code"], taken), None,
                )  # fmt: skip
    await shop.deliver(order_id)
    await shop.settle_all()
    assert await shop.states(order_id) == ("delivered", "done", "captured")
    balances = await shop.balances(order_id)
    assert balances["rider_cash"] == owed
    assert "customer_receivable" not in balances


async def test_missing_goods_after_the_offer_lower_what_is_due(shop: Shop) -> None:
    """A rider who was offered the trip while it was picked sees the new amount."""
    (product,) = await shop.stock(20, 5_000)
    order_id = await shop.order_at("picking", {product.sku_id: 2}, method=PaymentMethod.COD)
    await shop.offer(order_id)
    await shop.accept(order_id)
    await shop.pick(order_id, {product.sku_id: 1})
    order = await shop.order(order_id)
    trip = await shop.trip(order_id)
    assert trip.stops[1].cash_due_minor == order["total_minor"] - 5_250


async def test_nothing_to_be_had_cancels_the_order(shop: Shop) -> None:
    """All lines short: no bag, no fee, the money voided, the phantom stock gone."""
    first, second = await shop.stock(3, 6_000, 4_000)
    order_id = await shop.order_at("picking", {first.sku_id: 2, second.sku_id: 1})
    task_id = await shop.task_id(order_id)
    async with shop.database.begin() as conn:
        lines = (await pick_tasks.read(conn, task_id))["lines"]
    for line in lines:
        async with shop.database.begin() as conn:
            task = await picking.short(
                conn, task_id, shop.picker_id, line["line_id"], line["quantity"], "not_found"
            )
    assert task["status"] == "cancelled"
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.stock_of(first.sku_id) == (1, 0)
    assert await shop.stock_of(second.sku_id) == (2, 0)


async def test_a_released_task_keeps_what_was_picked(shop: Shop) -> None:
    """Another picker takes over where the first one left off."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("picking", {product.sku_id: 2})
    task_id = await shop.task_id(order_id)
    async with shop.database.begin() as conn:
        (line,) = (await pick_tasks.read(conn, task_id))["lines"]
        await picking.scan(
            conn, task_id, shop.picker_id, line["line_id"], line["barcode"], line["bin"], 1
        )
        await picking.release(conn, task_id, shop.picker_id)
    async with shop.database.begin() as conn:
        other = shop.place.pickers[1].user_id
        task = await picking.claim(conn, shop.place.store.id, other, None)
    assert (task["id"], task["lines"][0]["picked"]) == (task_id, 1)
    assert (await shop.states(order_id))[0] == "picking"
