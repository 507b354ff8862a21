"""Everything that moves stock at the same time: no deadlock, nothing lost, nothing made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.db import Database
from kit.errors import Conflict, DarkstoreError, NotFound
from orders.cancellation import cancel_as_staff
from orders.errors import StockShort
from stores import counting, service, shelf_life, transfers, waste
from stores.counting import Counted
from stores.layout import ShelvedProduct
from stores.settings import CountSettings
from stores.waste import WasteReason
from tests.order_support import Shop, open_shop
from tests.stock_support import broken_stock, rows
from tests.store_support import make_draft, make_store

ALL_SMALL = CountSettings(small_units=10_000)
ROUNDS = 12

Use = Callable[[AsyncConnection], Awaitable[object]]


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def other_store(shop: Shop, sku_ids: list[str]) -> str:
    made = await make_store(shop.database, [make_draft("Ghee")])
    async with shop.database.begin() as conn:
        await service.carry(
            conn, made.store.id, [ShelvedProduct(sku, "chilled", "Dairy") for sku in sku_ids]
        )
    return made.store.id


async def test_all_that_moves_stock_at_once_agrees(shop: Shop) -> None:
    """Checkouts, picks, cancellations, counts, waste, transfers both ways, deliveries and expiry.

    Each takes its products in an order of its own, so a wrong lock order ends in a deadlock.
    """
    products = [p.sku_id for p in await shop.stock(60, 6_000, 5_000, 4_000)]
    store_id = shop.place.store.id
    other_id = await other_store(shop, products)
    rng = random.Random(7)
    refused: list[str] = []

    async def attempt(use: Use) -> None:
        # What is refused for a reason is no fault here; anything else is.
        try:
            async with shop.database.begin() as conn:
                await use(conn)
        except (Conflict, NotFound) as error:
            refused.append(error.code)

    def some() -> list[str]:
        return rng.sample(products, k=rng.randint(1, len(products)))

    async def customers() -> None:
        for _ in range(ROUNDS):
            try:
                order_id = await shop.place_order({sku: rng.randint(1, 3) for sku in some()})
            except StockShort as error:
                refused.append(error.code)
                continue
            if rng.random() < 0.3:
                await attempt(lambda conn, o=order_id: cancel_as_staff(conn, o, "usr_m", "test"))
                continue
            await shop.relay()
            try:
                await shop.claim(order_id)
                await shop.pick(order_id, {})
                if rng.random() < 0.5:
                    await attempt(
                        lambda conn, o=order_id: cancel_as_staff(conn, o, "usr_m", "test")
                    )
            except DarkstoreError as error:
                refused.append(error.code)

    async def counters() -> None:
        for _ in range(ROUNDS):
            wanted = some()

            async def count(conn: AsyncConnection, wanted: list[str] = wanted) -> None:
                count_id = await counting.open_count(conn, store_id, "usr_p", sku_ids=wanted)
                held = {
                    row.sku_id: row.on_hand
                    for row in await conn.exec_driver_sql(
                        "SELECT sku_id, on_hand FROM stock WHERE store_id = $1", (store_id,)
                    )
                }
                found = [Counted(sku, max(0, held[sku] + rng.randint(-2, 2))) for sku in wanted]
                await counting.record(conn, ALL_SMALL, store_id, count_id, found, "usr_p")

            await attempt(count)

    async def senders(here: str, there: str) -> None:
        for _ in range(ROUNDS):
            lines = {sku: rng.randint(1, 4) for sku in some()}
            created: list[str] = []

            async def send(
                conn: AsyncConnection, lines: dict[str, int] = lines, created: list[str] = created
            ) -> None:
                transfer_id = await transfers.create(conn, here, there, lines, "usr_a")
                await transfers.dispatch(conn, here, transfer_id, "usr_a")
                created.append(transfer_id)

            await attempt(send)
            for transfer_id in created:
                if rng.random() < 0.3:
                    await attempt(
                        lambda conn, t=transfer_id: transfers.cancel(conn, here, t, "usr_a")
                    )
                else:
                    lost = {sku: rng.randint(0, units) for sku, units in lines.items()}
                    await attempt(
                        lambda conn, t=transfer_id, lost=lost: transfers.receive(
                            conn, there, t, lost, "usr_b"
                        )
                    )

    async def keepers() -> None:
        for n in range(ROUNDS):
            sku = rng.choice(products)
            async with shop.database.begin() as conn:
                until = (await database_now(conn)).date() + timedelta(days=rng.randint(0, 9))
                await service.receive_stock(conn, store_id, sku, 5, until, "usr_m")
            await attempt(
                lambda conn, sku=sku: waste.waste(
                    conn, store_id, sku, 1, WasteReason.DAMAGED, "usr_m"
                )
            )
            async with shop.database.begin() as conn:
                await shelf_life.set_store_rules(conn, store_id, expiry_block_days=n % 8)
            await shelf_life.block_expiring(shop.database)

    async with asyncio.timeout(90):
        async with asyncio.TaskGroup() as tasks:
            for work in (
                customers(), counters(), senders(store_id, other_id),
                senders(other_id, store_id), keepers(),
            ):  # fmt: skip
                tasks.create_task(work)
    assert await broken_stock(shop.database) == {}
    kinds = {
        row["kind"]
        for row in await rows(shop.database, "SELECT DISTINCT kind FROM stock_movements")
    }
    assert kinds >= {
        "receipt", "reservation", "release", "pick", "return", "count", "waste", "transfer_out",
        "transfer_in", "adjustment",
    }, refused  # fmt: skip


async def test_two_dispatches_of_one_transfer_send_it_once(shop: Shop) -> None:
    """Both want to send; one is told that it is on its way."""
    (milk,) = [p.sku_id for p in await shop.stock(9)]
    store_id = shop.place.store.id
    other_id = await other_store(shop, [milk])
    async with shop.database.begin() as conn:
        transfer_id = await transfers.create(conn, store_id, other_id, {milk: 4}, "usr_a")

    async def send() -> str:
        try:
            async with shop.database.begin() as conn:
                await transfers.dispatch(conn, store_id, transfer_id, "usr_a")
        except Conflict as error:
            return error.code
        return "sent"

    assert sorted(await asyncio.gather(send(), send())) == ["illegal_transition", "sent"]
    assert await shop.stock_of(milk) == (5, 0)
    assert await broken_stock(shop.database) == {}
