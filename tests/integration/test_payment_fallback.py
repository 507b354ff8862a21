"""One gateway after the other: what may go on to the next one, what never does, and who waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest
from sqlalchemy import text

from kit.db import Database
from orders.cancellation import cancel_as_customer
from orders.checkout import CheckoutRequest, place_order
from orders.errors import PaymentTokenUnusable
from orders.model import PaymentMethod, Substitution
from orders.payment_flow import Gateways, carry_out
from payments import operations
from payments.gateway import GatewayOutcome, OutcomeCode, OutcomeStatus
from payments.routing import Breakers, BreakerState, set_gateways_of_city
from payments.settings import BreakerSettings, PaymentSettings
from server.workers.settlement import Settlement
from tests.http_support import make_services
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import (
    DECLINED,
    NEVER_SEEN,
    SUCCEEDED,
    UNAVAILABLE,
    UNKNOWN,
    ScriptedGateway,
)

LIMITED = GatewayOutcome(OutcomeStatus.FAILED, code=OutcomeCode.RATE_LIMITED)
CONFIRMED = ("confirmed", "unassigned", "authorised")
WAITING = ("placed", "unassigned", "pending")
FAILED = ("payment_failed", "cancelled", "declined")


class TwoGateways:
    """A shop whose city asks ``first`` and then ``second``."""

    def __init__(self, shop: Shop, second: ScriptedGateway) -> None:
        self.shop = shop
        self.first = shop.gateway
        self.second = second

    async def checkout(self, **changes: object) -> str:
        (product,) = await self.shop.stock(5)
        quote_id = await self.shop.quote({product.sku_id: 2})
        request = CheckoutRequest(
            user_id=self.shop.customer_id, key=quote_id, body_hash=b"body", quote_id=quote_id,
            method=PaymentMethod.CARD, token="tok_ok", substitution=Substitution.REFUND,
            tip_minor=None,
        )  # fmt: skip
        answer = await place_order(
            self.shop.database, self.shop.gateways, self.shop.settings, self.shop.clock,
            replace(request, **changes),  # type: ignore[arg-type]  # fields of the request
        )  # fmt: skip
        return str(orjson.loads(answer.answer.body)["id"])

    async def attempts(self, order_id: str) -> list[tuple[str, str, str | None]]:
        """(gateway, status, code) of each authorisation, in order."""
        rows = await self.shop.rows(
            "SELECT gateway, status, code FROM payment_operations"
            " WHERE order_id = :id AND kind = 'authorise' ORDER BY attempt",
            id=order_id,
        )
        return [(row["gateway"], row["status"], row["code"]) for row in rows]

    async def work(self, order_id: str) -> None:
        """What the settlement worker does with the order's operations once they are due."""
        shop = self.shop
        async with shop.database.begin() as conn:
            await conn.execute(
                text(
                    "UPDATE payment_operations SET attempts = attempts + 1"
                    " WHERE order_id = :id AND status IN ('pending', 'unknown')"
                ),
                {"id": order_id},
            )
            due = [
                operation
                for operation in await operations.of_order(conn, order_id)
                if operation.status in operations.OPEN_STATUSES
            ]
        for operation in due:
            await carry_out(shop.database, shop.gateways, operation)

    async def waited(self, order_id: str, seconds: float) -> None:
        """As if the order's money had been asked for that long ago."""
        async with self.shop.database.begin() as conn:
            await conn.execute(
                text(
                    "UPDATE payment_operations SET created_at = created_at"
                    " - make_interval(secs => :s * (SELECT speed FROM clock)) WHERE order_id = :id"
                ),
                {"id": order_id, "s": seconds},
            )


@pytest.fixture
async def two(database: Database) -> TwoGateways:
    return await open_two(database)


@pytest.fixture
async def two_alone(fresh_database: Database) -> TwoGateways:
    """In a database of their own: a worker takes up whatever is due in it."""
    return await open_two(fresh_database)


async def open_two(database: Database) -> TwoGateways:
    shop = await open_shop(database)
    second = ScriptedGateway(name="other")
    breakers = Breakers(BreakerSettings(min_calls=1000))
    shop.gateways = Gateways(
        {**shop.gateways.by_name, "other": second}, PaymentSettings(), breakers
    )
    async with database.begin() as conn:
        await set_gateways_of_city(
            conn, shop.place.city.id, {"card": ["sandbox", "other"]}, "usr_ops", shop.clock.now()
        )
    return TwoGateways(shop, second)


@pytest.mark.parametrize("away", [UNAVAILABLE, LIMITED], ids=["unavailable", "rate_limited"])
async def test_the_second_gateway_takes_over_what_the_first_did_not_see(
    two: TwoGateways, away: GatewayOutcome
) -> None:
    """The order is confirmed in the same answer, and belongs to the gateway that said yes."""
    two.first.script = {"authorise": [away]}
    order_id = await two.checkout()
    assert await two.shop.states(order_id) == CONFIRMED
    assert await two.attempts(order_id) == [
        ("sandbox", "failed", away.code), ("other", "succeeded", None),
    ]  # fmt: skip
    assert (await two.shop.order(order_id))["gateway"] == "other"
    await two.shop.drive(order_id, "settled")
    assert [line.kind.value for line in two.second.log] == ["authorise", "capture"]
    assert two.first.log == []


@pytest.mark.parametrize("found", [SUCCEEDED, NEVER_SEEN], ids=["charged", "never_seen"])
async def test_a_time_out_never_goes_on_to_another_gateway(
    two: TwoGateways, found: GatewayOutcome
) -> None:
    """Unknown is asked about where it was asked, and nowhere else; even when it was never seen."""
    two.first.script = {"authorise": [UNKNOWN], "lookup": [UNKNOWN, found]}
    order_id = await two.checkout()
    assert (await two.shop.states(order_id))[2] == "unknown"
    await two.work(order_id)
    await two.work(order_id)
    assert await two.shop.states(order_id) == (CONFIRMED if found is SUCCEEDED else FAILED)
    assert two.second.asked == []
    assert len(await two.attempts(order_id)) == 1


async def test_a_decline_is_final(two: TwoGateways) -> None:
    """The payer's bank said no; another gateway would only ask it again."""
    two.first.script = {"authorise": [DECLINED]}
    order_id = await two.checkout()
    assert await two.shop.states(order_id) == FAILED
    assert two.second.asked == []


async def test_while_no_gateway_can_be_reached_the_order_waits(two: TwoGateways) -> None:
    """Stock stays held and the customer is told; the worker goes round until one answers."""
    two.first.script = {"authorise": [UNAVAILABLE, UNAVAILABLE]}
    two.second.script = {"authorise": [UNAVAILABLE]}
    order_id = await two.checkout()
    assert await two.shop.states(order_id) == WAITING
    (answer,) = await two.shop.rows(
        "SELECT answer FROM idempotency_keys WHERE order_id = :id", id=order_id
    )
    assert "being confirmed" in orjson.loads(answer["answer"])["payment_note"]
    await two.work(order_id)
    assert await two.shop.states(order_id) == WAITING
    await two.work(order_id)
    assert await two.shop.states(order_id) == CONFIRMED
    assert [gateway for gateway, _, _ in await two.attempts(order_id)] == [
        "sandbox", "other", "sandbox", "other",
    ]  # fmt: skip
    (line,) = await two.shop.rows(
        "SELECT sku_id FROM order_lines WHERE order_id = :id", id=order_id
    )
    assert await two.shop.stock_of(line["sku_id"]) == (5, 2)


async def test_the_hold_outlasts_the_next_try(two: TwoGateways) -> None:
    """The sweeper must not give away what is still being paid for."""
    two.first.script = {"authorise": [UNAVAILABLE]}
    two.second.script = {"authorise": [UNAVAILABLE]}
    order_id = await two.checkout()
    (held,) = await two.shop.rows(
        "SELECT r.expires_at > p.next_attempt_at AS outlasts FROM reservations r"
        " JOIN payment_operations p USING (order_id)"
        " WHERE r.order_id = :id AND p.status = 'pending'",
        id=order_id,
    )
    assert held["outlasts"]


async def test_patience_ends(two: TwoGateways) -> None:
    """After so long without any gateway the order fails and its stock is free."""
    two.first.script = {"authorise": [UNAVAILABLE] * 9}
    two.second.script = {"authorise": [UNAVAILABLE] * 9}
    order_id = await two.checkout()
    await two.waited(order_id, two.shop.gateways.settings.authorise_patience_s)
    await two.work(order_id)
    assert await two.shop.states(order_id) == FAILED
    (line,) = await two.shop.rows(
        "SELECT sku_id FROM order_lines WHERE order_id = :id", id=order_id
    )
    assert await two.shop.stock_of(line["sku_id"]) == (5, 0)


async def test_a_request_whose_answer_was_lost_stays_with_its_gateway(two: TwoGateways) -> None:
    """The checkout died while it asked: that the gateway is away now proves nothing of then."""
    alive = two.first.authorise

    async def die(*_: object, **__: object) -> GatewayOutcome:
        raise ConnectionResetError("the process was killed here")

    two.first.authorise = die  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        await two.checkout()
    two.first.authorise = alive  # type: ignore[method-assign]
    two.first.script = {"authorise": [UNAVAILABLE, UNAVAILABLE]}
    (row,) = await two.shop.rows(
        "SELECT id FROM orders WHERE user_id = :id", id=two.shop.customer_id
    )
    await two.work(row["id"])
    assert await two.attempts(row["id"]) == [("sandbox", "pending", "unavailable")]
    await two.waited(row["id"], two.shop.gateways.settings.authorise_patience_s)
    await two.work(row["id"])
    assert await two.attempts(row["id"]) == [("sandbox", "unknown", "unavailable")]
    assert two.second.asked == []


async def test_a_cancelled_order_is_not_paid_for_by_a_later_try(two: TwoGateways) -> None:
    """The worker drops what nobody has seen."""
    two.first.script = {"authorise": [UNAVAILABLE]}
    two.second.script = {"authorise": [UNAVAILABLE]}
    order_id = await two.checkout()
    async with two.shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, two.shop.customer_id, "changed my mind", 0)
    asked = len(two.first.asked) + len(two.second.asked)
    await two.work(order_id)
    assert len(two.first.asked) + len(two.second.asked) == asked
    assert await two.shop.states(order_id) == ("cancelled", "cancelled", "declined")


async def test_only_gateways_with_a_token_stand_in(two: TwoGateways) -> None:
    """Where tokens are not shared, a fallback needs one of its own; without any, no order."""
    two.shop.gateways = replace(two.shop.gateways, settings=PaymentSettings(shared_tokens=False))
    two.first.script = {"authorise": [UNAVAILABLE]}
    alone = await two.checkout()
    assert await two.shop.states(alone) == WAITING
    assert two.second.asked == []
    two.first.script = {"authorise": [UNAVAILABLE]}
    order_id = await two.checkout(tokens={"other": "tok_other"})
    assert await two.shop.states(order_id) == CONFIRMED
    second_alone = await two.checkout(token=None, tokens={"other": "tok_other"})
    assert await two.attempts(second_alone) == [("other", "succeeded", None)]
    with pytest.raises(PaymentTokenUnusable):
        await two.checkout(token=None, tokens={"elsewhere": "tok"})


async def test_an_open_circuit_is_passed_by_and_a_probe_closes_it(two: TwoGateways) -> None:
    """After failures the first gateway is not asked; half open, one order asks it again."""
    now_s = 1_000.0
    breakers = Breakers(BreakerSettings(min_calls=3, open_s=30), now_s=lambda: now_s)
    two.shop.gateways = replace(two.shop.gateways, breakers=breakers)
    two.first.script = {"authorise": [UNAVAILABLE] * 3}
    for _ in range(3):
        await two.checkout()
    assert breakers.of("sandbox").state is BreakerState.OPEN
    asked = len(two.first.asked)
    order_id = await two.checkout()
    assert len(two.first.asked) == asked
    assert (await two.attempts(order_id))[0] == ("sandbox", "failed", "circuit_open")
    now_s += 31
    assert breakers.of("sandbox").state is BreakerState.HALF_OPEN
    order_id = await two.checkout()
    assert await two.attempts(order_id) == [("sandbox", "succeeded", None)]
    assert breakers.of("sandbox").state is BreakerState.CLOSED


async def test_a_hanging_gateway_does_not_hold_up_the_others(two_alone: TwoGateways) -> None:
    """The worker keeps room for each gateway, and goes on with one while another hangs."""
    two, shop = two_alone, two_alone.shop
    first = await shop.order_at("delivered")
    two.first.script = {"authorise": [UNAVAILABLE]}
    second = await shop.order_at("confirmed")
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, second, shop.customer_id, "no", 0)
    hangs = asyncio.Event()

    async def hang(*_: object, **__: object) -> GatewayOutcome:
        await hangs.wait()
        return UNKNOWN

    two.first.capture = hang  # type: ignore[method-assign]
    services = replace(make_services(shop.database), gateways=shop.gateways)
    settlement = Settlement(services)
    voided = ("cancelled", "cancelled", "voided")
    async with asyncio.timeout(20):
        while await shop.states(second) != voided:
            await settlement.start_due()
            await settlement.wait_a_little(0.05)
    assert (await shop.states(first))[2] == "authorised"
    hangs.set()
    await settlement.finish()
