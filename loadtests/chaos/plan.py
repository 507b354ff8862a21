"""Which fault strikes when, from a seed alone.

Faults are kept in lanes that run side by side: what is in one lane (two ways of killing the same
engine, say) never overlaps, what is in different lanes often does.  A lane goes through all of its
faults in an order of its own, then again in another, as often as ``rounds`` says; between two
faults there is a pause, so that the lanes are spread over the whole run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Two rounds in ten minutes: a system that is never left alone would show nothing but outages.
MINUTES_A_ROUND = 5.0


@dataclass(frozen=True, slots=True)
class Planned:
    """``at_s`` real seconds after the start of the run."""

    at_s: float
    lane: str
    fault: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    length_s: float
    rounds: int
    strikes: tuple[Planned, ...]

    def of_lane(self, lane: str) -> list[Planned]:
        return [strike for strike in self.strikes if strike.lane == lane]


def make_plan(
    seed: int, length_s: float, lanes: Mapping[str, Sequence[tuple[str, float]]],
    rounds: int | None = None,
) -> Plan:  # fmt: skip
    """``lanes``: the faults of each with how long they last, in real seconds.  ``rounds``: how
    often each strikes, by itself once in ``MINUTES_A_ROUND``.

    A lane whose faults last longer than the run starts its next when the last has ended; the run
    then takes as long as it takes.
    """
    rounds = rounds or max(1, round(length_s / 60.0 / MINUTES_A_ROUND))
    strikes: list[Planned] = []
    for lane, faults in lanes.items():
        rng = random.Random(f"{seed}:{lane}")
        order = [fault for _ in range(rounds) for fault in rng.sample(faults, len(faults))]
        pause_s = max(0.0, length_s - sum(lasts_s for _, lasts_s in order)) / (len(order) + 1)
        at_s = 0.0
        for fault, lasts_s in order:
            at_s += pause_s * rng.uniform(0.6, 1.3)
            strikes.append(Planned(round(at_s, 2), lane, fault, lasts_s))
            at_s += lasts_s
    return Plan(seed, length_s, rounds, tuple(sorted(strikes, key=lambda strike: strike.at_s)))
