"""Two parameter sets side by side in one city: who plans with which, and what it changed.

Riders are shared by a whole city, so two policies at work at the same moment disturb each other.
A *switchback* lets them take turns instead: time is cut into windows, two windows are a pair, and
in each pair a seeded coin decides which set goes first.  The unit that is switched is the city, or
each store by itself.  Orders count for the set that was on duty when they were placed, whatever
happened to them later, so that nothing that a policy does can choose which orders it is judged by.

See D. Bojinov, D. Simchi-Levi, J. Zhao, "Design and Analysis of Switchback Experiments",
Management Science 69(7), 2023.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np

from dispatch.parameters import Parameters
from dispatch.snapshot import Rider, Snapshot

# Fewer pairs than this say nothing: their spread is itself too uncertain.
LEAST_PAIRS: Final = 10
CONFIDENCE: Final = 0.95


class Unit(StrEnum):
    """What is given a parameter set."""

    CITY = "city"
    """The whole city takes turns: no policy ever competes for riders with the other."""
    STORE = "store"
    """Each store takes its own turns: more pairs in the same time, some interference."""
    FIXED = "fixed"
    """The named stores keep the second set: no turns, so stores are compared as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Two parameter sets by name. Times are seconds on the snapshots' axis.

    store_ids: with Unit.FIXED the stores of the treatment. washout_s: orders placed this soon
    after a switch are not counted, because the other set's trips are still being ridden.
    """

    control: str
    treatment: str
    unit: Unit
    started_at_s: float
    window_s: float = 1800.0
    washout_s: float = 0.0
    seed: int = 0
    store_ids: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.control == self.treatment:
            raise ValueError("two different parameter sets are needed")
        if not (60.0 <= self.window_s <= 86_400.0):
            raise ValueError("window_s must be between a minute and a day")
        if not (0.0 <= self.washout_s < self.window_s):
            raise ValueError("washout_s must be shorter than a window")
        if (self.unit is Unit.FIXED) != bool(self.store_ids):
            raise ValueError("stores are named for the unit 'fixed', and for no other")

    def window(self, at_s: float) -> int:
        """The number of the window in which a moment lies."""
        return math.floor((at_s - self.started_at_s) / self.window_s)

    def treated(self, store_id: str, window: int) -> bool:
        """Whether a store plans with the treatment in a window."""
        if self.unit is Unit.FIXED:
            return store_id in self.store_ids
        coin = f"{self.seed}/{self.pair(store_id, window)}"
        first = hashlib.blake2b(coin.encode(), digest_size=1).digest()[0] & 1
        return bool(window & 1) != bool(first)

    def pair(self, store_id: str, window: int) -> str:
        """The name of the pair within which a window is compared.

        Pairs of stores that are fixed are hours of the day: treated against all others.
        """
        unit = store_id if self.unit is Unit.STORE else ""
        return f"{unit}/{window if self.unit is Unit.FIXED else window // 2}"

    def parameter_set(self, store_id: str, at_s: float) -> str:
        treated = self.treated(store_id, self.window(at_s))
        return self.treatment if treated else self.control


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What is planned together, with one parameter set."""

    parameter_set: str
    snapshot: Snapshot


def split(
    snapshot: Snapshot, set_of_store: Mapping[str, str], parameters: Mapping[str, Parameters]
) -> list[Part]:
    """One part for each set; no rider and no order is in two.

    set_of_store: for every store of the snapshot. A rider goes with the store of the trip, else
    with the store that is nearest on the road.
    """
    names = sorted({set_of_store[store.store_id] for store in snapshot.stores})
    if len(names) == 1:
        chosen = replace(snapshot, parameters=parameters[names[0]])
        return [Part(names[0], chosen)]
    set_of_rider = _set_of_riders(snapshot, set_of_store)
    parts = []
    for name in names:
        changes: dict[str, Any] = {
            one.name: tuple(
                entry for entry in getattr(snapshot, one.name)
                if set_of_store.get(entry.store_id) == name
            )
            for one in fields(snapshot)
            if _by_store(getattr(snapshot, one.name))
        }  # fmt: skip
        changes["riders"] = tuple(
            rider for rider in snapshot.riders if set_of_rider[rider.rider_id] == name
        )
        parts.append(Part(name, replace(snapshot, parameters=parameters[name], **changes)))
    return parts


def _by_store(value: object) -> bool:
    return isinstance(value, tuple) and any(hasattr(one, "store_id") for one in value)


def _set_of_riders(snapshot: Snapshot, set_of_store: Mapping[str, str]) -> dict[str, str]:
    places = [rider.place for rider in snapshot.riders]
    doors = [store.place for store in snapshot.stores]
    seconds = snapshot.travel.seconds_between(np.array(places)[:, None], np.array(doors)[None, :])
    nearest = np.argmin(seconds, axis=1) if places else np.empty(0, dtype=np.intp)

    def store_of(rider: Rider, at: int) -> str:
        return snapshot.stores[at].store_id if rider.trip is None else rider.trip.store_id

    return {
        rider.rider_id: set_of_store[store_of(rider, at)]
        for rider, at in zip(snapshot.riders, nearest.tolist(), strict=True)
    }


@dataclass(frozen=True, slots=True)
class Sums:
    """A measure of one arm in one pair: its total and of how many."""

    total: float = 0.0
    count: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count > 0 else None


class Verdict(StrEnum):
    TOO_FEW = "too_few"
    """Not enough pairs to say anything."""
    NO_DIFFERENCE_SEEN = "no_difference_seen"
    """The interval holds zero: a difference may be there, but is smaller than the noise."""
    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Difference:
    """Treatment against control in one measure.

    difference: treatment minus control, mean over pairs weighted by what they hold.
    low, high: its 95 % interval; None with fewer than two pairs that have both sides.
    """

    control: float | None
    treatment: float | None
    difference: float | None
    low: float | None
    high: float | None
    pairs: int
    verdict: Verdict


def paired_difference(
    pairs: Iterable[tuple[Sums, Sums]], least_pairs: int = LEAST_PAIRS
) -> Difference:
    """The difference between (control, treatment), pair by pair.

    Pairs are independent of each other, their members are not; so the spread is that of the
    pairs' differences, weighted by their counts, with Student's t for so few of them.
    """
    known = list(pairs)
    control, treatment = (sum((one[side] for one in known), Sums()) for side in (0, 1))
    both = [(a, b) for a, b in known if a.count > 0 and b.count > 0]
    if not both:
        return Difference(
            control.mean, treatment.mean, None, None, None, 0, Verdict.TOO_FEW
        )  # fmt: skip
    weight = np.array([a.count + b.count for a, b in both])
    each = np.array([b.total / b.count - a.total / a.count for a, b in both])
    weight = weight / weight.sum()
    difference, low, high = _interval(each, weight)
    return Difference(
        control.mean, treatment.mean, difference, low, high, len(both),
        _verdict(len(both), least_pairs, low, high),
    )  # fmt: skip


def _interval(
    each: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]
) -> tuple[float, float | None, float | None]:
    middle, count = float(weight @ each), each.size
    if count < 2:
        return middle, None, None
    variance = float((weight**2) @ (each - middle) ** 2) * count / (count - 1)
    # Here and not above: the server imports this module, and scipy takes a second to load.
    from scipy.special import stdtrit

    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return middle, middle - reach, middle + reach


def _verdict(pairs: int, least_pairs: int, low: float | None, high: float | None) -> Verdict:
    if pairs < max(2, least_pairs) or low is None or high is None:
        return Verdict.TOO_FEW
    if low > 0:
        return Verdict.HIGHER
    return Verdict.LOWER if high < 0 else Verdict.NO_DIFFERENCE_SEEN


def blocks(
    at_s: Sequence[float], control: Sequence[float], treatment: Sequence[float], block_s: float
) -> list[tuple[Sums, Sums]]:
    """Values of the same things under both sets, gathered into blocks of time.

    What happens close together is not independent, so a block is what counts as one pair.
    """
    gathered: dict[int, tuple[Sums, Sums]] = {}
    for at, one, other in zip(at_s, control, treatment, strict=True):
        before = gathered.get(int(at // block_s), (Sums(), Sums()))
        gathered[int(at // block_s)] = (before[0] + Sums(one, 1), before[1] + Sums(other, 1))
    return list(gathered.values())
