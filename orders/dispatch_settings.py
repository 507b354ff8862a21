"""What an operator may tune about dispatch.  ``_s`` is virtual time unless it says otherwise."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DispatchSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Nobody waits for a tick that a wake-up announces; it is for wake-ups that are lost.
    tick_s: float = Field(5.0, gt=0)
    # Real seconds.  What a plan may take at most; a fast clock allows less of it (one tick).
    plan_deadline_s: float = Field(0.4, ge=0)
    # Real seconds past the deadline after which the engine's process counts as hung.
    plan_grace_s: float = Field(2.0, gt=0)
    # Real seconds between two looks at a partition; a burst of wake-ups becomes one look.
    least_gap_s: float = Field(0.1, gt=0)
    # Real seconds.  A dispatcher that is gone is replaced `lease_s` after its last renewal, plus
    # `lease_poll_s` until somebody sees it: together below the 5 s that are promised.
    lease_s: float = Field(2.5, gt=0, le=60)
    renew_s: float = Field(0.6, gt=0)
    lease_poll_s: float = Field(0.3, gt=0)
    # Processes that solve, for all partitions of one dispatcher.
    solvers: int = Field(1, ge=1, le=16)
    # Assignments of one plan that are committed at the same time.
    commits_at_once: int = Field(4, ge=1, le=16)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.renew_s * 3 > self.lease_s:
            raise ValueError("lease_s must allow for two lost renewals")
        return self
