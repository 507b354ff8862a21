"""Gateways from settings, and the provider's side of the same keys."""

from __future__ import annotations

import pytest

from payments.settings import PaymentSettings
from server.gateways import WIRE_SECRETS, gateways_of, sandbox_environment, wires_file
from server.settings import load_settings
from simulator.provider.wires import WiresFile

PORTS = {"stripe": 4001, "razorpay": 4002}


async def test_real_gateways_are_off_until_they_have_keys() -> None:
    """Without settings there are cash, wallet and sandbox, and nobody outside is asked."""
    assert set(gateways_of(PaymentSettings())) == {"cash", "wallet", "sandbox"}


async def test_provider_and_server_share_keys_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine Stripe and Razorpay lead to the provider, which knows the same secrets."""
    environment = {
        **{name: f"secret {number}" for number, name in enumerate(WIRE_SECRETS)},
        **sandbox_environment(PORTS),
        "DARKSTORE_IDENTITY__JWT_SECRET": "j" * 32,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    payments = load_settings().payments
    assert {"stripe", "razorpay"} < set(gateways_of(payments))
    hooks = "http://127.0.0.1:8000/v1/webhooks/payments"
    wires = WiresFile.model_validate(wires_file(environment, PORTS, hooks))
    assert wires.stripe is not None
    assert wires.razorpay is not None
    assert payments.stripe.base_url == f"http://127.0.0.1:{wires.stripe.port}/stripe"
    assert payments.razorpay.base_url == f"http://127.0.0.1:{wires.razorpay.port}/razorpay"
    assert payments.stripe.api_key.get_secret_value() == wires.stripe.api_key
    assert payments.webhook_secrets("stripe") == (wires.stripe.webhook_secret,)
    assert payments.razorpay.key_id == wires.razorpay.key_id
    assert payments.razorpay.key_secret.get_secret_value() == wires.razorpay.key_secret
    assert payments.webhook_secrets("razorpay") == (wires.razorpay.webhook_secret,)
    assert wires.webhook_url("stripe") == f"{hooks}/stripe"


def test_stopped_instance_never_asks_the_real_ones() -> None:
    """Without ports the addresses are of nobody, whatever keys were made."""
    addresses = [v for name, v in sandbox_environment({}).items() if name.endswith("BASE_URL")]
    assert addresses == ["http://127.0.0.1:0/stripe", "http://127.0.0.1:0/razorpay"]
