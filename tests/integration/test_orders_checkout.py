"""Checkout on a real database: stock, keys, quotes, and what a payment's answer does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from sqlalchemy import text

from geo.distances import Point
from kit.db import Database
from kit.errors import Conflict, DarkstoreError
from kit.idempotency import InProgress, KeyReused
from orders import picking
from orders.cancellation import cancel_as_customer, cancel_as_staff
from orders.errors import QuoteExpired, QuoteNotFound, QuoteUsed, StockShort, StorePaused
from orders.quotes import QuoteRequest, WantedLine, create_plain_quote
from orders.views import order_view, quote_view
from payments.gateway import AuthoriseRequest, GatewayOutcome
from server.workers.reservation_expiry import expire_reservations
from tests.http_support import make_services
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED, NEVER_SEEN, SUCCEEDED, UNKNOWN
from tests.waiting import eventually


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def execute(shop: Shop, statement: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        await conn.execute(text(statement), parameters)


async def test_a_good_payment_confirms_and_makes_the_hold_firm(shop: Shop) -> None:
    """Stock is reserved, the order confirmed, the reservation no longer expires."""
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 2})
    assert await shop.states(order_id) == ("confirmed", "unassigned", "authorised")
    assert await shop.stock_of(product.sku_id) == (5, 2)
    rows = await shop.rows("SELECT status, expires_at FROM reservations WHERE order_id = :id",
                           id=order_id)  # fmt: skip
    assert rows == [{"status": "firm", "expires_at": None}]


async def test_a_refused_payment_releases_the_stock(shop: Shop) -> None:
    """The order stays as payment_failed, and others may buy the units at once."""
    (product,) = await shop.stock(5)
    shop.gateway.script = {"authorise": [DECLINED]}
    order_id = await shop.place_order({product.sku_id: 5})
    assert await shop.states(order_id) == ("payment_failed", "cancelled", "declined")
    assert await shop.stock_of(product.sku_id) == (5, 0)
    assert await shop.place_order({product.sku_id: 5})


@pytest.mark.parametrize(
    ("found", "states"),
    [
        (SUCCEEDED, ("confirmed", "unassigned", "authorised")),
        (DECLINED, ("payment_failed", "cancelled", "declined")),
        (NEVER_SEEN, ("payment_failed", "cancelled", "declined")),
    ],
    ids=["charged", "declined", "never_seen"],
)
async def test_a_time_out_is_asked_about_and_never_repeated(
    shop: Shop, found: GatewayOutcome, states: tuple[str, str, str]
) -> None:
    """Unknown holds the stock until a lookup resolves it; the request itself goes out once."""
    (product,) = await shop.stock(5)
    shop.gateway.script = {"authorise": [UNKNOWN], "lookup": [UNKNOWN, found]}
    order_id = await shop.place_order({product.sku_id: 2})
    assert await shop.states(order_id) == ("placed", "unassigned", "unknown")
    assert await shop.stock_of(product.sku_id) == (5, 2)
    await shop.settle_all()
    assert await shop.states(order_id) == states
    assert [kind for kind, _ in shop.gateway.asked] == ["authorise", "lookup", "lookup"]
    held = 2 if found is SUCCEEDED else 0
    assert await shop.stock_of(product.sku_id) == (5, held)


async def test_a_payment_that_nobody_can_resolve_is_given_up(shop: Shop) -> None:
    """After so many look-ups the order fails and its stock is free; a late yes is voided."""
    (product,) = await shop.stock(5)
    shop.gateway.script = {"authorise": [UNKNOWN], "lookup": [UNKNOWN, SUCCEEDED]}
    order_id = await shop.place_order({product.sku_id: 2})
    await execute(
        shop, "UPDATE payment_operations SET attempts = :n WHERE order_id = :id",
        n=shop.gateways.settings.give_up_after_attempts, id=order_id,
    )  # fmt: skip
    (operation,) = await shop.rows(
        "SELECT id FROM payment_operations WHERE order_id = :id", id=order_id
    )
    await shop.settle_one(operation["id"])
    assert await shop.states(order_id) == ("payment_failed", "cancelled", "unknown")
    assert await shop.stock_of(product.sku_id) == (5, 0)
    await shop.settle_all()
    assert await shop.states(order_id) == ("payment_failed", "cancelled", "voided")


async def test_a_yes_after_the_cancellation_is_voided(shop: Shop) -> None:
    """Money that comes too late goes back, and the stock stays with the others."""
    (product,) = await shop.stock(5)
    shop.gateway.script = {"authorise": [UNKNOWN]}
    order_id = await shop.place_order({product.sku_id: 2})

    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "changed my mind", 2_000)
    assert await shop.stock_of(product.sku_id) == (5, 0)
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    assert [entry.kind.value for entry in shop.gateway.log] == ["authorise", "void"]
    assert await shop.balances(order_id) == {}


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


async def test_an_order_that_has_gone_further_is_told_as_it_stands(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is made before the yes is written down; it must not tell of an older order."""
    (product,) = await shop.stock(5)
    authorise = shop.gateway.authorise

    async def slowly(request: AuthoriseRequest, *, deadline_s: float) -> GatewayOutcome:
        outcome = await authorise(request, deadline_s=deadline_s)
        await execute(
            shop, "UPDATE orders SET version = version + 5 WHERE id = :id", id=request.order_id
        )
        return outcome

    monkeypatch.setattr(shop.gateway, "authorise", slowly)
    quote_id = await shop.quote({product.sku_id: 1})
    answer = orjson.loads((await shop.check_out(quote_id)).answer.body)
    assert (answer["status"], answer["payment_status"]) == ("confirmed", "authorised")
    rows = await shop.rows("SELECT version FROM orders WHERE id = :id", id=answer["id"])
    assert answer["version"] == rows[0]["version"]


async def test_the_answer_of_a_plain_yes_is_the_order_as_it_is_read(shop: Shop) -> None:
    """Made before the yes is written down, it differs in nothing from what is read afterwards."""
    (product,) = await shop.stock(5)
    answer = orjson.loads((await shop.check_out(await shop.quote({product.sku_id: 2}))).answer.body)
    async with shop.database.begin() as conn:
        read = await order_view(conn, answer["id"], with_code=True)
    assert answer == orjson.loads(orjson.dumps(read))


async def test_short_lines_are_named_with_what_is_there(shop: Shop) -> None:
    """One short line of two: nothing is reserved, and the answer says which and how many."""
    plenty, few = await shop.stock(5, 6_000, 4_000)
    quote_id = await shop.quote({plenty.sku_id: 3, few.sku_id: 4})
    other = await shop.place_order({few.sku_id: 3})
    with pytest.raises(StockShort) as refused:
        await shop.check_out(quote_id)
    (line,) = refused.value.extra["lines"]  # type: ignore[misc]  # extra is of objects
    assert (line["sku_id"], line["requested"], line["available"]) == (few.sku_id, 4, 2)
    assert await shop.stock_of(plenty.sku_id) == (5, 0)
    assert await shop.stock_of(few.sku_id) == (5, 3)
    assert other
    assert await shop.rows("SELECT 1 FROM orders WHERE quote_id = :id", id=quote_id) == []


async def test_a_refused_checkout_leaves_its_key_free(shop: Shop) -> None:
    """The same key may be used again once the goods are back."""
    (product,) = await shop.stock(2)
    quote_id = await shop.quote({product.sku_id: 2})
    taken = await shop.place_order({product.sku_id: 1})
    with pytest.raises(StockShort):
        await shop.check_out(quote_id, key="again")

    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, taken, shop.customer_id, "no", 0)
    answer = await shop.check_out(quote_id, key="again")
    assert orjson.loads(answer.answer.body)["status"] == "confirmed"


async def test_the_same_key_gives_the_same_bytes(shop: Shop) -> None:
    """A repeat is the stored answer; another body under the key is refused."""
    (product,) = await shop.stock(5)
    quote_id = await shop.quote({product.sku_id: 1})
    first = await shop.check_out(quote_id, key="once")
    again = await shop.check_out(quote_id, key="once")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.answer == first.answer
    with pytest.raises(KeyReused):
        await shop.check_out(quote_id, key="once", body_hash=b"other")
    with pytest.raises(QuoteUsed):
        await shop.check_out(quote_id, key="twice")
    assert await shop.stock_of(product.sku_id) == (5, 1)


async def test_a_key_whose_process_died_tells_how_the_order_stands(shop: Shop) -> None:
    """Between the order and the gateway's answer: in progress; once settled, the order."""
    (product,) = await shop.stock(5)
    quote_id = await shop.quote({product.sku_id: 1})
    shop.gateway.script = {"authorise": [UNKNOWN], "lookup": [SUCCEEDED]}
    await shop.check_out(quote_id, key="died")
    # As if the process had died before it stored its answer.
    await execute(
        shop, "UPDATE idempotency_keys SET status = NULL, answer = NULL WHERE actor = :actor",
        actor=shop.customer_id,
    )  # fmt: skip
    with pytest.raises(InProgress):
        await shop.check_out(quote_id, key="died")
    await shop.settle_all()
    answer = await shop.check_out(quote_id, key="died")
    assert answer.replayed
    assert orjson.loads(answer.answer.body)["status"] == "confirmed"


async def test_refusals_before_any_stock_is_touched(shop: Shop) -> None:
    """Unknown, foreign and expired quotes, and a paused store."""
    (product,) = await shop.stock(5)
    other = await open_shop(shop.database)
    with pytest.raises(QuoteNotFound):
        await shop.check_out("quo_none")
    quote_id = await shop.quote({product.sku_id: 1})
    with pytest.raises(QuoteNotFound):
        await other.check_out(quote_id)
    await execute(shop, "UPDATE stores SET open = false WHERE id = :id", id=shop.place.store.id)
    with pytest.raises(StorePaused):
        await shop.check_out(quote_id)
    await execute(shop, "UPDATE stores SET open = true WHERE id = :id", id=shop.place.store.id)
    await execute(shop, "UPDATE quotes SET expires_at = created_at WHERE id = :id", id=quote_id)
    with pytest.raises(QuoteExpired):
        await shop.check_out(quote_id)
    assert await shop.stock_of(product.sku_id) == (5, 0)


async def test_an_abandoned_hold_is_swept_and_a_late_yes_voided(shop: Shop) -> None:
    """A checkout that died before asking: the sweeper frees the stock, the worker the money."""
    (product,) = await shop.stock(5)
    quote_id = await shop.quote({product.sku_id: 2})

    async def die(*_: object, **__: object) -> GatewayOutcome:
        raise ConnectionResetError("the process was killed here")

    alive, shop.gateway.authorise = shop.gateway.authorise, die  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        await shop.check_out(quote_id)
    shop.gateway.authorise = alive  # type: ignore[method-assign]
    services = make_services(shop.database)
    order_id = (await shop.rows("SELECT id FROM orders WHERE quote_id = :id", id=quote_id))[0]["id"]
    await expire_reservations(services)
    assert await shop.states(order_id) == ("placed", "unassigned", "pending")
    await execute(
        shop, "UPDATE reservations SET expires_at = :at WHERE order_id = :id",
        at=shop.clock.now() - timedelta(seconds=1), id=order_id,
    )  # fmt: skip
    assert await expire_reservations(services) == 1
    assert await shop.states(order_id) == ("cancelled", "cancelled", "pending")
    assert await shop.stock_of(product.sku_id) == (5, 0)
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")


async def test_an_unknown_payment_keeps_its_hold(shop: Shop) -> None:
    """The sweeper leaves alone what may turn out to be paid."""
    (product,) = await shop.stock(5)
    shop.gateway.script = {"authorise": [UNKNOWN], "lookup": [SUCCEEDED]}
    order_id = await shop.place_order({product.sku_id: 2})
    await execute(
        shop, "UPDATE reservations SET expires_at = :at WHERE order_id = :id",
        at=shop.clock.now() - timedelta(hours=1), id=order_id,
    )  # fmt: skip
    assert await expire_reservations(make_services(shop.database)) == 0
    await shop.settle_all()
    assert (await shop.states(order_id))[0] == "confirmed"


async def test_checkouts_and_cancellations_in_all_orders_never_deadlock(shop: Shop) -> None:
    """Baskets that name the same products in opposite orders, some picked half and cancelled."""
    products = await shop.stock(400, 6_000, 5_000, 4_000, 3_000)
    skus = [product.sku_id for product in products]

    async def one(n: int) -> str:
        turn = skus[n % 4 :] + skus[: n % 4]
        basket = dict.fromkeys(turn if n % 2 else reversed(turn), 1)
        order_id = await shop.place_order(basket)
        if n % 3 == 0:
            async with shop.database.begin() as conn:
                await cancel_as_staff(conn, order_id, "usr_test", "stress")
        return order_id

    half = [await shop.place_order(dict.fromkeys(skus, 1)) for _ in range(4)]
    await shop.relay()
    for order_id in half:
        # The last product is in the bag: the cancellation releases the others and restocks it.
        task = await shop.claim(order_id)
        await pick_one(shop, task, skus[-1])
        async with shop.database.begin() as conn:
            await picking.release(conn, task["id"], shop.picker_id)

    async def cancel_half(order_id: str) -> None:
        async with shop.database.begin() as conn:
            await cancel_as_staff(conn, order_id, "usr_test", "stress")

    results = await asyncio.gather(
        *(one(n) for n in range(24)), *(cancel_half(order_id) for order_id in half),
        return_exceptions=True,
    )  # fmt: skip
    failures = [r for r in results if isinstance(r, BaseException)]
    assert not [f for f in failures if not isinstance(f, DarkstoreError)], failures
    assert not [f for f in failures if isinstance(f, Conflict)], failures
    sold = 24 - 8
    for sku in skus:
        assert await shop.stock_of(sku) == (400, sold)


async def test_a_cancellation_locks_stock_in_the_order_of_a_checkout(shop: Shop) -> None:
    """While a checkout holds the first product, a cancellation that restocks that product and
    releases the last one waits without holding the last one.
    """
    skus = sorted(product.sku_id for product in await shop.stock(9, 6_000, 5_000))
    order_id = await shop.place_order(dict.fromkeys(skus, 1))
    await shop.relay()
    await pick_one(shop, await shop.claim(order_id), skus[0])

    async def cancel() -> None:
        async with shop.database.begin() as conn:
            await conn.execute(text("SET LOCAL application_name = 'cancels'"))
            await cancel_as_staff(conn, order_id, "usr_test", "stress")

    async def waits() -> bool:
        rows = await shop.rows(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'cancels'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(rows)

    lock = "SELECT 1 FROM stock WHERE store_id = :store AND sku_id = :sku FOR UPDATE"
    store = shop.place.store.id
    async with asyncio.TaskGroup() as tasks:
        async with shop.database.begin() as conn:
            await conn.execute(text(lock), {"store": store, "sku": skus[0]})
            tasks.create_task(cancel())
            await eventually(waits, "the cancellation to wait")
            await conn.execute(text(f"{lock} NOWAIT"), {"store": store, "sku": skus[-1]})
    assert [await shop.stock_of(sku) for sku in skus] == [(9, 0), (9, 0)]


async def pick_one(shop: Shop, task: dict[str, object], sku_id: str) -> None:
    """Scan one product of a task."""
    lines: list[dict[str, object]] = task["lines"]  # type: ignore[assignment]  # as JSON
    line = next(line for line in lines if line["sku_id"] == sku_id)
    async with shop.database.begin() as conn:
        await picking.scan(
            conn, str(task["id"]), shop.picker_id, str(line["line_id"]), str(line["barcode"]),
            str(line["bin"]), 1,
        )  # fmt: skip


async def test_a_plain_quote_says_what_any_other_says(shop: Shop) -> None:
    """The short way to a quote answers and writes like the long one; a coupon goes the long way."""
    first, second = await shop.stock(5, 6_000, 2_000)
    wanted = {first.sku_id: 2, second.sku_id: 1}
    quote_id = await shop.quote(wanted, tip_minor=300)
    request = QuoteRequest(
        user_id=shop.customer_id, store_id=shop.place.store.id,
        lines=tuple(WantedLine(sku, quantity) for sku, quantity in wanted.items()),
        dropoff=Point(shop.place.store.lat + 0.004, shop.place.store.lon),
        address="1 Test Street", tip_minor=300,
    )  # fmt: skip
    rest = (shop.territory, shop.settings, shop.clock)
    plain = await create_plain_quote(shop.database.pool, *rest, request)
    assert plain is not None
    async with shop.database.begin() as conn:
        long = await quote_view(conn, quote_id, shop.customer_id)
        stored = await quote_view(conn, str(plain["id"]), shop.customer_id)
    assert stored == plain
    same = {name for name in plain if name not in ("id", "expires_at")}
    assert {name: plain[name] for name in same} == {name: long[name] for name in same}
    too_many = replace(request, lines=(WantedLine(first.sku_id, 6),))
    for other in (too_many, replace(request, coupon="HELLO")):
        assert await create_plain_quote(shop.database.pool, *rest, other) is None
