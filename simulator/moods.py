"""How a rider takes work: who takes every offer, why one leaves an offer, who vanishes or gives up.

Drawn from a stream of random numbers of its own, so that a seed gives each rider the same character
whatever happens in the city.
"""

from __future__ import annotations

import random
from typing import Final

AUTO_ACCEPT_SHARE: Final = 0.15
# Of the trips that are on the way to a store.
VANISH_SHARE: Final = 0.015
HAND_BACK_SHARE: Final = 0.01

# Virtual seconds.
GONE_S: Final = (200.0, 900.0)
BACK_AFTER_S: Final = (20.0, 240.0)
REPAIR_S: Final = (300.0, 900.0)

_DECLINES: Final = {
    "too_far": 35, "break": 15, "vehicle_problem": 8, "too_heavy": 12, "unsafe_area": 10,
    "shift_ends": 5, "other": 15,
}  # fmt: skip
_HAND_BACKS: Final = {"vehicle_problem": 6, "unwell": 2, "accident": 1, "emergency": 1}


class Mood:
    """One rider's character and luck."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.takes_all = rng.random() < AUTO_ACCEPT_SHARE

    def decline_reason(self) -> str:
        """Why an offer is left to others."""
        return self._rng.choices(list(_DECLINES), list(_DECLINES.values()))[0]

    def vanishes_for_s(self) -> float | None:
        """How long nothing is heard of the rider on the way to a store; None: the usual case."""
        if self._rng.random() >= VANISH_SHARE:
            return None
        return self._rng.uniform(*GONE_S)

    def hands_back(self) -> str | None:
        """Why the rider gives a trip up before the pickup; None: the usual case."""
        if self._rng.random() >= HAND_BACK_SHARE:
            return None
        return self._rng.choices(list(_HAND_BACKS), list(_HAND_BACKS.values()))[0]

    def back_after_s(self, reason: str) -> float:
        """How long until the rider says that offers may come again."""
        return self._rng.uniform(*(REPAIR_S if reason == "handed_back" else BACK_AFTER_S))
