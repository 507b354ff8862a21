"""What a fault is: it strikes, shows by evidence that it did, and heals."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from loadtests.chaos.system import System


class NotStruck(Exception):
    """The fault found nothing to break this time; it does not count."""


class NotPossible(Exception):
    """This machine does not allow the fault; the text says why."""


class Fault(ABC):
    """``lane``: faults that must not overlap share one.  ``lasts_s`` is how long about, for the
    plan."""

    name: str
    lane: str
    lasts_s: float = 3.0

    @abstractmethod
    async def strike(self, system: System, rng: random.Random) -> str:
        """Break something for a while; returns the evidence.

        Raises NotStruck, NotPossible, and what the wait for a recovery may raise (TimeoutError).
        """

    async def heal(self, system: System) -> None:
        """Put right what ``strike`` left behind, however it ended."""
        del system
