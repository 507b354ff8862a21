"""``verify`` is red on every bug of substitutes, adjustments, claims and returns seeded here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from kit.db import Database
from kit.ids import new_id
from orders.model import Substitution
from orders.settings import ClaimSettings
from tests.exits_support import claim, finish, in_order, offer, picking_order
from tests.integration.test_verify_seeded_bugs import broken, execute
from tests.order_support import Shop, open_shop


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def edit_an_adjustment(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """Somebody corrects a refund by hand."""
    await execute(
        shop,
        "ALTER TABLE order_adjustments DISABLE TRIGGER order_adjustments_append_only",
        "UPDATE order_adjustments SET items_minor = items_minor + 1 WHERE source_id = :id",
        id=claim_id,
    )
    return {"adjustments_add_up", "claims_paid_once"}


async def refund_without_a_row(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """The price is lowered past the one door."""
    await execute(
        shop, "UPDATE orders SET refunded_minor = refunded_minor + 5 WHERE id = :id", id=order_id
    )
    return {"adjustments_add_up", "ledger_matches_orders"}


async def pay_a_claim_twice(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """Two approvals of one claim, each with its adjustment."""
    await execute(
        shop,
        "INSERT INTO order_adjustments (id, order_id, line_id, kind, items_minor, tax_minor,"
        " tax_rate_bp, quantity, at, source_id, after_delivery)"
        " SELECT :new, order_id, line_id, kind, items_minor, tax_minor, tax_rate_bp, quantity, at,"
        " source_id, after_delivery FROM order_adjustments WHERE source_id = :id",
        id=claim_id, new=new_id("adj"),
    )  # fmt: skip
    return {"claims_paid_once", "adjustments_add_up"}


async def claim_more_than_came(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """A unit is counted as claimed by nobody's claim."""
    await execute(
        shop,
        "UPDATE order_lines SET claimed_quantity = claimed_quantity + 1 WHERE order_id = :id",
        id=order_id,
    )
    return {"claims_paid_once"}


async def charge_a_substitute_twice(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """What was charged is not what the adjustments say."""
    await execute(
        shop,
        "UPDATE order_substitutions SET charged_minor = charged_minor - 1 WHERE order_id = :id",
        id=order_id,
    )
    return {"substitutions_add_up"}


async def forget_the_store(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """The picker's screen shows another quantity than the customer's."""
    await execute(
        shop,
        "UPDATE pick_task_substitutes SET picked = 0 WHERE id IN"
        " (SELECT id FROM order_substitutions WHERE order_id = :id)",
        id=order_id,
    )
    return {"substitutions_add_up"}


async def keep_a_rejected_unit(shop: Shop, order_id: str, claim_id: str) -> set[str]:
    """A rejected substitute stays reserved."""
    wanted, other = await shop.stock(20, 6_000, 5_000)
    asked = await picking_order(shop, Substitution.ASK, {wanted.sku_id: 2})
    offered = await offer(shop, asked, wanted, other)
    await execute(
        shop,
        "UPDATE order_substitutions SET status = 'rejected' WHERE id = :id",
        "UPDATE pick_task_substitutes SET status = 'rejected' WHERE id = :id",
        id=offered,
    )
    return {"reservations_match_lines"}


Bug = Callable[[Shop, str, str], Awaitable[set[str]]]
BUGS: tuple[Bug, ...] = (
    edit_an_adjustment, refund_without_a_row, pay_a_claim_twice, claim_more_than_came,
    charge_a_substitute_twice, forget_the_store, keep_a_rejected_unit,
)  # fmt: skip


@pytest.mark.embedded_only
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_a_seeded_bug_turns_it_red(shop: Shop, bug: Bug) -> None:
    """Each bug is found by the checks that it should be found by, and all was clean before."""
    wanted, cheaper = await shop.stock(20, 6_000, 4_000)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 2})
    await offer(shop, order_id, wanted, cheaper, in_hand=True)
    await finish(shop, order_id)
    claim_id = await claim(shop, order_id, {"lin_1": 1}, settings=ClaimSettings())
    await in_order(shop)
    expected = await bug(shop, order_id, claim_id)
    assert set(await broken(shop)) >= expected
