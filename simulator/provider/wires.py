"""Which further wires a provider speaks, from a private file.

::

    {"stripe": {"api_key", "webhook_secret", "webhook_url", "port"},
     "razorpay": {"key_id", "key_secret", "webhook_secret", "webhook_url", "port"}}

Each wire is optional, and so are its ``webhook_url`` (no events without one) and ``port`` (a free
one without).
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from simulator.provider.host import Wire
from simulator.provider.wire_razorpay import RazorpayWire
from simulator.provider.wire_stripe import StripeWire


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    webhook_secret: str = Field(min_length=1, repr=False)
    webhook_url: str = ""
    port: int = Field(0, ge=0, le=65_535)


class StripeBlock(_Block):
    api_key: str = Field(min_length=1, repr=False)


class RazorpayBlock(_Block):
    key_id: str = Field(min_length=1)
    key_secret: str = Field(min_length=1, repr=False)


class WiresFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    stripe: StripeBlock | None = None
    razorpay: RazorpayBlock | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_bytes())

    @property
    def wires(self) -> list[Wire]:
        wires: list[Wire] = []
        if (stripe := self.stripe) is not None:
            wires.append(StripeWire(stripe.api_key, stripe.webhook_secret))
        if (razorpay := self.razorpay) is not None:
            wires.append(
                RazorpayWire(razorpay.key_id, razorpay.key_secret, razorpay.webhook_secret)
            )
        return wires

    def webhook_url(self, wire: str) -> str:
        block = self._block(wire)
        return block.webhook_url if block else ""

    def port(self, wire: str) -> int:
        block = self._block(wire)
        return block.port if block else 0

    def _block(self, wire: str) -> _Block | None:
        return {"stripe": self.stripe, "razorpay": self.razorpay}.get(wire)


def load_wires(path: Path | None) -> WiresFile:
    """Raises OSError and ValueError."""
    return WiresFile() if path is None else WiresFile.read(path)
