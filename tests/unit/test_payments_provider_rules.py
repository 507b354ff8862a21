"""The provider's pure parts: card numbers, tokens, and which request a fault strikes."""

from __future__ import annotations

import pytest

from simulator.provider.faults import Control, hits, plan_authorise
from simulator.provider.model import PaymentStatus
from simulator.provider.webhooks import MAX_ATTEMPTS, backoff_s
from simulator.provider.wire import has_card_number


@pytest.mark.parametrize(
    "text",
    [
        '{"token": "4242424242424242"}',
        '{"token": "tok_4242424242424242"}',
        '{"note": "4242 4242 4242 4242"}',
        '{"note": "4242-4242-4242-4242"}',
        '{"note": "3782 822463 10005"}',
        '{"amount_minor": 378282246310005}',
        '{"token": "4222222222222"}',
        '{"token": "6304000000000000000"}',
    ],
)
def test_card_numbers_are_seen(text: str) -> None:
    """Test numbers of the card schemes, 13 to 19 digits, however they are written."""
    assert has_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"token": "4242424242424241"}',
        '{"token": "tok_ok", "amount_minor": 499999999999}',
        '{"order_reference": "ord_01M7Y4R3SC0PMNAZNTV7K67Y89"}',
        '{"order_reference": "12345678-1234-1234-1234-123456789012"}',
        '{"note": "42424242424242424242424242424242"}',
    ],
)
def test_other_digits_are_not(text: str) -> None:
    """A wrong check digit, an amount, our ids, a UUID or a longer number is no card number."""
    assert not has_card_number(text)


@pytest.mark.parametrize(
    ("token", "status", "code", "unanswered"),
    [
        ("tok_ok", PaymentStatus.AUTHORISED, None, False),
        ("tok_declined", PaymentStatus.DECLINED, "card_declined", False),
        ("tok_insufficient_funds", PaymentStatus.DECLINED, "insufficient_funds", False),
        ("tok_slow", PaymentStatus.AUTHORISED, None, False),
        ("tok_timeout_charged", PaymentStatus.AUTHORISED, None, True),
        ("tok_timeout_failed", PaymentStatus.FAILED, "processing_error", True),
        ("tok_duplicate_webhook", PaymentStatus.AUTHORISED, None, False),
        ("tok_of_nobody", PaymentStatus.DECLINED, "invalid_token", False),
    ],
)
def test_each_token_has_its_fate(
    token: str, status: PaymentStatus, code: str | None, unanswered: bool
) -> None:
    """The tokens of the public contract, and any other one."""
    plan = plan_authorise(token, "key", Control())
    assert (plan.status, plan.code, plan.unanswered) == (status, code, unanswered)
    assert plan.settle_after_s == (8.0 if token == "tok_slow" else 0.0)
    assert plan.duplicates == (token == "tok_duplicate_webhook")


def test_rates_strike_by_seed_and_key_alone() -> None:
    """A rate of a fifth strikes about a fifth of the keys: the same with a seed, others without."""
    keys = [f"pat_{n}" for n in range(2_000)]
    struck = {key for key in keys if hits(Control(seed=7), "decline", 0.2, key)}
    assert 320 <= len(struck) <= 480
    assert struck == {key for key in keys[::-1] if hits(Control(seed=7), "decline", 0.2, key)}
    assert struck != {key for key in keys if hits(Control(seed=8), "decline", 0.2, key)}
    assert not any(hits(Control(), "decline", 0.0, key) for key in keys)
    assert all(hits(Control(), "decline", 1.0, key) for key in keys)


def test_back_off_grows_within_bounds() -> None:
    """Waits double from half a second up to two minutes, with jitter of half either way."""
    middles = [backoff_s(attempts, 0.5) for attempts in range(1, MAX_ATTEMPTS + 1)]
    assert middles[:4] == [0.5, 1.0, 2.0, 4.0]
    assert middles[-1] == 120.0
    assert middles == sorted(middles)
    assert (backoff_s(3, 0.0), backoff_s(3, 1.0)) == (1.0, 3.0)
