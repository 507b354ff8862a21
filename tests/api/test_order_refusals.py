"""What the API refuses: with the right code, and without a trace in the database."""

from __future__ import annotations

from typing import Any

from tests.flow import (
    claim,
    collect,
    drop_off,
    on_shift,
    pick_and_pack,
    place_order,
    scan_line,
    take_offer,
    until_status,
)
from tests.system import System

# Everything that a refused request could have touched, and what finds the rows of an order in it.
BY_ORDER = (
    "order_history", "order_lines", "order_adjustments", "reservations", "reservation_lines",
    "pick_tasks", "assignments", "payment_operations", "ledger_transactions", "earnings",
)  # fmt: skip
BY_STORE = ("stock", "stock_movements", "lots", "trips")
TABLES = {
    "orders": "id = :order",
    **dict.fromkeys(BY_ORDER, "order_id = :order"),
    **dict.fromkeys(BY_STORE, "store_id = :store"),
    "pick_task_lines": "pick_task_id IN (SELECT id FROM pick_tasks WHERE order_id = :order)",
    "trip_stops": "trip_id IN (SELECT id FROM trips WHERE store_id = :store)",
    "offers": "trip_id IN (SELECT id FROM trips WHERE store_id = :store)",
    "ledger_postings": "transaction_id IN"
    " (SELECT id FROM ledger_transactions WHERE order_id = :order)",
}


NOT_YET = {"order_adjustments", "ledger_transactions", "ledger_postings", "earnings"}


async def fingerprint(system: System, order_id: str, store_id: str) -> dict[str, Any]:
    """The rows of an order, of its store and of their trips: other cities go on meanwhile."""
    found: dict[str, Any] = {}
    for table, ours in TABLES.items():
        rows = await system.rows(
            f"SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS sum"
            f" FROM {table} t WHERE {ours}",
            **{name: value for name, value in (("order", order_id), ("store", store_id))
               if f":{name}" in ours},
        )  # fmt: skip
        found[table] = rows[0]["count"], rows[0]["sum"]
    return found


async def test_illegal_steps_change_nothing(system: System) -> None:
    """At every stage the steps of other stages are refused, with 409 and nothing else."""
    place = system.take_place()
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    task = await pick_and_pack(picker, place, order["id"])
    rider = await on_shift(system, place, place.riders[0])
    trip = await take_offer(rider)
    trips, tasks = f"/v1/trips/{trip['id']}/stops", f"/v1/pick-tasks/{task['id']}"
    seen = await fingerprint(system, order["id"], place.store.id)
    # Nothing is paid yet, so nothing is booked; every other table has rows to look at.
    assert {table for table, (rows, _) in seen.items() if not rows} <= NOT_YET
    code = {"otp": order["delivery_code"]}

    async def refused(who: Any, path: str, body: dict[str, object], status: int, code: str) -> None:
        before = await fingerprint(system, order["id"], place.store.id)
        await who.refused(path, body, status, code)
        assert await fingerprint(system, order["id"], place.store.id) == before, path

    illegal = (409, "illegal_transition")
    # Before the rider is at the store.
    await refused(picker, f"{tasks}/handover", {"rider_code": trip["rider_code"]}, *illegal)
    await refused(rider, f"{trips}/2/arrive", {}, *illegal)
    await refused(rider, f"{trips}/2/complete", code, *illegal)
    await refused(rider, f"{trips}/1/complete", code, *illegal)
    await refused(rider, f"{trips}/1/fail", {"reason": "other"}, *illegal)
    await refused(customer, f"/v1/orders/{order['id']}/cancel", {}, *illegal)
    await refused(picker, f"{tasks}/pack", {"bags": 1, "shelf": "A1"}, 409, "pick_task_not_yours")
    await refused(customer, f"/v1/orders/{order['id']}/rating", {"stars": 5}, 409, "conflict")
    await rider.post(f"{trips}/1/arrive")
    wrong = f"{(int(trip['rider_code']) + 1) % 10_000:04d}"
    await refused(picker, f"{tasks}/handover", {"rider_code": wrong}, 403, "wrong_rider")
    await collect(rider, picker, trip, task["id"])
    # On the way.
    await refused(picker, f"{tasks}/handover", {"rider_code": trip["rider_code"]}, *illegal)
    await refused(rider, f"{trips}/2/complete", code, *illegal)
    manager = await system.log_in(place.manager)
    await refused(manager, f"/v1/orders/{order['id']}/cancel", {}, *illegal)
    ops = await system.log_in(place.ops)
    unassign = f"/v1/ops/orders/{order['id']}/unassign"
    await refused(ops, unassign, {"reason": "late"}, *illegal)
    await refused(ops, f"/v1/ops/orders/{order['id']}/return", {"restock": True}, *illegal)
    await rider.post(f"{trips}/2/arrive")
    wrong_otp = {"otp": f"{(int(order['delivery_code']) + 1) % 10_000:04d}"}
    await refused(rider, f"{trips}/2/complete", wrong_otp, 403, "wrong_delivery_code")
    await drop_off(rider, trip, order["delivery_code"])
    await until_status(customer, order["id"], payment_status="captured")
    # Afterwards.
    await refused(rider, f"{trips}/2/fail", {"reason": "refused"}, *illegal)
    await refused(customer, f"/v1/orders/{order['id']}/cancel", {}, *illegal)
    await customer.post(f"/v1/orders/{order['id']}/rating", {"stars": 5}, status=201)
    await refused(customer, f"/v1/orders/{order['id']}/rating", {"stars": 1}, 409, "already_rated")


async def test_wrong_scans_over_http(system: System) -> None:
    """Another product, another bin and one too many each have their code."""
    place = system.take_place()
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    task = await claim(picker, place, order["id"])
    (line,) = task["lines"]
    scan = {"line_id": line["line_id"], "barcode": line["barcode"], "bin": line["bin"],
            "quantity": 1}  # fmt: skip
    path = f"/v1/pick-tasks/{task['id']}/scan"
    await picker.refused(path, {**scan, "barcode": "12345678"}, 409, "wrong_product")
    await picker.refused(path, {**scan, "bin": "ZZ-9"}, 409, "wrong_bin")
    await picker.refused(path, {**scan, "quantity": 2}, 409, "too_many")
    pack = f"/v1/pick-tasks/{task['id']}/pack"
    await picker.refused(pack, {"bags": 1, "shelf": "A1"}, 409, "not_picked")
    await scan_line(picker, task, line)
    await picker.refused(path, scan, 409, "too_many")
    packed = await picker.post(pack, {"bags": 1, "shelf": "A1"})
    assert [each["picked"] for each in packed["lines"]] == [1]


async def test_foreign_objects_are_not_there(system: System) -> None:
    """Another customer's order, another store's tasks, another rider's trip: 404, not 403."""
    place, elsewhere = system.take_place(), system.elsewhere
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    task = await pick_and_pack(picker, place, order["id"])
    rider = await on_shift(system, place, place.riders[0])
    trip = await take_offer(rider)
    stranger = await system.customer()
    foreign_picker = await system.log_in(elsewhere.pickers[0])
    foreign_rider = await system.log_in(elsewhere.riders[0])
    foreign_manager = await system.log_in(elsewhere.manager)
    foreign_ops = await system.log_in(elsewhere.ops)
    order_path = f"/v1/orders/{order['id']}"
    for who in (stranger, foreign_rider, foreign_picker, foreign_manager, foreign_ops):
        await who.get(order_path, 404)
        await who.get(f"{order_path}/history", 404)
    await stranger.refused(f"{order_path}/cancel", {}, 404, "not_found")
    await foreign_manager.refused(f"{order_path}/cancel", {}, 404, "not_found")
    await foreign_ops.refused(f"/v1/ops{order_path[3:]}/unassign", {"reason": "x"}, 404,
                              "not_found")  # fmt: skip
    await foreign_picker.get(f"/v1/pick-tasks/{task['id']}", 404)
    await foreign_picker.get(f"/v1/stores/{place.store.id}/pick-tasks", 404)
    await foreign_picker.refused(
        f"/v1/pick-tasks/{task['id']}/handover", {"rider_code": trip["rider_code"]}, 404,
        "not_found",
    )  # fmt: skip
    await foreign_rider.refused(f"/v1/trips/{trip['id']}/stops/1/arrive", {}, 404, "not_found")
    await stranger.get(f"/v1/stores/{place.store.id}/pick-tasks", 403)
    # The right people see it, and only the customer sees the code.
    for member in (place.manager, place.ops, place.riders[0]):
        seen = await (await system.log_in(member)).get(order_path)
        assert "delivery_code" not in seen
    assert (await customer.get(order_path))["delivery_code"] == order["delivery_code"]
