"""Splitting a city's dispatch over HTTP: who may, what is refused, and that riders still come."""

from __future__ import annotations

from tests.flow import next_offer, on_shift, pick_and_pack, place_order
from tests.system import System
from tests.waiting import eventually


async def test_a_city_is_split_and_still_dispatched(system: System) -> None:
    """Its one store becomes part 0; a foreign store, a missing one and a double one are refused."""
    place = system.take_place()
    ops = await system.log_in(place.ops)
    path = f"/v1/ops/cities/{place.city.id}/dispatch-parts"
    whole = await ops.get(path)
    assert [(item["part"], item["store_ids"]) for item in whole["items"]] == [(0, [place.store.id])]
    for parts in ([["sto_nowhere"]], [[place.store.id], [place.store.id]], []):
        body = {"parts": parts, "reason": "too large"}
        await ops.refused(path, body, 422, "invalid")
    split = await ops.post(path, {"parts": [[place.store.id]], "reason": "too large"})
    assert split["items"][0]["partition_id"] == place.city.id

    async def held() -> bool:
        item = (await ops.get(path))["items"][0]
        return item["held"] and item["looked_at"] is not None

    await eventually(held, "a dispatcher to have the part")
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    await pick_and_pack(picker, place, order["id"])
    rider = await on_shift(system, place, place.riders[0])
    assert (await next_offer(rider))["trip"]["orders"] == [order["id"]]


async def test_nobody_splits_another_city(system: System) -> None:
    """It is not there for ops of other cities, and not theirs to ask for customers."""
    place, other = system.take_place(), system.elsewhere
    ops, customer = await system.log_in(other.ops), await system.customer()
    path = f"/v1/ops/cities/{place.city.id}/dispatch-parts"
    body = {"parts": [[place.store.id]], "reason": "mine now"}
    await ops.refused(path, body, 404, "not_found")
    assert (await ops.get(path, status=404))["code"] == "not_found"
    await customer.refused(path, body, 403, "denied")
