"""Substitutes, claims and returns over the whole system, as apps and support see them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from kit.ids import new_id
from tests.cities import Place
from tests.flow import (
    checkout_body,
    claim,
    collect,
    drop_off,
    on_shift,
    pick_and_pack,
    place_order,
    quote,
    scan_line,
    take_offer,
    until_status,
)
from tests.system import Caller, System
from tests.waiting import eventually


async def order_with(
    customer: Caller, place: Place, lines: dict[str, int], substitution: str
) -> dict[str, Any]:
    made = await quote(customer, place, lines)
    body = {**checkout_body(made["id"], "tok_ok", "card"), "substitution": substitution}
    order: dict[str, Any] = await customer.post("/v1/orders", body, status=201, key=new_id("key"))
    return order


async def test_a_customer_takes_a_substitute_and_claims_it_later(system: System) -> None:
    """Offered, approved, fetched, delivered, claimed and paid back, to the paisa."""
    place = system.take_place()
    wanted, cheaper = await system.stock(place, 20, 6_000, 4_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await order_with(customer, place, {wanted.sku_id: 1}, "ask")
    rider = await on_shift(system, place, place.riders[0])
    task = await claim(picker, place, order["id"])
    line, path = task["lines"][0], f"/v1/pick-tasks/{task['id']}"
    offered = await picker.get(f"{path}/lines/{line['line_id']}/substitutes")
    assert [item["sku_id"] for item in offered["items"]] == [cheaper.sku_id]
    body = {"line_id": line["line_id"], "sku_id": cheaper.sku_id, "quantity": 1}
    task = await picker.post(f"{path}/substitute", body)
    assert task["lines"][0]["waiting"]
    await picker.refused(f"{path}/pack", {"bags": 1, "shelf": "A1"}, 409, "substitution_open")
    (asked,) = (await customer.get(f"/v1/orders/{order['id']}"))["substitutions"]
    assert (asked["status"], asked["fallback"]) == ("proposed", "refund")
    assert asked["price"] == {"amount_minor": 4_200, "currency": "INR"}
    answer = f"/v1/orders/{order['id']}/substitutions/{asked['id']}"
    stranger = await system.customer()
    await stranger.refused(f"{answer}/approve", {}, 404, "not_found")
    shown = await customer.post(f"{answer}/approve")
    assert shown["substitutions"][0]["status"] == "approved"
    await customer.refused(f"{answer}/reject", {}, 409, "substitution_decided")
    substitute = (await picker.get(path))["lines"][0]["substitutes"][0]
    await scan_line(picker, task, {**substitute, "line_id": line["line_id"]})
    await picker.post(f"{path}/pack", {"bags": 1, "shelf": "A1"})
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await drop_off(rider, trip, order["delivery_code"])
    await until_status(customer, order["id"], payment_status="partially_refunded")
    item = {"line_id": line["line_id"], "substitution_id": asked["id"], "quantity": 1}
    issue = {"kind": "damaged", "items": [item], "photo": "upl_0123456789abcdef"}
    issues = f"/v1/orders/{order['id']}/issues"
    await customer.refused(issues, {**issue, "photo": "javascript:alert(1)"}, 422, "invalid")
    made = await customer.post(issues, issue, status=201)
    assert (made["status"], made["refunded"]["amount_minor"]) == ("approved", 4_200)
    await customer.refused(issues, issue, 409, "too_many")
    changes = (await customer.get(f"/v1/orders/{order['id']}/adjustments"))["items"]
    assert [(each["kind"], each["amount"]["amount_minor"]) for each in changes] == [
        ("short_pick", 6_300), ("substitution", -4_200), ("claim", 4_200),
    ]  # fmt: skip

    async def paid_back() -> bool:
        provider = await system.operations(order["id"])
        return sum(o["amount_minor"] for o in provider if o["kind"] == "refund") == 6_300

    await eventually(paid_back, "the refunds at the provider")


async def test_support_works_through_its_own_queue(system: System) -> None:
    """The claims of its city, decided once, with the reason in the customer's view."""
    place, elsewhere = system.take_place(), system.elsewhere
    (product,) = await system.stock(place, 20, 40_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"])
    issues = f"/v1/orders/{order['id']}/issues"
    await customer.refused(issues, {"kind": "late"}, 409, "illegal_transition")
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await drop_off(rider, trip, order["delivery_code"])
    await until_status(customer, order["id"], payment_status="captured")
    made = await customer.post(issues, {"kind": "missing", "line_id": "lin_1"}, status=201)
    assert made["status"] == "open"
    support = await system.log_in(place.ops)
    queue = (await support.get("/v1/ops/claims"))["items"]
    assert [each["id"] for each in queue] == [made["id"]]
    other = await system.log_in(elsewhere.ops)
    assert (await other.get("/v1/ops/claims"))["items"] == []
    path = f"/v1/ops/claims/{made['id']}"
    body = {"reason": "one egg was broken", "amount_minor": 10_000, "refund_to": "store_credit"}
    await other.refused(f"{path}/approve", body, 404, "claim_not_found")
    await customer.refused(f"{path}/approve", body, 403, "denied")
    too_much = {**body, "amount_minor": 42_001}
    await support.refused(f"{path}/approve", too_much, 409, "refund_too_large")
    decided = await support.post(f"{path}/approve", body)
    assert (decided["status"], decided["refund_to"]) == ("approved", "store_credit")
    await support.refused(f"{path}/reject", {"reason": "no"}, 409, "claim_decided")
    (seen,) = (await customer.get(issues))["items"]
    assert (seen["reason"], seen["refunded"]["amount_minor"]) == ("one egg was broken", 10_000)
    assert "decided_by" not in seen


async def test_an_unanswered_question_is_decided_and_a_failed_delivery_comes_back(
    system: System,
) -> None:
    """The periodic job applies the default; the store throws away what it says."""
    place = system.take_place()
    wanted, other, instead = await system.stock(place, 20, 6_000, 5_000, 4_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    lines = {wanted.sku_id: 1, other.sku_id: 1}
    order = await order_with(customer, place, lines, "ask")
    rider = await on_shift(system, place, place.riders[0])
    task = await claim(picker, place, order["id"])
    line = next(line for line in task["lines"] if line["sku_id"] == wanted.sku_id)
    body = {"line_id": line["line_id"], "sku_id": instead.sku_id}
    await picker.post(f"/v1/pick-tasks/{task['id']}/substitute", body)
    async with system.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE order_substitutions SET deadline_at = darkstore_now() WHERE order_id = :id"
            ),
            {"id": order["id"]},
        )

    async def decided() -> bool:
        shown = await customer.get(f"/v1/orders/{order['id']}")
        return bool(shown["substitutions"][0]["status"] == "rejected")

    await eventually(decided, "the default")
    for each in task["lines"]:
        if each["sku_id"] == other.sku_id:
            await scan_line(picker, task, each)
    await picker.post(f"/v1/pick-tasks/{task['id']}/pack", {"bags": 1, "shelf": "A1"})
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/arrive")
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/fail", {"reason": "nobody_there"})
    await until_status(customer, order["id"], status="undeliverable", payment_status="captured")
    manager = await system.log_in(place.manager)
    wasted = {"lines": [{"sku_id": other.sku_id, "disposition": "waste"}]}
    back = await manager.post(f"/v1/ops/orders/{order['id']}/return", wasted)
    assert (back["status"], back["returned"]) == ("returned", {other.sku_id: "waste"})
    rows = await system.rows(
        "SELECT p.account, p.amount_minor FROM ledger_postings p JOIN ledger_transactions t"
        " ON t.id = p.transaction_id WHERE t.order_id = :id AND p.account = 'cancellation_fees'",
        id=order["id"],
    )
    assert rows == [{"account": "cancellation_fees", "amount_minor": -2_500}]
