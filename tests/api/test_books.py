"""Wallets, riders' cash and the books over the whole system, which runs as ``darkstore_app``."""

from __future__ import annotations

import csv
import json

from identity.model import Role
from kit.ids import new_id
from server.database_role import ROLE
from tests.cities import Place, hire
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


async def log_in_as(system: System, place: Place, role: Role) -> Caller:
    async with system.database.begin() as conn:
        member = await hire(conn, role, place.city, None)
    return await system.log_in(member)


async def ledger(system: System, *words: str) -> tuple[int, str]:
    """``darkstore ledger …``: exit code and output."""
    return await system.command("ledger", *words)


async def test_every_process_works_as_the_application_s_role(system: System) -> None:
    """None of them could change a posting, even by mistake."""
    rows = await system.rows(
        "SELECT DISTINCT c.application_name FROM pg_stat_activity c"
        " WHERE c.datname = current_database() AND c.application_name LIKE 'darkstore %'"
        " AND c.application_name <> 'darkstore tests'"
    )
    assert len(rows) >= 2
    customer = await system.customer()
    assert (await customer.get("/v1/wallet"))["balances"] == []
    granted = await system.rows(
        "SELECT has_table_privilege(:role, 'ledger_postings', 'UPDATE') AS may", role=ROLE
    )
    assert granted == [{"may": False}]


async def test_store_credit_pays_for_an_order(system: System) -> None:
    """Support gives it within its limit, the customer sees it, spends it and sees what is left."""
    place = system.take_place()
    (product,) = await system.stock(place, 20, 6_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    support = await log_in_as(system, place, Role.SUPPORT)
    path = f"/v1/ops/users/{customer.user_id}/wallet/credit"
    body = {"amount_minor": 20_000, "reason": "goodwill"}
    refused = await support.refused(path, {**body, "amount_minor": 50_001}, 403, "above_your_limit")
    assert refused["limit"] == {"amount_minor": 50_000, "currency": "INR"}
    await customer.refused(path, body, 403, "denied")
    key = new_id("key")
    for _ in range(2):
        await support.post(path, body, status=201, key=key)
    await support.refused(f"/v1/ops/users/{picker.user_id}/wallet/credit", body, 404, "not_found")

    order = await place_order(customer, place, {product.sku_id: 2}, method="wallet", token=None)
    total = order["total"]["amount_minor"]
    assert order["paid_from_wallet"] == order["total"]
    seen = await customer.get("/v1/wallet")
    assert [
        (b["balance"]["amount_minor"], b["held"]["amount_minor"]) for b in seen["balances"]
    ] == [(20_000, total)]
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"])
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    await drop_off(rider, trip, order["delivery_code"])
    await until_status(customer, order["id"], status="delivered", payment_status="captured")
    assert await system.operations(order["id"]) == []
    first = await customer.get("/v1/wallet", limit=1)
    (movement,) = first["items"]
    assert (movement["kind"], movement["order_id"]) == ("wallet_spend", order["id"])
    assert movement["amount"]["amount_minor"] == -total
    second = await customer.get("/v1/wallet", cursor=first["next_cursor"])
    assert [item["kind"] for item in second["items"]] == ["store_credit"]
    short = await customer.post(
        "/v1/quotes",
        {"lines": [{"sku_id": product.sku_id, "quantity": 2}], "dropoff": place.dropoff},
    )
    problem = await customer.refused(
        "/v1/orders", {"quote_id": short["id"], "payment": {"method": "wallet"}}, 409,
        "wallet_short",
    )  # fmt: skip
    assert problem["balance"]["amount_minor"] == 20_000 - total


async def test_cash_from_the_rider_to_the_till_and_into_the_books(system: System) -> None:
    """Handed in at the store, once a key; read on the phone, and in the command line's reports."""
    place = system.take_place()
    (product,) = await system.stock(place, 20, 6_000)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 2}, method="cod", token=None)
    rider = await on_shift(system, place, place.riders[0])
    task = await pick_and_pack(picker, place, order["id"])
    trip = await take_offer(rider)
    await collect(rider, picker, trip, task["id"])
    due = trip["stops"][1]["cash_due"]["amount_minor"]
    await drop_off(rider, trip, order["delivery_code"], cash_collected=due)
    await until_status(customer, order["id"], payment_status="captured")
    cash = await rider.get("/v1/riders/me/cash")
    assert cash["held"] == [{"amount_minor": due, "currency": "INR"}]
    assert cash["cash_orders"] is True

    manager, stranger = (
        await system.log_in(place.manager),
        await system.log_in(system.elsewhere.manager),
    )
    path = f"/v1/ops/riders/{place.riders[0].rider_id}/deposits"
    body = {"amount_minor": due, "reference": "slip 1"}
    await stranger.refused(path, body, 404, "not_found")
    await manager.refused(path, {**body, "amount_minor": due + 1}, 409, "more_than_held")
    key = new_id("key")
    for _ in range(2):
        done = await manager.post(path, body, status=201, key=key)
    assert done["store_id"] == place.store.id
    assert done["cash"]["held"] == [{"amount_minor": 0, "currency": "INR"}]

    ops = await system.log_in(place.ops)
    path = f"/v1/ops/riders/{place.riders[0].rider_id}/incentives"
    await ops.post(path, {"amount_minor": 500, "reason": "rain"}, status=201, key=new_id("key"))
    earned = await rider.get("/v1/riders/me/earnings")
    assert earned["items"][0]["kind"] == "incentive"
    assert (await rider.get("/v1/riders/me/statements"))["items"] == []
    admin = await log_in_as(system, place, Role.ADMIN)
    now = (await system.now())[:10]
    await admin.refused("/v1/ops/settlements", {"until": now}, 409, "day_not_closed")

    rider_id = str(place.riders[0].rider_id)
    code, output = await ledger(system, "statement", "rider_cash", "--party", rider_id, "--json")
    (statement,) = json.loads(output)["statements"]
    assert (code, [line["balance_minor"] for line in statement["lines"]]) == (0, [due, 0])
    api = await admin.get("/v1/ops/ledger/statement", account="rider_cash", party=rider_id)
    assert [line["amount_minor"] for line in api["statements"][0]["lines"]] == [due, -due]


async def test_the_books_balance_on_the_running_system(system: System) -> None:
    """The trial balance is zero, as a table and as JSON; the export adds up to the same."""
    code, output = await ledger(system, "trial-balance", "--json")
    report = json.loads(output)
    assert (code, report["balanced"]) == (0, True)
    code, table = await ledger(system, "trial-balance")
    assert code == 0
    assert all(code in table for one in report["currencies"] for code in one["accounts"])
    code, output = await ledger(system, "export", "--csv", "-")
    rows = list(csv.DictReader(output.splitlines()))
    assert code == 0
    assert sum(int(row["debit_minor"]) - int(row["credit_minor"]) for row in rows) == 0
    code, said = await ledger(system, "close", "--day", "2999-01-01")
    assert (code, said) == (1, "darkstore: The day 2999-01-01 (UTC) is not over yet.\n")
