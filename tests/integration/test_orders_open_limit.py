"""How many orders a customer may have that nobody has paid for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from kit.db import Database
from orders.cancellation import cancel_as_staff
from orders.checkout import CheckoutAnswer, place_order
from orders.committer import Outcome, commit_alone
from orders.errors import TooManyOpenOrders
from orders.model import PaymentMethod
from orders.settings import CommitterSettings
from tests.committer_support import (
    buyers,
    committing,
    member,
    quote_of,
    request,
)
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED, UNKNOWN


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def test_a_customer_may_have_so_many_unpaid_orders_and_no_more(shop: Shop) -> None:
    """Ten at once, two lanes and a limit of three: three are placed, whoever is quickest."""
    (product,) = await shop.stock(50)
    (user_id,) = await buyers(shop, 1)
    quotes = [await quote_of(shop, user_id, {product.sku_id: 1}) for _ in range(10)]
    members = [member(user_id, quote_id, open_max=3) for quote_id in quotes]
    async with committing(shop, CommitterSettings(lanes=2)) as committer:
        half = await asyncio.gather(
            *(committer.submit(member) for member in members[:5]),
            *(commit_alone(shop.database.pool, member) for member in members[5:]),
        )
    outcomes: Sequence[Outcome] = half
    assert Counter(one.outcome for one in outcomes) == {"placed": 3, "too_many_open_orders": 7}
    assert await shop.stock_of(product.sku_id) == (50, 3)


async def test_what_is_paid_or_failed_or_cancelled_no_longer_counts(shop: Shop) -> None:
    """A paid card order is nobody's hold; cash at the door and an unknown payment are."""
    (product,) = await shop.stock(50)

    async def order(**changes: Any) -> CheckoutAnswer:
        quote_id = await shop.quote({product.sku_id: 1})
        wanted = request(shop.customer_id, quote_id, open_orders_max=2, **changes)
        return await place_order(
            shop.database, shop.gateways, shop.settings, shop.clock, wanted, None
        )

    shop.gateway.script = {"authorise": [DECLINED]}
    for _ in range(4):
        await order()
    cash = await order(method=PaymentMethod.COD, token=None)
    shop.gateway.script = {"authorise": [UNKNOWN]}
    await order()
    with pytest.raises(TooManyOpenOrders) as refused:
        await order()
    assert refused.value.extra == {"limit": 2}
    async with shop.database.begin() as conn:
        await cancel_as_staff(conn, orjson.loads(cash.answer.body)["id"], "usr_test", "room")
    await order()
