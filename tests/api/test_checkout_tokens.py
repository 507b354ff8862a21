"""What becomes of an order with each token of the sandbox, and of its stock and money."""

from __future__ import annotations

import pytest

from tests.cities import Place
from tests.flow import place_order, until_status
from tests.system import System
from tests.waiting import eventually


@pytest.fixture
def place(system: System) -> Place:
    """One city for all of these: none of them wants more of it than stock."""
    return system.place_of(__name__)


CONFIRMED = {"status": "confirmed", "payment_status": "authorised"}
REFUSED = {"status": "payment_failed", "payment_status": "declined", "delivery_status": "cancelled"}


@pytest.mark.parametrize(
    ("token", "at_first", "at_last"),
    [
        ("tok_ok", CONFIRMED, CONFIRMED),
        ("tok_duplicate_webhook", CONFIRMED, CONFIRMED),
        ("tok_declined", REFUSED, REFUSED),
        ("tok_insufficient_funds", REFUSED, REFUSED),
        ("tok_nobody_knows", REFUSED, REFUSED),
        ("tok_timeout_charged", {"status": "placed", "payment_status": "unknown"}, CONFIRMED),
        ("tok_timeout_failed", {"status": "placed", "payment_status": "unknown"}, REFUSED),
        ("tok_slow", {"status": "placed", "payment_status": "unknown"}, CONFIRMED),
    ],
)
async def test_each_token_ends_as_it_should(
    system: System, place: Place, token: str, at_first: dict[str, str], at_last: dict[str, str]
) -> None:
    """The answer tells how it stands; what is unknown is resolved by asking, never by repeating."""
    (product,) = await system.stock(place, 5)
    customer = await system.customer()
    order = await place_order(customer, place, {product.sku_id: 2}, token=token)
    # A webhook may be faster than our own time-out.
    told = {name: order[name] for name in at_first}
    assert told in (at_first, {name: at_last[name] for name in at_first})
    await until_status(customer, order["id"], **at_last)
    held = 2 if at_last is CONFIRMED else 0

    async def stock_is_right() -> bool:
        rows = await system.rows(
            "SELECT on_hand, reserved FROM stock WHERE sku_id = :sku", sku=product.sku_id
        )
        return rows == [{"on_hand": 5, "reserved": held}]

    await eventually(stock_is_right, f"{held} units to be reserved")
    log = await system.operations(order["id"])
    assert [entry["kind"] for entry in log] == (["authorise"] if held else [])


async def test_a_card_needs_a_token_and_cash_does_not(system: System, place: Place) -> None:
    """The field is named; cash goes through without one and is authorised by word alone."""
    (product,) = await system.stock(place, 5)
    customer = await system.customer()
    quoted = await customer.post(
        "/v1/quotes",
        {
            "store_id": place.store.id,
            "lines": [{"sku_id": product.sku_id, "quantity": 1}],
            "dropoff": place.dropoff,
        },
        status=201,
    )
    body = {"quote_id": quoted["id"], "payment": {"method": "card"}}
    answer = await customer.send("/v1/orders", body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["errors"][0]["field"] == "payment.token"
    order = await place_order(customer, place, {product.sku_id: 1}, method="cod", token=None)
    assert (order["status"], order["payment_status"]) == ("confirmed", "authorised")
