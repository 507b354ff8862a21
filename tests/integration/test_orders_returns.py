"""Undeliverable orders: who pays, and what becomes of the goods."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from kit.db import Database
from kit.errors import Invalid
from orders import deliveries, returns
from orders.errors import ColdChainBroken
from orders.model import PaymentMethod, Substitution
from orders.returns import Disposition
from tests.exits_support import in_order, offer, picking_order
from tests.order_support import Shop, open_shop

FEE = 2_500


@pytest.fixture
async def shop(fresh_database: Database) -> Shop:
    return await open_shop(fresh_database)


async def fail(shop: Shop, order_id: str, reason: str) -> None:
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await deliveries.fail(conn, trip.rider_id, "usr_r", trip.id, 2, reason, None, fee_minor=FEE)
    await shop.settle_all()


async def take_back(
    shop: Shop, order_id: str, *, restock: bool = True, **dispositions: Disposition
) -> dict[str, Disposition]:
    async with shop.database.begin() as conn:
        return await returns.take_back(
            conn, shop.settings.returns, order_id, "usr_staff", restock=restock,
            dispositions=dispositions,
        )  # fmt: skip


async def out_for(shop: Shop, order_id: str, minutes: int) -> None:
    """The order left the store so long ago."""
    async with shop.database.begin() as conn:
        await conn.execute(
            text(
                "UPDATE order_history SET at = at - make_interval(mins => :minutes)"
                " WHERE order_id = :id AND seq <= (SELECT seq FROM order_history"
                " WHERE order_id = :id AND to_state = 'picked_up')"
            ),
            {"minutes": minutes, "id": order_id},
        )


async def keep(shop: Shop, sku_id: str, temperature: str) -> None:
    async with shop.database.begin() as conn:
        for table in ("products", "pick_task_lines"):
            await conn.execute(
                text(f"UPDATE {table} SET temperature = :t WHERE sku_id = :sku"),
                {"t": temperature, "sku": sku_id},
            )


@pytest.mark.parametrize(
    ("reason", "method", "payment", "kept_minor"),
    [
        ("nobody_there", PaymentMethod.CARD, "captured", FEE),
        ("nobody_there", PaymentMethod.WALLET, "captured", FEE),
        ("nobody_there", PaymentMethod.COD, "voided", 0),
        ("damaged", PaymentMethod.CARD, "voided", 0),
    ],
)
async def test_who_pays_for_a_delivery_that_failed(
    shop: Shop, reason: str, method: PaymentMethod, payment: str, kept_minor: int
) -> None:
    """A customer who is not there pays a fee; for what is our fault, and in cash, nobody pays."""
    if method is PaymentMethod.WALLET:
        await shop.credit(20_000)
    order_id = await shop.order_at("at_door", method=method)
    await fail(shop, order_id, reason)
    assert await shop.states(order_id) == ("undeliverable", "failed", payment)
    assert (await shop.balances(order_id)).get("cancellation_fees", 0) == -kept_minor
    if method is PaymentMethod.WALLET:
        assert await shop.wallet() == (20_000 - FEE, 0)
    await take_back(shop, order_id)
    await in_order(shop)


async def test_goods_go_back_or_are_thrown_away_one_by_one(shop: Shop) -> None:
    """As the store says; each with its movements, and only once."""
    first, second = await shop.stock(20, 6_000, 3_000)
    order_id = await shop.order_at("at_door", {first.sku_id: 2, second.sku_id: 3})
    await fail(shop, order_id, "damaged")
    with pytest.raises(Invalid):
        await take_back(shop, order_id, sku_other=Disposition.WASTE)
    decided = await take_back(shop, order_id, **{second.sku_id: Disposition.WASTE})
    assert decided == {first.sku_id: "restock", second.sku_id: "waste"}
    assert await shop.stock_of(first.sku_id) == (20, 0)
    assert await shop.stock_of(second.sku_id) == (17, 0)
    kinds = await shop.rows(
        "SELECT kind, sum(on_hand_delta)::integer AS n FROM stock_movements"
        " WHERE order_id = :id AND kind IN ('return', 'waste') GROUP BY 1 ORDER BY 1",
        id=order_id,
    )
    assert kinds == [{"kind": "return", "n": 5}, {"kind": "waste", "n": -3}]
    await in_order(shop)


async def test_what_was_out_of_the_cold_too_long_is_thrown_away(shop: Shop) -> None:
    """Chilled after twenty minutes, frozen after five, and nobody may say otherwise."""
    dry, chilled, frozen = await shop.stock(20, 6_000, 3_000, 2_000)
    for product, kept in ((dry, "ambient"), (chilled, "chilled"), (frozen, "frozen")):
        await keep(shop, product.sku_id, kept)
    lines = {dry.sku_id: 1, chilled.sku_id: 1, frozen.sku_id: 1}
    order_id = await shop.order_at("at_door", lines)
    await fail(shop, order_id, "damaged")
    await out_for(shop, order_id, 10)
    with pytest.raises(ColdChainBroken):
        await take_back(shop, order_id, **{frozen.sku_id: Disposition.RESTOCK})
    decided = await take_back(shop, order_id)
    assert [decided[p.sku_id] for p in (dry, chilled, frozen)] == ["restock", "restock", "waste"]
    again = await shop.order_at("at_door", lines)
    await fail(shop, again, "damaged")
    await out_for(shop, again, 30)
    decided = await take_back(shop, again)
    assert [decided[p.sku_id] for p in (dry, chilled, frozen)] == ["restock", "waste", "waste"]
    await in_order(shop)


async def test_substitutes_come_back_with_the_rest(shop: Shop) -> None:
    """Onto their own shelf."""
    wanted, instead = await shop.stock(20, 6_000, 5_000)
    order_id = await picking_order(shop, Substitution.BEST_MATCH, {wanted.sku_id: 2})
    await offer(shop, order_id, wanted, instead, in_hand=True)
    await shop.pick(order_id, {})
    await shop.offer(order_id)
    await shop.accept(order_id)
    await shop.arrive(order_id, 1)
    await shop.hand_over(order_id)
    await shop.arrive(order_id, 2)
    await fail(shop, order_id, "damaged")
    assert await shop.stock_of(instead.sku_id) == (19, 0)
    await take_back(shop, order_id)
    assert await shop.stock_of(instead.sku_id) == (20, 0)
    assert await shop.stock_of(wanted.sku_id) == (19, 0)
    await in_order(shop)
