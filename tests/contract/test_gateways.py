"""One suite over every gateway: cash, and three wires against the real process of the provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from kit.ids import new_id
from kit.money import Money
from payments.gateway import (
    AuthoriseRequest,
    CaptureRequest,
    Gateway,
    GatewayOperation,
    GatewayOutcome,
    OperationKind,
    OutcomeCode,
    OutcomeStatus,
    RefundRequest,
    VoidRequest,
)
from payments.gateway_cash import CashGateway
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_sandbox import SandboxGateway, SandboxSettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from tests.provider_process import API_KEY, ProviderProcess

NetworkGateway = SandboxGateway | StripeGateway | RazorpayGateway
WIRES = ["sandbox", "stripe", "razorpay"]

TOTAL = Money(1_000, "INR")
PART = Money(800, "INR")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    with ProviderProcess(tmp_path_factory.mktemp("gateways") / "p.sqlite") as process:
        yield process


def over(wire: str, provider: ProviderProcess, api_key: str = API_KEY) -> NetworkGateway:
    match wire:
        case "sandbox":
            return SandboxGateway(SandboxSettings(provider.url, api_key))
        case "stripe":
            return StripeGateway(StripeSettings(provider.wire_url("stripe"), api_key))
    settings = RazorpaySettings(provider.wire_url("razorpay"), api_key, key_id="rzp_test_1")
    return RazorpayGateway(settings)


@pytest.fixture(params=WIRES)
async def network(
    request: pytest.FixtureRequest, provider: ProviderProcess
) -> AsyncIterator[NetworkGateway]:
    gateway = over(request.param, provider)
    yield gateway
    await gateway.close()


@pytest.fixture(params=[*WIRES, "cash"])
async def gateway(
    request: pytest.FixtureRequest, provider: ProviderProcess
) -> AsyncIterator[Gateway]:
    gateway = CashGateway() if request.param == "cash" else over(request.param, provider)
    yield gateway
    await gateway.close()


def key() -> str:
    return new_id("pay")


async def authorise(
    gateway: Gateway, token: str = "tok_ok", *, deadline_s: float = 5.0, operation_key: str = ""
) -> GatewayOutcome:
    method = "cod" if gateway.name == "cash" else "card"
    request = AuthoriseRequest(operation_key or key(), "ord_1", TOTAL, method, token)
    return await gateway.authorise(request, deadline_s=deadline_s)


async def reference(gateway: Gateway) -> str:
    outcome = await authorise(gateway)
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert outcome.reference is not None
    return outcome.reference


async def test_money_goes_through_its_life(gateway: Gateway) -> None:
    """Authorise, capture a part, refund part of it: each succeeds with the amount that it moved."""
    authorised = await authorise(gateway)
    assert (authorised.status, authorised.amount) == (OutcomeStatus.SUCCEEDED, TOTAL)
    assert authorised.reference
    payment = authorised.reference
    captured = await gateway.capture(CaptureRequest(key(), payment, PART, collected=PART))
    assert (captured.status, captured.amount) == (OutcomeStatus.SUCCEEDED, PART)
    refund = RefundRequest(key(), payment, Money(300, "INR"))
    refunded = await gateway.refund(refund)
    assert (refunded.status, refunded.amount) == (OutcomeStatus.SUCCEEDED, Money(300, "INR"))
    assert {captured.reference, refunded.reference} == {payment}


async def test_authorisation_can_be_voided(gateway: Gateway) -> None:
    """An authorisation that is not needed is let go."""
    payment = await reference(gateway)
    outcome = await gateway.void(VoidRequest(key(), payment))
    assert (outcome.status, outcome.reference) == (OutcomeStatus.SUCCEEDED, payment)


async def test_repeating_an_operation_gives_the_same_answer(gateway: Gateway) -> None:
    """The same request under the same key, at once or later, is one operation."""
    one_key = key()
    outcomes = await asyncio.gather(*(authorise(gateway, operation_key=one_key) for _ in range(8)))
    assert len(set(outcomes)) == 1
    assert outcomes[0].reference is not None
    capture = CaptureRequest(key(), outcomes[0].reference, PART, collected=PART)
    assert await gateway.capture(capture) == await gateway.capture(capture)
    refund = RefundRequest(key(), outcomes[0].reference, PART)
    assert await gateway.refund(refund) == await gateway.refund(refund)


async def test_unresolved_operation_comes_to_its_end(gateway: Gateway) -> None:
    """After a crash, lookup (and a repeat where it says retryable) ends where the call would."""
    one_key = key()
    done = await authorise(gateway, operation_key=one_key)
    found = await gateway.lookup(one_key, reference=done.reference)
    assert (found.status, found.reference) == (done.status, done.reference)
    assert done.reference is not None
    capture = CaptureRequest(key(), done.reference, PART, collected=PART)
    captured = await gateway.capture(capture)
    found = await gateway.lookup(
        capture.operation_key, kind=OperationKind.CAPTURE, reference=done.reference
    )
    if found.retryable:
        found = await gateway.capture(capture)
    assert found == captured


async def test_operation_that_never_was_is_not_found(gateway: Gateway) -> None:
    """A capture that nobody sent has not succeeded, and may be sent."""
    payment = await reference(gateway)
    found = await gateway.lookup(key(), kind=OperationKind.CAPTURE, reference=payment)
    assert (found.status, found.code) == (OutcomeStatus.FAILED, OutcomeCode.NOT_FOUND)
    assert found.retryable


async def test_capture_of_what_is_not_there_fails(gateway: Gateway) -> None:
    """More than was authorised, or than the rider has in hand, is not captured."""
    payment = await reference(gateway)
    too_much = CaptureRequest(key(), payment, Money(1_001, "INR"), collected=TOTAL)
    assert (await gateway.capture(too_much)).status is OutcomeStatus.FAILED
    exact = CaptureRequest(key(), payment, TOTAL, collected=TOTAL)
    assert (await gateway.capture(exact)).status is OutcomeStatus.SUCCEEDED


@pytest.mark.parametrize("collected", [None, Money(799, "INR"), Money(800, "EUR")])
async def test_cash_is_captured_only_when_collected(collected: Money | None) -> None:
    """Nothing, too little, or other money in the rider's hand: not yet, and it may be repeated."""
    gateway = CashGateway()
    payment = await reference(gateway)
    outcome = await gateway.capture(CaptureRequest(key(), payment, PART, collected=collected))
    assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, OutcomeCode.CASH_NOT_COLLECTED)
    assert outcome.retryable


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_of_nobody", "invalid_token"),
    ],
)
async def test_decline_is_an_answer(network: NetworkGateway, token: str, code: str) -> None:
    """A decline is final, has the provider's reason, and reads the same in a lookup."""
    one_key = key()
    outcome = await authorise(network, token, operation_key=one_key)
    assert (outcome.status, outcome.code) == (OutcomeStatus.DECLINED, code)
    assert not outcome.retryable
    found = await network.lookup(one_key)
    assert (found.status, found.code) == (OutcomeStatus.DECLINED, code)


async def resolved(gateway: Gateway, operation_key: str) -> GatewayOutcome:
    deadline = time.monotonic() + 5
    while True:
        outcome = await gateway.lookup(operation_key)
        # The request may still be on its way when the first question arrives.
        if outcome.status is not OutcomeStatus.UNKNOWN and not outcome.retryable:
            return outcome
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("tok_slow", OutcomeStatus.SUCCEEDED),
        ("tok_timeout_charged", OutcomeStatus.SUCCEEDED),
        ("tok_timeout_failed", OutcomeStatus.FAILED),
    ],
)
async def test_unknown_is_resolved_by_lookup(
    network: NetworkGateway, token: str, status: OutcomeStatus
) -> None:
    """Three time-outs look alike to us; asking under the same key tells them apart."""
    one_key = key()
    outcome = await authorise(network, token, deadline_s=0.6, operation_key=one_key)
    assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.TIMEOUT)
    assert (await resolved(network, one_key)).status is status


async def test_lookup_finds_each_kind_of_operation(network: NetworkGateway) -> None:
    """An authorisation without its reference, a partial capture, a void and a refund, by key."""
    authorise_key, capture_key, refund_key, void_key = key(), key(), key(), key()
    paid = await authorise(network, operation_key=authorise_key)
    dropped = await reference(network)
    assert paid.reference is not None
    await network.capture(CaptureRequest(capture_key, paid.reference, PART))
    await network.refund(RefundRequest(refund_key, paid.reference, Money(300, "INR")))
    await network.void(VoidRequest(void_key, dropped))
    asked = [
        (authorise_key, OperationKind.AUTHORISE, None, TOTAL),
        (capture_key, OperationKind.CAPTURE, paid.reference, PART),
        (refund_key, OperationKind.REFUND, paid.reference, Money(300, "INR")),
        (void_key, OperationKind.VOID, dropped, None),
    ]
    for operation_key, kind, payment, amount in asked:
        found = await network.lookup(operation_key, kind=kind, reference=payment)
        assert (found.status, found.reference) == (
            OutcomeStatus.SUCCEEDED,
            payment or paid.reference,
        ), kind
        assert amount is None or found.amount in (amount, None), kind


async def test_what_is_not_captured_goes_back(network: NetworkGateway) -> None:
    """After a capture of 800 of 1,000 no more than 800 can be refunded: the rest was released."""
    payment = await reference(network)
    await network.capture(CaptureRequest(key(), payment, PART))
    over = await network.refund(RefundRequest(key(), payment, Money(801, "INR")))
    assert over.status is OutcomeStatus.FAILED
    whole = await network.refund(RefundRequest(key(), payment, PART))
    assert (whole.status, whole.amount) == (OutcomeStatus.SUCCEEDED, PART)


async def test_refusals_of_the_provider_are_failures(network: NetworkGateway) -> None:
    """A second capture, a refund beyond the capture and a used key took no effect for certain."""
    payment = await reference(network)
    await network.capture(CaptureRequest(key(), payment, PART))
    again = await network.capture(CaptureRequest(key(), payment, PART))
    beyond = await network.refund(RefundRequest(key(), payment, Money(801, "INR")))
    one_key = key()
    await network.refund(RefundRequest(one_key, payment, Money(1, "INR")))
    reused = await network.refund(RefundRequest(one_key, payment, Money(2, "INR")))
    codes = {
        "sandbox": ["illegal_state", "amount_too_large", "idempotency_key_reused"],
        "stripe": ["payment_intent_unexpected_state", "amount_too_large", "idempotency_error"],
        "razorpay": ["illegal_state", "input_validation_failed", "input_validation_failed"],
    }
    outcomes = (again, beyond, reused)
    assert [outcome.status for outcome in outcomes] == [OutcomeStatus.FAILED] * 3
    assert [outcome.code for outcome in outcomes] == codes[network.name]
    assert not any(outcome.retryable for outcome in outcomes)


@pytest.mark.parametrize("wire", WIRES)
async def test_wrong_api_key_moves_and_says_nothing(provider: ProviderProcess, wire: str) -> None:
    """With a wrong key nothing is made, and a lookup proves nothing."""
    stranger = over(wire, provider, "wrong")
    outcome = await authorise(stranger)
    assert outcome.status is OutcomeStatus.FAILED
    assert (await stranger.lookup(key())).status is OutcomeStatus.UNKNOWN
    await stranger.close()


async def whole_log(gateway: NetworkGateway, *, limit: int = 3) -> list[GatewayOperation]:
    cursor: str | None = None
    listed: list[GatewayOperation] = []
    while True:
        page = await gateway.list_operations(cursor=cursor, limit=limit)
        listed += page.operations
        if (cursor := page.next_cursor) is None:
            return listed


async def test_log_lists_what_took_effect(network: NetworkGateway) -> None:
    """The provider's log, page by page, has our captures and refunds, each once, to the unit."""
    capture_key, refund_key = key(), key()
    payment = await reference(network)
    await network.capture(CaptureRequest(capture_key, payment, PART))
    await network.refund(RefundRequest(refund_key, payment, Money(300, "INR")))
    ours = [
        (one.operation_key, one.kind, one.amount, one.order_id)
        for one in await whole_log(network)
        if one.reference == payment and one.kind is not OperationKind.AUTHORISE
    ]
    assert sorted(ours) == sorted(
        [
            (capture_key, OperationKind.CAPTURE, PART, "ord_1"),
            (refund_key, OperationKind.REFUND, Money(300, "INR"), "ord_1"),
        ]
    )


async def test_log_shows_each_planted_difference(
    provider: ProviderProcess, network: NetworkGateway
) -> None:
    """A lost and a strange capture, a wrong amount, a lost and an extra refund: all to be seen."""

    async def captured(refund_minor: int = 0) -> str:
        payment = await reference(network)
        await network.capture(CaptureRequest(key(), payment, TOTAL))
        if refund_minor:
            await network.refund(RefundRequest(key(), payment, Money(refund_minor, "INR")))
        return payment

    plants = {
        "lost_capture": await captured(),
        "unknown_capture": await captured(),
        "wrong_amount": await captured(),
        "extra_refund": await captured(),
        "lost_refund": await captured(300),
    }
    wrong: dict[str, str] = {}
    async with provider.client() as control:
        for kind, payment in plants.items():
            answer = await control.post("/_control/plant", json={"kind": kind, "payment": payment})
            assert answer.status_code == 200, answer.text
            wrong[kind] = answer.json()["payment"]
    log = await whole_log(network, limit=100)
    seen = {
        kind: [
            (one.kind.value, one.amount.amount_minor)
            for one in log
            if one.reference == payment and one.kind is not OperationKind.AUTHORISE
        ]
        for kind, payment in wrong.items()
    }
    assert seen.pop("extra_refund") in (
        [("capture", 1_000), ("refund", 1)],
        [("refund", 1), ("capture", 1_000)],
    )
    assert seen == {
        "lost_capture": [],
        "unknown_capture": [("capture", 1_000)],
        "wrong_amount": [("capture", 999)],
        "lost_refund": [("capture", 1_000)],
    }
    assert wrong["unknown_capture"] != plants["unknown_capture"]


@pytest.mark.parametrize("wire", ["stripe", "razorpay"])
async def test_outage_of_a_wire_says_whether_anything_was_sent(
    provider: ProviderProcess, wire: str
) -> None:
    """A closed port proves that nothing was sent; an error proves nothing; others go on."""
    async with provider.client() as control:
        for kind, status in (("5xx", "unknown"), ("refuse", "failed")):
            gateway = over(wire, provider)
            order = {"wire": wire, "kind": kind, "for_s": 60}
            answer = await control.post("/_control/outage", json=order)
            assert answer.status_code == 200, answer.text
            outcome = await authorise(gateway)
            assert outcome.status == (
                # Razorpay is asked a question first: what failed was not the payment.
                "failed" if wire == "razorpay" else status
            ), kind
            assert (outcome.code == OutcomeCode.UNAVAILABLE) == (outcome.status == "failed")
            other = over("sandbox", provider)
            assert (await authorise(other)).status is OutcomeStatus.SUCCEEDED
            await control.post("/_control/outage", json={**order, "for_s": 0})
            deadline = time.monotonic() + 5
            while (await authorise(gateway)).status is not OutcomeStatus.SUCCEEDED:
                assert time.monotonic() < deadline, kind
            await gateway.close()
            await other.close()
