"""Picking, riding, cancelling and settling on a real database, with exact amounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from kit.db import Database
from kit.errors import IllegalTransition, Invalid, NotFound
from orders import deliveries, offers, picking, reassigning, returns
from orders.cancellation import cancel_as_customer, cancel_as_staff
from orders.deliveries import Proof
from orders.errors import (
    LeaseLost,
    NotPicked,
    OfferExpired,
    StaleAssignment,
    TooMany,
    WrongBin,
    WrongDeliveryCode,
    WrongProduct,
    WrongRider,
)
from orders.model import PaymentMethod
from orders.picking import NothingToPick, NotYours
from riders import leases
from riders.model import DeclineReason
from server.verify import verify_database
from stores import picking as pick_tasks
from tests.order_support import NEVER_SEEN, SUCCEEDED, UNAVAILABLE, UNKNOWN, Shop, open_shop
from tests.support import Addresses, new_database, opened_database

FEE = 2_000


@pytest.fixture(scope="module")
async def own_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """One database for this module, so that its last test can judge all that the others did."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database


@pytest.fixture
async def shop(own_database: Database) -> Shop:
    return await open_shop(own_database)


# Cancelling at each stage.


@pytest.mark.parametrize(
    ("stage", "fee"), [("confirmed", 0), ("picking", FEE)], ids=["confirmed", "picking"]
)
async def test_a_customer_cancels_until_it_is_packed(shop: Shop, stage: str, fee: int) -> None:
    """Free before picking; while it is picked the fee is captured and the rest released."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at(stage, {product.sku_id: 2})
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    await shop.settle_all()
    paid = "captured" if fee else "voided"
    assert await shop.states(order_id) == ("cancelled", "cancelled", paid)
    assert await shop.stock_of(product.sku_id) == (20, 0)
    if fee:
        assert await shop.balances(order_id) == {
            "gateway_clearing": FEE, "cancellation_fees": -FEE,
        }  # fmt: skip
    else:
        assert await shop.balances(order_id) == {}
    await shop.relay()
    with pytest.raises(NothingToPick):
        async with shop.database.begin() as conn:
            await picking.claim(conn, shop.place.store.id, shop.picker_id, None)


async def test_cash_costs_nothing_to_cancel(shop: Shop) -> None:
    """There is nothing to take a fee from."""
    order_id = await shop.order_at("picking", method=PaymentMethod.COD)
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.balances(order_id) == {}


async def test_after_packing_only_staff_cancels_and_the_bag_goes_back(shop: Shop) -> None:
    """The customer is refused; staff voids the money, restocks the bag and frees the rider."""
    (product,) = await shop.stock(20)
    order_id = await shop.order_at("at_store", {product.sku_id: 3})
    assert await shop.stock_of(product.sku_id) == (17, 0)
    trip = await shop.trip(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await cancel_as_customer(conn, order_id, shop.customer_id, "no", FEE)
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, order_id, "usr_staff", "spilled")
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.stock_of(product.sku_id) == (20, 0)
    rows = await shop.rows("SELECT status FROM trips WHERE id = :id", id=trip.id)
    assert rows == [{"status": "cancelled"}]


@pytest.mark.parametrize("stage", ["collected", "at_door", "delivered"])
async def test_nobody_cancels_what_has_left_the_store(shop: Shop, stage: str) -> None:
    """From the handover on only the rider can end it otherwise."""
    order_id = await shop.order_at(stage)
    before = await shop.order(order_id)
    with pytest.raises(IllegalTransition):
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, order_id, "usr_staff", "no")
    assert await shop.order(order_id) == before


async def test_cancelling_an_offered_order_closes_the_offer(shop: Shop) -> None:
    """The rider is free again and taking the offer is too late."""
    order_id = await shop.order_at("offered")
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, order_id, "usr_staff", "no")
    with pytest.raises(OfferExpired):
        async with shop.database.begin() as conn:
            await offers.accept(conn, trip.rider_id, trip.offer_id or "")
    assert await shop.order_at("assigned")


# Picking.


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


# Riding.


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


# Dispatching.


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


# Settling.


async def test_a_capture_without_an_answer_is_looked_up_then_booked_once(shop: Shop) -> None:
    """Unknown captures are asked about; whatever comes twice, the ledger has it once."""
    order_id = await shop.order_at("delivered")
    shop.gateway.script = {"capture": [UNKNOWN], "lookup": [UNKNOWN, SUCCEEDED]}
    await shop.settle_all()
    assert await shop.states(order_id) == ("delivered", "done", "captured")
    kinds = [kind for kind, _ in shop.gateway.asked]
    assert kinds == ["authorise", "capture", "lookup", "lookup"]
    rows = await shop.rows(
        "SELECT id FROM payment_operations WHERE order_id = :id AND kind = 'capture'", id=order_id
    )
    await shop.settle_one(rows[0]["id"])
    posted = await shop.rows(
        "SELECT count(*) AS n FROM ledger_transactions WHERE order_id = :id AND kind = 'capture'",
        id=order_id,
    )
    assert posted == [{"n": 1}]


async def test_a_capture_that_never_arrived_is_sent_again(shop: Shop) -> None:
    """Not found at the gateway: the very same operation goes out again, under its key."""
    order_id = await shop.order_at("delivered")
    shop.gateway.script = {"capture": [UNKNOWN, UNAVAILABLE], "lookup": [NEVER_SEEN]}
    await shop.settle_all()
    assert (await shop.states(order_id))[2] == "captured"
    captures = {key for kind, key in shop.gateway.asked if kind == "capture"}
    assert len(captures) == 1


async def test_all_of_this_is_clean(shop: Shop) -> None:
    """After all that the tests of this module did, with every refusal in it, no invariant broke."""
    await shop.relay()
    checks = await verify_database(shop.database, None, patience_s=3600.0)
    assert {check.name: check.examples for check in checks if check.broken_rows} == {}
