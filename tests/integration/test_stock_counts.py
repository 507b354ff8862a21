"""Cycle counts: blind, fair to picks in between, seen by two, never below a promise."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from kit.clock import database_now
from kit.db import Database
from kit.errors import Invalid
from orders import picking
from stores import counting, service
from stores import picking as pick_tasks
from stores.counting import Counted
from stores.errors import CountClosed, CountNotFound, CountOpen, OwnCount, StockNotFound
from stores.settings import CountSettings
from tests.order_support import Shop, open_shop
from tests.stock_support import broken_stock, events, movements, on_hand, rows
from tests.store_support import MadeStore, make_draft, make_store

RULES = CountSettings(small_units=3, small_share=0.1)
PICKER, OTHER = "usr_picker", "usr_manager"


@pytest.fixture
async def database(fresh_database: Database) -> Database:
    """One whose books nobody else writes in, so that all of them can be checked."""
    return fresh_database


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk"), make_draft("Curd")], units=10)


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def opened(database: Database, store_id: str, *sku_ids: str) -> str:
    async with database.begin() as conn:
        return await counting.open_count(conn, store_id, PICKER, sku_ids=sku_ids)


async def counted(database: Database, store_id: str, count_id: str, *found: Counted) -> None:
    async with database.begin() as conn:
        await counting.record(conn, RULES, store_id, count_id, found, PICKER)


async def decided(
    database: Database, store_id: str, count_id: str, what: counting.Decision, who: str = OTHER
) -> None:
    async with database.begin() as conn:
        await counting.decide(conn, store_id, count_id, (), what, who)


async def status_of(database: Database, count_id: str) -> tuple[str, list[str]]:
    found = await rows(database, "SELECT status FROM stock_counts WHERE id = :id", id=count_id)
    lines = await rows(
        database,
        "SELECT status FROM stock_count_lines WHERE count_id = :id ORDER BY sku_id",
        id=count_id,
    )
    return found[0]["status"], [line["status"] for line in lines]


async def test_a_small_difference_is_booked_at_once(database: Database, made: MadeStore) -> None:
    """Eight found of ten: two go with the count's id and reason, and the count is over."""
    milk, store_id = made.skus["Milk"], made.store.id
    count_id = await opened(database, store_id, milk)
    await counted(database, store_id, count_id, Counted(milk, 8, reason="broken"))
    assert await on_hand(database, store_id, milk) == (8, 0, 0)
    assert await movements(database, store_id, milk) == [("count", -2, 0, 0, "broken")]
    assert await status_of(database, count_id) == ("closed", ["applied"])
    assert (await events(database, store_id, "stock.changed"))[-1]["on_hand"] == 8
    assert await broken_stock(database) == {}


async def test_who_counts_is_not_told_what_the_books_say(
    database: Database, made: MadeStore
) -> None:
    """A blind count has no expected figure, before or after; the manager's view has it."""
    milk, store_id = made.skus["Milk"], made.store.id
    count_id = await opened(database, store_id, milk)
    await counted(database, store_id, count_id, Counted(milk, 1))
    async with database.begin() as conn:
        blind = (await counting.read(conn, store_id, count_id, blind=True))["lines"][0]
        seen = (await counting.read(conn, store_id, count_id, blind=False))["lines"][0]
    assert not {"expected", "variance", "applied", "short"} & set(blind)
    assert (seen["expected"], seen["variance"], seen["status"]) == (10, -9, "pending")


async def test_a_large_difference_waits_for_somebody_else(
    database: Database, made: MadeStore
) -> None:
    """Nothing is booked until a second person approves; what was picked meanwhile stays picked."""
    milk, store_id = made.skus["Milk"], made.store.id
    count_id = await opened(database, store_id, milk)
    await counted(database, store_id, count_id, Counted(milk, 4))
    assert await on_hand(database, store_id, milk) == (10, 0, 0)
    assert await status_of(database, count_id) == ("pending", ["pending"])
    with pytest.raises(OwnCount):
        await decided(database, store_id, count_id, "approve", PICKER)
    async with database.begin() as conn:
        await service.adjust_stock(conn, store_id, milk, -1, "tasting", OTHER)
    await decided(database, store_id, count_id, "approve")
    assert await on_hand(database, store_id, milk) == (3, 0, 0)
    assert await status_of(database, count_id) == ("closed", ["applied"])
    with pytest.raises(CountClosed):
        await decided(database, store_id, count_id, "approve")


async def test_a_rejected_difference_changes_nothing(database: Database, made: MadeStore) -> None:
    milk, store_id = made.skus["Milk"], made.store.id
    count_id = await opened(database, store_id, milk)
    await counted(database, store_id, count_id, Counted(milk, 40))
    await decided(database, store_id, count_id, "reject")
    assert await on_hand(database, store_id, milk) == (10, 0, 0)
    assert await status_of(database, count_id) == ("closed", ["rejected"])


async def test_a_recount_starts_over(database: Database, made: MadeStore) -> None:
    """The line is open again and the second figure is the one that counts."""
    milk, store_id = made.skus["Milk"], made.store.id
    count_id = await opened(database, store_id, milk)
    await counted(database, store_id, count_id, Counted(milk, 1))
    await decided(database, store_id, count_id, "recount")
    assert await status_of(database, count_id) == ("open", ["open"])
    await counted(database, store_id, count_id, Counted(milk, 11))
    assert await on_hand(database, store_id, milk) == (11, 0, 0)
    assert await broken_stock(database) == {}


async def test_picks_between_counting_and_telling_are_allowed_for(shop: Shop) -> None:
    """Ten counted, then two picked, then told: no difference, and eight stay on the books."""
    (milk,) = await shop.stock(10)
    store_id, database = shop.place.store.id, shop.database
    order_id = await shop.order_at("picking", {milk.sku_id: 2})
    count_id = await opened(database, store_id, milk.sku_id)
    async with database.begin() as conn:
        at = await database_now(conn)
    await shop.pick(order_id, {})
    await counted(database, store_id, count_id, Counted(milk.sku_id, 10, at))
    assert await shop.stock_of(milk.sku_id) == (8, 0)
    assert await broken_stock(database) == {}


async def test_a_count_never_goes_below_what_is_promised(shop: Shop) -> None:
    """The books stop at the promised units; the latest orders are named as short of the rest."""
    (milk,) = await shop.stock(5)
    store_id, database = shop.place.store.id, shop.database
    first = await shop.order_at("confirmed", {milk.sku_id: 2})
    last = await shop.order_at("confirmed", {milk.sku_id: 2})
    count_id = await opened(database, store_id, milk.sku_id)
    await counted(database, store_id, count_id, Counted(milk.sku_id, 2))
    assert await shop.stock_of(milk.sku_id) == (4, 4)
    told = await events(database, store_id, "stock.short")
    assert told == [{"sku_id": milk.sku_id, "short": 2, "order_ids": [last]}]
    # The picker of the last order finds nothing: only now do the units leave the books.
    await shop.drive(first, "packed")
    await shop.relay()
    await shop.claim(last)
    task_id = await shop.task_id(last)
    async with database.begin() as conn:
        line = (await pick_tasks.read(conn, task_id))["lines"][0]
        await picking.short(conn, task_id, shop.picker_id, line["line_id"], 2, "not_found")
    assert await shop.stock_of(milk.sku_id) == (0, 0)
    assert await broken_stock(database) == {}


async def test_a_product_is_in_one_count_at_a_time(database: Database, made: MadeStore) -> None:
    """A second count of the same product is refused by name; closing the first frees it."""
    milk, curd, store_id = made.skus["Milk"], made.skus["Curd"], made.store.id
    count_id = await opened(database, store_id, milk)
    with pytest.raises(CountOpen) as refused:
        await opened(database, store_id, milk, curd)
    assert refused.value.extra == {"sku_ids": [milk]}
    async with database.begin() as conn:
        await counting.close(conn, store_id, count_id)
    assert await status_of(database, count_id) == ("closed", ["skipped"])
    await opened(database, store_id, milk, curd)


async def test_a_count_by_bin_finds_what_lies_there(database: Database, made: MadeStore) -> None:
    async with database.begin() as conn:
        count_id = await counting.open_count(conn, made.store.id, PICKER, bins=["C01-2-01"])
        lines = (await counting.read(conn, made.store.id, count_id, blind=True))["lines"]
        assert [line["name"] for line in lines] == ["Curd"]
        with pytest.raises(StockNotFound):
            await counting.open_count(conn, made.store.id, PICKER, bins=["Z99-9-99"])


async def test_nonsense_is_refused(database: Database, made: MadeStore) -> None:
    """Another store's count, a product outside the count, a time outside it, a line twice."""
    milk, curd, store_id = made.skus["Milk"], made.skus["Curd"], made.store.id
    count_id = await opened(database, store_id, milk)
    async with database.begin() as conn:
        later = (await database_now(conn)).replace(year=2999)
    for wrong, found in (
        (Invalid, [Counted(milk, 9, later)]),
        (Invalid, [Counted(milk, 9), Counted(milk, 8)]),
        (CountClosed, [Counted(curd, 9)]),
    ):
        with pytest.raises(wrong):
            await counted(database, store_id, count_id, *found)
    with pytest.raises(CountNotFound):
        await counted(database, "sto_other", count_id, Counted(milk, 9))
    assert await on_hand(database, store_id, milk) == (10, 0, 0)


@pytest.mark.parametrize(
    "columns",
    [
        "'magic', 1, 0, 0, NULL, 'lot_x', NULL",
        "'pick', -1, 0, 1, 'ord_x', 'lot_x', NULL",
        "'pick', -1, -1, 0, 'ord_x', 'lot_x', NULL",
        "'reservation', 0, -1, 0, 'ord_x', NULL, NULL",
        "'adjustment', -1, 0, 0, NULL, 'lot_x', NULL",
        "'waste', 1, 0, 0, NULL, 'lot_x', 'damaged'",
        "'waste', -1, 0, 0, NULL, NULL, 'damaged'",
        "'count', 1, 0, 0, NULL, 'lot_x', NULL",
        "'handover', 0, 0, 1, 'ord_x', NULL, NULL",
        "'return', 1, 0, -2, 'ord_x', 'lot_x', NULL",
    ],
)
async def test_a_movement_has_a_known_kind_its_signs_and_its_grounds(
    database: Database, made: MadeStore, columns: str
) -> None:
    """The table refuses a movement that its kind does not allow."""
    with pytest.raises(DBAPIError, match="ck_stock_movements"):
        async with database.begin() as conn:
            await conn.exec_driver_sql(
                "INSERT INTO stock_movements (store_id, sku_id, kind, on_hand_delta,"
                " reserved_delta, bagged_delta, order_id, lot_id, reason, actor, at)"
                f" VALUES ('{made.store.id}', '{made.skus['Milk']}', {columns}, 'x', now())"
            )
