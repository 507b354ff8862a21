"""The checkout that is alone and plain writes what a batch writes, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
import pytest

from identity.model import Role
from identity.repository import add_user
from kit.db import Database
from kit.ids import new_id
from orders.committer import Member
from tests.order_support import Shop, open_shop

# Every table that a checkout writes to, and what finds the rows of an order in it.
_WRITTEN: Final = {
    "orders": "id = :order",
    "order_lines": "order_id = :order",
    "order_history": "order_id = :order",
    "reservations": "order_id = :order",
    "reservation_lines": "order_id = :order",
    "stock_movements": "order_id = :order",
    "payment_operations": "order_id = :order",
    "idempotency_keys": "order_id = :order",
    "quotes": "order_id = :order",
    "stream_heads": "stream = 'order:' || :order",
    "outbox": "stream = 'order:' || :order",
}
# Numbers that count rows: another row has another one.
_COUNTERS: Final = frozenset({"number", "partition"})


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def member(shop: Shop, lines: Mapping[str, int], **changes: object) -> dict[str, Any]:
    """A checkout of a new customer."""
    async with shop.database.begin() as conn:
        user_id = await add_user(conn, role=Role.GUEST, name="Guest")
    assert user_id is not None
    before, shop.customer_id = shop.customer_id, user_id
    try:
        quote_id = await shop.quote(dict(lines))
    finally:
        shop.customer_id = before
    return {
        "n": 0, "actor": user_id, "key": new_id("key"), "body_hash": "ab" * 32,
        "quote_id": quote_id, "order_id": new_id("ord"), "operation_id": new_id("pay"),
        "accepted_at": None, "method": "card", "gateways": ["sandbox"], "token": "tok_ok",
        "tokens": {}, "shared_tokens": True, "substitution": "refund", "tip_minor": 700,
        "use_wallet": False, "open_max": 3, "delivery_code": "1234",
        "tracking_token": new_id("trk"), "hold_s": 300.0, "recover_after_s": 30.0, **changes,
    }  # fmt: skip


async def check_out(shop: Shop, *members: Member) -> list[str]:
    """The outcomes of one batch."""
    body = orjson.dumps([{**one, "n": n} for n, one in enumerate(members)]).decode()
    rows = await shop.database.pool.fetch(
        "SELECT outcome FROM checkout_batch($1::jsonb) ORDER BY n", body
    )
    return [row["outcome"] for row in rows]


async def plainly(shop: Shop, one: Member) -> bool:
    body = orjson.dumps(one).decode()
    return bool(await shop.database.pool.fetchval("SELECT checkout_plain($1::jsonb)", body))


async def written(shop: Shop, one: Member) -> dict[str, list[dict[str, Any]]]:
    """What an order is in every table: ids by their role, times since it was placed."""
    (placed,) = await shop.rows("SELECT placed_at FROM orders WHERE id = :id", id=one["order_id"])
    roles = {one[name]: name for name in (
        "actor", "key", "quote_id", "order_id", "operation_id", "tracking_token")}  # fmt: skip
    roles[f"order:{one['order_id']}"] = "stream"

    def told(value: Any) -> Any:
        if isinstance(value, datetime):
            return round((value - placed["placed_at"]).total_seconds(), 3)
        return roles.get(value, value) if isinstance(value, str) else value

    found = {}
    for table, where in _WRITTEN.items():
        rows = await shop.rows(
            f"SELECT * FROM {table} WHERE {where} ORDER BY 1, 2",
            order=one["order_id"],
        )
        found[table] = [
            {
                name: told(value)
                for name, value in row.items()
                if name not in _COUNTERS
                and not (name == "id" and table in ("stock_movements", "outbox"))
                # The outbox reads the clock itself.
                and not (name == "at" and table == "outbox")
                # When a quote was made has nothing to do with its order.
                and not (table == "quotes" and name in ("created_at", "expires_at"))
            }
            for row in rows
        ]
    return found


@pytest.mark.parametrize("method", ["card", "cod"])
async def test_a_plain_checkout_writes_what_a_batch_writes(shop: Shop, method: str) -> None:
    """Row for row and column for column, in every table that an order is in."""
    first, second = await shop.stock(40, 6_000, 3_333)
    lines = {first.sku_id: 2, second.sku_id: 3}
    alone = await member(shop, lines, method=method)
    together = [await member(shop, lines, method=method) for _ in range(2)]
    assert await plainly(shop, alone)
    assert await check_out(shop, *together) == ["placed", "placed"]
    of_alone, of_one, of_other = [await written(shop, one) for one in (alone, *together)]
    assert of_one == of_other, "the comparison compares nothing else than orders"
    assert all(of_alone.values()), "an order is in every table"
    assert of_alone == of_one
    assert await shop.stock_of(first.sku_id) == (40, 6)
    assert await shop.stock_of(second.sku_id) == (40, 9)


async def test_a_member_that_is_alone_goes_the_plain_way(shop: Shop) -> None:
    """Nothing is left for the batch to do."""
    (product,) = await shop.stock(5)
    one = await member(shop, {product.sku_id: 1})
    assert await check_out(shop, one) == ["placed"]
    assert not await plainly(shop, one), "its key is used now"
    assert await check_out(shop, one) == ["replayed"]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"method": "wallet"}, "wallet_short"),
        ({"open_max": 0}, "too_many_open_orders"),
        ({"token": None}, "token_unusable"),
        ({"quote_id": "quo_unknown"}, "quote_unknown"),
    ],
)
async def test_what_is_not_plain_changes_nothing_and_is_told(
    shop: Shop, changes: dict[str, object], outcome: str
) -> None:
    """The plain way leaves no key, no order, no unit reserved and the quote unused."""
    (product,) = await shop.stock(5)
    one = await member(shop, {product.sku_id: 1}, **changes)
    assert not await plainly(shop, one)
    assert await shop.rows("SELECT 1 FROM idempotency_keys WHERE key = :key", key=one["key"]) == []
    assert await shop.stock_of(product.sku_id) == (5, 0)
    assert await check_out(shop, one) == [outcome]
    used = await shop.rows("SELECT 1 FROM quotes WHERE user_id = :user AND order_id IS NOT NULL",
                           user=one["actor"])  # fmt: skip
    assert used == []


async def test_a_basket_that_is_short_of_one_product_takes_nothing_of_the_others(
    shop: Shop,
) -> None:
    """All lines or none, whatever their order."""
    (plenty,), (scarce,) = await shop.stock(9), await shop.stock(2)
    one = await member(shop, {plenty.sku_id: 1, scarce.sku_id: 2})
    rival = await member(shop, {scarce.sku_id: 1})
    assert await check_out(shop, rival) == ["placed"]
    assert not await plainly(shop, one)
    assert await check_out(shop, one) == ["stock_short"]
    assert await shop.stock_of(plenty.sku_id) == (9, 0)
    assert await shop.stock_of(scarce.sku_id) == (2, 1)
    assert await shop.rows("SELECT 1 FROM stock_movements WHERE order_id = :id",
                           id=one["order_id"]) == []  # fmt: skip
