"""From registering to a settled ledger, through the public API alone."""

from __future__ import annotations

from kit.ids import new_id
from tests.flow import (
    collect,
    drop_off,
    on_shift,
    pick_and_pack,
    place_order,
    take_offer,
    until_status,
)
from tests.system import Caller, System


async def ledger_of(system: System, order_id: str) -> dict[tuple[str, str], int]:
    """Balances of an order's postings by (transaction kind, account)."""
    rows = await system.rows(
        "SELECT t.kind, p.account, sum(p.amount_minor)::bigint AS amount_minor"
        " FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id"
        " WHERE t.order_id = :order_id GROUP BY 1, 2",
        order_id=order_id,
    )
    return {(row["kind"], row["account"]): row["amount_minor"] for row in rows}


async def registered(system: System) -> Caller:
    body = {"email": f"{new_id('tst')}@darkstore.example", "password": "correct horse battery",
            "name": "Ana Lima"}  # fmt: skip
    answer = await system.http.post("/v1/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return Caller(system.http, answer.json()["access_token"], answer.json()["user"]["id"])


async def test_a_card_order_from_registering_to_a_settled_ledger(system: System) -> None:
    """Every state is passed once, and the ledger holds exactly what was sold, taxed and earned."""
    place = system.take_place()
    first, second = await system.stock(place, 20, 6_000, 4_000)
    customer, picker = await registered(system), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {first.sku_id: 2, second.sku_id: 1}, tip=1_500)
    assert (order["status"], order["payment_status"]) == ("confirmed", "authorised")
    # 16000 of goods at 5 %, under the limit of free delivery, above that of small orders.
    assert order["items_total"]["amount_minor"] == 16_000
    assert order["tax"]["amount_minor"] == 800
    assert order["delivery_fee"]["amount_minor"] == 2_500
    assert order["total"] == {"amount_minor": 20_800, "currency": "INR"}
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"])
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await drop_off(rider, trip, order["delivery_code"])
    done = await until_status(customer, order["id"], payment_status="captured")
    assert (done["status"], done["delivery_status"]) == ("delivered", "done")

    history = (await customer.get(f"/v1/orders/{order['id']}/history"))["items"]
    assert [entry["seq"] for entry in history] == list(range(1, len(history) + 1))
    passed = {
        machine: [entry["to"] for entry in history if entry["machine"] == machine]
        for machine in ("order", "delivery", "payment")
    }
    assert passed["order"] == [
        "placed", "confirmed", "picking", "packed", "picked_up", "arriving", "delivered",
    ]  # fmt: skip
    assert passed["delivery"] == [
        "unassigned", "offered", "assigned", "at_store", "collected", "at_door", "done",
    ]  # fmt: skip
    assert passed["payment"] == ["pending", "authorised", "captured"]

    pay = trip["pay"]["amount_minor"]
    assert await ledger_of(system, order["id"]) == {
        ("sale", "customer_receivable"): 20_800,
        ("sale", "store_revenue"): -16_000,
        ("sale", "tax_payable"): -800,
        ("sale", "delivery_fees"): -2_500,
        ("sale", "tips_payable"): -1_500,
        ("capture", "gateway_clearing"): 20_800,
        ("capture", "customer_receivable"): -20_800,
        ("rider_earning", "rider_cost"): pay,
        ("rider_earning", "tips_payable"): 1_500,
        ("rider_earning", "rider_payable"): -(pay + 1_500),
    }
    earned = await rider.get("/v1/riders/me/earnings")
    assert earned["totals"] == [{"amount_minor": pay + 1_500, "currency": "INR"}]
    log = await system.operations(order["id"])
    assert [(entry["kind"], entry["amount_minor"]) for entry in log] == [
        ("authorise", 20_800), ("capture", 20_800),
    ]  # fmt: skip
    stock = await system.rows(
        "SELECT sku_id, on_hand, reserved FROM stock WHERE store_id = :store ORDER BY sku_id",
        store=place.store.id,
    )
    assert {row["sku_id"]: (row["on_hand"], row["reserved"]) for row in stock} == {
        first.sku_id: (18, 0), second.sku_id: (19, 0),
    }  # fmt: skip
