"""What an operator may tune about stores."""

from __future__ import annotations

from pydantic import BaseModel, Field


class CountSettings(BaseModel):
    """Which differences of a count are booked at once, and which wait for a second person."""

    small_units: int = Field(3, ge=0)
    small_share: float = Field(0.1, ge=0, le=1)

    def is_small(self, variance: int, expected: int) -> bool:
        """Whether ``variance`` units, of so many expected, may be booked unseen."""
        return abs(variance) <= max(self.small_units, self.small_share * expected)


class StoreSettings(BaseModel):
    """Durations are seconds of real time: they bound calls, not business."""

    # A customer learns that there is enough, not how much a competitor could count.
    shown_units_max: int = Field(20, ge=1)
    # Past this a listing is served from Postgres, which takes about 2 ms for a page.
    availability_deadline_s: float = Field(0.2, gt=0)
    count: CountSettings = CountSettings()
    # A waiting list costs a look at every change of stock; nobody shops for more at once.
    alerts_per_customer: int = Field(50, ge=1)
