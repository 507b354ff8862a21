"""What people do, one after another: the steps of an order, through the public API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.ids import new_id
from tests.cities import Member, Place
from tests.system import Caller, System
from tests.waiting import PATIENCE_S, eventually


async def quote(
    customer: Caller, place: Place, lines: Mapping[str, int], **changes: object
) -> dict[str, Any]:
    """A quote for so many units of these products."""
    body = {
        "store_id": place.store.id,
        "lines": [{"sku_id": sku, "quantity": n} for sku, n in lines.items()],
        "dropoff": place.dropoff,
        **changes,
    }
    made: dict[str, Any] = await customer.post("/v1/quotes", body, status=201)
    return made


def checkout_body(
    quote_id: str, token: str | None = "tok_ok", method: str = "card", **changes: object
) -> dict[str, object]:
    payment = {"method": method} if token is None else {"method": method, "token": token}
    return {"quote_id": quote_id, "payment": payment, **changes}


async def place_order(
    customer: Caller,
    place: Place,
    lines: Mapping[str, int],
    *,
    token: str | None = "tok_ok",
    method: str = "card",
    **quoted: object,
) -> dict[str, Any]:
    """Quote and check out; the order as the answer shows it."""
    made = await quote(customer, place, lines, **quoted)
    body = checkout_body(made["id"], token, method)
    order: dict[str, Any] = await customer.post("/v1/orders", body, status=201, key=new_id("key"))
    return order


async def queued_task(picker: Caller, place: Place, order_id: str) -> dict[str, Any]:
    """The pick task of an order, once it is in the store's queue."""

    async def look() -> dict[str, Any] | None:
        found = await picker.get(f"/v1/stores/{place.store.id}/pick-tasks")
        return next((task for task in found["items"] if task["order_id"] == order_id), None)

    return await eventually(look, f"the pick task of {order_id}")


async def claim(picker: Caller, place: Place, order_id: str) -> dict[str, Any]:
    """Claim the order's task.

    Whoever plans the order this moment holds its row, and then the store says that there is
    nothing to pick: a picker asks again.
    """
    task = await queued_task(picker, place, order_id)
    path = f"/v1/stores/{place.store.id}/pick-tasks/claim"

    async def ask() -> dict[str, Any] | None:
        answer = await picker.send(path, {"pick_task_id": task["id"]})
        said: dict[str, Any] = answer.json()
        busy = answer.status_code == 409 and said["code"] == "nothing_to_pick"
        assert busy or answer.is_success, f"POST {path}: {answer.status_code} {answer.text}"
        return None if busy else said

    claimed = await eventually(ask, f"the pick task of {order_id} to be free")
    assert claimed["id"] == task["id"]
    return claimed


async def scan_line(picker: Caller, task: Mapping[str, Any], line: Mapping[str, Any]) -> None:
    """Pick what is still open of a line."""
    left = line["quantity"] - line["picked"] - line["missing"]
    if left:
        body = {
            "line_id": line["line_id"], "barcode": line["barcode"], "bin": line["bin"],
            "quantity": left,
        }  # fmt: skip
        await picker.post(f"/v1/pick-tasks/{task['id']}/scan", body)


async def pick_and_pack(
    picker: Caller, place: Place, order_id: str, missing: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Claim, scan all (but report so many missing by sku), pack; the packed task."""
    task = await claim(picker, place, order_id)
    for line in task["lines"]:
        gone = (missing or {}).get(line["sku_id"], 0)
        if gone:
            body = {"line_id": line["line_id"], "missing": gone, "reason": "not_found"}
            await picker.post(f"/v1/pick-tasks/{task['id']}/short", body)
        await scan_line(picker, task, {**line, "missing": gone})
    path = f"/v1/pick-tasks/{task['id']}/pack"
    packed: dict[str, Any] = await picker.post(path, {"bags": 1, "shelf": "A1"})
    assert packed["status"] == "packed"
    return packed


async def on_shift(system: System, place: Place, member: Member) -> Caller:
    """A rider on shift, standing at the store."""
    rider = await system.log_in(member)
    await rider.post("/v1/riders/me/shift/start", {"hours": 10}, status=201)
    await report_position(system, rider, place.store.lat, place.store.lon)
    return rider


async def report_position(system: System, rider: Caller, lat: float, lon: float) -> None:
    point = {"t": await system.now(), "lat": lat, "lon": lon}
    await rider.post("/v1/riders/me/positions", {"points": [point]})


async def next_offer(rider: Caller) -> dict[str, Any]:
    """The offer that a rider gets."""

    async def look() -> dict[str, Any] | None:
        found = (await rider.get("/v1/riders/me/offers"))["items"]
        return found[0] if found else None

    return await eventually(look, "an offer")


async def take_offer(rider: Caller) -> dict[str, Any]:
    """Accept the rider's next offer; the trip."""
    offer = await next_offer(rider)
    trip: dict[str, Any] = await rider.post(f"/v1/offers/{offer['id']}/accept")
    return trip


async def collect(rider: Caller, picker: Caller, trip: Mapping[str, Any], task_id: str) -> None:
    """The rider comes to the store and gets the bags."""
    await rider.post(f"/v1/trips/{trip['id']}/stops/1/arrive")
    body = {"rider_code": trip["rider_code"]}
    await picker.post(f"/v1/pick-tasks/{task_id}/handover", body)


async def drop_off(
    rider: Caller, trip: Mapping[str, Any], code: str, cash_collected: int | None = None
) -> dict[str, Any]:
    """The rider comes to the door and hands over against the code."""
    await rider.post(f"/v1/trips/{trip['id']}/stops/2/arrive")
    body: dict[str, object] = {"otp": code}
    if cash_collected is not None:
        body["cash_collected"] = cash_collected
    done: dict[str, Any] = await rider.post(f"/v1/trips/{trip['id']}/stops/2/complete", body)
    return done


async def until_status(
    customer: Caller, order_id: str, *, within_s: float = PATIENCE_S, **wanted: str
) -> dict[str, Any]:
    """The order, once its states are as wanted."""
    seen: dict[str, Any] = {}

    async def look() -> dict[str, Any] | None:
        seen.update(await customer.get(f"/v1/orders/{order_id}"))
        return seen if all(seen[name] == value for name, value in wanted.items()) else None

    try:
        return await eventually(look, f"{order_id} to be {wanted}", within_s)
    except AssertionError as error:
        states = {name: seen.get(name) for name in wanted}
        raise AssertionError(f"{error}; it is {states}") from None
