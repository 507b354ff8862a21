"""Who may cancel an order, until when, and what that costs.  Pure: the rules are the table below.

After the handover nobody cancels: the rider brings the order back as undeliverable.  Fees are in
minor units of the order's currency; how high they are is a setting of the city.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kit.errors import Invalid
from orders.model import OrderState
from orders.settings import CancellationFees


class Party(StrEnum):
    """On whose side the order is cancelled; ``system`` is a time that ran out."""

    CUSTOMER = "customer"
    STORE = "store"
    SUPPORT = "support"
    SYSTEM = "system"


class Fee(StrEnum):
    """What cancelling costs the customer."""

    FREE = "free"
    PICKING = "the picking fee"
    # Waived unless support says otherwise: the picking fee, or an amount up to the cap.
    BY_HAND = "waived, or by hand up to the cap"
    NOT_ALLOWED = "not allowed"


@dataclass(frozen=True, slots=True)
class StageRules:
    """The rules of one stage, by party, and what becomes of goods and delivery slot."""

    customer: Fee
    store: Fee
    support: Fee
    system: Fee
    goods: str
    slot: str

    def fee(self, party: Party) -> Fee:
        found: Fee = getattr(self, party.value)
        return found


_WAITING = StageRules(
    customer=Fee.FREE,
    store=Fee.FREE,
    support=Fee.BY_HAND,
    system=Fee.FREE,
    goods="the reservation is released",
    slot="given back",
)

RULES: Mapping[OrderState, StageRules] = {
    OrderState.PLACED: _WAITING,
    OrderState.CONFIRMED: _WAITING,
    OrderState.PICKING: StageRules(
        customer=Fee.PICKING,
        store=Fee.FREE,
        support=Fee.BY_HAND,
        system=Fee.FREE,
        goods="picked units go back on the shelf, the rest is released",
        slot="stays used",
    ),
    OrderState.PACKED: StageRules(
        customer=Fee.NOT_ALLOWED,
        store=Fee.FREE,
        support=Fee.BY_HAND,
        system=Fee.FREE,
        goods="the bags go back on the shelf",
        slot="stays used",
    ),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What cancelling would mean now: ``refund_minor`` is what the customer gets back, or free.

    ``reason`` says why it is not allowed.
    """

    allowed: bool
    fee_minor: int = 0
    refund_minor: int = 0
    reason: str | None = None


def terms(
    party: Party,
    stage: OrderState,
    fees: CancellationFees,
    *,
    held_minor: int,
    chargeable_minor: int,
    charge_minor: int | None = None,
) -> Terms:
    """The terms for one party at one stage.

    ``held_minor`` is what the customer has paid or has had authorised, ``chargeable_minor`` the
    most of it that may be kept: nothing for cash, and nothing before the payment is known.
    ``charge_minor`` is what support asks for; None leaves it to the rule.  Raises Invalid for a
    charge above the cap of the city.
    """
    rules = RULES.get(stage)
    rule = Fee.NOT_ALLOWED if rules is None else rules.fee(party)
    if rule is Fee.NOT_ALLOWED:
        return Terms(allowed=False, reason=_refusal(stage))
    wanted = fees.picking_minor if rule is Fee.PICKING else 0
    if rule is Fee.BY_HAND and charge_minor is not None:
        if charge_minor > fees.cap_minor:
            raise Invalid(
                f"A cancellation costs at most {fees.cap_minor} minor units here.",
                errors=[{"field": "fee", "detail": "above the cap"}],
            )
        wanted = charge_minor
    fee = min(wanted, chargeable_minor)
    return Terms(allowed=True, fee_minor=fee, refund_minor=held_minor - fee)


def fee_by_rule(stage: OrderState, fees: CancellationFees) -> int:
    """What support charges when it charges "by the rule": once picking has begun, its fee."""
    return fees.picking_minor if stage in (OrderState.PICKING, OrderState.PACKED) else 0


def _refusal(stage: OrderState) -> str:
    if stage is OrderState.PACKED:
        return "The order is packed and a rider is on the way: ask support to cancel it."
    if stage in (OrderState.PICKED_UP, OrderState.ARRIVING):
        return f"The order is {stage.value}: only its rider can bring it back."
    return f"The order is {stage.value} and can no longer be cancelled."


def as_markdown() -> str:
    """The table for people; docs/architecture.md shows it, and a test compares."""
    head = ("stage", *(party.value for party in Party), "goods", "slot")
    rows = [
        (stage.value, *(rules.fee(party).value for party in Party), rules.goods, rules.slot)
        for stage, rules in RULES.items()
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
