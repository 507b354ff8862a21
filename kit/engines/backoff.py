"""How long to wait before something that died is started again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delay with jitter and a cap.

    The first death is answered within ``first_s``, so that a killed worker heals at once; a tight
    crash loop settles at ``cap_s``. A run of at least ``stable_after_s`` counts as healthy.
    """

    first_s: float = 0.2
    cap_s: float = 10.0
    stable_after_s: float = 10.0

    def __post_init__(self) -> None:
        assert 0 < self.first_s <= self.cap_s

    def failures_after(self, failures: int, uptime_s: float) -> int:
        """The number of deaths in a row, now that a run of ``uptime_s`` has ended as well."""
        return 1 if uptime_s >= self.stable_after_s else failures + 1

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after ``failures`` (1 or more) deaths in a row.

        "Equal jitter": uniform between half the exponential delay and all of it, so that several
        children that died together do not come back together.
        """
        assert failures >= 1
        # The exponent is bounded because a float overflows after a thousand doublings.
        ceiling_s = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return random.uniform(ceiling_s / 2, ceiling_s)
