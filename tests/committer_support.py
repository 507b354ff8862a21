"""Checkouts that come while a lane is busy: buyers, their requests, and the lane that is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from identity.model import Role
from identity.repository import add_user
from kit.ids import new_id
from orders.checkout import CheckoutAnswer, CheckoutRequest, place_order
from orders.committer import Committer, Member
from orders.model import PaymentMethod, Substitution
from orders.settings import CommitterSettings
from tests.cities import Product
from tests.order_support import Shop
from tests.waiting import eventually

ONE_LANE = CommitterSettings(lanes=1)


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
        await eventually(lambda: waits_for_lock(shop), "the lane to wait")
        tasks = []
        for one in wanted:
            tasks.append(asyncio.create_task(buy(shop, committer, one)))
            await asyncio.sleep(0)
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def waits_for_lock(shop: Shop) -> bool:
    rows = await shop.rows(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query LIKE '%checkout_batch%'"
    )
    return bool(rows)


def member(user_id: str, quote_id: str, **changes: object) -> Member:
    return {
        "actor": user_id, "key": new_id("key"), "body_hash": "00" * 32, "quote_id": quote_id,
        "order_id": new_id("ord"), "operation_id": new_id("pay"), "method": "card",
        "gateways": ["sandbox"], "token": "tok_ok", "tokens": {}, "shared_tokens": True,
        "substitution": "refund", "tip_minor": None, "use_wallet": False, "open_max": None,
        "accepted_at": None, "delivery_code": "1234", "tracking_token": new_id("trk"),
        "hold_s": 300.0, "recover_after_s": 30.0, **changes,
    }  # fmt: skip
