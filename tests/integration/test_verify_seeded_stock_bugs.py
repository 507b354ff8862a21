"""``verify`` turns red on every known bug in the stock books that is seeded here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date

import pytest
from sqlalchemy import text

from kit.db import Database
from stores import counting, service, transfers
from stores.counting import Counted
from stores.layout import ShelvedProduct
from stores.settings import CountSettings
from tests.order_support import Shop, open_shop
from tests.stock_support import broken_stock
from tests.store_support import make_draft, make_store


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def execute(shop: Shop, *statements: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


async def a_transfer(shop: Shop) -> tuple[str, str, str]:
    """(transfer, sku, other store): dispatched, on its way."""
    (milk,) = await shop.stock(9)
    other = await make_store(shop.database, [make_draft("Ghee")])
    store_id = shop.place.store.id
    async with shop.database.begin() as conn:
        await service.carry(conn, other.store.id, [ShelvedProduct(milk.sku_id, "chilled", "Dairy")])
        transfer_id = await transfers.create(
            conn, store_id, other.store.id, {milk.sku_id: 4}, "usr_m"
        )
        await transfers.dispatch(conn, store_id, transfer_id, "usr_m")
    return transfer_id, milk.sku_id, other.store.id


async def block_without_the_lots(shop: Shop) -> str:
    """A row says blocked, and no lot of it is."""
    (milk,) = await shop.stock(5)
    await execute(shop, "UPDATE stock SET blocked = 2 WHERE sku_id = :sku", sku=milk.sku_id)
    return "stock_conservation"


async def block_more_than_there_is(shop: Shop) -> str:
    """The CHECK is gone, and units that were picked stay blocked."""
    (milk,) = await shop.stock(5)
    await execute(
        shop,
        "ALTER TABLE stock DROP CONSTRAINT ck_stock_blocked",
        "UPDATE stock SET blocked = 6 WHERE sku_id = :sku",
        sku=milk.sku_id,
    )
    return "no_oversell"


async def take_from_the_wrong_lot(shop: Shop) -> str:
    """A pick is written down for one lot and taken from another: the sums still agree."""
    (milk,) = await shop.stock(5)
    async with shop.database.begin() as conn:
        await service.receive_stock(
            conn, shop.place.store.id, milk.sku_id, 5, date(2999, 1, 1), "usr_m"
        )
    await execute(
        shop,
        "UPDATE lots SET on_hand = on_hand + CASE WHEN expires_on IS NULL THEN 1 ELSE -1 END"
        " WHERE sku_id = :sku",
        sku=milk.sku_id,
    )
    return "lots_trace_to_movements"


async def lose_a_transfer(shop: Shop) -> str:
    """Units leave one store and are nowhere."""
    transfer_id, _sku, _other = await a_transfer(shop)
    await execute(
        shop, "UPDATE stock_transfer_lots SET in_transit = 0 WHERE transfer_id = :id",
        id=transfer_id,
    )  # fmt: skip
    return "transfers_balance"


async def receive_more_than_was_sent(shop: Shop) -> str:
    """A receiver that trusts what it is told puts units on the shelf that nobody sent."""
    transfer_id, sku_id, other = await a_transfer(shop)
    async with shop.database.begin() as conn:
        await transfers.receive(conn, other, transfer_id, {}, "usr_b")
        await conn.exec_driver_sql(
            "SELECT stock_put($1, $2, 3, 'lot_more', NULL, 'transfer_in', 'usr_b', NULL, $3,"
            " NULL, 0)",
            (other, sku_id, transfer_id),
        )
    return "transfers_balance"


async def book_before_approval(shop: Shop) -> str:
    """A difference that waits for a manager is on the books already."""
    (milk,) = await shop.stock(50)
    store_id = shop.place.store.id
    async with shop.database.begin() as conn:
        count_id = await counting.open_count(conn, store_id, "usr_p", sku_ids=[milk.sku_id])
        found = [Counted(milk.sku_id, 10)]
        await counting.record(conn, CountSettings(), store_id, count_id, found, "usr_p")
        await conn.exec_driver_sql(
            "SELECT stock_correct($1, $2, -40, 'lot_x', 'count', 'usr_p', 'eager', $3)",
            (store_id, milk.sku_id, count_id),
        )
    return "counts_match_movements"


async def hand_over_without_a_movement(shop: Shop) -> str:
    """The bags are with the rider, and the books still have them in the store."""
    order_id = await shop.order_at("packed")
    await execute(
        shop, "UPDATE reservations SET status = 'consumed' WHERE order_id = :id", id=order_id
    )
    return "bags_handed_over_or_emptied"


async def return_twice(shop: Shop) -> str:
    """Picked units come back a second time, because nobody asked what had come back."""
    order_id = await shop.order_at("packed")
    await execute(
        shop,
        *[
            "SELECT stock_put(m.store_id, m.sku_id, -m.on_hand_delta, m.lot_id, NULL, 'return',"
            " 'usr_m', NULL, NULL, m.order_id, m.on_hand_delta) FROM stock_movements m"
            " WHERE m.order_id = :id AND m.kind = 'pick'"
        ]
        * 2,
        id=order_id,
    )
    return "bags_handed_over_or_emptied"


BUGS: tuple[Callable[[Shop], Awaitable[str]], ...] = (
    block_without_the_lots, block_more_than_there_is, take_from_the_wrong_lot, lose_a_transfer,
    receive_more_than_was_sent, book_before_approval, hand_over_without_a_movement, return_twice,
)  # fmt: skip


@pytest.mark.embedded_only
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_a_seeded_stock_bug_turns_it_red(
    shop: Shop, bug: Callable[[Shop], Awaitable[str]]
) -> None:
    """The check that is meant to find it does; before it every book is in order."""
    await shop.order_at("collected")
    assert await broken_stock(shop.database) == {}
    expected = await bug(shop)
    assert expected in await broken_stock(shop.database)
