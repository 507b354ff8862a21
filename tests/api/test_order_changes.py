"""Slots, another door, cancelling at a price and ordering again, over the whole running system."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.cities import Place, Product
from tests.flow import claim, on_shift, pick_and_pack, place_order, take_offer, until_status
from tests.system import Caller, System


async def open_always(ops: Caller, place: Place, capacity: int) -> None:
    path = f"/v1/ops/stores/{place.store.id}"
    await ops.post(f"{path}/hours", {"opens": "00:00", "closes": "24:00"})
    await ops.post(f"{path}/slots/capacity", {"capacity": capacity})


async def slots_of(system: System, place: Place) -> list[dict[str, Any]]:
    where = {"lat": place.dropoff["lat"], "lon": place.dropoff["lon"], "days": 1}
    answer = await system.http.get(f"/v1/stores/{place.store.id}/slots", params=where)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def quote_for(
    customer: Caller, place: Place, product: Product, slot: str, status: int = 201
) -> dict[str, Any]:
    body = {
        "lines": [{"sku_id": product.sku_id, "quantity": 1}],
        "dropoff": place.dropoff,
        "delivery_option": "scheduled",
        "slot": slot,
    }
    quote: dict[str, Any] = await customer.post("/v1/quotes", body, status=status)
    return quote


async def schedule(customer: Caller, place: Place, product: Product, slot: str) -> dict[str, Any]:
    quote = await quote_for(customer, place, product, slot)
    body = {"quote_id": quote["id"], "payment": {"method": "card", "token": "tok_ok"}}
    order: dict[str, Any] = await customer.post("/v1/orders", body, status=201)
    return order


async def test_a_slot_is_chosen_kept_and_changed(system: System) -> None:
    """Listed, promised, refused when full, moved, and free again after the cancellation."""
    place = system.take_place()
    (product,) = await system.stock(place, 20)
    customer, ops = await system.customer(), await system.log_in(place.ops)
    await open_always(ops, place, capacity=1)
    listed = await slots_of(system, place)
    later = listed[8:11]
    assert [slot["remaining"] for slot in later] == [1, 1, 1]
    order = await schedule(customer, place, product, later[0]["from"])
    assert order["scheduled"] == {"from": later[0]["from"], "to": later[0]["to"]}
    assert order["promised_at"] == {"low": later[0]["from"], "high": later[0]["to"]}
    full = await quote_for(customer, place, product, later[0]["from"], status=409)
    assert full["code"] == "slot_full"
    assert full["slots"][0]["from"] == later[1]["from"]
    path = f"/v1/orders/{order['id']}"
    moved = await customer.post(f"{path}/reschedule", {"slot": later[1]["from"]})
    assert moved["scheduled"]["from"] == later[1]["from"]
    assert moved["total"] == order["total"]
    history = await customer.get(f"{path}/history")
    assert [change["kind"] for change in history["changes"]] == ["rescheduled"]
    rest = await slots_of(system, place)
    by_start = {slot["from"]: slot["remaining"] for slot in rest}
    assert (by_start[later[0]["from"]], by_start[later[1]["from"]]) == (1, 0)
    seen = await ops.get(f"/v1/ops/stores/{place.store.id}/slots")
    assert [s["taken"] for s in seen["items"] if s["from"] == later[1]["from"]] == [1]
    block = {"slot": later[2]["from"], "blocked": True, "reason": "stocktaking"}
    await ops.post(f"/v1/ops/stores/{place.store.id}/slots/block", block)
    refused = await customer.post(f"{path}/reschedule", {"slot": later[2]["from"]}, status=409)
    assert refused["code"] == "slot_full"
    cancelled = await customer.post(f"{path}/cancel")
    assert cancelled["cancellation"]["refund"] == order["total"]
    assert {s["from"]: s["remaining"] for s in await slots_of(system, place)}[later[1]["from"]] == 1


async def test_last_places_and_cancellations_race_over_http(system: System) -> None:
    """Twelve customers, one place; then the winner moves and cancels at once: nothing is lost."""
    place = system.take_place()
    (product,) = await system.stock(place, 40)
    customers = [await system.customer() for _ in range(12)]
    ops = await system.log_in(place.ops)
    await open_always(ops, place, capacity=1)
    first, second = [slot["from"] for slot in (await slots_of(system, place))[8:10]]
    quotes = [await quote_for(c, place, product, first) for c in customers]
    answers = await asyncio.gather(*(
        c.send("/v1/orders", {
            "quote_id": q["id"], "payment": {"method": "card", "token": "tok_ok"},
        })
        for c, q in zip(customers, quotes, strict=True)
    ))  # fmt: skip
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 11
    winner = next(i for i, answer in enumerate(answers) if answer.status_code == 201)
    path = f"/v1/orders/{answers[winner].json()['id']}"
    moved, cancelled = await asyncio.gather(
        customers[winner].send(f"{path}/reschedule", {"slot": second}),
        customers[winner].send(f"{path}/cancel"),
    )
    assert cancelled.status_code == 200, cancelled.text
    assert moved.status_code in (200, 409), moved.text
    rows = await system.rows(
        "SELECT sum(taken)::int AS taken FROM delivery_slots WHERE store_id = :id",
        id=place.store.id,
    )
    assert rows == [{"taken": 0}]


async def test_another_door_until_the_rider_has_the_bags(system: System) -> None:
    """Told the rider, refused elsewhere; against the handover it is all or nothing."""
    place = system.take_place()
    (product,) = await system.stock(place, 5)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    path = f"/v1/orders/{order['id']}/address"
    near = {"lat": place.store.lat + 0.002, "lon": place.store.lon, "address": "Side door"}
    changed = await customer.post(path, {**near, "note": "ring twice"})
    assert changed["dropoff"] == {**near, "note": "ring twice"}
    assert (changed["later_s"], changed["promised_at"]) == (0, order["promised_at"])
    far = {"lat": place.store.lat + 0.009, "lon": place.store.lon, "address": "Hilltop"}
    told = await customer.post(path, far, status=409)
    assert told["code"] == "promise_later"
    elsewhere = {"lat": place.store.lat + 0.4, "lon": place.store.lon, "address": "Nowhere"}
    await customer.refused(path, elsewhere, 409, "not_serviceable")
    stranger = await system.customer()
    await stranger.refused(path, near, 404, "not_found")
    task = await pick_and_pack(picker, place, order["id"])
    rider = await on_shift(system, place, place.riders[0])
    trip = await take_offer(rider)
    await rider.post(f"/v1/trips/{trip['id']}/stops/1/arrive")
    answer, handed = await asyncio.gather(
        customer.send(path, {**far, "accept_promise": True}),
        picker.send(f"/v1/pick-tasks/{task['id']}/handover", {"rider_code": trip["rider_code"]}),
    )
    assert handed.status_code == 200, handed.text
    seen = await customer.get(f"/v1/orders/{order['id']}")
    wanted = "Hilltop" if answer.status_code == 200 else "Side door"
    assert seen["dropoff"]["address"] == wanted
    (now,) = [t for t in (await rider.get("/v1/riders/me/trips"))["items"] if t["id"] == trip["id"]]
    assert now["stops"][1]["lat"] == seen["dropoff"]["lat"]
    await customer.refused(path, near, 409, "illegal_transition")
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/arrive")
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/complete", {"otp": order["delivery_code"]})
    await until_status(customer, order["id"], payment_status="captured")


async def test_the_price_of_cancelling_is_known_before(system: System) -> None:
    """Preview and answer agree; support may waive it; the same order goes into the cart again."""
    place = system.take_place()
    (product,) = await system.stock(place, 5)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    ops = await system.log_in(place.ops)
    order = await place_order(customer, place, {product.sku_id: 2})
    path = f"/v1/orders/{order['id']}"
    await claim(picker, place, order["id"])
    told = await customer.get(f"{path}/cancellation")
    total = order["total"]["amount_minor"]
    assert (told["allowed"], told["fee"]["amount_minor"]) == (True, 2_000)
    assert told["refund"]["amount_minor"] == total - 2_000
    ops_path = f"/v1/ops/orders/{order['id']}/cancel"
    too_much = {"reason": "no_rider", "fee": {"amount_minor": 10_001}}
    assert (await ops.send(ops_path, too_much)).status_code == 422
    done = await ops.post(ops_path, {"reason": "no_rider", "fee": {"amount_minor": 500}})
    assert done["cancellation"] == {
        "by": "support", "reason": "no_rider",
        "fee": {"amount_minor": 500, "currency": "INR"},
        "refund": {"amount_minor": total - 500, "currency": "INR"},
    }  # fmt: skip
    history = (await customer.get(f"{path}/history"))["items"]
    (entry,) = [e for e in history if e["to"] == "cancelled" and e["from"] == "picking"]
    assert (entry["actor"], entry["reason"]) == (place.ops.user_id, "no_rider")
    late = await customer.get(f"{path}/cancellation")
    assert not late["allowed"]
    assert late["reason"]
    await until_status(customer, order["id"], payment_status="captured")
    again = await customer.post(f"{path}/reorder")
    assert [line["quantity"] for line in again["cart"]["lines"]] == [2]
    assert (again["gone"], again["short"], again["price_changed"]) == ([], [], [])


def _starts(slots: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(slot["from"]) for slot in slots]


async def test_slots_lie_a_quarter_of_an_hour_apart(system: System) -> None:
    """From the first that can be kept to the last of the day, at the store's hours."""
    place = system.take_place()
    ops = await system.log_in(place.ops)
    await open_always(ops, place, capacity=4)
    starts = _starts(await slots_of(system, place))
    gaps = {b - a for a, b in pairwise(starts)}
    assert gaps == {timedelta(minutes=15)}
    assert 92 <= len(starts) <= 96
    manager = await system.log_in(place.manager)
    rules = await manager.post(
        f"/v1/ops/stores/{place.store.id}/hours", {"opens": "10:00", "closes": "11:00"}
    )
    assert (rules["opens"], rules["closes"]) == ("10:00", "11:00")
    assert {start.hour for start in _starts(await slots_of(system, place))} == {10}
