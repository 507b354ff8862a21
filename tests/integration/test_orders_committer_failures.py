"""Batches that fail, connections and callers that are gone, and locks: nobody loses an order."""

from __future__ import annotations

import asyncio

import asyncpg
import orjson
import pytest

from kit.db import Database
from orders import picking
from orders.cancellation import cancel_as_staff
from orders.checkout import CheckoutAnswer
from orders.committer import CheckoutsBusy, Committer
from orders.settings import CommitterSettings
from tests.committer_support import (
    ONE_LANE,
    buy,
    buyers,
    committing,
    first_batch_held,
    in_company,
    quote_of,
    request,
    requests,
    waits_for_lock,
)
from tests.order_support import Shop, open_shop
from tests.waiting import eventually


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def test_who_leaves_before_their_turn_buys_nothing_and_hurts_nobody(shop: Shop) -> None:
    """A caller that is cancelled while it waits is left out; one that was sent is committed."""
    (product,) = await shop.stock(9)
    async with committing(shop) as committer:
        sent, gone, stays = await requests(shop, 3, {product.sku_id: 1})
        async with first_batch_held(shop, committer, product.sku_id):
            tasks = [asyncio.create_task(buy(shop, committer, sent))]
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
            tasks += [asyncio.create_task(buy(shop, committer, one)) for one in (gone, stays)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[1].cancel()
            await asyncio.wait(tasks[:2])
        assert (await tasks[2]).answer.status == 201
    placed = await shop.rows(
        "SELECT quote_id, status FROM orders WHERE store_id = :store ORDER BY number",
        store=shop.place.store.id,
    )
    # The one that was sent waits for the settlement worker, as after a crash.
    assert placed == [
        {"quote_id": sent.quote_id, "status": "placed"},
        {"quote_id": stays.quote_id, "status": "confirmed"},
    ]


async def test_leaving_the_committer_finishes_what_was_accepted(shop: Shop) -> None:
    """A shutdown commits those that wait and refuses whoever comes later."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 4, {product.sku_id: 1})
    async with committing(shop) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            tasks = [asyncio.create_task(buy(shop, committer, one)) for one in wanted[:3]]
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
    answers = await asyncio.gather(*tasks)
    assert all(answer.answer.status == 201 for answer in answers)
    with pytest.raises(CheckoutsBusy):
        await buy(shop, committer, wanted[3])


async def test_a_lane_that_is_held_up_keeps_nobody_waiting(shop: Shop) -> None:
    """Whoever wants something else goes past it, in a lane of their own."""
    (held,), (free,) = await shop.stock(9), await shop.stock(9)
    (stuck,) = await requests(shop, 1, {held.sku_id: 1})
    wanted = await requests(shop, 3, {free.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=2)) as committer:
        async with first_batch_held(shop, committer, held.sku_id):
            first = asyncio.create_task(buy(shop, committer, stuck))
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
            async with asyncio.timeout(3.0):
                # Those who came before it was known, and one who comes later.
                early = [asyncio.create_task(buy(shop, committer, one)) for one in wanted[:2]]
                answers = [*await asyncio.gather(*early), await buy(shop, committer, wanted[2])]
            assert not first.done()
        assert (await first).answer.status == 201
    assert [answer.answer.status for answer in answers] == [201] * 3


async def test_a_further_lane_opens_only_for_a_whole_batch(shop: Shop) -> None:
    """Few who wait go together when the lane is free again, and not each in a lane of their own."""
    (product,) = await shop.stock(40)
    sizes: list[int] = []
    wanted = await requests(shop, 12, {product.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=2), sizes) as committer:
        await asyncio.gather(*(buy(shop, committer, one) for one in wanted))
        assert len(sizes) <= 2
        sizes.clear()
    wanted = await requests(shop, 12, {product.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=2, batch_max=4), sizes) as committer:
        await asyncio.gather(*(buy(shop, committer, one) for one in wanted))
    assert sizes == [4, 4, 4]


async def test_an_error_of_the_process_stays_what_it_was(shop: Shop) -> None:
    """The committer finishes its work and lets the error through, not wrapped in another."""
    with pytest.raises(LookupError, match="the reason"):
        async with committing(shop):
            raise LookupError("the reason")


async def test_a_batch_that_postgres_rolls_back_is_tried_one_by_one(shop: Shop) -> None:
    """A poisoned member fails alone: the others of its batch are placed all the same."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 3, {product.sku_id: 1})
    # As written by a bug: a line that breaks a CHECK of order_lines.
    await shop.database.pool.execute(
        "UPDATE quotes SET lines = jsonb_set(lines, '{0,line_total_minor}', '1') WHERE id = $1",
        wanted[1].quote_id,
    )
    async with committing(shop) as committer:
        answers = await in_company(shop, committer, product, wanted)
    assert [type(answer) for answer in answers] == [
        CheckoutAnswer, asyncpg.CheckViolationError, CheckoutAnswer,
    ]  # fmt: skip
    assert await shop.stock_of(product.sku_id) == (9, 3)


async def test_a_commit_whose_answer_got_lost_is_found_again_by_its_key(shop: Shop) -> None:
    """The connection breaks after the commit: the order is the one that was committed, once."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 3, {product.sku_id: 1})
    lost = LosingPool(shop.database.pool)
    async with Committer(lost, ONE_LANE) as committer:  # type: ignore[arg-type]  # a pool that fails
        answers = await in_company(shop, committer, product, wanted)
    assert lost.lost == 1
    bodies = [orjson.loads(a.answer.body) for a in answers if isinstance(a, CheckoutAnswer)]
    assert [body["status"] for body in bodies] == ["confirmed"] * 3
    assert len({body["id"] for body in bodies}) == 3
    assert await shop.stock_of(product.sku_id) == (9, 4)


class LosingPool:
    """Commits the first batch of several members and loses the answer."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self.lost = 0

    async def fetch(self, query: str, body: str) -> list[asyncpg.Record]:
        rows = await self._pool.fetch(query, body)
        if len(orjson.loads(body)) > 1 and not self.lost:
            self.lost += 1
            raise ConnectionResetError("the server was killed after its commit")
        return rows


async def test_batches_never_deadlock_with_pickers_and_cancellations(shop: Shop) -> None:
    """Two lanes of baskets in all orders, beside cancellations and picks of the same products."""
    products = await shop.stock(400, 6_000, 5_000, 4_000, 3_000)
    skus = [product.sku_id for product in products]
    half = [await shop.place_order(dict.fromkeys(skus, 1)) for _ in range(6)]
    await shop.relay()
    tasks = [await shop.claim(order_id) for order_id in half[:1]]
    wanted = []
    for n, user_id in enumerate(await buyers(shop, 60)):
        turn = skus[n % 4 :] + skus[: n % 4]
        basket = dict.fromkeys(turn if n % 2 else list(reversed(turn)), 1)
        wanted.append(request(user_id, await quote_of(shop, user_id, basket)))

    async def cancel(order_id: str) -> None:
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, order_id, "usr_test", "stress")

    async def scan() -> None:
        for line in tasks[0]["lines"]:
            async with shop.database.begin() as conn:
                await picking.scan(
                    conn, tasks[0]["id"], shop.picker_id, line["line_id"], line["barcode"],
                    line["bin"], 1,
                )  # fmt: skip

    before = await _deadlocks(shop)
    async with committing(shop, CommitterSettings(lanes=2, batch_max=8)) as committer:
        results = await asyncio.gather(
            *(buy(shop, committer, one) for one in wanted),
            *(cancel(order_id) for order_id in half[1:]), scan(),
            return_exceptions=True,
        )  # fmt: skip
    assert not [one for one in results if isinstance(one, BaseException)], results
    assert await _deadlocks(shop) == before
    for sku in skus:
        assert await shop.stock_of(sku) == (399, 60)


async def _deadlocks(shop: Shop) -> int:
    rows = await shop.rows(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return int(rows[0]["deadlocks"])


async def test_a_process_that_is_killed_in_a_commit_leaves_all_or_nothing(shop: Shop) -> None:
    """The backend of a batch is terminated while it waits: every member is told, once each."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 3, {product.sku_id: 1})
    async with committing(shop) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            first = asyncio.create_task(buy(shop, committer, wanted[0]))
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
            rest = [asyncio.create_task(buy(shop, committer, one)) for one in wanted[1:]]
            await shop.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type ="
                " 'Lock' AND datname = current_database() AND query LIKE '%checkout_batch%'"
            )
        answers = await asyncio.gather(first, *rest)
    assert all(answer.answer.status == 201 for answer in answers)
    assert await shop.stock_of(product.sku_id) == (9, 3)
