"""Offers over the whole system: declined and unanswered ones go to somebody else."""

from __future__ import annotations

import pytest

from tests.flow import next_offer, on_shift, pick_and_pack, place_order, until_status
from tests.system import System
from tests.waiting import eventually


@pytest.mark.parametrize("answer", ["decline", "silence"])
async def test_an_offer_that_is_not_taken_goes_to_the_other_rider(
    system: System, answer: str
) -> None:
    """The dispatcher asks the second rider, and never again the one who did not want it."""
    place = system.take_place()
    (product,) = await system.stock(place, 20)
    customer, picker = await system.customer(), await system.log_in(place.pickers[0])
    order = await place_order(customer, place, {product.sku_id: 1})
    await pick_and_pack(picker, place, order["id"])
    first = await on_shift(system, place, place.riders[0])
    offer = await next_offer(first)
    if answer == "decline":
        await first.post(f"/v1/offers/{offer['id']}/decline", {"reason": "too far"})

    async def gone() -> bool:
        return not (await first.get("/v1/riders/me/offers"))["items"]

    await eventually(gone, "the offer to end")
    await first.refused(f"/v1/offers/{offer['id']}/accept", {}, 409, "offer_expired")
    # Some ticks of the dispatcher: it has nobody but the rider who declined.
    rounds = await system.rows("SELECT count(*) AS n FROM offers WHERE rider_id = :id",
                               id=place.riders[0].rider_id)  # fmt: skip
    assert rounds == [{"n": 1}]
    second = await on_shift(system, place, place.riders[1])
    again = await next_offer(second)
    assert again["trip"]["orders"] == [order["id"]]
    await second.post(f"/v1/offers/{again['id']}/accept")
    await until_status(customer, order["id"], delivery_status="assigned")
    history = (await customer.get(f"/v1/orders/{order['id']}/history"))["items"]
    reasons = [entry["reason"] for entry in history if entry["to"] == "unassigned"]
    assert f"offer_{'declined' if answer == 'decline' else 'expired'}" in reasons
    offered = await system.rows("SELECT count(*) AS n FROM offers WHERE rider_id = :id",
                                id=place.riders[0].rider_id)  # fmt: skip
    assert offered == [{"n": 1}]
