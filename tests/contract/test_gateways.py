"""One suite over every gateway, then what the sandbox alone can show against its real process."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

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
from payments.gateway_sandbox import SandboxGateway, SandboxSettings
from tests.provider_process import API_KEY, ProviderProcess

TOTAL = Money(1_000, "INR")
PART = Money(800, "INR")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    with ProviderProcess(tmp_path_factory.mktemp("gateways") / "p.sqlite") as process:
        yield process


@pytest.fixture
async def sandbox(provider: ProviderProcess) -> AsyncIterator[SandboxGateway]:
    gateway = SandboxGateway(SandboxSettings(provider.url, API_KEY))
    yield gateway
    await gateway.close()


@pytest.fixture(params=["sandbox", "cash"])
async def gateway(request: pytest.FixtureRequest, sandbox: SandboxGateway) -> Gateway:
    return sandbox if request.param == "sandbox" else CashGateway()


def key() -> str:
    return f"att_{next(_numbers)}"


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
async def test_decline_is_an_answer(sandbox: SandboxGateway, token: str, code: str) -> None:
    """A decline is final, has the provider's reason, and reads the same in a lookup."""
    one_key = key()
    outcome = await authorise(sandbox, token, operation_key=one_key)
    assert (outcome.status, outcome.code) == (OutcomeStatus.DECLINED, code)
    assert not outcome.retryable
    found = await sandbox.lookup(one_key)
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
    sandbox: SandboxGateway, token: str, status: OutcomeStatus
) -> None:
    """Three time-outs look alike to us; asking under the same key tells them apart."""
    one_key = key()
    outcome = await authorise(sandbox, token, deadline_s=0.4, operation_key=one_key)
    assert (outcome.status, outcome.code) == (OutcomeStatus.UNKNOWN, OutcomeCode.TIMEOUT)
    assert (await resolved(sandbox, one_key)).status is status


async def test_refusals_of_the_provider_are_failures(sandbox: SandboxGateway) -> None:
    """A second capture, a refund beyond the capture and a used key took no effect for certain."""
    payment = await reference(sandbox)
    await sandbox.capture(CaptureRequest(key(), payment, PART))
    again = await sandbox.capture(CaptureRequest(key(), payment, PART))
    assert (again.status, again.code) == (OutcomeStatus.FAILED, "illegal_state")
    beyond = await sandbox.refund(RefundRequest(key(), payment, Money(801, "INR")))
    assert (beyond.status, beyond.code) == (OutcomeStatus.FAILED, "amount_too_large")
    one_key = key()
    await sandbox.refund(RefundRequest(one_key, payment, Money(1, "INR")))
    reused = await sandbox.refund(RefundRequest(one_key, payment, Money(2, "INR")))
    assert (reused.status, reused.code) == (OutcomeStatus.FAILED, "idempotency_key_reused")
    assert not any(outcome.retryable for outcome in (again, beyond, reused))


async def test_wrong_api_key_moves_and_says_nothing(provider: ProviderProcess) -> None:
    """With a wrong key an operation fails for certain, and a lookup proves nothing."""
    stranger = SandboxGateway(SandboxSettings(provider.url, "wrong"))
    outcome = await authorise(stranger)
    assert (outcome.status, outcome.code) == (OutcomeStatus.FAILED, "unauthenticated")
    assert (await stranger.lookup(key())).status is OutcomeStatus.UNKNOWN
    await stranger.close()


async def test_log_lists_what_took_effect(sandbox: SandboxGateway) -> None:
    """The provider's log, page by page, has our keys, orders and amounts."""
    authorise_key, capture_key = key(), key()
    outcome = await authorise(sandbox, operation_key=authorise_key)
    assert outcome.reference is not None
    await sandbox.capture(CaptureRequest(capture_key, outcome.reference, PART))
    cursor: str | None = None
    listed: list[GatewayOperation] = []
    while True:
        page = await sandbox.list_operations(cursor=cursor, limit=3)
        listed += page.operations
        if (cursor := page.next_cursor) is None:
            break
    ours = [(o.operation_key, o.kind, o.amount, o.order_id) for o in listed[-2:]]
    assert ours == [
        (authorise_key, OperationKind.AUTHORISE, TOTAL, "ord_1"),
        (capture_key, OperationKind.CAPTURE, PART, "ord_1"),
    ]
