"""Gateways from settings, and the sandbox provider's further wires for a system on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orders.payment_flow import CASH
from payments.gateway import Gateway
from payments.gateway_cash import CashGateway
from payments.gateway_razorpay import RazorpayGateway, RazorpaySettings
from payments.gateway_sandbox import SandboxGateway, SandboxSettings
from payments.gateway_stripe import StripeGateway, StripeSettings
from payments.gateway_wallet import WALLET, WalletGateway
from payments.settings import PaymentSettings

_PREFIX: Final = "DARKSTORE_PAYMENTS__"

# Made once for each instance, like its other secrets.
WIRE_SECRETS: Final = (
    f"{_PREFIX}STRIPE__API_KEY",
    f"{_PREFIX}STRIPE__WEBHOOK_SECRET",
    f"{_PREFIX}RAZORPAY__KEY_SECRET",
    f"{_PREFIX}RAZORPAY__WEBHOOK_SECRET",
)
_KEY_ID: Final = "rzp_sandbox"
WIRES: Final = ("stripe", "razorpay")


def gateways_of(payments: PaymentSettings) -> dict[str, Gateway]:
    """Every gateway that is switched on, by the name that operations are stored under."""
    found: dict[str, Gateway] = {
        CASH: CashGateway(),
        WALLET: WalletGateway(),
        SandboxGateway.name: SandboxGateway(
            SandboxSettings(payments.sandbox_url, payments.sandbox_api_key.get_secret_value())
        ),
    }
    stripe, razorpay = payments.stripe, payments.razorpay
    if stripe.enabled:
        found[StripeGateway.name] = StripeGateway(
            StripeSettings(stripe.base_url, stripe.api_key.get_secret_value())
        )
    if razorpay.enabled:
        found[RazorpayGateway.name] = RazorpayGateway(
            RazorpaySettings(
                razorpay.base_url,
                razorpay.key_secret.get_secret_value(),
                key_id=razorpay.key_id,
                email=razorpay.email,
                contact=razorpay.contact,
            )
        )
    return found


def sandbox_environment(ports: Mapping[str, int]) -> dict[str, str]:
    """Settings that lead Stripe and Razorpay to the sandbox provider.

    Without a port (nothing runs) they lead nowhere, and never to the real ones.
    """
    return {
        f"{_PREFIX}STRIPE__ENABLED": "true",
        f"{_PREFIX}STRIPE__BASE_URL": _address("stripe", ports),
        f"{_PREFIX}RAZORPAY__ENABLED": "true",
        f"{_PREFIX}RAZORPAY__BASE_URL": _address("razorpay", ports),
        f"{_PREFIX}RAZORPAY__KEY_ID": _KEY_ID,
    }


def _address(wire: str, ports: Mapping[str, int]) -> str:
    return f"http://127.0.0.1:{ports.get(wire, 0)}/{wire}"


def wires_file(
    environment: Mapping[str, str], ports: Mapping[str, int], webhooks: str
) -> dict[str, Any]:
    """The provider's side of the same keys (simulator/provider/wires.py)."""
    return {
        "stripe": {
            "api_key": environment[f"{_PREFIX}STRIPE__API_KEY"],
            "webhook_secret": environment[f"{_PREFIX}STRIPE__WEBHOOK_SECRET"],
            "webhook_url": f"{webhooks}/stripe",
            "port": ports["stripe"],
        },
        "razorpay": {
            "key_id": _KEY_ID,
            "key_secret": environment[f"{_PREFIX}RAZORPAY__KEY_SECRET"],
            "webhook_secret": environment[f"{_PREFIX}RAZORPAY__WEBHOOK_SECRET"],
            "webhook_url": f"{webhooks}/razorpay",
            "port": ports["razorpay"],
        },
    }
