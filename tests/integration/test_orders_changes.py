"""Another door, a cancellation by its rules, the same order again: on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from geo.distances import Point
from kit.db import Database
from kit.errors import DarkstoreError, IllegalTransition, Invalid
from orders import address, cancellation
from orders.address import Door
from orders.cancellation_rules import Party, Terms
from orders.carts import Carts
from orders.errors import NotServiceable, PromiseLater
from orders.model import PaymentMethod
from orders.reorder import old_order, reorder
from orders.rows import read_row
from orders.settings import CancellationFees
from riders.model import StopKind
from tests.order_support import Shop, open_shop

FEES = CancellationFees(picking_minor=2_000, cap_minor=3_000)


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


def door(shop: Shop, north: float, text: str = "2 New Street") -> Door:
    store = shop.place.store
    return Door(Point(store.lat + north, store.lon), text, "second floor")


async def change(shop: Shop, order_id: str, to: Door, *, accept: bool = False) -> int:
    async with shop.database.begin() as conn:
        return await address.change_address(
            conn, shop.territory, shop.settings, order_id, shop.customer_id, to,
            accept_promise=accept,
        )  # fmt: skip


async def events(shop: Shop, stream: str, event_type: str) -> list[dict[str, Any]]:
    rows = await shop.rows(
        "SELECT data FROM outbox WHERE stream = :stream AND type = :type ORDER BY seq",
        stream=stream, type=event_type,
    )  # fmt: skip
    return [row["data"] for row in rows]


async def test_a_nearer_door_changes_nothing_that_was_promised(shop: Shop) -> None:
    """Address and way are new, promise and price are the old ones, and the old address is kept."""
    order_id = await shop.order_at("picking")
    before = await shop.order(order_id)
    assert await change(shop, order_id, door(shop, 0.002)) == 0
    after = await shop.order(order_id)
    assert (after["address"], after["address_note"]) == ("2 New Street", "second floor")
    assert after["travel_s"] < before["travel_s"]
    assert after["promised_high_at"] == before["promised_high_at"]
    assert after["total_minor"] == before["total_minor"]
    assert after["version"] == before["version"] + 1
    kept = await shop.rows(
        "SELECT address, actor FROM order_past_addresses WHERE order_id = :id", id=order_id
    )
    assert kept == [{"address": "1 Test Street", "actor": shop.customer_id}]
    assert await change(shop, order_id, door(shop, 0.002)) == 0
    assert (await shop.order(order_id))["version"] == after["version"]


async def test_a_longer_way_has_to_be_accepted(shop: Shop) -> None:
    """The refusal tells the new promise; accepted, it moves later by just the longer way."""
    order_id = await shop.order_at("confirmed")
    before = await shop.order(order_id)
    with pytest.raises(PromiseLater) as refused:
        await change(shop, order_id, door(shop, 0.009))
    assert await shop.order(order_id) == before
    later_s = await change(shop, order_id, door(shop, 0.009), accept=True)
    after = await shop.order(order_id)
    assert later_s == refused.value.extra["later_s"] == after["travel_s"] - before["travel_s"]
    assert (after["promised_high_at"] - before["promised_high_at"]).total_seconds() == later_s
    assert (after["promised_low_at"] - before["promised_low_at"]).total_seconds() == later_s


async def test_another_stores_door_is_refused(shop: Shop) -> None:
    """The goods lie in the store of the order."""
    order_id = await shop.order_at("confirmed")
    with pytest.raises(NotServiceable):
        await change(shop, order_id, door(shop, 0.5), accept=True)


async def test_the_rider_hears_of_the_new_door_and_nobody_else_of_the_address(shop: Shop) -> None:
    """The trip's stop moves; no event carries an address."""
    order_id = await shop.order_at("assigned")
    old = (await shop.trip(order_id)).stops[1]
    later_s = await change(shop, order_id, door(shop, 0.009), accept=True)
    trip = await shop.trip(order_id)
    stop = next(s for s in trip.stops if s.kind is StopKind.DROPOFF)
    assert (stop.lat, stop.lon) == (shop.place.store.lat + 0.009, shop.place.store.lon)
    planned, planned_before = (datetime.fromisoformat(s.planned_at) for s in (stop, old))
    assert (planned - planned_before).total_seconds() == later_s
    told = (await events(shop, f"rider:{trip.rider_id}", "trip.changed"))[-1]
    assert told["stops"][1]["lat"] == stop.lat
    (promise,) = await events(shop, f"order:{order_id}", "order.promise")
    assert promise["reason"] == "address_changed"
    written = await shop.rows("SELECT 1 FROM outbox WHERE data::text LIKE '%New Street%'")
    assert written == []
    await shop.relay()


@pytest.mark.parametrize("stage", ["collected", "at_door", "delivered"])
async def test_the_address_is_fixed_once_the_rider_has_the_bags(shop: Shop, stage: str) -> None:
    """From the handover on the rider is on the way to the old door."""
    order_id = await shop.order_at(stage)
    with pytest.raises(IllegalTransition):
        await change(shop, order_id, door(shop, 0.002))


async def test_address_against_handover_never_splits(shop: Shop) -> None:
    """Either the rider leaves with the new address, or the change is refused."""
    for _ in range(2):
        shop_now = await open_shop(shop.database)
        order_id = await shop_now.order_at("at_store")
        told = await asyncio.gather(
            change(shop_now, order_id, door(shop_now, 0.002)),
            shop_now.hand_over(order_id),
            return_exceptions=True,
        )
        refused = isinstance(told[0], IllegalTransition)
        assert refused or told[0] == 0, told
        assert told[1] is None
        order = await shop_now.order(order_id)
        stop = (await shop_now.trip(order_id)).stops[1]
        assert order["status"] == "picked_up"
        assert (stop.lat, stop.lon) == (order["lat"], order["lon"])
        assert (order["address"] == "1 Test Street") is refused


async def cancel_as(shop: Shop, order_id: str, party: Party, charge: int | None = 0) -> Terms:
    async with shop.database.begin() as conn:
        if party is Party.CUSTOMER:
            return await cancellation.cancel_as_customer(
                conn, order_id, shop.customer_id, "no", FEES.picking_minor
            )
        if party is Party.SUPPORT:
            return await cancellation.cancel_as_support(
                conn, order_id, "usr_support", "customer_request", FEES, charge
            )
        return await cancellation.cancel_as_staff(conn, order_id, "usr_staff", "spilled", party)


@pytest.mark.parametrize(
    ("party", "stage", "charge", "fee"),
    [
        (Party.CUSTOMER, "confirmed", None, 0),
        (Party.CUSTOMER, "picking", None, 2_000),
        (Party.STORE, "packed", None, 0),
        (Party.SUPPORT, "picking", 0, 0),
        (Party.SUPPORT, "confirmed", None, 0),
        (Party.SUPPORT, "packed", None, 2_000),
        (Party.SUPPORT, "at_store", 2_999, 2_999),
    ],
)
async def test_the_fee_is_what_the_rules_say(
    shop: Shop, party: Party, stage: str, charge: int | None, fee: int
) -> None:
    """Fee and refund add up to the total, in the answer, in the order's row, and at the gateway."""
    order_id = await shop.order_at(stage)
    total = (await shop.order(order_id))["total_minor"]
    terms = await cancel_as(shop, order_id, party, charge)
    assert (terms.fee_minor, terms.refund_minor) == (fee, total - fee)
    kept = await shop.rows(
        "SELECT party, fee_minor, refund_minor FROM order_cancellations WHERE order_id = :id",
        id=order_id,
    )
    assert kept == [{"party": party.value, "fee_minor": fee, "refund_minor": total - fee}]
    await shop.settle_all()
    assert (await shop.states(order_id))[2] == ("captured" if fee else "voided")
    expected = {"gateway_clearing": fee, "cancellation_fees": -fee} if fee else {}
    assert await shop.balances(order_id) == expected


async def test_support_charges_no_more_than_the_cap(shop: Shop) -> None:
    """And never more than the order costs, nor anything of an order to be paid in cash."""
    order_id = await shop.order_at("packed")
    with pytest.raises(Invalid):
        await cancel_as(shop, order_id, Party.SUPPORT, FEES.cap_minor + 1)
    (cheap,) = await shop.stock(5, 100)
    little = await shop.order_at("packed", {cheap.sku_id: 1})
    total = (await shop.order(little))["total_minor"]
    cash = await shop.order_at("picking", method=PaymentMethod.COD)
    terms = await cancel_as(shop, cash, Party.CUSTOMER)
    assert (terms.fee_minor, terms.refund_minor) == (0, 0)
    dear = CancellationFees(picking_minor=10 * total, cap_minor=10 * total)
    async with shop.database.begin() as conn:
        charged = await cancellation.cancel_as_support(
            conn, little, "usr_support", "duplicate", dear, None
        )
    assert (charged.fee_minor, charged.refund_minor) == (total, 0)


async def test_the_preview_is_what_happens(shop: Shop) -> None:
    """Before and after packing, for the customer: the fee, then the reason why not."""
    order_id = await shop.order_at("picking")
    async with shop.database.begin() as conn:
        seen = cancellation.preview(await read_row(conn, order_id), Party.CUSTOMER, FEES)
    assert await cancel_as(shop, order_id, Party.CUSTOMER) == seen
    packed = await shop.order_at("packed")
    async with shop.database.begin() as conn:
        late = cancellation.preview(await read_row(conn, packed), Party.CUSTOMER, FEES)
    assert not late.allowed
    with pytest.raises(IllegalTransition, match=r"packed"):
        await cancel_as(shop, packed, Party.CUSTOMER)


async def test_two_cancellations_take_one_fee(shop: Shop) -> None:
    """Customer and store at once: one of them is told that it is over."""
    order_id = await shop.order_at("picking")
    told = await asyncio.gather(
        cancel_as(shop, order_id, Party.CUSTOMER),
        cancel_as(shop, order_id, Party.STORE),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, DarkstoreError) for result in told) == [False, True]
    rows = await shop.rows(
        "SELECT count(*) AS n FROM order_cancellations WHERE order_id = :id", id=order_id
    )
    assert rows == [{"n": 1}]


async def test_the_same_again_at_todays_price_and_as_far_as_it_goes(
    shop: Shop, redis: Redis
) -> None:
    """Dearer, fewer, gone: each line says so, the cart holds the rest, and twice is once."""
    dearer, fewer, gone, other = await shop.stock(5, 1_000, 2_000, 3_000, 4_000)
    lines = {dearer.sku_id: 1, fewer.sku_id: 4, gone.sku_id: 2}
    order_id = await shop.order_at("confirmed", lines)
    for statement in (
        "UPDATE prices SET price_minor = 1100, list_price_minor = 1100 WHERE sku_id = :dearer",
        "UPDATE stock SET on_hand = reserved WHERE sku_id = :gone",
    ):
        await shop.rows(f"{statement} RETURNING 1", **_named(statement, dearer, gone))

    async def units(store_id: str, sku_ids: Sequence[str]) -> Mapping[str, int]:
        free = {sku_id: await shop.stock_of(sku_id) for sku_id in sku_ids}
        return {sku_id: on_hand - reserved for sku_id, (on_hand, reserved) in free.items()}

    carts = Carts(shop.database, redis, units)
    await carts.put_line(shop.customer_id, shop.place.store.id, other.sku_id, 1, 1)
    for _ in range(2):
        async with shop.database.begin() as conn:
            old = await old_order(conn, order_id)
        told = await reorder(carts, shop.customer_id, old, 2)
        held = {line.line.sku_id: line.line.quantity for line in told.cart.lines}
        assert held == {other.sku_id: 1, dearer.sku_id: 1, fewer.sku_id: 1}
        assert [entry.line.sku_id for entry in told.gone] == [gone.sku_id]
        assert [(e.line.sku_id, e.available) for e in told.short] == [(fewer.sku_id, 1)]
        assert [e.price.amount_minor for e in told.repriced] == [1_100]


def _named(statement: str, dearer: Any, gone: Any) -> dict[str, str]:
    return {"dearer": dearer.sku_id} if ":dearer" in statement else {"gone": gone.sku_id}
