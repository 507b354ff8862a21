"""Many people and many retries at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter

from kit.ids import new_id
from tests.flow import checkout_body, quote
from tests.system import System

CUSTOMERS = 200
UNITS = 10
RETRIES = 50


async def test_two_hundred_customers_want_the_last_ten(system: System) -> None:
    """Exactly ten orders; everybody else is told what is short and how little there is."""
    place = system.take_place()
    (product,) = await system.stock(place, UNITS, 12_000)
    customers = await asyncio.gather(*(system.customer() for _ in range(CUSTOMERS)))
    quotes = await asyncio.gather(
        *(quote(customer, place, {product.sku_id: 1}) for customer in customers)
    )
    answers = await asyncio.gather(
        *(
            customer.send("/v1/orders", checkout_body(made["id"]), key=new_id("key"))
            for customer, made in zip(customers, quotes, strict=True)
        )
    )
    assert Counter(answer.status_code for answer in answers) == {
        201: UNITS, 409: CUSTOMERS - UNITS,
    }  # fmt: skip
    for answer in answers:
        body = answer.json()
        if answer.status_code == 201:
            assert body["status"] == "confirmed"
            continue
        assert body["code"] == "stock_short"
        (line,) = body["lines"]
        assert (line["sku_id"], line["requested"], line["available"]) == (product.sku_id, 1, 0)
    orders = await system.rows(
        "SELECT status FROM orders WHERE store_id = :store", store=place.store.id
    )
    assert [row["status"] for row in orders] == ["confirmed"] * UNITS
    stock = await system.rows(
        "SELECT on_hand, reserved FROM stock WHERE sku_id = :sku", sku=product.sku_id
    )
    assert stock == [{"on_hand": UNITS, "reserved": UNITS}]


async def test_fifty_posts_of_one_checkout_are_one_order(system: System) -> None:
    """One order, one authorisation; every answer is that order, or says that it is in progress."""
    place = system.take_place()
    (product,) = await system.stock(place, RETRIES)
    customer = await system.customer()
    made = await quote(customer, place, {product.sku_id: 1})
    body, key = checkout_body(made["id"]), new_id("key")
    answers = await asyncio.gather(
        *(customer.send("/v1/orders", body, key=key) for _ in range(RETRIES))
    )
    by_status = Counter(answer.status_code for answer in answers)
    assert set(by_status) <= {201, 409}
    assert by_status[201] >= 1
    refusals = {a.json()["code"] for a in answers if a.status_code == 409}
    assert refusals <= {"idempotency_in_progress"}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    first = [a for a in answers if a.status_code == 201 and "idempotent-replayed" not in a.headers]
    assert len(first) == 1
    order_id = first[0].json()["id"]
    orders = await system.rows(
        "SELECT id FROM orders WHERE store_id = :store", store=place.store.id
    )
    assert [row["id"] for row in orders] == [order_id]
    log = await system.operations(order_id)
    assert [entry["kind"] for entry in log] == ["authorise"]
    again = await customer.send("/v1/orders", body, key=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.content == first[0].content
    other = await customer.send("/v1/orders", {**body, "tip": 100}, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
