"""Outgoing webhooks without a network: subscriptions, signatures, waits, and refused addresses."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

import pytest
from pydantic import SecretStr

from kit.errors import Invalid
from notify.errors import WebhooksNotConfigured, WebhookUrlRefused
from notify.guarded_http import check_url, is_public
from notify.settings import WebhookSettings
from notify.webhooks import parse_events, patterns_of, retry_after_s, secret_of, sign

SETTINGS = WebhookSettings(master_secret=SecretStr("m" * 32))


def test_a_receiver_can_check_the_signature_with_any_hmac() -> None:
    """``t`` and each ``v1`` are what the documentation says, the newest secret first."""
    header = sign(["new", "old"], b'{"id":"evt_1"}', 1_700_000_000)
    expected = [
        hmac.new(key, b'1700000000.{"id":"evt_1"}', hashlib.sha256).hexdigest()
        for key in (b"new", b"old")
    ]
    assert header == f"t=1700000000,v1={expected[0]},v1={expected[1]}"


def test_each_endpoint_and_each_rotation_has_a_secret_of_its_own() -> None:
    """Secrets are derived: the same again for the same endpoint, another for any other."""
    secrets = {secret_of(SETTINGS, name, n) for name in ("whk_a", "whk_b") for n in (1, 2)}
    assert len(secrets) == 4
    assert secret_of(SETTINGS, "whk_a", 1) in secrets
    assert all(secret.startswith("whsec_") and len(secret) > 40 for secret in secrets)


def test_without_a_master_secret_nothing_is_signed() -> None:
    """A system that was given no secret says so and sends nothing."""
    with pytest.raises(WebhooksNotConfigured):
        secret_of(WebhookSettings(), "whk_a", 1)


def test_an_event_is_asked_for_by_name_by_family_or_with_all() -> None:
    """What a subscription may say, and which subscriptions an event meets."""
    assert parse_events(["order.*", "payment.captured", "order.*"]) == [
        "order.*", "payment.captured",
    ]  # fmt: skip
    assert patterns_of("order.delivered") == ["*", "order.*", "order.delivered"]


@pytest.mark.parametrize("wrong", ["", "orders.*", "order", "order.", "order.De", "stock.*"])
def test_what_cannot_be_subscribed_to_is_named(wrong: str) -> None:
    """A subscription that would never fire is refused."""
    with pytest.raises(Invalid) as refusal:
        parse_events(["order.*", wrong])
    assert [error["detail"] for error in refusal.value.errors] == [f"unknown event {wrong}"]


def test_waits_grow_to_a_cap_and_heed_the_receiver() -> None:
    """Four times longer after each failure, a fifth of jitter, ``Retry-After`` up to the cap."""
    for attempts, expected in ((1, 5.0), (2, 20.0), (3, 80.0), (12, 6 * 3600.0)):
        assert retry_after_s(SETTINGS, attempts, None) == pytest.approx(expected, rel=0.11)
    assert retry_after_s(SETTINGS, 1, 600.0) == pytest.approx(600.0, rel=0.11)
    assert retry_after_s(SETTINGS, 1, 1e9) == pytest.approx(6 * 3600.0, rel=0.11)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "198.51.100.7",
    ],
)  # fmt: skip
def test_no_wrapping_makes_a_private_address_public(address: str) -> None:
    """Loopback, private, link-local (cloud metadata), shared, multicast, mapped and tunnelled."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    """The guard does not refuse everything."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/hook", "ftp://shop.example/", "https://", "https://u:p@shop.example/",
        "https://shop.example/#part", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.8/",
        "https://shop.example:22/", "https://shop.example:99999/", "https://shop.example/a b",
        "https://shöp.example/", "https://shop.example/" + "x" * 500, "nonsense",
    ],
)  # fmt: skip
def test_a_url_that_nothing_should_be_sent_to_is_refused(url: str) -> None:
    """Each with a sentence on the field ``url``."""
    with pytest.raises(WebhookUrlRefused) as refusal:
        check_url(url, allow_private=False)
    assert refusal.value.errors[0]["field"] == "url"


def test_a_development_machine_may_allow_its_neighbours() -> None:
    """With ``allow_private`` plain http to this machine is fine."""
    assert check_url("http://127.0.0.1:9000/hook", allow_private=True)
    assert check_url("https://shop.example:8443/hook", allow_private=False)
