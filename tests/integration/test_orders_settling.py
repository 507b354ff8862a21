"""Captures whose answers are late or lost."""

from __future__ import annotations

import pytest

from kit.db import Database
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import NEVER_SEEN, SUCCEEDED, UNAVAILABLE, UNKNOWN


@pytest.fixture
async def shop(judged_database: Database) -> Shop:
    return await open_shop(judged_database)


async def test_a_capture_without_an_answer_is_looked_up_then_booked_once(shop: Shop) -> None:
    """Unknown captures are asked about; whatever comes twice, the ledger has it once."""
    order_id = await shop.order_at("delivered")
    shop.gateway.script = {"capture": [UNKNOWN], "lookup": [UNKNOWN, SUCCEEDED]}
    await shop.settle_all()
    assert await shop.states(order_id) == ("delivered", "done", "captured")
    kinds = [kind for kind, _ in shop.gateway.asked]
    assert kinds == ["authorise", "capture", "lookup", "lookup"]
    rows = await shop.rows(
        "SELECT id FROM payment_operations WHERE order_id = :id AND kind = 'capture'", id=order_id
    )
    await shop.settle_one(rows[0]["id"])
    posted = await shop.rows(
        "SELECT count(*) AS n FROM ledger_transactions WHERE order_id = :id AND kind = 'capture'",
        id=order_id,
    )
    assert posted == [{"n": 1}]


async def test_a_capture_that_never_arrived_is_sent_again(shop: Shop) -> None:
    """Not found at the gateway: the very same operation goes out again, under its key."""
    order_id = await shop.order_at("delivered")
    shop.gateway.script = {"capture": [UNKNOWN, UNAVAILABLE], "lookup": [NEVER_SEEN]}
    await shop.settle_all()
    assert (await shop.states(order_id))[2] == "captured"
    captures = {key for kind, key in shop.gateway.asked if kind == "capture"}
    assert len(captures) == 1
