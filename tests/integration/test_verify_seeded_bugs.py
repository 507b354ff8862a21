"""``verify`` is green on what the system does, and red on every bug that is seeded here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from kit import outbox
from kit.db import Database
from kit.ids import new_id
from orders.model import PaymentMethod
from server.verify import CHECKS, GATEWAY_CHECK, as_json, verify_database
from tests.order_support import Shop, open_shop


async def broken(shop: Shop, **options: object) -> dict[str, int]:
    """Broken rows by check, those of nought left out."""
    await shop.relay()
    checks = await verify_database(shop.database, shop.gateway, patience_s=30.0)
    assert {check.name for check in checks} == {*CHECKS, GATEWAY_CHECK}
    return {check.name: check.broken_rows for check in checks if check.broken_rows}


async def execute(shop: Shop, *statements: str, **parameters: object) -> None:
    async with shop.database.begin() as conn:
        for statement in statements:
            await conn.execute(text(statement), parameters)


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def test_what_the_system_does_is_clean(shop: Shop) -> None:
    """Delivered by card and cash, short, cancelled, declined, failed at the door: all in order."""
    first, second = await shop.stock(40, 6_000, 3_333)
    lines = {first.sku_id: 2, second.sku_id: 3}
    await shop.order_at("settled", lines, tip_minor=1_000)
    await shop.order_at("settled", lines, missing={second.sku_id: 1})
    await shop.order_at("settled", lines, missing={second.sku_id: 2}, method=PaymentMethod.COD)
    await shop.order_at("packed", lines)
    assert await broken(shop) == {}
    checks = await verify_database(shop.database, None, acknowledged=["ord_never"])
    by_name = {check.name: check for check in checks}
    assert by_name["acknowledged_orders_present"].examples == ("ord_never",)
    assert by_name[GATEWAY_CHECK].skipped == "no gateway keeps a log"
    assert as_json(checks)["clean"] is False


async def oversell(shop: Shop) -> set[str]:
    """A checkout that forgets the CHECK and sells the last unit twice."""
    (product,) = await shop.stock(1)
    order_id = await shop.place_order({product.sku_id: 1})
    await execute(
        shop,
        "ALTER TABLE stock DROP CONSTRAINT ck_stock_no_oversell",
        "UPDATE stock SET reserved = reserved + 1 WHERE sku_id = :sku",
        sku=product.sku_id,
    )
    assert order_id
    return {"no_oversell", "stock_conservation"}


async def lose_a_unit(shop: Shop) -> set[str]:
    """Somebody corrects a count without a movement."""
    (product,) = await shop.stock(5)
    await execute(
        shop, "UPDATE stock SET on_hand = on_hand - 1 WHERE sku_id = :sku", sku=product.sku_id
    )
    return {"stock_conservation"}


async def skip_the_edge_trigger(shop: Shop) -> set[str]:
    """A state written past ``order_move``."""
    order_id = await shop.order_at("packed")
    await execute(
        shop,
        "ALTER TABLE orders DISABLE TRIGGER orders_check_edges",
        "UPDATE orders SET status = 'delivered' WHERE id = :id",
        id=order_id,
    )
    return {
        "history_legal_and_contiguous", "states_agree", "pick_tasks_match_orders",
        "ledger_matches_orders", "reservations_not_overdue",
    }  # fmt: skip


async def forget_history(shop: Shop) -> set[str]:
    """A history entry that was never written."""
    order_id = await shop.order_at("packed")
    await execute(shop, "DELETE FROM order_history WHERE order_id = :id AND seq = 5", id=order_id)
    return {"history_legal_and_contiguous"}


async def poll_with_a_cursor(shop: Shop) -> set[str]:
    """A relay that asks for ``id > cursor`` passes over a row that is committed late."""
    order_id = await shop.order_at("confirmed")
    stream = f"order:{order_id}"
    await execute(
        shop,
        "UPDATE outbox SET published_at = darkstore_now() WHERE stream = :stream AND seq <> 2",
        # The late row is never looked at again.
        "UPDATE outbox SET next_attempt_at = 'infinity' WHERE stream = :stream AND seq = 2",
        "UPDATE outbox SET at = at - interval '1 minute' WHERE stream = :stream AND seq = 2",
        stream=stream,
    )
    return {"stream_gap_free", "outbox_drained_or_dead"}


async def number_without_a_lock(shop: Shop) -> set[str]:
    """A sequence number that a rollback did not take back."""
    async with shop.database.begin() as conn:
        await outbox.append(conn, f"store:{shop.place.store.id}", "rider.at_store", {
            "order_id": "ord_x", "rider_name": "R"})  # fmt: skip
    await execute(
        shop,
        "UPDATE stream_heads SET seq = seq + 1 WHERE stream = :stream",
        stream=f"store:{shop.place.store.id}",
    )
    return {"stream_gap_free"}


async def capture_twice(shop: Shop) -> set[str]:
    """The unique index is gone and the money is taken twice."""
    order_id = await shop.order_at("settled")
    await execute(
        shop,
        "DROP INDEX uq_payment_operations_capture",
        "INSERT INTO payment_operations (id, order_id, kind, gateway, method, amount_minor,"
        " currency, reference, status, next_attempt_at, created_at)"
        " SELECT :new, order_id, kind, gateway, method, amount_minor, currency, reference, status,"
        " next_attempt_at, created_at FROM payment_operations"
        " WHERE order_id = :id AND kind = 'capture'",
        id=order_id, new=new_id("pay"),
    )  # fmt: skip
    return {"one_capture_per_order", GATEWAY_CHECK}


async def forget_what_the_gateway_took(shop: Shop) -> set[str]:
    """The gateway captured what we believe to have failed."""
    order_id = await shop.order_at("settled")
    await execute(
        shop,
        "UPDATE payment_operations SET status = 'failed' WHERE order_id = :id AND kind = 'capture'",
        id=order_id,
    )
    return {"one_capture_per_order", GATEWAY_CHECK}


async def post_unbalanced(shop: Shop) -> set[str]:
    """A posting without its counterpart, past the triggers."""
    order_id = await shop.order_at("delivered")
    await execute(
        shop,
        "ALTER TABLE ledger_postings DISABLE TRIGGER ledger_postings_complete",
        "INSERT INTO ledger_postings (transaction_id, n, account, amount_minor)"
        " SELECT id, 99, 'refunds', 5 FROM ledger_transactions"
        " WHERE order_id = :id AND kind = 'sale'",
        id=order_id,
    )
    return {"ledger_zero_sum"}


async def sell_nothing(shop: Shop) -> set[str]:
    """A delivery that nobody booked."""
    order_id = await shop.order_at("delivered")
    await execute(
        shop,
        "ALTER TABLE ledger_postings DISABLE TRIGGER ledger_postings_append_only",
        "ALTER TABLE ledger_transactions DISABLE TRIGGER ledger_transactions_append_only",
        "DELETE FROM ledger_postings WHERE transaction_id IN"
        " (SELECT id FROM ledger_transactions WHERE order_id = :id AND kind = 'sale')",
        "DELETE FROM ledger_transactions WHERE order_id = :id AND kind = 'sale'",
        id=order_id,
    )
    return {"ledger_matches_orders"}


async def assign_twice(shop: Shop) -> set[str]:
    """A second dispatcher past its lease, and no index to stop it."""
    order_id = await shop.order_at("assigned")
    other = shop.place.riders[1].rider_id
    await execute(
        shop,
        "DROP INDEX uq_assignments_active",
        "INSERT INTO trips (id, rider_id, city_id, store_id, status, rider_code, pay_minor,"
        " currency, distance_m, created_at, lease_epoch) SELECT :trip, :rider, city_id, store_id,"
        " status, rider_code, pay_minor, currency, distance_m, created_at, 0 FROM trips"
        " WHERE id = (SELECT trip_id FROM assignments WHERE order_id = :id)",
        "INSERT INTO assignments SELECT order_id, :trip, :rider, active, assigned_at"
        " FROM assignments WHERE order_id = :id",
        id=order_id, trip=new_id("trp"), rider=other,
    )  # fmt: skip
    return {"one_active_rider_per_order"}


async def overload_a_rider(shop: Shop) -> set[str]:
    """A trip heavier than the vehicle takes."""
    await shop.order_at("assigned")
    await execute(shop, "UPDATE riders SET capacity_g = 10 WHERE id = :id", id=shop.rider_id)
    return {"rider_within_capacity"}


async def number_stops_anew(shop: Shop) -> set[str]:
    """A trip that grew gave its stops new numbers, and a phone completed the wrong door."""
    order_id = await shop.order_at("assigned")
    await execute(
        shop,
        "UPDATE trip_stops SET status = 'completed', completed_at = darkstore_now()"
        " WHERE kind = 'dropoff' AND order_id = :id",
        id=order_id,
    )
    return {"trips_hang_together"}


async def order_twice_from_one_quote(shop: Shop) -> set[str]:
    """A key that was forgotten too early lets a second order through."""
    order_id = await shop.order_at("confirmed")
    await execute(
        shop,
        "ALTER TABLE orders DROP CONSTRAINT uq_orders_quote_id",
        "CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM orders WHERE id = :id",
        "UPDATE again SET id = :new, tracking_token = :new, number = number + 100000",
        "INSERT INTO orders OVERRIDING SYSTEM VALUE SELECT * FROM again",
        id=order_id, new=new_id("ord"),
    )  # fmt: skip
    return {
        "idempotency_one_effect", "one_authorise_per_order", "history_legal_and_contiguous",
        "no_orphans",
    }  # fmt: skip


async def lose_what_rows_name(shop: Shop) -> set[str]:
    """A clean-up that takes a customer's quote row by row and forgets whose it was."""
    await execute(
        shop,
        "INSERT INTO quotes SELECT * FROM jsonb_populate_record(NULL::quotes,"
        " (SELECT to_jsonb(q) FROM quotes q WHERE id = :quote)"
        " || jsonb_build_object('id', CAST(:new AS text), 'user_id', 'usr_nobody'))",
        quote=await shop.quote({(await shop.stock(5))[0].sku_id: 1}), new=new_id("quo"),
    )  # fmt: skip
    return {"no_orphans"}


async def lose_a_pick_task(shop: Shop) -> set[str]:
    """A consumer that says done and does nothing."""
    order_id = await shop.order_at("confirmed")
    await shop.relay()
    await execute(
        shop,
        "DELETE FROM pick_task_lines WHERE pick_task_id IN"
        " (SELECT id FROM pick_tasks WHERE order_id = :id)",
        "DELETE FROM pick_tasks WHERE order_id = :id",
        id=order_id,
    )
    return {"pick_tasks_match_orders"}


async def never_sweep(shop: Shop) -> set[str]:
    """A hold that outlives its order's time because nobody sweeps."""
    order_id = await shop.order_at("confirmed")
    await execute(
        shop,
        "UPDATE reservations SET status = 'held', expires_at = darkstore_now() - interval '1 hour'"
        " WHERE order_id = :id",
        id=order_id,
    )
    return {"reservations_not_overdue"}


async def ask_two_gateways(shop: Shop) -> set[str]:
    """A fallback after a time-out: both attempts stand."""
    order_id = await shop.order_at("confirmed")
    await execute(
        shop,
        "DROP INDEX uq_payment_operations_live_authorise",
        "INSERT INTO payment_operations (id, order_id, kind, gateway, method, amount_minor,"
        " currency, status, attempt, next_attempt_at, created_at)"
        " SELECT :new, order_id, kind, 'other', method, amount_minor, currency, 'unknown', 2,"
        " next_attempt_at, created_at FROM payment_operations"
        " WHERE order_id = :id AND kind = 'authorise'",
        id=order_id, new=new_id("pay"),
    )  # fmt: skip
    return {"one_authorise_per_order"}


async def forget_to_book_a_dispute(shop: Shop) -> set[str]:
    """A webhook that moves the state, and nothing else."""
    order_id = await shop.order_at("settled")
    await execute(
        shop,
        "SELECT order_move(:id, 'payment', 'disputed', 'system', 'fraudulent')",
        "INSERT INTO disputes (id, gateway, reference, payment_reference, order_id, amount_minor,"
        " currency, status, opened_at)"
        " SELECT :new, gateway, :new, :new, id, total_minor, currency, 'opened', darkstore_now()"
        " FROM orders WHERE id = :id",
        id=order_id, new=new_id("dsp"),
    )  # fmt: skip
    return {"disputes_match_ledger"}


BUGS: tuple[Callable[[Shop], Awaitable[set[str]]], ...] = (
    oversell, lose_a_unit, skip_the_edge_trigger, forget_history, poll_with_a_cursor,
    number_without_a_lock, capture_twice, forget_what_the_gateway_took, post_unbalanced,
    sell_nothing, assign_twice, overload_a_rider, number_stops_anew,
    order_twice_from_one_quote,
    lose_what_rows_name, lose_a_pick_task,
    never_sweep, ask_two_gateways, forget_to_book_a_dispute,
)  # fmt: skip


@pytest.mark.embedded_only
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_a_seeded_bug_turns_it_red(
    shop: Shop, bug: Callable[[Shop], Awaitable[set[str]]]
) -> None:
    """Each bug is found by the checks that it should be found by, and all was clean before."""
    await shop.order_at("settled")
    assert await broken(shop) == {}
    expected = await bug(shop)
    assert set(await broken(shop)) >= expected
