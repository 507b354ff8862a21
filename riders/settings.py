"""What an operator may tune about riders.  Durations are seconds of virtual time."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator


class OfferRules(BaseModel):
    """What becomes of offers that are not taken."""

    # So many offers in a row that a rider lets pass, and the next ones go to others.
    missed_most: int = Field(3, ge=1)
    # A rider who missed an offer may get the same order again after this long, but only so often.
    again_after_s: float = Field(600.0, gt=0)
    again_most: int = Field(1, ge=0)
    # An order so often declined or let pass is shown to ops.
    failed_alert: int = Field(3, ge=1)
    # How long a rider who says so gets no offers.
    break_s: float = Field(15 * 60.0, gt=0)
    repair_s: float = Field(30 * 60.0, gt=0)


class WatchRules(BaseModel):
    """When a rider with a trip has vanished, and when an order waits for too long."""

    # Neither a position nor an action for so long, before and after the bags were collected.
    lost_after_s: float = Field(300.0, gt=0)
    carrying_lost_after_s: float = Field(480.0, gt=0)
    # Late at the store by so much, not nearer than so long ago, and another could be there sooner
    # by so much: then somebody else fetches it, but an order changes hands only so often.
    late_s: float = Field(300.0, gt=0)
    no_nearer_s: float = Field(120.0, gt=0)
    sooner_by_s: float = Field(120.0, ge=0)
    late_most: int = Field(2, ge=0)
    # A packed order without a rider for so long is shown to ops.
    waiting_s: float = Field(600.0, gt=0)
    # A rider stands at a store within this distance of it, and has left beyond twice that.
    at_store_m: float = Field(80.0, gt=0)
    # If more riders than this and more than this share of a city fall silent together, it is we
    # who do not hear: nothing is done then.
    deaf_riders: int = Field(4, ge=1)
    deaf_share: float = Field(0.5, gt=0, le=1)


class RiderSettings(BaseModel):
    # Long enough to read an offer at a red light, short against the promise.
    offer_life_s: float = Field(30.0, gt=0)
    shift_max_s: float = Field(10 * 3600.0, gt=0)
    pay_base_minor: int = Field(2_000, ge=0)
    pay_per_km_minor: int = Field(600, ge=0)
    # For each door after the first: parking, stairs and a handover.
    pay_per_stop_minor: int = Field(800, ge=0)
    # How long somebody who has one order in the bag waits for the others of the trip.
    batch_wait_s: float = Field(90.0, ge=0)
    cash_limit_minor: int = Field(500_000, ge=0)
    # A rider whose phone has said nothing for this long gets no offers.
    silent_after_s: float = Field(120.0, gt=0)
    position_interval_s: float = Field(4.0, gt=0)
    offers: OfferRules = OfferRules()
    watch: WatchRules = WatchRules()
    # How often one wrong code may be entered at a door before support has to be called.
    delivery_code_tries: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.position_interval_s * 3 > self.silent_after_s:
            raise ValueError("silent_after_s must allow for three lost positions")
        if self.watch.lost_after_s < self.silent_after_s:
            raise ValueError("watch.lost_after_s must not be below silent_after_s")
        return self
