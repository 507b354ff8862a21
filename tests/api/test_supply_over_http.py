"""Scarcity and abundance over the whole system: quotes, ops and riders see the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kit.clock import load_clock
from riders import proposals
from riders.proposals import NewProposal
from tests.flow import on_shift, place_order, quote
from tests.system import Caller, System
from tests.waiting import eventually

# One of them goes to the rider, who never answers; the others wait.
WAITING = 3


@pytest.mark.timeout(240)
async def test_a_shortage_makes_the_next_promise_grow_and_shrink_back(system: System) -> None:
    """One rider, three orders: the next quote promises later, ops see why, and it passes."""
    place = system.take_place()
    (product,) = await system.stock(place, 50)
    customer, ops = await system.customer(), await system.log_in(place.ops)
    path = f"/v1/ops/cities/{place.city.id}/supply"
    await on_shift(system, place, place.riders[0])
    await _reported(ops, path)
    calm = (await quote(customer, place, {product.sku_id: 1}))["promise"]
    orders = [await place_order(customer, place, {product.sku_id: 1}) for _ in range(WAITING)]

    async def grown() -> dict[str, Any] | None:
        report: dict[str, Any] = await ops.get(path)
        return report if report["stores"][0]["growth_s"] >= 300 else None

    report = await eventually(grown, "the promise to grow", 40.0)
    assert report["city_id"] == place.city.id
    assert not report["stale"]
    assert report["outlook"][0]["missing"] >= 1
    assert report["riders"]["on_shift"] == 1
    short = (await quote(customer, place, {product.sku_id: 1}))["promise"]
    assert short["high_s"] > calm["high_s"]
    where = {"lat": place.dropoff["lat"], "lon": place.dropoff["lon"]}
    told = await customer.get("/v1/serviceability", **where)
    assert told["promise"]["high_s"] > calm["high_s"]
    series = f'darkstore_riders_missing{{city_id="{place.city.id}",in_s="0"}}'

    async def measured() -> bool:
        return series in (await system.http.get("/metrics")).text

    await eventually(measured, "the metrics of the city")
    peak = (await ops.get(path))["stores"][0]["growth_s"]
    for order in orders:
        await customer.post(f"/v1/orders/{order['id']}/cancel", {"reason": "test"})

    async def shrunk() -> bool:
        report = await ops.get(path)
        return bool(report["stores"][0]["growth_s"] < peak and report["orders_waiting"] == 0)

    await eventually(shrunk, "the promise to shrink back", 60.0)


async def test_a_city_tells_of_its_riders_to_its_own_ops_alone(system: System) -> None:
    """Another city's ops find nothing there, and people who are not ops may not look."""
    place, other = system.take_place(), system.elsewhere
    foreign = await system.log_in(other.ops)
    path = f"/v1/ops/cities/{place.city.id}/supply"
    customer, ops = await system.customer(), await system.log_in(place.ops)
    rider = await on_shift(system, place, place.riders[0])
    await _reported(ops, path)
    assert await foreign.status_of(path) == 404
    assert await foreign.status_of("/v1/ops/cities/cty_unknown/supply") == 404
    assert await customer.status_of(path) == 403
    assert await rider.status_of(path) == 403
    assert await ops.status_of("/v1/riders/me/proposal") == 403


async def _reported(ops: Caller, path: str) -> None:
    """Until the city's first round has been."""

    async def look() -> bool:
        return await ops.status_of(path) == 200

    await eventually(look, "the first report of the city", 60.0)


async def test_a_rider_reads_a_proposal_and_answers_it(system: System) -> None:
    """Accepts it, and dismisses it in the end; somebody else's is not there."""
    place, other = system.take_place(), system.elsewhere
    rider, rider_id = await on_shift(system, place, place.riders[0]), place.riders[0].rider_id
    assert rider_id is not None
    assert await rider.get("/v1/riders/me/proposal") == {"proposal": None}
    async with system.database.begin() as conn:
        now = (await load_clock(conn)).now()
        # Of the other city's store: the rider has not arrived there before it was read.
        new = NewProposal(rider_id, place.city.id, other.store.id, 240.0, 0.8, 60.0)
        proposal_id = await proposals.make(conn, new, now, now + timedelta(hours=2))
    found = (await rider.get("/v1/riders/me/proposal"))["proposal"]
    assert found["id"] == proposal_id
    assert found["status"] == "open"
    assert found["way_s"] == 240
    stranger = await on_shift(system, other, other.riders[0])
    path = f"/v1/riders/me/proposal/{proposal_id}"
    await stranger.refused(f"{path}/accept", {}, 404, "not_found")
    accepted = await rider.post(f"{path}/accept", key="accept-it")
    assert accepted["proposal"]["status"] == "accepted"
    assert await rider.post(f"{path}/accept", key="accept-it") == accepted
    assert await rider.post(f"{path}/dismiss") == {"proposal": None}
    await rider.refused(f"{path}/accept", {}, 404, "not_found")
