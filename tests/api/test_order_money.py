"""Cash, short picks and cancellations over the whole system, to the paisa; then ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow import (
    claim,
    collect,
    drop_off,
    on_shift,
    pick_and_pack,
    place_order,
    take_offer,
    until_status,
)
from tests.system import System
from tests.waiting import eventually


async def balances(system: System, order_id: str) -> dict[str, int]:
    """What an order left on each account."""
    rows = await system.rows(
        "SELECT p.account, sum(p.amount_minor)::bigint AS amount FROM ledger_postings p"
        " JOIN ledger_transactions t ON t.id = p.transaction_id"
        " WHERE t.order_id = :id GROUP BY 1 HAVING sum(p.amount_minor) <> 0",
        id=order_id,
    )
    return {row["account"]: row["amount"] for row in rows}


async def test_cash_from_the_door_to_the_rider_s_debt(system: System) -> None:
    """The rider is told what to take, takes it, and owes it until it is handed in."""
    place = system.take_place()
    first, second = await system.stock(place, 20, 6_000, 4_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    lines = {first.sku_id: 1, second.sku_id: 2}
    order = await place_order(customer, place, lines, method="cod", token=None)
    # 14000 of goods, 700 of tax, 2500 for the delivery.
    assert order["total"]["amount_minor"] == 17_200
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"], {second.sku_id: 1})
    trip = await take_offer(rider)
    assert trip["stops"][1]["cash_due"] == {"amount_minor": 13_000, "currency": "INR"}
    await collect(rider, picker, trip, task["id"])
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/arrive")
    await rider.refused(
        f"/v1/trips/{trip['id']}/stops/2/complete",
        {"otp": order["delivery_code"], "cash_collected": 17_200}, 422, "invalid",
    )  # fmt: skip
    await drop_off(rider, trip, order["delivery_code"], cash_collected=13_000)
    await until_status(customer, order["id"], status="delivered", payment_status="captured")
    pay = trip["pay"]["amount_minor"]
    assert await balances(system, order["id"]) == {
        "rider_cash": 13_000, "store_revenue": -14_000, "refunds": 4_000, "tax_payable": -500,
        "delivery_fees": -2_500, "rider_cost": pay, "rider_payable": -pay,
    }  # fmt: skip
    assert await system.operations(order["id"]) == []


async def test_a_short_pick_is_refunded_at_the_provider(system: System) -> None:
    """The card is captured whole and gets back exactly the missing units with their tax."""
    place = system.take_place()
    first, second = await system.stock(place, 20, 6_667, 3_333)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {first.sku_id: 3, second.sku_id: 1})
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"], {first.sku_id: 2})
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await drop_off(rider, trip, order["delivery_code"])
    done = await until_status(customer, order["id"], payment_status="partially_refunded")
    # Two of three of 20001, and two thirds of its tax of 1000, rounded down: 666.
    assert done["refunded"]["amount_minor"] == 13_334 + 666
    total = order["total"]["amount_minor"]
    log = await system.operations(order["id"])
    assert [(entry["kind"], entry["amount_minor"]) for entry in log] == [
        ("authorise", total), ("capture", total), ("refund", 14_000),
    ]  # fmt: skip
    assert (await balances(system, order["id"]))["gateway_clearing"] == total - 14_000


async def test_nothing_on_the_shelf_cancels_and_voids(system: System) -> None:
    """A picker who finds nothing ends the order; the customer pays nothing."""
    place = system.take_place()
    (product,) = await system.stock(place, 3)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 3})
    task = await claim(picker, place, order["id"])
    body = {"line_id": task["lines"][0]["line_id"], "missing": 3, "reason": "not_found"}
    gone = await picker.post(f"/v1/pick-tasks/{task['id']}/short", body)
    assert gone["status"] == "cancelled"
    await until_status(customer, order["id"], status="cancelled", payment_status="voided")
    assert [entry["kind"] for entry in await system.operations(order["id"])] == [
        "authorise", "void",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", ["confirmed", "picking"])
async def test_cancelling_costs_what_the_stage_costs(system: System, stage: str) -> None:
    """Before picking nothing; during it the fee is captured and no more."""
    place = system.take_place()
    (product,) = await system.stock(place, 5)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 2})
    if stage == "picking":
        await claim(picker, place, order["id"])
    await customer.post(f"/v1/orders/{order['id']}/cancel", {"reason": "changed my mind"})
    paid = "captured" if stage == "picking" else "voided"
    await until_status(customer, order["id"], status="cancelled", payment_status=paid)
    log = await system.operations(order["id"])
    expected = [("capture", 2_000)] if stage == "picking" else [("void", log[-1]["amount_minor"])]
    assert [(entry["kind"], entry["amount_minor"]) for entry in log[1:]] == expected
    stock = await system.rows(
        "SELECT on_hand, reserved FROM stock WHERE sku_id = :sku", sku=product.sku_id
    )
    assert stock == [{"on_hand": 5, "reserved": 0}]


async def test_verify_finds_the_running_system_clean(system: System, tmp_path: Path) -> None:
    """The command, on the system that all the tests before this one have used, gateway included."""

    async def settled() -> bool:
        rows = await system.rows(
            "SELECT 1 FROM payment_operations WHERE status IN ('pending', 'unknown')"
        )
        return not rows

    await eventually(settled, "every payment to be settled")
    told = await system.rows("SELECT id FROM orders")
    acknowledged = tmp_path / "acknowledged.txt"
    acknowledged.write_text("\n".join(row["id"] for row in told))
    lost = tmp_path / "lost.txt"
    lost.write_text("ord_never_written")
    code, report = await run_verify(system, acknowledged)
    broken = {c["name"]: c["examples"] for c in report["checks"] if c["broken_rows"]}
    assert (code, broken) == (0, {})
    assert [check["name"] for check in report["checks"] if check["skipped"]] == []
    code, report = await run_verify(system, lost)
    assert (code, report["clean"]) == (1, False)
    broken = {c["name"]: c["examples"] for c in report["checks"] if c["broken_rows"]}
    assert broken == {"acknowledged_orders_present": ["ord_never_written"]}


async def run_verify(system: System, acknowledged: Path) -> tuple[int, dict[str, Any]]:
    """``darkstore verify --json``: exit code and report."""
    code, output = await system.command("verify", "--json", "--acknowledged", str(acknowledged))
    return code, json.loads(output)
