"""What an operator may tune about stores."""

from __future__ import annotations

from pydantic import BaseModel, Field


class StoreSettings(BaseModel):
    """Durations are seconds of real time: they bound calls, not business."""

    # A customer learns that there is enough, not how much a competitor could count.
    shown_units_max: int = Field(20, ge=1)
    # Past this a listing is served from Postgres, which takes about 2 ms for a page.
    availability_deadline_s: float = Field(0.2, gt=0)
