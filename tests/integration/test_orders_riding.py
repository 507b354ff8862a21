"""Offers, handovers and doors: who gets the bag, and what an order that fails leaves behind."""

from __future__ import annotations

import pytest

from kit.db import Database
from kit.errors import IllegalTransition, NotFound
from orders import deliveries, offers, picking, reassigning, returns
from orders.cancellation import cancel_as_staff
from orders.deliveries import Proof
from orders.errors import (
    OfferExpired,
    WrongDeliveryCode,
    WrongRider,
)
from riders.model import DeclineReason
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    return await open_shop(judged_database)


async def test_a_declined_offer_goes_to_somebody_else_for_good(shop: Shop) -> None:
    """The order is free again, and the decliner stands on its list."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    for _ in range(2):
        async with shop.database.begin() as conn:
            await offers.decline(
                conn,
                shop.rider_settings.offers,
                trip.rider_id,
                trip.offer_id or "",
                DeclineReason.TOO_FAR,
            )
    assert (await shop.states(order_id))[1] == "unassigned"
    with pytest.raises(OfferExpired):
        async with shop.database.begin() as conn:
            await offers.accept(conn, trip.rider_id, trip.offer_id or "")
    rows = await shop.rows("SELECT rider_id FROM declines WHERE order_id = :id", id=order_id)
    assert rows == [{"rider_id": shop.rider_id}]
    other = shop.place.riders[1].rider_id
    assert other is not None
    await shop.offer(order_id, rider_id=other)
    assert (await shop.accept(order_id)).rider_id == other


async def test_an_offer_ends_with_its_time(shop: Shop) -> None:
    """After it has run out nobody can take it, and the rider is not asked again."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await conn.exec_driver_sql(
            "UPDATE offers SET expires_at = darkstore_now() WHERE id = $1", (trip.offer_id,)
        )
    with pytest.raises(OfferExpired):
        async with shop.database.begin() as conn:
            await offers.accept(conn, trip.rider_id, trip.offer_id or "")
    async with shop.database.begin() as conn:
        await offers.expire(conn, trip.id)
    assert (await shop.states(order_id))[1] == "unassigned"
    rows = await shop.rows("SELECT rider_id FROM declines WHERE order_id = :id", id=order_id)
    assert rows == [{"rider_id": trip.rider_id}]


async def test_only_the_right_rider_gets_the_bag(shop: Shop) -> None:
    """A wrong code is refused; before packing and before arrival there is no handover."""
    order_id = await shop.order_at("assigned")
    task_id = await shop.task_id(order_id)
    trip = await shop.trip(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await picking.hand_over(conn, task_id, shop.picker_id, trip.rider_code)
    await shop.arrive(order_id, 1)
    wrong = f"{(int(trip.rider_code) + 1) % 10_000:04d}"
    with pytest.raises(WrongRider):
        async with shop.database.begin() as conn:
            await picking.hand_over(conn, task_id, shop.picker_id, wrong)
    await shop.hand_over(order_id)
    assert (await shop.states(order_id))[:2] == ("picked_up", "collected")


async def test_the_door_opens_with_the_code_alone(shop: Shop) -> None:
    """Wrong or no code: nothing changes; a foreign rider has no such trip."""
    order_id = await shop.order_at("at_door")
    trip = await shop.trip(order_id)
    before = await shop.order(order_id)
    for code in (None, "", "12345", f"{(int(before['delivery_code']) + 1) % 10_000:04d}"):
        with pytest.raises(WrongDeliveryCode):
            async with shop.database.begin() as conn:
                await deliveries.complete(
                    conn, trip.rider_id, "usr_rider", trip.id, 2, Proof(code, None), None
                )
    with pytest.raises(NotFound):
        async with shop.database.begin() as conn:
            await deliveries.complete(
                conn, "rdr_other", "usr_other", trip.id, 2,
                Proof(before["delivery_code"], None), None,
            )  # fmt: skip
    assert await shop.order(order_id) == before


async def test_replayed_actions_do_nothing_twice(shop: Shop) -> None:
    """A phone that sends arrive and complete again gets the trip as it is."""
    order_id = await shop.order_at("at_door")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        again = await deliveries.arrive(conn, trip.rider_id, "usr_r", trip.id, 1, None)
    assert again == trip
    done = await shop.deliver(order_id)
    code = (await shop.order(order_id))["delivery_code"]
    async with shop.database.begin() as conn:
        twice = await deliveries.complete(
            conn, trip.rider_id, "usr_r", trip.id, 2, Proof(code, None), None
        )
    assert twice == done
    rows = await shop.rows(
        "SELECT count(*) AS n FROM earnings WHERE order_id = :id AND kind = 'delivery'",
        id=order_id,
    )
    assert rows == [{"n": 1}]


async def test_a_failed_delivery_is_not_charged_and_comes_back(shop: Shop) -> None:
    """Undeliverable: voided at once; restocked when the store has it back, once."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("at_door", {product.sku_id: 3})
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        ended = await deliveries.fail(
            conn, trip.rider_id, "usr_r", trip.id, 2, "nobody_there", None
        )
    assert ended.status.value == "completed"
    await shop.settle_all()
    assert await shop.states(order_id) == ("undeliverable", "failed", "voided")
    assert await shop.stock_of(product.sku_id) == (17, 0)
    async with shop.database.begin() as conn:
        await returns.take_back(conn, shop.settings.returns, order_id, "usr_staff")
    assert await shop.stock_of(product.sku_id) == (20, 0)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await returns.take_back(conn, shop.settings.returns, order_id, "usr_staff")
    assert await shop.balances(order_id) == {}


async def test_ops_takes_a_rider_off_until_the_bag_is_collected(shop: Shop) -> None:
    """The order is planned anew without that rider; later it is too late."""
    order_id = await shop.order_at("at_store")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await reassigning.unassign(conn, trip.id, "usr_ops", "broken down")
    order = await shop.order(order_id)
    assert (order["delivery_status"], order["rider_id"]) == ("unassigned", None)
    other = shop.place.riders[1].rider_id
    await shop.offer(order_id, rider_id=other)
    await shop.accept(order_id)
    await shop.arrive(order_id, 1)
    await shop.hand_over(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await reassigning.unassign(conn, (await shop.trip(order_id)).id, "usr_ops", "late")


async def test_a_batch_survives_the_loss_of_one_order(shop: Shop) -> None:
    """Two orders on one offer, one cancelled: the other is accepted, brought, and paid in full."""
    (product,) = await shop.stock(20)
    first = await shop.order_at("packed", {product.sku_id: 1})
    second = await shop.order_at("packed", {product.sku_id: 1})
    await shop.offer(first, second)
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, first, "usr_staff", "spilled")
    trip = await shop.accept(second)
    assert trip.kept_order_ids == (second,)
    await shop.arrive(second, 2)
    await shop.hand_over(second)
    await shop.arrive(second, 4)
    done = await shop.deliver(second, 4)
    assert done.status.value == "completed"
    await shop.settle_all()
    assert await shop.states(second) == ("delivered", "done", "captured")
    rows = await shop.rows("SELECT amount_minor FROM earnings WHERE order_id = :id", id=second)
    assert rows == [{"amount_minor": trip.pay_minor}]
