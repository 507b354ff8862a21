"""The rules of cancelling: complete, bounded, and told as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.errors import Invalid
from orders.cancellation_rules import RULES, Fee, Party, as_markdown, terms
from orders.model import ORDER_EDGES, OrderState
from orders.settings import CancellationFees, OrderSettings

FEES = CancellationFees(picking_minor=2_000, cap_minor=3_000)
DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_rules_cover_just_the_states_that_can_be_cancelled() -> None:
    """A stage without a rule is one from which the machine has no edge to ``cancelled``."""
    cancellable = {state for state, ends in ORDER_EDGES.items() if OrderState.CANCELLED in ends}
    assert set(RULES) == cancellable


@pytest.mark.parametrize("party", Party)
@pytest.mark.parametrize("stage", OrderState)
def test_fee_and_refund_are_what_was_held(party: Party, stage: OrderState) -> None:
    """Nothing is lost between the two, and nothing is kept that may not be."""
    told = terms(party, stage, FEES, held_minor=9_000, chargeable_minor=1_500, charge_minor=2_500)
    if not told.allowed:
        assert told.reason
        assert (told.fee_minor, told.refund_minor) == (0, 0)
        return
    assert told.fee_minor + told.refund_minor == 9_000
    assert 0 <= told.fee_minor <= 1_500


def test_only_the_customer_pays_by_rule() -> None:
    """Neither the store's reasons nor a time-out cost the customer anything."""
    for rules in RULES.values():
        assert rules.store is rules.system is Fee.FREE


def test_a_charge_above_the_cap_is_refused() -> None:
    """Support is told, instead of charging less than it said."""
    with pytest.raises(Invalid):
        terms(
            Party.SUPPORT, OrderState.PICKING, FEES,
            held_minor=9_000, chargeable_minor=9_000, charge_minor=3_001,
        )  # fmt: skip


def test_a_city_may_have_fees_of_its_own() -> None:
    """Others keep the usual one."""
    settings = OrderSettings(cancellation_fees={"cty_dear": FEES})
    assert settings.cancellation_fees_in("cty_dear") is FEES
    usual = settings.cancellation_fees_in("cty_other")
    assert usual.picking_minor == settings.fees.cancellation_fee_minor


def test_the_documentation_shows_the_rules() -> None:
    """docs/architecture.md holds the very table that the code applies."""
    assert as_markdown() in DOCS.read_text(encoding="utf-8")
