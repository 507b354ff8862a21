"""Deliveries and corrections: stock row, lots and movements agree, and promises are kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date

import pytest
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import Database
from kit.errors import Invalid
from kit.outbox import outbox
from stores import service
from stores.errors import StockNotFound, StockReserved, StoreNotFound
from stores.layout import ShelvedProduct
from stores.repository import occupied_bins
from stores.tables import lots, stock, stock_movements
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk")], units=10)


@dataclass(frozen=True, slots=True)
class Books:
    on_hand: int
    in_lots: int
    moved: int


async def books(conn: AsyncConnection, made: MadeStore, name: str = "Milk") -> Books:
    """The three places in which units are counted."""
    sku_id, store_id = made.skus[name], made.store.id

    async def total(table: Table, units: str) -> int:
        query = select(func.coalesce(func.sum(table.c[units]), 0)).where(
            table.c.store_id == store_id, table.c.sku_id == sku_id
        )
        return int((await conn.execute(query)).scalar_one())

    return Books(
        await total(stock, "on_hand"),
        await total(lots, "on_hand"),
        await total(stock_movements, "on_hand_delta"),
    )


async def test_a_delivery_becomes_a_lot(database: Database, made: MadeStore) -> None:
    """Received units are on hand, in a lot with their expiry, and told on the store's stream."""
    milk = made.skus["Milk"]
    async with database.begin() as conn:
        count = await service.receive_stock(
            conn, made.store.id, milk, 6, date(2031, 5, 1), "usr_manager"
        )
        assert await books(conn, made) == Books(16, 16, 16)
        expiries = (
            await conn.execute(select(lots.c.expires_on).where(lots.c.sku_id == milk))
        ).scalars()
        assert date(2031, 5, 1) in list(expiries)
        event = (
            await conn.execute(select(outbox).where(outbox.c.stream == f"store:{made.store.id}"))
        ).one()
    assert (count.on_hand, count.reserved, count.available) == (16, 0, 16)
    assert event.type == "stock.changed"
    assert event.data == {"sku_id": milk, "on_hand": 16, "reserved": 0, "available": 16}


async def test_missing_units_leave_the_oldest_lots(database: Database, made: MadeStore) -> None:
    """A negative correction empties the lots that expire first, across several of them."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        for day in (3, 1, 2):
            await service.receive_stock(conn, store_id, milk, 4, date(2031, 5, day), "test")
        await service.adjust_stock(conn, store_id, milk, -6, "damaged", "test")
        rows = await conn.execute(
            select(lots.c.expires_on, lots.c.on_hand)
            .where(lots.c.sku_id == milk)
            .order_by(lots.c.expires_on.nulls_last())
        )
        held = [(row.expires_on and row.expires_on.day, row.on_hand) for row in rows]
        assert await books(conn, made) == Books(16, 16, 16)
    assert held == [(1, 0), (2, 2), (3, 4), (None, 10)]


async def test_found_units_are_as_old_as_the_oldest(database: Database, made: MadeStore) -> None:
    """A positive correction makes a lot that expires with the first of those on the shelf."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await service.receive_stock(conn, store_id, milk, 4, date(2031, 5, 9), "test")
        count = await service.adjust_stock(conn, store_id, milk, 3, "found", "test")
        same = await conn.execute(
            select(lots.c.on_hand).where(
                lots.c.sku_id == milk, lots.c.expires_on == date(2031, 5, 9)
            )
        )
        assert sorted(same.scalars()) == [3, 4]
        assert await books(conn, made) == Books(17, 17, 17)
        kinds = (
            await conn.execute(
                select(stock_movements.c.kind, stock_movements.c.reason).where(
                    stock_movements.c.sku_id == milk, stock_movements.c.on_hand_delta == 3
                )
            )
        ).all()
        assert [tuple(kind) for kind in kinds] == [("adjustment", "found")]
    assert count.on_hand == 17


async def test_promised_units_cannot_be_written_off(database: Database, made: MadeStore) -> None:
    """A correction below what orders were promised is refused and changes nothing."""
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await reserve(conn, store_id, milk, 8)
    with pytest.raises(StockReserved) as refused:
        async with database.begin() as conn:
            await service.adjust_stock(conn, store_id, milk, -3, "lost", "test")
    assert refused.value.extra == {"on_hand": 10, "reserved": 8}
    async with database.begin() as conn:
        assert await books(conn, made) == Books(10, 10, 10)
        await service.adjust_stock(conn, store_id, milk, -2, "lost", "test")
        assert await books(conn, made) == Books(8, 8, 8)


async def test_corrections_at_once_agree(database: Database, made: MadeStore) -> None:
    """Six corrections of one product at the same time leave row, lots and movements equal."""

    async def one(delta: int) -> None:
        async with database.begin() as conn:
            await service.adjust_stock(
                conn, made.store.id, made.skus["Milk"], delta, "count", "test"
            )

    await asyncio.gather(*(one(delta) for delta in (-2, 3, -1, -4, 5, -3)))
    async with database.begin() as conn:
        assert await books(conn, made) == Books(8, 8, 8)


async def test_what_is_not_carried_cannot_be_counted(database: Database, made: MadeStore) -> None:
    """An unknown product, an id of another kind and an empty change each have their error."""
    store_id, milk = made.store.id, made.skus["Milk"]
    async with database.begin() as conn:
        with pytest.raises(StockNotFound):
            await service.adjust_stock(conn, store_id, milk[:-4] + "ZZZZ", 1, "found", "test")
        with pytest.raises(StockNotFound):
            await service.receive_stock(conn, store_id, store_id, 1, None, "test")
        with pytest.raises(Invalid):
            await service.adjust_stock(conn, store_id, milk, 0, "found", "test")
        with pytest.raises(StoreNotFound):
            await service.get_store(conn, "sto_\0")


async def test_a_carried_product_stays_in_its_bin(database: Database, made: MadeStore) -> None:
    """Products that come later get free bins; those that are there do not move."""
    other = await make_store(database, [make_draft("Curd"), make_draft("Ghee")])
    curd = other.skus["Curd"]
    async with database.begin() as conn:
        before = await occupied_bins(conn, made.store.id)
        new = await service.carry(
            conn,
            made.store.id,
            [
                ShelvedProduct(curd, "chilled", "Butter"),
                ShelvedProduct(made.skus["Milk"], "chilled", "Dairy"),
            ],
        )
        after = await occupied_bins(conn, made.store.id)
    assert new == [curd]
    assert after[made.skus["Milk"]] == before[made.skus["Milk"]]
    assert len(set(after.values())) == 2


async def test_a_paused_store_says_why(database: Database, made: MadeStore) -> None:
    """Pausing closes the store with its reason; resuming opens it again."""
    async with database.begin() as conn:
        paused = await service.pause(conn, made.store.id, "Power cut")
        resumed = await service.resume(conn, made.store.id)
    assert (paused.open, paused.paused_reason) == (False, "Power cut")
    assert (resumed.open, resumed.paused_reason) == (True, None)


async def test_staff_find_stock_by_bin_and_barcode(database: Database) -> None:
    """The stock list finds a product by words of its name, its bin, or its barcode."""
    drafts = [make_draft("Milk"), make_draft("Curd")]
    made = await make_store(database, drafts)
    async with database.begin() as conn:
        for q in ("cur", drafts[1].barcode, "c01-2-01"):
            lines, more = await service.list_stock(conn, made.store.id, q, None, 10)
            assert [line.name for line in lines] == ["Curd"]
            assert more is None
        first, more = await service.list_stock(conn, made.store.id, None, None, 1)
        second, end = await service.list_stock(conn, made.store.id, None, more, 1)
    assert [first[0].name, second[0].name, end] == ["Milk", "Curd", None]
