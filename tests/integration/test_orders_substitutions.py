"""Substitutes: asked for, offered, decided, fetched and paid for, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.errors import DarkstoreError
from orders import cancellation, picking, substitutions
from orders.errors import (
    NotASubstitute,
    NoTimeToAsk,
    NotPicked,
    SubstituteShort,
    SubstitutionDecided,
    SubstitutionNotWanted,
    SubstitutionOpen,
    TooMany,
    WrongProduct,
)
from orders.model import PaymentMethod, Substitution
from orders.settings import SubstitutionSettings
from stores import picking as pick_tasks
from tests.exits_support import (
    answer,
    fetch,
    finish,
    in_order,
    line_of,
    line_row,
    offer,
    picking_order,
    report_short,
    substitution,
    task_of,
)
from tests.order_support import Shop, open_shop

BEST_MATCH = SubstitutionSettings(fallback="best_match")


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def too_late(shop: Shop, substitution_id: str) -> None:
    """The customer's time is over."""
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE order_substitutions SET deadline_at = darkstore_now() - interval '1 second'"
                " WHERE id = :id"
            ),
            {"id": substitution_id},
        )


async def apply_defaults(shop: Shop) -> int:
    """What the periodic job does; how many proposals it decided."""
    done = 0
    async with shop.database.begin() as conn:
        due = await substitutions.overdue(conn)
    for order_id, substitution_id in due:
        async with shop.database.begin() as conn:
            done += await substitutions.apply_default(conn, order_id, substitution_id)
    return done


async def pack(shop: Shop, order_id: str) -> None:
    async with shop.database.begin() as conn:
        await picking.pack(conn, await shop.task_id(order_id), shop.picker_id, 1, "A1")


async def outcome(step: Awaitable[object]) -> str:
    """``done``, or the code of the refusal."""
    try:
        await step
    except DarkstoreError as refusal:
        return refusal.code
    return "done"


async def test_a_dearer_substitute_costs_the_price_of_what_is_missing(shop: Shop) -> None:
    """Best match, in the picker's hand: one call; the difference is ours and nothing goes back."""
    wanted, dearer = await shop.stock(20, 6_000, 7_500)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 2})
    offered = await offer(shop, order_id, wanted, dearer, 1, in_hand=True)
    found = await substitution(shop, offered)
    assert (found["status"], found["picked_quantity"], found["charged_minor"]) == (
        "picked", 1, 6_300,
    )  # fmt: skip
    # The missing unit leaves the books, the substitute leaves the shelf.
    assert await shop.stock_of(wanted.sku_id) == (19, 1)
    assert await shop.stock_of(dearer.sku_id) == (19, 0)
    await finish(shop, order_id)
    order, line = await shop.order(order_id), await line_row(shop, order_id)
    assert order["refunded_minor"] == 0
    assert (line["picked_quantity"], line["missing_quantity"], line["refunded_minor"]) == (1, 1, 0)
    assert (await shop.states(order_id))[2] == "captured"
    await in_order(shop)


async def test_a_cheaper_substitute_gives_the_difference_back(shop: Shop) -> None:
    """To the card, after its capture, to the paisa; totals stay what they were."""
    wanted, cheaper = await shop.stock(20, 6_000, 4_000)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 1})
    before = await shop.order(order_id)
    await report_short(shop, order_id, wanted, 1)
    assert (await shop.order(order_id))["refunded_minor"] == 6_300
    await offer(shop, order_id, wanted, cheaper)
    await fetch(shop, order_id, wanted)
    await finish(shop, order_id)
    order = await shop.order(order_id)
    assert order["refunded_minor"] == 6_300 - 4_200
    assert all(order[name] == before[name] for name in ("total_minor", "tax_minor"))
    refunds = [e.amount.amount_minor for e in shop.gateway.log if e.kind.value == "refund"]
    assert refunds == [2_100]
    await in_order(shop)


async def test_a_customer_is_asked_and_the_picker_goes_on(shop: Shop) -> None:
    """While the question is open its line waits and its unit is reserved; packing is refused."""
    wanted, other, substitute = await shop.stock(20, 6_000, 3_000, 5_000)
    lines = {wanted.sku_id: 1, other.sku_id: 1}
    order_id = await picking_order(shop, Substitution.ASK, lines)
    offered = await offer(shop, order_id, wanted, substitute)
    line = await line_of(shop, order_id, wanted.sku_id)
    assert line["waiting"]
    assert line["substitutes"][0]["deadline_at"] is not None
    assert await shop.stock_of(substitute.sku_id) == (20, 1)
    with pytest.raises(SubstitutionOpen):
        await pack(shop, order_id)
    # The other line is picked meanwhile.
    with pytest.raises(SubstitutionOpen):
        await shop.pick(order_id, {})
    assert (await line_of(shop, order_id, other.sku_id))["picked"] == 1
    await answer(shop, order_id, offered, approved=True)
    await answer(shop, order_id, offered, approved=True)
    with pytest.raises(NotPicked):
        await pack(shop, order_id)
    await fetch(shop, order_id, wanted)
    await finish(shop, order_id)
    events = await shop.rows(
        "SELECT data->>'status' AS status FROM outbox WHERE stream = :stream"
        " AND type = 'order.substitution' ORDER BY seq",
        stream=f"order:{order_id}",
    )
    assert [event["status"] for event in events] == ["proposed", "approved", "picked"]
    await in_order(shop)


async def test_a_rejected_substitute_is_free_again_and_another_may_be_offered(shop: Shop) -> None:
    """The missing unit stays refunded until something else is taken for it."""
    wanted, first, second = await shop.stock(20, 6_000, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 1})
    offered = await offer(shop, order_id, wanted, first)
    await answer(shop, order_id, offered, approved=False)
    assert await shop.stock_of(first.sku_id) == (20, 0)
    with pytest.raises(SubstitutionDecided):
        await answer(shop, order_id, offered, approved=True)
    again = await offer(shop, order_id, wanted, second)
    await answer(shop, order_id, again, approved=True)
    await fetch(shop, order_id, wanted)
    await finish(shop, order_id)
    assert (await shop.order(order_id))["refunded_minor"] == 6_300 - 5_250
    await in_order(shop)


@pytest.mark.parametrize(
    ("settings", "status"),
    [(SubstitutionSettings(), "rejected"), (BEST_MATCH, "approved")],
    ids=["refund", "best_match"],
)
async def test_without_an_answer_the_default_of_the_proposal_is_applied(
    shop: Shop, settings: SubstitutionSettings, status: str
) -> None:
    """Once, after the deadline, and not before."""
    wanted, substitute = await shop.stock(20, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 2})
    offered = await offer(shop, order_id, wanted, substitute, settings=settings)
    assert await apply_defaults(shop) == 0
    await too_late(shop, offered)
    assert await apply_defaults(shop) == 1
    assert await apply_defaults(shop) == 0
    found = await substitution(shop, offered)
    assert (found["status"], found["decided_by"]) == (status, "system")
    if status == "approved":
        await fetch(shop, order_id, wanted)
    await finish(shop, order_id)
    await in_order(shop)


async def test_the_last_word_before_the_deadline_wins(shop: Shop) -> None:
    """Answer, default and packing at the same moment: one decision, and stock and money agree."""
    wanted, substitute = await shop.stock(20, 6_000, 5_000)
    for _ in range(4):
        order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 2})
        offered = await offer(shop, order_id, wanted, substitute)
        line = await line_of(shop, order_id, wanted.sku_id)
        async with shop.database.begin() as conn:
            await picking.scan(
                conn, await shop.task_id(order_id), shop.picker_id, line["line_id"],
                line["barcode"], line["bin"], 1,
            )  # fmt: skip
        await too_late(shop, offered)
        said, defaulted, packed = await asyncio.gather(
            outcome(answer(shop, order_id, offered, approved=True)),
            apply_defaults(shop),
            outcome(pack(shop, order_id)),
        )
        found = await substitution(shop, offered)
        if found["status"] == "approved":
            assert (said, defaulted) == ("done", 0)
            assert packed in ("substitution_open", "not_picked")
            await fetch(shop, order_id, wanted)
        else:
            assert (found["status"], said, defaulted) == ("rejected", "substitution_decided", 1)
        if packed != "done":
            await pack(shop, order_id)
        assert await shop.stock_of(substitute.sku_id) in [(20 - n, 0) for n in range(5)]
    await in_order(shop)


async def test_what_may_not_be_offered(shop: Shop) -> None:
    """Not to who wants none, not more than is missing, not what is not there; nothing is left."""
    wanted, substitute = await shop.stock(5, 6_000, 5_000)
    none = await picking_order(shop, Substitution.REFUND, {wanted.sku_id: 1})
    with pytest.raises(SubstitutionNotWanted):
        await offer(shop, none, wanted, substitute)
    await shop.pick(none, {})
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 2})
    with pytest.raises(TooMany):
        await offer(shop, order_id, wanted, substitute, 3)
    with pytest.raises(NotASubstitute):
        await offer(shop, order_id, wanted, wanted)
    line = await line_of(shop, order_id, wanted.sku_id)
    with pytest.raises(WrongProduct):
        async with shop.database.begin() as conn:
            await picking.substitute(
                conn, SubstitutionSettings(), await shop.task_id(order_id), shop.picker_id,
                line["line_id"], substitute.sku_id, 1, "999",
            )  # fmt: skip
    await shop.place_order({substitute.sku_id: 5})
    with pytest.raises(SubstituteShort):
        await offer(shop, order_id, wanted, substitute)
    assert (await line_row(shop, order_id))["missing_quantity"] == 0
    await in_order(shop)


async def test_nobody_is_asked_when_the_bags_have_to_leave(shop: Shop) -> None:
    """The deadline never lies beyond what the promise allows."""
    wanted, substitute = await shop.stock(20, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 1})
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE orders SET promised_high_at = darkstore_now()"
                " + make_interval(secs => travel_s + :left_s) WHERE id = :id"
            ),
            {"left_s": substitutions.CLOSING_S + 10, "id": order_id},
        )
    with pytest.raises(NoTimeToAsk):
        await offer(shop, order_id, wanted, substitute)
    short_notice = SubstitutionSettings(answer_min_s=5.0)
    offered = await offer(shop, order_id, wanted, substitute, settings=short_notice)
    found = await substitution(shop, offered)
    assert (found["deadline_at"] - found["proposed_at"]).total_seconds() < 11


async def test_a_substitute_that_is_not_there_either_costs_nothing(shop: Shop) -> None:
    """Reported short under its own id; the bag holds what was found, the price is right."""
    wanted, other, substitute = await shop.stock(20, 6_000, 3_000, 5_000)
    order_id = await picking_order(
        shop, Substitution.BEST_MATCH, {wanted.sku_id: 2, other.sku_id: 1}
    )
    offered = await offer(shop, order_id, wanted, substitute, 2)
    await fetch(shop, order_id, wanted, 1)
    line = await line_of(shop, order_id, wanted.sku_id)
    async with shop.database.begin() as conn:
        await picking.short(
            conn, await shop.task_id(order_id), shop.picker_id, line["line_id"], 1, "not_found",
            offered,
        )  # fmt: skip
    assert (await substitution(shop, offered))["charged_minor"] == 5_250
    assert await shop.stock_of(substitute.sku_id) == (18, 0)
    await finish(shop, order_id)
    assert (await shop.order(order_id))["refunded_minor"] == 12_600 - 5_250
    await in_order(shop)


async def test_an_order_of_which_nothing_is_there_ends_when_it_is_packed(shop: Shop) -> None:
    """As long as something may stand in the order lives; without it, it is cancelled for free."""
    wanted, substitute = await shop.stock(20, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 1})
    offered = await offer(shop, order_id, wanted, substitute)
    await answer(shop, order_id, offered, approved=False)
    assert (await shop.states(order_id))[0] == "picking"
    await pack(shop, order_id)
    await shop.settle_all()
    assert await shop.states(order_id) == ("cancelled", "cancelled", "voided")
    await in_order(shop)


async def test_cancelling_ends_what_is_asked_and_restocks_what_was_fetched(shop: Shop) -> None:
    """Open proposals are withdrawn, fetched substitutes go back on their shelf."""
    wanted, first, second = await shop.stock(20, 6_000, 5_000, 5_500)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 3})
    await offer(shop, order_id, wanted, first, 1, in_hand=True)
    waiting = await offer(shop, order_id, wanted, second, 1)
    async with shop.database.begin() as conn:
        await cancellation.cancel(conn, order_id, "usr_staff", "test")
    assert (await substitution(shop, waiting))["status"] == "withdrawn"
    assert await shop.stock_of(first.sku_id) == (20, 0)
    assert await shop.stock_of(second.sku_id) == (20, 0)
    await in_order(shop)


async def test_cash_is_asked_for_with_the_substitute(shop: Shop) -> None:
    """What is due at the door follows each step."""
    wanted, cheaper = await shop.stock(20, 6_000, 4_000)
    order_id = await picking_order(
        shop, Substitution.BEST_MATCH, {wanted.sku_id: 1}, method=PaymentMethod.COD
    )
    total = (await shop.order(order_id))["total_minor"]
    await shop.offer(order_id)
    await offer(shop, order_id, wanted, cheaper)
    assert (await shop.trip(order_id)).stops[1].cash_due_minor == total - 6_300
    await fetch(shop, order_id, wanted)
    assert (await shop.trip(order_id)).stops[1].cash_due_minor == total - 2_100
    await in_order(shop)


async def test_a_picker_is_not_given_a_task_that_only_waits(shop: Shop) -> None:
    """Put back while the customer is asked, it is taken up again once there is something to do."""
    wanted, substitute = await shop.stock(20, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 1})
    offered = await offer(shop, order_id, wanted, substitute)
    task = await task_of(shop, order_id)
    async with shop.database.begin() as conn:
        await picking.release(conn, task["id"], shop.picker_id)
        assert await pick_tasks.candidates(conn, shop.place.store.id) == []
    await answer(shop, order_id, offered, approved=True)
    async with shop.database.begin() as conn:
        assert await pick_tasks.candidates(conn, shop.place.store.id) == [task["id"]]
