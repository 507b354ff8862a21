"""What an operator may tune about quotes, checkout and the life of an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator


class FeeSettings(BaseModel):
    """Fees in minor units of the city's currency."""

    delivery_fee_minor: int = Field(2_500, ge=0)
    free_delivery_from_minor: int = Field(29_900, ge=0)
    small_order_fee_minor: int = Field(1_500, ge=0)
    small_order_below_minor: int = Field(9_900, ge=0)
    # Charged when a customer cancels while the order is being picked: the work is done by then.
    cancellation_fee_minor: int = Field(2_000, ge=0)


class CancellationFees(BaseModel):
    """What cancelling costs in a city, in minor units of its currency."""

    # Charged when a customer cancels while the order is being picked: the work is done by then.
    picking_minor: int = Field(2_000, ge=0)
    # The most that support may charge by hand.
    cap_minor: int = Field(10_000, ge=0)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.picking_minor > self.cap_minor:
            raise ValueError("picking_minor must not exceed cap_minor")
        return self


class SlotSettings(BaseModel):
    """Scheduled deliveries; opening hours and capacities are rows of each store."""

    # An order joins the pick queue this long before its rider has to leave the store.
    picking_lead_s: float = Field(900.0, gt=0)
    days_ahead: int = Field(7, ge=1, le=30)


class SubstitutionSettings(BaseModel):
    """How customers are asked whether something else will do."""

    # Long enough to look at a phone; the picker goes on with other lines meanwhile.
    answer_s: float = Field(120.0, gt=0)
    # With less time than this before the bags have to be closed nobody is asked.
    answer_min_s: float = Field(20.0, gt=0)
    # What happens without an answer; the proposal says so.
    fallback: Literal["refund", "best_match"] = "refund"
    candidates: int = Field(5, ge=1, le=20)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.answer_min_s > self.answer_s:
            raise ValueError("answer_min_s must not exceed answer_s")
        return self


class ClaimSettings(BaseModel):
    """What customers may claim after the delivery; amounts in minor units."""

    window_s: float = Field(48 * 3600.0, gt=0)
    # A claim that is worth at most this is approved at once, ...
    auto_approve_minor: int = Field(30_000, ge=0)
    # ... unless the customer has had as many approved in the time that counts as recent.
    auto_approve_claims: int = Field(3, ge=0)
    recent_s: float = Field(30 * 86_400.0, gt=0)


class ReturnSettings(BaseModel):
    """Undeliverable orders and their goods."""

    # Charged when nobody opens or the order is refused at the door; 0: nothing is.
    customer_fault_fee_minor: int = Field(2_500, ge=0)
    # Goods that have to stay cold go back on the shelf only if they were out for at most this.
    chilled_out_max_s: float = Field(1_200.0, ge=0)
    frozen_out_max_s: float = Field(300.0, ge=0)


class CommitterSettings(BaseModel):
    """How checkouts of one process are committed together; seconds are real ones."""

    # 32 take about 12 ms: more would make each wait longer for little.
    batch_max: int = Field(32, ge=1, le=64)
    # Transactions at a time: two keep two cores busy, one building while the other commits.
    lanes: int = Field(2, ge=1, le=16)
    # About half a second of work; who comes then is told to come again.
    queue_max: int = Field(1_000, ge=1)
    wait_max_s: float = Field(5.0, gt=0)


class OpenOrderSettings(BaseModel):
    """How many unpaid orders, cash on delivery included, may hold stock for one customer."""

    customer_max: int = Field(3, ge=1)
    # Anybody becomes a guest for nothing.
    guest_max: int = Field(2, ge=1)

    def limit(self, guest: bool) -> int:
        """What applies to a customer or a guest."""
        return self.guest_max if guest else self.customer_max


class SupplySettings(BaseModel):
    """What follows from the balance of riders and orders (orders/supply.py)."""

    # False: promises know only who waits at this moment, and nobody is proposed a place to wait.
    enabled: bool = True
    every_s: float = Field(10.0, gt=0)
    # What quotes were told lapses when nobody brings it up to date: then the plain promise counts.
    valid_s: float = Field(120.0, gt=0)
    # The most that a promise grows by because riders are short.
    growth_max_s: float = Field(1_200.0, ge=0)
    # A store whose new orders would wait longer than this for a rider takes none for now.
    refuse_above_s: float = Field(3_600.0, gt=0)
    # How far back a store's orders and its riders' trips tell of the next ones.
    window_s: float = Field(3 * 3600.0, gt=0)
    earlier_weeks: int = Field(4, ge=0, le=5)
    propose: bool = True
    # A rider who dismissed a proposal is left alone for so long.
    dismissed_for_s: float = Field(900.0, ge=0)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.valid_s < 3 * self.every_s:
            raise ValueError("valid_s must allow for two lost rounds")
        if self.growth_max_s > self.refuse_above_s:
            raise ValueError("growth_max_s must not exceed refuse_above_s")
        if self.refuse_above_s > 4_500:
            raise ValueError("refuse_above_s must be at most 4500: longer waits are not told apart")
        return self


class OrderSettings(BaseModel):
    """Durations are seconds of virtual time."""

    fees: FeeSettings = FeeSettings()
    slots: SlotSettings = SlotSettings()
    substitutions: SubstitutionSettings = SubstitutionSettings()
    claims: ClaimSettings = ClaimSettings()
    returns: ReturnSettings = ReturnSettings()
    # City ids with fees of their own; everywhere else the fee of ``fees`` counts.
    cancellation_fees: Mapping[str, CancellationFees] = Field(default_factory=dict)
    quote_life_s: float = Field(600.0, gt=0)
    # Longer than any gateway takes to say yes, shorter than the customer's patience.
    reservation_hold_s: float = Field(300.0, gt=0)
    # A checkout whose process died is picked up by the settlement worker after this long.
    recover_after_s: float = Field(30.0, gt=0)
    committer: CommitterSettings = CommitterSettings()
    open_orders: OpenOrderSettings = OpenOrderSettings()
    supply: SupplySettings = SupplySettings()
    max_lines: int = Field(60, ge=1)
    max_quantity: int = Field(50, ge=1)
    max_tip_minor: int = Field(100_000, ge=0)
    # The furthest that a rider is sent, along the street.
    max_travel_s: float = Field(1_500.0, gt=0)
    # A new address that moves the promise by more than this has to be accepted by the customer.
    accept_later_from_s: float = Field(60.0, ge=0)

    def cancellation_fees_in(self, city_id: str) -> CancellationFees:
        """What cancelling costs in a city."""
        fee = self.fees.cancellation_fee_minor
        usual = CancellationFees(picking_minor=fee, cap_minor=max(fee, 10_000))
        return self.cancellation_fees.get(city_id, usual)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.recover_after_s >= self.reservation_hold_s:
            raise ValueError(
                "recover_after_s must be below reservation_hold_s:"
                " a payment has to be resolved before its stock is given away"
            )
        return self
