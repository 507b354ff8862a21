"""Dispatch explained over HTTP: what it would do, what it did, and two sets of parameters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from riders.tables import riders
from tests.cities import Place
from tests.flow import next_offer, on_shift, pick_and_pack, place_order
from tests.system import Caller, System
from tests.waiting import eventually


async def an_order(system: System, place: Place) -> tuple[Caller, dict[str, Any]]:
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    await pick_and_pack(picker, place, order["id"])
    return customer, order


async def asked(ops: Caller, path: str, **params: Any) -> Any:
    """A what-if, once the engine has started."""

    async def look() -> Any:
        answer = await ops.http.get(
            path, headers={"Authorization": f"Bearer {ops.token}"}, params=params
        )
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["retryable"] is True
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()

    return await eventually(look, "the engine to start", within_s=100)


async def test_ops_see_what_dispatch_would_do_and_what_it_did(system: System) -> None:
    """Nobody on shift: what would help; a rider comes: who got it, at what cost."""
    place = system.take_place()
    city = f"/v1/ops/cities/{place.city.id}/dispatch"
    ops = await system.log_in(place.ops)
    customer, order = await an_order(system, place)
    found = await asked(ops, f"{city}/what-if", order_id=order["id"])
    assert found["trips"] == []
    (left,) = found["unassigned"]
    assert (left["order_id"], left["reason"]) == (order["id"], "no_riders")
    assert left["what_helps"].endswith(".")
    assert found["order"]["outcome"] == "unassigned"
    assert found["order"]["candidates"] == []
    assert set(found["order"]["costs_mean"]) == {"decided", "candidates"}
    assert all(part["costs_mean"].endswith(".") for part in found["parts"])

    rider = await on_shift(system, place, place.riders[0])
    await next_offer(rider)

    async def told() -> Any:
        items = (await ops.get(f"/v1/ops/orders/{order['id']}/dispatch"))["items"]
        return items if items and items[-1]["outcome"] == "assigned" else None

    items = await eventually(told, "the decision to be in the index")
    assert items[-1]["rider_id"] == place.riders[0].rider_id
    assert items[-1]["planned_dropoff_at"] > items[-1]["planned_pickup_at"]
    assert items[-1]["parameter_set"] == "default"
    trips = await system.rows(
        "SELECT t.decision_id, t.parameter_set FROM trips t JOIN assignments a ON a.trip_id = t.id"
        " WHERE a.order_id = :id", id=order["id"],
    )  # fmt: skip
    assert trips == [{"decision_id": items[-1]["decision_id"], "parameter_set": "default"}]
    after = await asked(ops, f"{city}/what-if", order_id=order["id"])
    assert after["order"]["outcome"] == "not_waiting"
    await customer.get(f"/v1/ops/orders/{order['id']}/dispatch", status=403)


async def test_a_what_if_writes_nothing_and_takes_parameters(system: System) -> None:
    """With a rider in reach it would give the order away; afterwards everything is as before."""
    place = system.take_place()
    ops = await system.log_in(place.ops)
    path = f"/v1/ops/cities/{place.city.id}/dispatch/what-if"
    await ops.post(
        f"/v1/ops/cities/{place.city.id}/pause",
        {"reason": "so that only the what-if plans", "minutes": 600, "hold_dispatch": True},
    )
    await ops.get(path, status=422, set="lateness.late_wight=1")
    await ops.get(path, status=422, set="nonsense")
    await ops.get(path, status=404, order_id="ord_unknown")
    found = await asked(ops, path, set="lateness.late_weight=3")
    assert found["overrides"] == {"lateness.late_weight": "3"}
    rows = await system.rows(
        "SELECT count(*) AS n FROM trips WHERE city_id = :id", id=place.city.id
    )
    assert rows == [{"n": 0}]


async def test_another_citys_ops_see_nothing(system: System) -> None:
    """A foreign city and a foreign order do not exist; pickers and riders may not ask."""
    mine, other = system.elsewhere, system.take_place()
    _, order = await an_order(system, other)
    ops, picker = await system.log_in(mine.ops), await system.log_in(mine.pickers[0])
    city = f"/v1/ops/cities/{other.city.id}/dispatch"
    for path in (
        f"{city}/what-if",
        f"{city}/parameter-sets",
        f"/v1/ops/orders/{order['id']}/dispatch",
    ):
        assert await ops.status_of(path) == 404, path
        assert await picker.status_of(path) == 403, path
    comparison = "/v1/ops/dispatch/comparison"
    assert await ops.status_of(comparison, city_id=other.city.id) == 404
    assert await picker.status_of(comparison, city_id=other.city.id) == 403
    await ops.refused(f"{city}/comparison", {"treatment": "b", "reason": "try"}, 404, "not_found")
    await ops.refused(
        f"{city}/parameters", {"parameter_set": "b", "reason": "try"}, 404, "not_found"
    )


async def put(ops: Caller, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    answer = await ops.http.put(path, json=body, headers={"Authorization": f"Bearer {ops.token}"})
    return answer.status_code, answer.json()


async def test_a_set_is_made_used_compared_and_deleted(system: System) -> None:
    """Every step in the audit log; what cannot be is refused with a sentence."""
    place = system.take_place()
    ops = await system.log_in(place.ops)
    city = f"/v1/ops/cities/{place.city.id}/dispatch"
    status, problem = await put(
        ops, f"{city}/parameter-sets/b", {"overrides": {"lateness.late_wight": 3}}
    )
    assert (status, problem["code"]) == (422, "dispatch_parameters_invalid")
    assert "lateness.late_weight" in problem["detail"]
    status, _ = await put(ops, f"{city}/parameter-sets/default", {"overrides": {}})
    assert status == 422
    status, made = await put(
        ops, f"{city}/parameter-sets/b", {"overrides": {"lateness.late_weight": 3}, "note": "n"}
    )
    assert (status, made["version"], made["in_use"]) == (200, 1, False)
    await ops.post(f"{city}/parameters", {"parameter_set": "b", "reason": "it was better"})
    names = {
        one["name"]: one["in_use"] for one in (await ops.get(f"{city}/parameter-sets"))["items"]
    }
    assert names == {"default": False, "b": True}
    await ops.refused(f"{city}/parameters", {"parameter_set": "c", "reason": "?"}, 404, "not_found")

    body = {"control": "default", "treatment": "b", "window_s": 600, "reason": "is it better?"}
    started = await ops.post(f"{city}/comparison", body, status=201)
    assert started["randomised"] is True
    assert started["overrides"] == {"default": {}, "b": {"lateness.late_weight": 3}}
    await ops.refused(f"{city}/comparison", body, 409, "dispatch_comparison_running")
    await ops.refused(
        f"{city}/comparison", {**body, "washout_s": 600}, 422, "dispatch_parameters_invalid"
    )
    await ops.refused(
        f"{city}/comparison", {**body, "unit": "fixed", "store_ids": ["sto_x"]}, 422,
        "dispatch_parameters_invalid",
    )  # fmt: skip
    shown = await ops.get("/v1/ops/dispatch/comparison", city_id=place.city.id)
    assert shown["id"] == started["id"]
    assert shown["measures"]["promise_kept"]["verdict"] == "too_few"
    assert shown["arms"]["treatment"]["orders"] == 0
    ended = await ops.post(f"{city}/comparison/end", {"reason": "enough"})
    assert ended["ended_at"] is not None
    await ops.post(f"{city}/parameters", {"parameter_set": "default", "reason": "back"})
    gone = await ops.http.delete(
        f"{city}/parameter-sets/b", headers={"Authorization": f"Bearer {ops.token}"}
    )
    assert gone.status_code == 200
    log = await ops.get("/v1/ops/audit", action="dispatch.", limit=50)
    assert [one["action"] for one in reversed(log["items"])] == [
        "dispatch.set_put", "dispatch.set_use", "dispatch.comparison_start",
        "dispatch.comparison_end", "dispatch.set_use", "dispatch.set_delete",
    ]  # fmt: skip


async def test_trips_carry_the_set_that_planned_them(system: System) -> None:
    """A city that plans with a set of its own: its name is on the trip and in the history."""
    place = system.take_place()
    ops = await system.log_in(place.ops)
    city = f"/v1/ops/cities/{place.city.id}/dispatch"
    await put(ops, f"{city}/parameter-sets/own", {"overrides": {"lateness.late_weight": 2.5}})
    await ops.post(f"{city}/parameters", {"parameter_set": "own", "reason": "try it"})
    async with system.database.begin() as conn:
        await conn.execute(
            update(riders).where(riders.c.city_id == place.city.id).values(capacity_orders=1)
        )

    async def planned_by() -> str | None:
        """The first set that is not the default one."""
        _, order = await an_order(system, place)
        rider = await on_shift(system, place, place.riders[0])
        offer = await next_offer(rider)
        await rider.post(f"/v1/offers/{offer['id']}/decline", {"reason": "too_far"})
        await rider.post("/v1/riders/me/shift/stop")
        rows = await system.rows(
            "SELECT t.parameter_set AS name FROM trips t JOIN assignments a ON a.trip_id = t.id"
            " WHERE a.order_id = :id", id=order["id"],
        )  # fmt: skip
        return next((row["name"] for row in rows if row["name"] != "default"), None)

    assert await eventually(planned_by, "the dispatcher to follow", within_s=60) == "own"
