"""What a gateway's event does here: repeats, late news, events that do not fit, and disputes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kit.db import Database
from kit.ids import new_id
from kit.money import Money
from orders.cancellation import cancel_as_customer
from orders.webhook_intake import (
    Intake,
    Taken,
    WebhookIntake,
    _authorised,
    _take_together,
    take,
    take_authorised,
)
from payments import disputes, operations
from payments.alerts import AlertKind
from payments.disputes import PaymentDisputed
from payments.gateway import GatewayOutcome, OperationKind, OutcomeCode, OutcomeStatus
from payments.webhook_event import (
    DisputeNotice,
    DisputeStatus,
    UnwantedEvent,
    WebhookEvent,
    WebhookKind,
)
from tests.order_support import Shop, open_shop
from tests.scripted_gateway import DECLINED, UNKNOWN


@pytest.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)


async def operation(shop: Shop, order_id: str, kind: str) -> dict[str, object]:
    rows = await shop.rows(
        "SELECT * FROM payment_operations WHERE order_id = :id AND kind = :kind",
        id=order_id, kind=kind,
    )  # fmt: skip
    return rows[0]


async def event_of(
    shop: Shop, order_id: str, kind: OperationKind = OperationKind.AUTHORISE, **changes: object
) -> WebhookEvent:
    """A good event about one of an order's operations."""
    row = await operation(shop, order_id, kind.value)
    amount = Money(int(str(row["amount_minor"])), str(row["currency"]))
    reference = str(row["reference"] or f"ref_{row['id']}")
    event = WebhookEvent(
        event_id=new_id("evt"), type=f"payment.{kind}", occurred_at=datetime.now(UTC),
        operation_key=str(row["id"]), reference=reference, order_id=order_id, status="authorised",
        version=1, amount=amount, operation_kind=kind,
        outcome=GatewayOutcome(OutcomeStatus.SUCCEEDED, reference, amount=amount),
    )  # fmt: skip
    return replace(event, **changes)  # type: ignore[arg-type]  # fields of the event


async def dispute_of(
    shop: Shop, order_id: str, status: DisputeStatus, dispute_id: str, minor: int | None = None
) -> WebhookEvent:
    capture = await event_of(shop, order_id, OperationKind.CAPTURE)
    amount = Money(minor or capture.amount.amount_minor, capture.amount.currency)
    return replace(
        capture, event_id=new_id("evt"), operation_key="", kind=WebhookKind.DISPUTE, amount=amount,
        operation_kind=None, outcome=GatewayOutcome(OutcomeStatus.UNKNOWN, capture.reference),
        dispute=DisputeNotice(dispute_id, status, amount, "fraudulent", datetime.now(UTC)),
    )  # fmt: skip


async def deliver(shop: Shop, event: WebhookEvent | UnwantedEvent) -> Taken:
    """As the route does it: in one statement where that will do."""
    taken = await take_authorised(shop.database.pool, "sandbox", event)
    return taken or await deliver_step_by_step(shop, event)


async def take_together(shop: Shop, *events: WebhookEvent) -> list[Taken | None]:
    told = [_authorised("sandbox", event) for event in events]
    return await _take_together(shop.database.pool, [one for one in told if one is not None])


async def deliver_step_by_step(shop: Shop, event: WebhookEvent | UnwantedEvent) -> Taken:
    async with shop.database.begin() as conn:
        return await take(conn, shop.gateways.settings, "sandbox", event)


async def order_of_a_dead_process(shop: Shop, monkeypatch: pytest.MonkeyPatch, sku: str) -> str:
    """An order whose process died while it asked the gateway."""

    async def die(*_: object, **__: object) -> GatewayOutcome:
        raise ProcessDied

    quote_id = await shop.quote({sku: 1})
    with monkeypatch.context() as patch:
        patch.setattr(shop.gateway, "authorise", die)
        with pytest.raises(ProcessDied):
            await shop.check_out(quote_id)
    found = await shop.rows("SELECT order_id FROM quotes WHERE id = :id", id=quote_id)
    return str(found[0]["order_id"])


class ProcessDied(BaseException):
    """Nothing of ours catches it."""


async def traces(shop: Shop, order_id: str) -> list[list[dict[str, object]]]:
    """What an order has left behind, without ids and times."""
    statements = (
        "SELECT status, payment_status, version, history_seq FROM orders WHERE id = :id",
        "SELECT seq, machine, from_state, to_state, actor, reason FROM order_history"
        " WHERE order_id = :id ORDER BY seq",
        "SELECT seq, type, data FROM outbox WHERE stream = 'order:' || :id ORDER BY id",
        "SELECT status, expires_at FROM reservations WHERE order_id = :id",
        "SELECT status, code, attempts, answers, token, route, settled_at IS NULL AS open"
        " FROM payment_operations WHERE order_id = :id",
        "SELECT type, outcome, version FROM payment_webhooks WHERE order_id = :id",
    )
    return [await shop.rows(statement, id=order_id) for statement in statements]


async def test_the_short_way_writes_what_the_long_one_writes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of an order whose process died settles it either way, down to the last row."""
    (product,) = await shop.stock(5)
    short = await order_of_a_dead_process(shop, monkeypatch, product.sku_id)
    long = await order_of_a_dead_process(shop, monkeypatch, product.sku_id)
    event = await event_of(shop, short)
    taken = await take_authorised(shop.database.pool, "sandbox", event)
    assert taken == Taken(Intake.TAKEN)
    await deliver_step_by_step(shop, await event_of(shop, long))
    assert await shop.states(short) == ("confirmed", "unassigned", "authorised")
    assert await traces(shop, short) == await traces(shop, long)
    before = await traces(shop, short)
    assert await take_authorised(shop.database.pool, "sandbox", event) == Taken(Intake.REPEATED)
    assert await traces(shop, short) == before


async def test_the_short_way_leaves_alone_what_is_not_plain(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another amount, or an order that has ended meanwhile: nothing is kept, and not by it."""
    (product,) = await shop.stock(5)
    order_id = await order_of_a_dead_process(shop, monkeypatch, product.sku_id)
    good = await event_of(shop, order_id)
    less = replace(good, outcome=replace(good.outcome, amount=Money(1, good.amount.currency)))
    before = await traces(shop, order_id)
    assert await take_authorised(shop.database.pool, "sandbox", less) is None
    assert await traces(shop, order_id) == before
    async with shop.database.begin() as conn:
        await cancel_as_customer(conn, order_id, shop.customer_id, "changed my mind", 0)
    before = await traces(shop, order_id)
    assert await take_authorised(shop.database.pool, "sandbox", good) is None
    assert await traces(shop, order_id) == before


async def test_events_taken_together_write_what_each_alone_writes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open orders and settled ones in one batch; a repeat and what does not fit are left out."""
    (product,) = await shop.stock(9)
    alone, *others = [
        await order_of_a_dead_process(shop, monkeypatch, product.sku_id) for _ in range(4)
    ]
    assert await deliver(shop, await event_of(shop, alone)) == Taken(Intake.TAKEN)
    first, second, repeated = [await event_of(shop, order_id) for order_id in others]
    assert await deliver(shop, repeated) == Taken(Intake.TAKEN)
    less = await event_of(shop, others[1])
    less = replace(less, outcome=replace(less.outcome, amount=Money(1, less.amount.currency)))
    taken = await take_together(shop, first, repeated, second, less)
    assert taken == [Taken(Intake.TAKEN), None, Taken(Intake.TAKEN), None]
    late = replace(await event_of(shop, others[2]), version=0)
    assert await take_together(shop, late) == [Taken(Intake.STALE)]
    expected = await traces(shop, alone)
    assert [await traces(shop, order_id) for order_id in others[:2]] == [expected, expected]


async def test_many_events_at_once_are_each_taken_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event three times, all at the same moment: one of each does something."""
    (product,) = await shop.stock(9)
    orders = [await order_of_a_dead_process(shop, monkeypatch, product.sku_id) for _ in range(3)]
    events = [await event_of(shop, order_id) for order_id in orders]
    async with WebhookIntake(shop.database.pool) as intake:
        taken = await asyncio.gather(
            *(intake.take_authorised("sandbox", event) for event in events * 3)
        )
    kinds = [one.intake for one in taken if one is not None]
    assert sorted(kinds) == [Intake.REPEATED] * 6 + [Intake.TAKEN] * 3
    for order_id in orders:
        assert await shop.states(order_id) == ("confirmed", "unassigned", "authorised")


async def test_an_event_answers_an_unknown_payment_once(shop: Shop) -> None:
    """The first delivery confirms the order, the others do nothing."""
    shop.gateway.script = {"authorise": [UNKNOWN]}
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 1})
    event = await event_of(shop, order_id)
    assert (await deliver(shop, event)).intake is Intake.TAKEN
    assert await shop.states(order_id) == ("confirmed", "unassigned", "authorised")
    before = await shop.order(order_id)
    assert (await deliver(shop, event)).intake is Intake.REPEATED
    assert await shop.order(order_id) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": Money(1, "INR")}, AlertKind.WRONG_AMOUNT),
        ({"currency": "USD"}, AlertKind.WRONG_CURRENCY),
        ({"order_id": "ord_somebody_else"}, AlertKind.WRONG_ORDER),
        ({"operation_key": "pay_never"}, AlertKind.UNKNOWN_OPERATION),
        ({"gateway": "stripe"}, AlertKind.WRONG_GATEWAY),
        ({"code": OutcomeCode.MISMATCH}, AlertKind.WRONG_AMOUNT),
    ],
    ids=["amount", "currency", "order", "operation", "gateway", "told_otherwise"],
)
async def test_what_does_not_fit_moves_nothing_and_is_told(
    shop: Shop, changes: dict[str, object], reason: AlertKind
) -> None:
    """The event is kept as rejected with its reason, an alert is open, the order is as it was."""
    shop.gateway.script = {"authorise": [UNKNOWN]}
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 1})
    good = await event_of(shop, order_id)
    amount = good.amount
    if "amount" in changes:
        amount = Money(1, "INR")
    if "currency" in changes:
        amount = Money(amount.amount_minor, "USD")
    outcome = replace(good.outcome, amount=amount)
    if "code" in changes:
        outcome = GatewayOutcome(OutcomeStatus.UNKNOWN, good.reference, OutcomeCode.MISMATCH)
    event = replace(
        good, amount=amount, outcome=outcome,
        order_id=str(changes.get("order_id", good.order_id)),
        operation_key=str(changes.get("operation_key", good.operation_key)),
    )  # fmt: skip
    before = await shop.order(order_id)
    async with shop.database.begin() as conn:
        gateway = str(changes.get("gateway", "sandbox"))
        taken = await take(conn, shop.gateways.settings, gateway, event)
    assert taken == Taken(Intake.REJECTED, reason, reason)
    assert await shop.order(order_id) == before
    (kept,) = await shop.rows(
        "SELECT outcome, reason FROM payment_webhooks WHERE event_id = :id", id=event.event_id
    )
    assert kept == {"outcome": "rejected", "reason": reason.value}
    (alert,) = await shop.rows(
        "SELECT kind, resolved_at FROM payment_alerts WHERE subject = :id", id=event.reference
    )
    assert alert == {"kind": reason.value, "resolved_at": None}
    again = await deliver(shop, replace(event, event_id=new_id("evt")))
    assert again.alert is None, "people are told once"


async def test_a_yes_to_what_we_know_as_refused_is_told(shop: Shop) -> None:
    """Money that was taken there and not here has to be looked at, and moves nothing by itself."""
    shop.gateway.script = {"authorise": [DECLINED]}
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 1})
    taken = await deliver(shop, await event_of(shop, order_id))
    assert taken.alert is AlertKind.CONTRADICTION
    assert await shop.states(order_id) == ("payment_failed", "cancelled", "declined")


async def test_events_in_the_wrong_order_end_in_the_same_state(shop: Shop) -> None:
    """The capture's event comes before that of the authorisation: late news moves nothing back."""
    order_id = await shop.order_at("delivered")
    capture = await event_of(shop, order_id, OperationKind.CAPTURE, version=2)
    assert (await deliver(shop, capture)).intake is Intake.TAKEN
    assert (await shop.states(order_id))[2] == "captured"
    late = await event_of(shop, order_id, version=1)
    assert (await deliver(shop, late)).intake is Intake.STALE
    assert (await shop.states(order_id))[2] == "captured"


async def test_an_event_without_our_key_finds_its_operation(shop: Shop) -> None:
    """Some gateways name their payment alone."""
    order_id = await shop.order_at("delivered")
    capture = await event_of(shop, order_id, OperationKind.CAPTURE, operation_key="")
    capture = replace(capture, order_id="")
    assert (await deliver(shop, capture)).intake is Intake.TAKEN
    assert (await shop.states(order_id))[2] == "captured"


async def test_an_unknown_outcome_changes_nothing(shop: Shop) -> None:
    """News of a payment under way is kept, and the operation is looked up as before."""
    shop.gateway.script = {"authorise": [UNKNOWN]}
    (product,) = await shop.stock(5)
    order_id = await shop.place_order({product.sku_id: 1})
    before = await operation(shop, order_id, "authorise")
    event = await event_of(shop, order_id, outcome=UNKNOWN)
    assert (await deliver(shop, event)).intake is Intake.TAKEN
    assert await operation(shop, order_id, "authorise") == before


@pytest.mark.parametrize("end", [DisputeStatus.WON, DisputeStatus.CLOSED], ids=str)
async def test_a_dispute_that_is_won_leaves_no_trace_but_its_history(
    shop: Shop, end: DisputeStatus
) -> None:
    """Captured, disputed, captured; what the gateway held back is owed to us again."""
    order_id = await shop.order_at("settled")
    settled = await shop.balances(order_id)
    total = (await shop.order(order_id))["total_minor"]
    dispute_id = new_id("dp")
    opened = await dispute_of(shop, order_id, DisputeStatus.OPEN, dispute_id)
    assert (await deliver(shop, opened)).alert is AlertKind.DISPUTE_OPENED
    assert (await shop.states(order_id))[2] == "disputed"
    held = await shop.balances(order_id)
    assert held["chargebacks_receivable"] == total
    assert "gateway_clearing" not in held
    await deliver(shop, await dispute_of(shop, order_id, end, dispute_id))
    assert (await shop.states(order_id))[2] == "captured"
    assert await shop.balances(order_id) == settled


async def test_a_dispute_that_is_lost_costs_the_amount_and_a_fee(shop: Shop) -> None:
    """Captured, disputed, refunded; told in any order and twice, it is booked once."""
    order_id = await shop.order_at("settled")
    total = (await shop.order(order_id))["total_minor"]
    dispute_id = new_id("dp")
    lost = await dispute_of(shop, order_id, DisputeStatus.LOST, dispute_id)
    await deliver(shop, lost)
    await deliver(shop, replace(lost, event_id=new_id("evt")))
    await deliver(shop, await dispute_of(shop, order_id, DisputeStatus.OPEN, dispute_id))
    assert (await shop.states(order_id))[2] == "refunded"
    balances = await shop.balances(order_id)
    fee = shop.gateways.settings.dispute_fee_minor
    assert (balances["chargebacks"], balances["chargeback_fees"]) == (total, fee)
    assert balances["gateway_clearing"] == -fee
    assert "chargebacks_receivable" not in balances
    history = await shop.rows(
        "SELECT to_state FROM order_history WHERE order_id = :id AND machine = 'payment'"
        " ORDER BY seq",
        id=order_id,
    )
    assert [row["to_state"] for row in history][-2:] == ["disputed", "refunded"]


async def test_refunds_wait_for_the_bank_and_are_not_paid_twice(shop: Shop) -> None:
    """A refund that is owed when the dispute opens is not sent; lost, the bank has paid it."""
    (product,) = await shop.stock(9)
    order_id = await shop.order_at("delivered", {product.sku_id: 3}, missing={product.sku_id: 1})
    capture = await operation(shop, order_id, "capture")
    await shop.settle_one(str(capture["id"]))
    refund = await operation(shop, order_id, "refund")
    dispute_id = new_id("dp")
    await deliver(shop, await dispute_of(shop, order_id, DisputeStatus.OPEN, dispute_id))
    async with shop.database.begin() as conn:
        due = await operations.claim_due(conn, {"sandbox": 100}, 1.0)
        assert refund["id"] not in {one.id for one in due}
        with pytest.raises(PaymentDisputed):
            await disputes.refuse_if_disputed(conn, order_id)
    await deliver(shop, await dispute_of(shop, order_id, DisputeStatus.LOST, dispute_id))
    dropped = await operation(shop, order_id, "refund")
    assert (dropped["status"], dropped["code"]) == ("failed", "charged_back")
    balances = await shop.balances(order_id)
    captured, owed = int(str(capture["amount_minor"])), int(str(refund["amount_minor"]))
    assert balances["chargebacks"] == captured - owed
    assert "customer_receivable" not in balances
    assert "refund" not in {line.kind.value for line in shop.gateway.log}


async def test_a_dispute_that_does_not_fit_is_told(shop: Shop) -> None:
    """Of a payment that we never captured, or of more than we did."""
    order_id = await shop.order_at("settled")
    good = await dispute_of(shop, order_id, DisputeStatus.OPEN, new_id("dp"))
    stray = replace(good, reference="ref_unknown", event_id=new_id("evt"))
    assert (await deliver(shop, stray)).reason is AlertKind.UNKNOWN_PAYMENT
    more = await dispute_of(shop, order_id, DisputeStatus.OPEN, new_id("dp"), 10**9)
    assert (await deliver(shop, more)).reason is AlertKind.WRONG_AMOUNT
    assert (await shop.states(order_id))[2] == "captured"


async def test_what_we_did_not_ask_for_leaves_nothing_behind(shop: Shop) -> None:
    """Thanked for as often as it comes, and not kept."""
    event = UnwantedEvent(new_id("evt"), "payout.paid")
    assert await deliver(shop, event) == await deliver(shop, event) == Taken(Intake.IGNORED)
    assert not await shop.rows(
        "SELECT 1 FROM payment_webhooks WHERE event_id = :id", id=event.event_id
    )
