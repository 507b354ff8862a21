"""Checkouts in company: arrival decides, nobody is hurt by a neighbour, nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import pytest

from identity.model import Role
from identity.repository import add_user
from kit.db import Database
from kit.ids import new_id
from orders import picking
from orders.cancellation import cancel_as_staff
from orders.checkout import CheckoutAnswer, CheckoutRequest, place_order
from orders.committer import CheckoutsBusy, Committer, Member, Outcome, commit_alone
from orders.errors import QuoteUsed, StockShort, TooManyOpenOrders
from orders.model import PaymentMethod, Substitution
from orders.settings import CommitterSettings
from payments.gateway import AuthoriseRequest, GatewayOutcome
from tests.flow import Product, eventually
from tests.order_support import DECLINED, UNKNOWN, Shop, open_shop

ONE_LANE = CommitterSettings(lanes=1)


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


@asynccontextmanager
async def committing(
    shop: Shop, settings: CommitterSettings = ONE_LANE, sizes: list[int] | None = None
) -> AsyncIterator[Committer]:
    on_batch = (lambda _size: None) if sizes is None else sizes.append
    async with Committer(shop.database.pool, settings, on_batch) as committer:
        yield committer


@asynccontextmanager
async def first_batch_held(shop: Shop, committer: Committer, sku_id: str) -> AsyncIterator[None]:
    """While somebody holds the product's row, the lane is busy and whoever comes has to wait."""
    pool = shop.database.pool
    async with pool.acquire() as conn:
        async with conn.transaction():
            await conn.execute(
                "SELECT 1 FROM stock WHERE store_id = $1 AND sku_id = $2 FOR UPDATE",
                shop.place.store.id, sku_id,
            )  # fmt: skip
            yield


async def buyers(shop: Shop, count: int) -> list[str]:
    async with shop.database.begin() as conn:
        made = [await add_user(conn, role=Role.GUEST, name="Guest") for _ in range(count)]
    return [user_id for user_id in made if user_id is not None]


async def quote_of(shop: Shop, user_id: str, lines: dict[str, int]) -> str:
    mine, shop.customer_id = shop.customer_id, user_id
    try:
        return await shop.quote(lines)
    finally:
        shop.customer_id = mine


def request(user_id: str, quote_id: str, **changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "user_id": user_id, "key": new_id("key"), "body_hash": b"body", "quote_id": quote_id,
        "method": PaymentMethod.CARD, "token": "tok_ok", "substitution": Substitution.REFUND,
        "tip_minor": None,
    }  # fmt: skip
    return CheckoutRequest(**{**values, **changes})


async def buy(shop: Shop, committer: Committer, wanted: CheckoutRequest) -> CheckoutAnswer:
    return await place_order(
        shop.database, shop.gateways, shop.settings, shop.clock, wanted, committer
    )


async def requests(
    shop: Shop, count: int, lines: dict[str, int], **changes: Any
) -> list[CheckoutRequest]:
    """One request each of so many new buyers."""
    return [
        request(user_id, await quote_of(shop, user_id, lines), **changes)
        for user_id in await buyers(shop, count)
    ]


async def in_company(
    shop: Shop, committer: Committer, product: Product, wanted: Sequence[CheckoutRequest]
) -> list[CheckoutAnswer | BaseException]:
    """The answers of requests that all came while the lane was busy with somebody else's."""
    (opener,) = await requests(shop, 1, {product.sku_id: 1})
    async with first_batch_held(shop, committer, product.sku_id):
        first = asyncio.create_task(buy(shop, committer, opener))
        await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
        tasks = []
        for one in wanted:
            tasks.append(asyncio.create_task(buy(shop, committer, one)))
            await asyncio.sleep(0)
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _waits_for_lock(shop: Shop) -> bool:
    rows = await shop.rows(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query LIKE '%checkout_batch%'"
    )
    return bool(rows)


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


async def test_who_leaves_before_their_turn_buys_nothing_and_hurts_nobody(shop: Shop) -> None:
    """A caller that is cancelled while it waits is left out; one that was sent is committed."""
    (product,) = await shop.stock(9)
    async with committing(shop) as committer:
        sent, gone, stays = await requests(shop, 3, {product.sku_id: 1})
        async with first_batch_held(shop, committer, product.sku_id):
            tasks = [asyncio.create_task(buy(shop, committer, sent))]
            await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
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
            await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
    answers = await asyncio.gather(*tasks)
    assert all(answer.answer.status == 201 for answer in answers)
    with pytest.raises(CheckoutsBusy):
        await buy(shop, committer, wanted[3])


async def test_an_error_of_the_process_stays_what_it_was(shop: Shop) -> None:
    """The committer finishes its work and lets the error through, not wrapped in another."""
    with pytest.raises(LookupError, match="the reason"):
        async with committing(shop):
            raise LookupError("the reason")


async def test_a_full_queue_refuses_at_once(shop: Shop) -> None:
    """Who does not fit is told to come again, before anything is written."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 4, {product.sku_id: 1})
    async with committing(shop, CommitterSettings(lanes=1, queue_max=2)) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            tasks = [asyncio.create_task(buy(shop, committer, wanted[0]))]
            await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
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
            await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
            late = asyncio.create_task(buy(shop, committer, wanted[1]))
            await asyncio.sleep(0.01)
        assert (await first).answer.status == 201
        with pytest.raises(CheckoutsBusy):
            await late
    assert await shop.stock_of(product.sku_id) == (9, 1)


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
        members = [_member(user_id, f"quo_{user_id}") for user_id in users]
        found = await asyncio.gather(*(committer.submit(member) for member in members))
    assert Counter(one.outcome for one in found) == {"placed": 10, "stock_short": 990}
    # Two went alone, at once; the units went to those who came first, a batch apart at most.
    assert max(n for n, one in enumerate(found) if one.outcome == "placed") < 2 + 64
    assert await shop.stock_of(product.sku_id) == (10, 10)
    assert len(sizes) < 60


def _member(user_id: str, quote_id: str, **changes: object) -> Member:
    return {
        "actor": user_id, "key": new_id("key"), "body_hash": "00" * 32, "quote_id": quote_id,
        "order_id": new_id("ord"), "operation_id": new_id("pay"), "method": "card",
        "gateways": ["sandbox"], "token": "tok_ok", "tokens": {}, "shared_tokens": True,
        "substitution": "refund", "tip_minor": None, "use_wallet": False, "open_max": None,
        "accepted_at": None, "delivery_code": "1234", "tracking_token": new_id("trk"),
        "hold_s": 300.0, "recover_after_s": 30.0, **changes,
    }  # fmt: skip


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


async def test_a_customer_may_have_so_many_unpaid_orders_and_no_more(shop: Shop) -> None:
    """Ten at once, two lanes and a limit of three: three are placed, whoever is quickest."""
    (product,) = await shop.stock(50)
    (user_id,) = await buyers(shop, 1)
    quotes = [await quote_of(shop, user_id, {product.sku_id: 1}) for _ in range(10)]
    members = [_member(user_id, quote_id, open_max=3) for quote_id in quotes]
    async with committing(shop, CommitterSettings(lanes=2)) as committer:
        half = await asyncio.gather(
            *(committer.submit(member) for member in members[:5]),
            *(commit_alone(shop.database.pool, member) for member in members[5:]),
        )
    outcomes: Sequence[Outcome] = half
    assert Counter(one.outcome for one in outcomes) == {"placed": 3, "too_many_open_orders": 7}
    assert await shop.stock_of(product.sku_id) == (50, 3)


async def test_what_is_paid_or_failed_or_cancelled_no_longer_counts(shop: Shop) -> None:
    """A paid card order is nobody's hold; cash at the door and an unknown payment are."""
    (product,) = await shop.stock(50)

    async def order(**changes: Any) -> CheckoutAnswer:
        quote_id = await shop.quote({product.sku_id: 1})
        wanted = request(shop.customer_id, quote_id, open_orders_max=2, **changes)
        return await place_order(
            shop.database, shop.gateways, shop.settings, shop.clock, wanted, None
        )

    shop.gateway.script = {"authorise": [DECLINED]}
    for _ in range(4):
        await order()
    cash = await order(method=PaymentMethod.COD, token=None)
    shop.gateway.script = {"authorise": [UNKNOWN]}
    await order()
    with pytest.raises(TooManyOpenOrders) as refused:
        await order()
    assert refused.value.extra == {"limit": 2}
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, orjson.loads(cash.answer.body)["id"], "usr_test", "room")
    await order()


async def test_a_yes_to_an_order_that_was_cancelled_meanwhile_is_not_plain(shop: Shop) -> None:
    """The short way leaves it alone, and the long way gives the money back."""
    (product,) = await shop.stock(9)
    ask = shop.gateway.authorise

    async def cancel_first(wanted: AuthoriseRequest, **options: float) -> GatewayOutcome:
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, wanted.order_id, "usr_test", "quicker")
        return await ask(wanted, **options)

    shop.gateway.authorise = cancel_first  # type: ignore[method-assign,assignment]
    order_id = await shop.place_order({product.sku_id: 1})
    assert await shop.states(order_id) == ("cancelled", "cancelled", "authorised")
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert await shop.stock_of(product.sku_id) == (9, 0)


async def test_a_process_that_is_killed_in_a_commit_leaves_all_or_nothing(shop: Shop) -> None:
    """The backend of a batch is terminated while it waits: every member is told, once each."""
    (product,) = await shop.stock(9)
    wanted = await requests(shop, 3, {product.sku_id: 1})
    async with committing(shop) as committer:
        async with first_batch_held(shop, committer, product.sku_id):
            first = asyncio.create_task(buy(shop, committer, wanted[0]))
            await eventually(lambda: _waits_for_lock(shop), "the lane to wait")
            rest = [asyncio.create_task(buy(shop, committer, one)) for one in wanted[1:]]
            await shop.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type ="
                " 'Lock' AND datname = current_database() AND query LIKE '%checkout_batch%'"
            )
        answers = await asyncio.gather(first, *rest)
    assert all(answer.answer.status == 201 for answer in answers)
    assert await shop.stock_of(product.sku_id) == (9, 3)
