"""Checkouts in company: arrival decides, each is told, and no neighbour hurts another."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from kit.db import Database
from orders.checkout import CheckoutAnswer
from orders.committer import CheckoutsBusy
from orders.errors import QuoteUsed, StockShort
from orders.settings import CommitterSettings
from tests.committer_support import (
    buy,
    buyers,
    committing,
    first_batch_held,
    in_company,
    member,
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


async def test_whoever_finds_a_lane_free_goes_alone(shop: Shop) -> None:
    """No checkout waits for company."""
    (product,) = await shop.stock(5)
    sizes: list[int] = []
    async with committing(shop, sizes=sizes) as committer:
        for one in await requests(shop, 3, {product.sku_id: 1}):
            assert orjson.loads((await buy(shop, committer, one)).answer.body)["id"]
    assert sizes == [1, 1, 1]


async def test_the_last_units_go_to_who_came_first(shop: Shop) -> None:
    """Five wait for three units that are left: the first three get them, in one transaction."""
    (product,) = await shop.stock(4)
    sizes: list[int] = []
    async with committing(shop, sizes=sizes) as committer:
        wanted = await requests(shop, 5, {product.sku_id: 1})
        answers = await in_company(shop, committer, product, wanted)
    assert [isinstance(answer, StockShort) for answer in answers] == [False] * 3 + [True] * 2
    assert sizes == [1, 5]
    assert await shop.stock_of(product.sku_id) == (4, 4)


async def test_a_basket_that_is_too_large_leaves_its_units_to_the_next(shop: Shop) -> None:
    """A member that goes short takes nothing, and those behind it are served from the rest."""
    (product,) = await shop.stock(4)
    async with committing(shop) as committer:
        wanted = await requests(shop, 1, {product.sku_id: 4})
        wanted += await requests(shop, 2, {product.sku_id: 1})
        large, *small = await in_company(shop, committer, product, wanted)
    assert isinstance(large, StockShort)
    (line,) = large.extra["lines"]  # type: ignore[misc]  # extra is of objects
    assert (line["requested"], line["available"]) == (4, 3)
    assert all(isinstance(answer, CheckoutAnswer) for answer in small)
    assert await shop.stock_of(product.sku_id) == (4, 3)


async def test_every_member_has_an_outcome_of_its_own(shop: Shop) -> None:
    """Placed, short, used quote, replayed, reused key and paid by wallet, in one batch."""
    product, scarce = await shop.stock(50, 6_000, 4_000)
    await shop.database.pool.execute(
        "UPDATE stock SET reserved = on_hand WHERE store_id = $1 AND sku_id = $2",
        shop.place.store.id, scarce.sku_id,
    )  # fmt: skip
    good, used, replayed, reused = await requests(shop, 4, {product.sku_id: 1})
    (short,) = await requests(shop, 1, {product.sku_id: 1})
    await shop.database.pool.execute(
        "UPDATE quotes SET lines = jsonb_set(lines, '{0,sku_id}', to_jsonb($2::text))"
        " WHERE id = $1",
        short.quote_id, scarce.sku_id,
    )  # fmt: skip
    sizes: list[int] = []
    async with committing(shop, sizes=sizes) as committer:
        first = await buy(shop, committer, replayed)
        await buy(shop, committer, used)
        await buy(shop, committer, reused)
        wanted = [
            good,
            short,
            request(used.user_id, used.quote_id),
            replayed,
            request(reused.user_id, reused.quote_id, key=reused.key, body_hash=b"other"),
            request("usr_nobody", good.quote_id),
        ]
        answers = await in_company(shop, committer, product, wanted)
    assert sizes[-1] == len(wanted)
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == [
        "CheckoutAnswer", "StockShort", "QuoteUsed", "CheckoutAnswer", "KeyReused", "QuoteNotFound",
    ]  # fmt: skip
    assert isinstance(answers[3], CheckoutAnswer)
    assert answers[3].replayed
    assert answers[3].answer == first.answer
    # Four orders and the opener; the short member's key is free again.
    assert await shop.stock_of(product.sku_id) == (50, 5)
    rows = await shop.rows("SELECT 1 FROM idempotency_keys WHERE key = :key", key=short.key)
    assert rows == []


async def test_two_checkouts_of_one_customer_never_share_a_batch(shop: Shop) -> None:
    """A double click with another key: the second finds the quote used, not a broken batch."""
    (product,) = await shop.stock(9)
    sizes: list[int] = []
    async with committing(shop, sizes=sizes) as committer:
        (one,) = await requests(shop, 1, {product.sku_id: 1})
        (other,) = await requests(shop, 1, {product.sku_id: 1})
        again = request(one.user_id, one.quote_id)
        answers = await in_company(shop, committer, product, [one, again, other])
    assert sizes == [1, 2, 1]
    assert [type(answer) for answer in answers] == [CheckoutAnswer, QuoteUsed, CheckoutAnswer]


async def test_a_full_queue_refuses_at_once(shop: Shop) -> None:
    """Who does not fit is told to come again, before anything is written."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 4, {product.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=1, queue_max=2)) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            tasks = [asyncio.create_task(buy(shop, committer, wanted[0]))]
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
            tasks += [asyncio.create_task(buy(shop, committer, one)) for one in wanted[1:3]]
            await asyncio.sleep(0)
            with pytest.raises(CheckoutsBusy) as refused:
                await buy(shop, committer, wanted[3])
        await asyncio.gather(*tasks)
    assert refused.value.retry_after_s > 0
    assert await shop.stock_of(product.sku_id) == (9, 3)


async def test_who_waits_too_long_is_refused_unsent(shop: Shop) -> None:
    """Patience ends before the turn comes: Busy, and no order."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 2, {product.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=1, wait_max_s=0.001)) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            first = asyncio.create_task(buy(shop, committer, wanted[0]))
            await eventually(lambda: waits_for_lock(shop), "the lane to wait")
            late = asyncio.create_task(buy(shop, committer, wanted[1]))
            await asyncio.sleep(0.01)
        assert (await first).answer.status == 201
        with pytest.raises(CheckoutsBusy):
            await late
    assert await shop.stock_of(product.sku_id) == (9, 1)


async def test_a_thousand_buyers_for_ten_units(shop: Shop) -> None:
    """Exactly ten orders; the others hear what is short; no unit is lost or made."""
    (product,) = await shop.stock(10)
    users = await buyers(shop, 1_000)
    seed = await quote_of(shop, users[0], {product.sku_id: 1})
    await shop.database.pool.execute(
        "INSERT INTO quotes SELECT (jsonb_populate_record(q, jsonb_build_object("
        " 'id', 'quo_' || u, 'user_id', u))).* FROM quotes q, unnest($2::text[]) u WHERE q.id = $1",
        seed, users,
    )  # fmt: skip
    sizes: list[int] = []
    async with committing(shop, CommitterSettings(queue_max=2_000), sizes) as committer:
        members = [member(user_id, f"quo_{user_id}") for user_id in users]
        found = await asyncio.gather(*(committer.submit(member) for member in members))
    assert Counter(one.outcome for one in found) == {"placed": 10, "stock_short": 990}
    # Two went alone, at once; the units went to those who came first, a batch apart at most.
    assert max(n for n, one in enumerate(found) if one.outcome == "placed") < 2 + 64
    assert await shop.stock_of(product.sku_id) == (10, 10)
    assert len(sizes) < 60
