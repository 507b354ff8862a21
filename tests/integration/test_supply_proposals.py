"""Where an idle rider is proposed to stand, and what ends a proposal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kit.db import Database
from kit.errors import NotFound
from riders import proposals
from riders.proposals import ProposalStatus
from tests.supply_support import Town, add_store, open_town, with_far_store


@pytest.fixture
async def town(database: Database) -> Town:
    return await open_town(database)


async def test_an_idle_rider_is_proposed_the_store_where_orders_wait(town: Town) -> None:
    """A rider at the quiet store hears of the other one, once, on the channel and by asking."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    await town.wait(3)
    await town.rounds(3)
    async with town.shop.database.begin() as conn:
        standing = await proposals.current(conn, rider_id)
    assert standing is not None
    assert standing["store_id"] == town.store_id
    assert standing["status"] == "open"
    events = await town.events(f"rider:{rider_id}", "rider.proposal")
    assert [event["proposal"]["id"] for event in events] == [standing["id"]]
    assert town.places.points is not None
    town.places.points[rider_id] = town.shop.territory.stores[town.store_id].point
    await town.round()
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is None
    events = await town.events(f"rider:{rider_id}", "rider.proposal")
    assert events[-1] == {"proposal": None}


async def test_a_rider_with_a_trip_is_proposed_nothing(town: Town) -> None:
    """Work ends the proposal that stood, and while it lasts there is no other."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    order_id = await town.shop.order_at("packed")
    await town.wait(3)
    await town.round()
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is not None
    await town.shop.offer(order_id, rider_id=rider_id)
    await town.rounds(3)
    rows = await town.shop.rows(
        "SELECT status FROM rider_proposals WHERE rider_id = :id", id=rider_id
    )
    assert [row["status"] for row in rows] == ["withdrawn"]
    async with town.shop.database.begin() as conn:
        new = proposals.NewProposal(rider_id, town.city_id, far.store_id, 100.0, 0.9, 60.0)
        later = town.clock.now() + timedelta(minutes=5)
        assert await proposals.make(conn, new, town.clock.now(), later) is None


async def test_who_dismisses_is_left_alone(town: Town) -> None:
    """Dismissed: no other proposal for a while; the answer may be said twice, not changed."""
    far = with_far_store(town)
    await add_store(town, far)
    (rider_id,) = await town.on_shift(far.point)
    await town.wait(3)
    await town.round()
    async with town.shop.database.begin() as conn:
        standing = await proposals.current(conn, rider_id)
    assert standing is not None
    proposal_id, now = str(standing["id"]), town.clock.now()
    for _ in range(2):
        async with town.shop.database.begin() as conn:
            left = await proposals.answer(
                conn, rider_id, proposal_id, ProposalStatus.DISMISSED, now
            )
        assert left is None
    async with town.shop.database.begin() as conn:
        with pytest.raises(NotFound):
            await proposals.answer(conn, rider_id, proposal_id, ProposalStatus.ACCEPTED, now)
    await town.rounds(3)
    async with town.shop.database.begin() as conn:
        assert await proposals.current(conn, rider_id) is None
