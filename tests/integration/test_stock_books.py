"""Deliveries, waste, transfers, dates: every unit is somewhere, and its way can be told."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.errors import IllegalTransition, Invalid
from orders import picking
from stores import picking as pick_tasks
from stores import receiving, reservations, service, shelf_life, transfers, waste
from stores.errors import (
    BinTaken,
    DeliveryKnown,
    NotAvailable,
    StockExpired,
    StockNotFound,
    StockReserved,
    TransferNotFound,
)
from stores.layout import ShelvedProduct
from stores.receiving import ReceiptLine
from stores.waste import LotNotFound, WasteReason
from tests.order_support import Shop, open_shop
from tests.stock_support import broken_stock, movements, on_hand, rows
from tests.store_support import MadeStore, make_draft, make_store, reserve


@pytest.fixture
async def database(fresh_database: Database) -> Database:
    """One whose books nobody else writes in, so that all of them can be checked."""
    return fresh_database


@pytest.fixture
async def made(database: Database) -> MadeStore:
    return await make_store(database, [make_draft("Milk"), make_draft("Curd")], units=10)


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


@pytest.fixture
async def today(database: Database) -> date:
    found: date = (await rows(database, "SELECT (darkstore_now() AT TIME ZONE 'UTC')::date AS d"))[
        0
    ]["d"]
    return found


async def receive(database: Database, store_id: str, sku_id: str, units: int, until: date) -> None:
    async with database.begin() as conn:
        await service.receive_stock(conn, store_id, sku_id, units, until, "test")


async def put_on_shelf(shop: Shop, *deliveries: tuple[int, date]) -> str:
    """A new product of which there are these lots and no others; its id."""
    (units, until), *later = deliveries
    (product,) = await shop.stock(units)
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE lots SET expires_on = :until WHERE sku_id = :sku"),
            {"until": until, "sku": product.sku_id},
        )
    for units, until in later:
        await receive(shop.database, shop.place.store.id, product.sku_id, units, until)
    return product.sku_id


async def lots_of(database: Database, store_id: str, sku_id: str) -> list[tuple[object, ...]]:
    """(on hand, expires on, blocked) of every lot, what expires first first."""
    found = await rows(
        database,
        "SELECT on_hand, expires_on, blocked FROM lots WHERE store_id = :store AND sku_id = :sku"
        " ORDER BY expires_on NULLS LAST, id",
        store=store_id, sku=sku_id,
    )  # fmt: skip
    return [tuple(row.values()) for row in found]


async def test_a_delivery_note_is_booked_once(database: Database, made: MadeStore) -> None:
    """Several lines become lots under one receipt; the same note again is refused."""
    milk, curd, store_id = made.skus["Milk"], made.skus["Curd"], made.store.id
    lines = [
        ReceiptLine(milk, 5, date(2999, 5, 1)),
        ReceiptLine(milk, 3, date(2999, 6, 1)),
        ReceiptLine(curd, 4),
    ]
    async with database.begin() as conn:
        receipt = await receiving.receive_delivery(
            conn, store_id, "Dairy Ltd", "N-17", lines, "usr_m"
        )
    assert {sku: count.on_hand for sku, count in receipt.counts.items()} == {milk: 18, curd: 14}
    booked = await rows(
        database, "SELECT count(*) AS n FROM stock_movements WHERE reference = :id", id=receipt.id
    )
    assert booked == [{"n": 3}]
    with pytest.raises(DeliveryKnown) as known:
        async with database.begin() as conn:
            await receiving.receive_delivery(conn, store_id, "Dairy Ltd", "N-17", lines, "usr_m")
    assert known.value.extra == {"receipt_id": receipt.id}
    assert await broken_stock(database) == {}


async def test_a_delivery_past_its_date_or_into_a_full_bin_is_refused(
    database: Database, made: MadeStore, today: date
) -> None:
    """A bin may change only while the product has no unit left, and only to a free one."""
    milk, curd, store_id = made.skus["Milk"], made.skus["Curd"], made.store.id

    async def book(reference: str, line: ReceiptLine) -> None:
        async with database.begin() as conn:
            await receiving.receive_delivery(conn, store_id, "S", reference, [line], "usr_m")

    with pytest.raises(Invalid):
        await book("old", ReceiptLine(milk, 1, today - timedelta(days=1)))
    with pytest.raises(BinTaken):
        await book("taken", ReceiptLine(milk, 1, None, "C01-2-01"))
    async with database.begin() as conn:
        await service.adjust_stock(conn, store_id, curd, -10, "gone", "usr_m")
        await conn.execute(
            text("INSERT INTO bins VALUES (:store, 'C09-1-01', 'chilled', 99)"), {"store": store_id}
        )
    with pytest.raises(BinTaken):
        await book("units left", ReceiptLine(milk, 1, None, "C09-1-01"))
    await book("moved", ReceiptLine(curd, 2, None, "C09-1-01"))
    found = await rows(database, "SELECT bin FROM stock WHERE sku_id = :sku", sku=curd)
    assert found == [{"bin": "C09-1-01"}]


async def test_waste_goes_from_the_lot_that_is_named(
    database: Database, made: MadeStore, today: date
) -> None:
    """Of a named lot, else of the earliest; never more than it holds, never what is promised."""
    milk, store_id = made.skus["Milk"], made.store.id
    await receive(database, store_id, milk, 4, today + timedelta(days=9))

    async def throw(units: int, lot_id: str | None = None) -> None:
        async with database.begin() as conn:
            await waste.waste(conn, store_id, milk, units, WasteReason.DAMAGED, "usr_m", lot_id)

    (keeps,) = await rows(
        database, "SELECT id FROM lots WHERE sku_id = :sku AND expires_on IS NULL", sku=milk
    )
    await throw(1)
    await throw(2, keeps["id"])
    assert await lots_of(database, store_id, milk) == [
        (3, today + timedelta(days=9), False),
        (8, None, False),
    ]
    assert await movements(database, store_id, milk) == [
        ("waste", -1, 0, 0, "damaged"),
        ("waste", -2, 0, 0, "damaged"),
    ]
    with pytest.raises(Invalid):
        await throw(9, keeps["id"])
    with pytest.raises(LotNotFound):
        await throw(1, "lot_of_somebody_else")
    assert await broken_stock(database) == {}
    async with database.begin() as conn:
        await reserve(conn, store_id, milk, 10)
    with pytest.raises(StockReserved):
        await throw(2)


async def test_a_lot_near_its_date_is_not_sold(shop: Shop, today: date) -> None:
    """Blocked units stay on hand and are not available; a checkout of them is short."""
    (milk,) = await shop.stock(3)
    store_id, database = shop.place.store.id, shop.database
    await receive(database, store_id, milk.sku_id, 5, today + timedelta(days=2))
    assert await on_hand(database, store_id, milk.sku_id) == (8, 0, 0)
    async with database.begin() as conn:
        await shelf_life.set_store_rules(conn, store_id, expiry_block_days=3)
    assert await shelf_life.block_expiring(database) == 1
    assert await on_hand(database, store_id, milk.sku_id) == (8, 0, 5)
    answer = await short_checkout(shop, milk.sku_id, 4)
    assert answer == [{"sku_id": milk.sku_id, "requested": 4, "available": 3}]
    await shop.order_at("confirmed", {milk.sku_id: 3})
    assert await shelf_life.block_expiring(database) == 0
    assert await broken_stock(database) == {}


async def short_checkout(shop: Shop, sku_id: str, units: int) -> list[dict[str, object]]:
    """What a checkout says is short, of a quote from when there was enough."""
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE stock SET blocked = 0 WHERE sku_id = :sku"), {"sku": sku_id}
        )
    quote_id = await shop.quote({sku_id: units})
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE stock s SET blocked = (SELECT sum(on_hand) FROM lots l"
                " WHERE l.sku_id = s.sku_id AND l.store_id = s.store_id AND l.blocked)"
                " WHERE sku_id = :sku"
            ),
            {"sku": sku_id},
        )
    with pytest.raises(Exception, match="run short") as short:
        await shop.check_out(quote_id)
    lines = short.value.extra["lines"]  # type: ignore[attr-defined]
    return [{key: line[key] for key in ("sku_id", "requested", "available")} for line in lines]


async def test_a_product_may_have_a_rule_of_its_own(
    database: Database, made: MadeStore, today: date
) -> None:
    """The product's days win over its store's, at once and in both directions."""
    milk, store_id = made.skus["Milk"], made.store.id
    await receive(database, store_id, milk, 4, today + timedelta(days=4))

    async def rule(days: int | None) -> int:
        async with database.begin() as conn:
            await shelf_life.set_product_rules(
                conn, store_id, milk, low_stock_at=None, expiry_block_days=days
            )
        return (await on_hand(database, store_id, milk))[2]

    assert [await rule(days) for days in (5, 4, 10, None)] == [4, 0, 4, 0]
    # A lot that arrives too late is blocked from the start.
    await rule(10)
    await receive(database, store_id, milk, 2, today + timedelta(days=9))
    assert await on_hand(database, store_id, milk) == (16, 0, 6)
    assert await broken_stock(database) == {}


async def test_a_store_lives_by_its_own_date(
    database: Database, made: MadeStore, today: date
) -> None:
    """Where it is tomorrow already, a lot is blocked a day before it is in UTC."""
    (hour,) = await rows(
        database, "SELECT extract(hour FROM darkstore_now() AT TIME ZONE 'UTC')::int AS h"
    )
    ahead = "Pacific/Kiritimati" if hour["h"] >= 10 else "UTC"
    milk, store_id = made.skus["Milk"], made.store.id
    await receive(database, store_id, milk, 4, today + timedelta(days=1))
    async with database.begin() as conn:
        await conn.execute(
            text("UPDATE cities SET timezone = :zone WHERE id = :id"),
            {"zone": ahead, "id": made.city.id},
        )
    await shelf_life.block_expiring(database)
    assert (await on_hand(database, store_id, milk))[2] == (0 if ahead == "UTC" else 4)


async def test_promised_units_are_picked_from_sound_lots_first(shop: Shop, today: date) -> None:
    """What was promised before a lot was blocked is picked of the others while they last."""
    near, far = today + timedelta(days=2), today + timedelta(days=20)
    sku_id = await put_on_shelf(shop, (3, near), (3, far))
    store_id, database = shop.place.store.id, shop.database
    order_id = await shop.order_at("confirmed", {sku_id: 4})
    async with database.begin() as conn:
        await shelf_life.set_store_rules(conn, store_id, expiry_block_days=5)
    await shelf_life.block_expiring(database)
    assert await on_hand(database, store_id, sku_id) == (6, 4, 3)
    await shop.drive(order_id, "packed")
    assert await lots_of(database, store_id, sku_id) == [(2, near, True), (0, far, False)]
    assert await on_hand(database, store_id, sku_id) == (2, 0, 2)
    assert await movements(database, store_id, sku_id) == [
        ("reservation", 0, 4, 0, None),
        ("pick", -3, -3, 3, None),
        ("pick", -1, -1, 1, None),
    ]
    assert await broken_stock(database) == {}


async def test_units_past_their_date_are_not_picked(shop: Shop, today: date) -> None:
    """The scan is refused by name, and the picker reports the units short."""
    database = shop.database
    sku_id = await put_on_shelf(shop, (2, today + timedelta(days=2)))
    order_id = await shop.order_at("picking", {sku_id: 1})
    async with database.begin() as conn:
        await conn.execute(
            text("UPDATE lots SET expires_on = :past WHERE sku_id = :sku"),
            {"past": today - timedelta(days=1), "sku": sku_id},
        )
    task_id = await shop.task_id(order_id)
    async with database.begin() as conn:
        line = (await pick_tasks.read(conn, task_id))["lines"][0]
    with pytest.raises(StockExpired):
        async with database.begin() as conn:
            await picking.scan(
                conn, task_id, shop.picker_id, line["line_id"], line["barcode"], line["bin"], 1
            )
    assert await shop.stock_of(sku_id) == (2, 1)


async def test_the_trail_goes_from_the_shelf_to_the_rider(shop: Shop) -> None:
    """Picked units are in the bag until the handover, and a delivered order leaves no bag."""
    (milk,) = await shop.stock(5)
    store_id, database = shop.place.store.id, shop.database
    await shop.order_at("collected", {milk.sku_id: 2})
    assert await movements(database, store_id, milk.sku_id) == [
        ("reservation", 0, 2, 0, None),
        ("pick", -2, -2, 2, None),
        ("handover", 0, 0, -2, None),
    ]
    assert await broken_stock(database) == {}


async def test_returned_units_go_back_into_their_lots_once(shop: Shop, today: date) -> None:
    """Of two lots each gets its own back; sound or thrown away, and never a second time."""
    near, far = today + timedelta(days=5), today + timedelta(days=20)
    sku_id = await put_on_shelf(shop, (2, near), (3, far))
    store_id, database = shop.place.store.id, shop.database
    order_id = await shop.order_at("collected", {sku_id: 4})
    assert await lots_of(database, store_id, sku_id) == [(0, near, False), (1, far, False)]
    async with database.begin() as conn:
        back = await reservations.take_back(conn, order_id, "usr_m", sku_id=sku_id, quantity=1)
        assert back == {sku_id: 1}
    assert await lots_of(database, store_id, sku_id) == [(0, near, False), (2, far, False)]
    async with database.begin() as conn:
        spoiled = await reservations.take_back(conn, order_id, "usr_m", waste_reason="spoiled")
        assert spoiled == {sku_id: 3}
        assert await reservations.restock(conn, order_id, "usr_m") == {}
    assert await shop.stock_of(sku_id) == (2, 0)
    assert [row[0] for row in await movements(database, store_id, sku_id)][-5:] == [
        "return", "return", "waste", "return", "waste",
    ]  # fmt: skip
    assert await broken_stock(database) == {}


async def two_stores(database: Database, units: int = 10) -> tuple[MadeStore, str]:
    """A store with milk and curd and another that carries both and has none."""
    first = await make_store(database, [make_draft("Milk"), make_draft("Curd")], units)
    second = await make_store(database, [make_draft("Ghee")], 1)
    async with database.begin() as conn:
        await service.carry(
            conn,
            second.store.id,
            [ShelvedProduct(sku_id, "chilled", "Dairy") for sku_id in first.skus.values()],
        )
    return first, second.store.id


async def test_a_transfer_is_in_transit_until_it_is_received(
    database: Database, today: date
) -> None:
    """Units leave one store's books, are somewhere, and come onto the other's with their date."""
    made, other_id = await two_stores(database)
    milk, store_id = made.skus["Milk"], made.store.id
    until = today + timedelta(days=9)
    await receive(database, store_id, milk, 4, until)
    async with database.begin() as conn:
        transfer_id = await transfers.create(conn, store_id, other_id, {milk: 6}, "usr_a")
    async with database.begin() as conn:
        await transfers.dispatch(conn, store_id, transfer_id, "usr_a")
    assert await on_hand(database, store_id, milk) == (8, 0, 0)
    assert await on_hand(database, other_id, milk) == (0, 0, 0)
    assert await broken_stock(database) == {}
    async with database.begin() as conn:
        assert (await transfers.read(conn, other_id, transfer_id))["lines"][0]["in_transit"] == 6
        await transfers.receive(conn, other_id, transfer_id, {}, "usr_b")
    assert await lots_of(database, other_id, milk) == [(4, until, False), (2, None, False)]
    assert await broken_stock(database) == {}
    with pytest.raises(IllegalTransition):
        async with database.begin() as conn:
            await transfers.receive(conn, other_id, transfer_id, {}, "usr_b")


async def test_what_does_not_arrive_is_booked_as_lost(database: Database) -> None:
    """A shortfall is an adjustment with a reason; more than was sent is refused."""
    made, other_id = await two_stores(database)
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        transfer_id = await transfers.create(conn, store_id, other_id, {milk: 6}, "usr_a")
        await transfers.dispatch(conn, store_id, transfer_id, "usr_a")
    with pytest.raises(Invalid):
        async with database.begin() as conn:
            await transfers.receive(conn, other_id, transfer_id, {milk: 7}, "usr_b")
    async with database.begin() as conn:
        await transfers.receive(conn, other_id, transfer_id, {milk: 4}, "usr_b")
    assert await movements(database, other_id, milk) == [
        ("transfer_in", 6, 0, 0, None),
        ("adjustment", -2, 0, 0, "lost_in_transit"),
    ]
    assert await broken_stock(database) == {}


async def test_a_cancelled_transfer_comes_back_into_its_lots(
    database: Database, today: date
) -> None:
    made, other_id = await two_stores(database)
    milk, store_id = made.skus["Milk"], made.store.id
    await receive(database, store_id, milk, 2, today + timedelta(days=9))
    before = await lots_of(database, store_id, milk)
    async with database.begin() as conn:
        transfer_id = await transfers.create(conn, store_id, other_id, {milk: 5}, "usr_a")
        await transfers.dispatch(conn, store_id, transfer_id, "usr_a")
        await transfers.cancel(conn, store_id, transfer_id, "usr_a")
    assert await lots_of(database, store_id, milk) == before
    assert await broken_stock(database) == {}
    with pytest.raises(IllegalTransition):
        async with database.begin() as conn:
            await transfers.receive(conn, other_id, transfer_id, {}, "usr_b")


async def test_only_what_nobody_was_promised_is_sent(database: Database) -> None:
    """Short of units a dispatch is refused with the figures; strangers see no transfer."""
    made, other_id = await two_stores(database)
    milk, store_id = made.skus["Milk"], made.store.id
    async with database.begin() as conn:
        await reserve(conn, store_id, milk, 7)
        transfer_id = await transfers.create(conn, store_id, other_id, {milk: 4}, "usr_a")
    with pytest.raises(NotAvailable) as refused:
        async with database.begin() as conn:
            await transfers.dispatch(conn, store_id, transfer_id, "usr_a")
    assert refused.value.extra["lines"] == [{"sku_id": milk, "requested": 4, "available": 3}]
    async with database.begin() as conn:
        with pytest.raises(TransferNotFound):
            await transfers.dispatch(conn, other_id, transfer_id, "usr_a")
        with pytest.raises(TransferNotFound):
            await transfers.read(conn, "sto_third", transfer_id)
        with pytest.raises(StockNotFound):
            await transfers.create(conn, store_id, other_id, {"sku_none": 1}, "usr_a")


async def test_substitutes_are_reserved_and_given_back(shop: Shop) -> None:
    """Units are added to an open reservation while there are any, and given back one by one."""
    milk, curd = await shop.stock(5, 6_000, 5_000)
    order_id = await shop.order_at("confirmed", {milk.sku_id: 2})
    async with shop.database.begin() as conn:
        await reservations.lock_stock(conn, order_id, [curd.sku_id])
        assert not await reservations.reserve_more(conn, order_id, curd.sku_id, 6, "usr_p")
        assert await reservations.reserve_more(conn, order_id, curd.sku_id, 3, "usr_p")
        assert await reservations.release_some(conn, order_id, curd.sku_id, 1, "usr_p") == 1
        assert await reservations.release_some(conn, order_id, milk.sku_id, 9, "usr_p") == 2
    assert await shop.stock_of(curd.sku_id) == (5, 2)
    assert await shop.stock_of(milk.sku_id) == (5, 0)
    assert await broken_stock(shop.database) == {}
