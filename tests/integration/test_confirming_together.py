"""Orders confirmed together: what one alone would have written, and nobody waits for others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from kit.db import Database
from kit.idempotency import StoredAnswer
from kit.ids import new_id
from orders.checkout import place_order
from orders.committer import Committer
from orders.confirming import (
    Confirmation,
    Confirmer,
    Placed,
    _confirm_together,
    confirm,
    read_placed,
)
from orders.model import PaymentMethod
from tests.committer_support import ONE_LANE, member, requests
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED

_TRACES = (
    "SELECT status, payment_status, delivery_status, version, history_seq FROM orders"
    " WHERE id = :id",
    "SELECT seq, machine, from_state, to_state, actor, reason FROM order_history"
    " WHERE order_id = :id AND seq > 3 ORDER BY seq",
    "SELECT seq, type, data FROM outbox WHERE stream = 'order:' || :id ORDER BY id",
    "SELECT seq FROM stream_heads WHERE stream = 'order:' || :id",
    "SELECT status, expires_at FROM reservations WHERE order_id = :id",
    "SELECT status, reference, code, attempts, answers, token, route, settled_at IS NULL AS open"
    " FROM payment_operations WHERE order_id = :id",
    "SELECT status, answer FROM idempotency_keys WHERE order_id = :id",
)


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def traces(shop: Shop, order_id: str) -> list[list[dict[str, object]]]:
    """What an order has left behind, without its id and times."""
    return [await shop.rows(statement, id=order_id) for statement in _TRACES]


async def placed(shop: Shop, count: int) -> list[Confirmation]:
    """So many orders that wait for their gateway, and the yes that comes."""
    (product,) = await shop.stock(count)
    found = []
    for wanted in await requests(shop, count, {product.sku_id: 1}):
        one = member(wanted.user_id, wanted.quote_id)
        body = orjson.dumps([{**one, "n": 0}]).decode()
        rows = await shop.database.pool.fetch("SELECT outcome FROM checkout_batch($1::jsonb)", body)
        assert [row["outcome"] for row in rows] == ["placed"]
        found.append(Confirmation(
            one["operation_id"], "ref_1", "approved", one["actor"], one["key"], one["order_id"],
            3, b'{"an": "answer"}',
        ))  # fmt: skip
    return found


async def together(shop: Shop, *confirmations: Confirmation) -> list[StoredAnswer | None]:
    return await _confirm_together(shop.database.pool, confirmations)


async def test_orders_confirmed_together_are_what_each_alone_would_be(shop: Shop) -> None:
    """Row for row, events and answers included."""
    alone, one, other = await placed(shop, 3)
    told = await confirm(shop.database.pool, alone)
    assert told == StoredAnswer(201, b'{"an": "answer"}')
    assert await together(shop, one, other) == [told, told]
    rows = await traces(shop, alone.order_id)
    assert all(rows), "an order leaves something in each of them"
    assert await traces(shop, one.order_id) == rows
    assert await traces(shop, other.order_id) == rows


async def test_confirming_again_changes_nothing_and_tells_the_same(shop: Shop) -> None:
    """A batch whose connection broke after the commit is done again, one by one or not."""
    one, other = await placed(shop, 2)
    told = await together(shop, one, other)
    rows = await traces(shop, one.order_id)
    assert await together(shop, one, other) == told
    assert await confirm(shop.database.pool, one) == told[0]
    assert await traces(shop, one.order_id) == rows


async def test_what_is_not_plain_is_left_alone(shop: Shop) -> None:
    """An unknown answer, a settled refusal, an order gone further: told of none of them."""
    good, in_doubt, gone_further = await placed(shop, 3)
    await shop.database.pool.execute(
        "UPDATE payment_operations SET status = 'unknown' WHERE id = $1", in_doubt.operation_id
    )
    await confirm(shop.database.pool, gone_further)
    await shop.database.pool.execute(
        "UPDATE orders SET version = version + 1 WHERE id = $1", gone_further.order_id
    )
    before = [await traces(shop, one.order_id) for one in (in_doubt, gone_further)]
    answers = await together(shop, in_doubt, good, gone_further)
    assert [answer is not None for answer in answers] == [False, True, False]
    assert [await traces(shop, one.order_id) for one in (in_doubt, gone_further)] == before
    assert await shop.states(good.order_id) == ("confirmed", "unassigned", "authorised")


async def test_nobody_waits_for_an_order_that_somebody_holds(shop: Shop) -> None:
    """The neighbour is confirmed at once, the held one is left to its caller."""
    held, free = await placed(shop, 2)
    async with shop.database.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE", held.order_id)
        async with asyncio.timeout(3.0):
            answers = await together(shop, held, free)
    assert answers[0] is None
    assert answers[1] is not None
    assert await shop.states(held.order_id) == ("placed", "unassigned", "pending")
    assert await confirm(shop.database.pool, held) is not None


async def test_placed_orders_are_read_together_each_with_its_operation(shop: Shop) -> None:
    """Those that are not there are told as such."""
    one, other = await placed(shop, 2)
    async with Confirmer(shop.database.pool) as confirmer:
        wanted = [Placed(each.order_id, each.operation_id) for each in (one, other)]
        unknown = Placed(new_id("ord"), new_id("pay"))
        found = await asyncio.gather(*map(confirmer.read_placed, [*wanted, unknown, *wanted]))
    expected = [await read_placed(shop.database.pool, each) for each in wanted]
    assert found == [*expected, None, *expected]
    ids = [orjson.loads(row["operation"])["id"] for row in expected if row is not None]
    assert ids == [one.operation_id, other.operation_id]


@pytest.mark.parametrize("method", [PaymentMethod.CARD, PaymentMethod.COD])
async def test_many_checkouts_at_once_are_confirmed_each_with_its_own_answer(
    shop: Shop, method: PaymentMethod
) -> None:
    """Committed, read and confirmed in company; a declined one among them fails alone."""
    (product,) = await shop.stock(30)
    wanted = await requests(shop, 12, {product.sku_id: 2}, method=method)
    if method is PaymentMethod.CARD:
        shop.gateway.script = {"authorise": [DECLINED]}
    async with (
        Confirmer(shop.database.pool) as confirmer,
        Committer(shop.database.pool, ONE_LANE) as committer,
    ):
        answers = await asyncio.gather(*(
            place_order(
                shop.database, shop.gateways, shop.settings, shop.clock, one, committer, confirmer
            )
            for one in wanted
        ))  # fmt: skip
    bodies = [orjson.loads(answer.answer.body) for answer in answers]
    assert [body["id"] for body in bodies] == [one.order_id for one in wanted]
    declined = [body for body in bodies if body["status"] == "payment_failed"]
    assert len(declined) == (1 if method is PaymentMethod.CARD else 0)
    assert await shop.stock_of(product.sku_id) == (30, 24 - 2 * len(declined))
    await _answers_are_kept(shop, [one.key for one in wanted], bodies)


async def _answers_are_kept(
    shop: Shop, keys: Sequence[str], bodies: Sequence[dict[str, object]]
) -> None:
    for key, body in zip(keys, bodies, strict=True):
        (row,) = await shop.rows("SELECT answer FROM idempotency_keys WHERE key = :key", key=key)
        assert isinstance(row["answer"], bytes)
        assert orjson.loads(row["answer"]) == body
