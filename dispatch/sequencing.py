"""The best sequence of drop-offs after one pickup: an open path with a price on every delivery.

The price of a delivery is that of `dispatch.cost`: delay over the earliest possible, and convex
lateness past the promise. Up to `EXACT_UP_TO` drops the answer is proven; beyond, the best of a
few insertions improved by or-opt and 2-opt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dispatch.travel import FloatArray

# Processor time of a proof: 0.05 ms at 6 drops, 0.2 ms at 8, 0.9 ms at 10 and 4 ms at 12.
EXACT_UP_TO = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drops:
    """n drops that a rider takes over together, and what their deliveries cost.

    leave_s: when the rider leaves the store with all of them. out_s: shape (n,), store to door.
    between_s: shape (n, n), door to door. service_s: at each door, the handover in its middle.
    earliest_s, promised_s: shape (n,), as `Problem.earliest_s` and the promise less its margin.
    delay_weight, riding_weight: price of a second. late_weight: shape (n,), with priority.

    Raises ValueError for shapes that disagree, times that are not finite (legs may be infinite:
    there is no way), negative legs, services, weights or scales.
    """

    leave_s: float
    out_s: FloatArray
    between_s: FloatArray
    service_s: float
    earliest_s: FloatArray
    promised_s: FloatArray
    late_weight: FloatArray
    delay_weight: float = 1.0
    riding_weight: float = 0.0
    late_scale_s: float = 600.0

    def __post_init__(self) -> None:
        n = self.out_s.size
        one_each = (self.out_s, self.earliest_s, self.promised_s, self.late_weight)
        if any(array.shape != (n,) for array in one_each) or self.between_s.shape != (n, n):
            raise ValueError(f"drops: arrays for {n} drops differ in size")
        weights = (self.service_s, self.delay_weight, self.riding_weight)
        if not (np.isfinite(weights).all() and min(weights) >= 0 and self.late_scale_s > 0):
            raise ValueError("drops: service and weights must not be negative, a scale is above 0")
        if not all(np.isfinite(array).all() for array in one_each[1:]):
            raise ValueError("drops: earliest, promised and late_weight must be finite")
        if not np.isfinite(self.leave_s) or (self.late_weight < 0).any():
            raise ValueError("drops: leave_s must be finite and late_weight not negative")
        # Not "< 0": a leg that is not a number would pass.
        if not ((self.out_s >= 0).all() and (self.between_s >= 0).all()):
            raise ValueError("drops: legs must be numbers and not negative")

    @property
    def count(self) -> int:
        return int(self.out_s.size)


@dataclass(frozen=True, slots=True, eq=False)
class Sequenced:
    """sequence: indices of the drops. delivered_s: shape (n,), by position in the sequence.

    cost: infinite when some drop cannot be reached. proven: no other sequence costs less.
    """

    sequence: tuple[int, ...]
    delivered_s: FloatArray
    cost: float
    proven: bool


def best_sequence(drops: Drops, exact_up_to: int = EXACT_UP_TO) -> Sequenced:
    """The cheapest sequence that is found; the same drops always get the same one.

    exact_up_to: more drops than this are sequenced by local search; at most 14, since the exact
    search remembers 2^n sets.
    """
    if not 0 <= exact_up_to <= 14:
        raise ValueError("exact_up_to must be from 0 to 14")
    # Here and not above: it brings numba, and most who read this module never sequence anything.
    from dispatch import sequencing_kernel as kernel

    n, leave_s = drops.count, float(drops.leave_s)
    doors = kernel.Doors(
        out=np.ascontiguousarray(drops.out_s, dtype=np.float64),
        between=np.ascontiguousarray(drops.between_s, dtype=np.float64),
        cost=_cost(drops),
        late_curve=1 / (2 * drops.late_scale_s),
        riding=float(drops.riding_weight),
        service=float(drops.service_s),
    )
    best: tuple[float, tuple[int, ...]] = (np.inf, tuple(range(n)))
    proven = n <= exact_up_to
    for rank in _ranks(drops)[: 1 if proven else None]:
        sequence, cost = kernel.search(doors, leave_s, rank)
        best = min(best, (cost, tuple(sequence.tolist())))
    if proven and n > 1:
        known = np.array(best[1], dtype=np.int64)
        sequence, cost = kernel.exact(doors, leave_s, known, best[0])
        best = (cost, tuple(sequence.tolist()))
    return Sequenced(best[1], delivered_s(drops, best[1]), best[0], proven)


def delivered_s(drops: Drops, sequence: Sequence[int]) -> FloatArray:
    """When each drop of ``sequence`` is handed over: shape (n,)."""
    order = np.array(sequence, dtype=np.intp)
    legs_s = np.append(drops.out_s[order[:1]], drops.between_s[order[:-1], order[1:]])
    return np.asarray(
        drops.leave_s + np.cumsum(legs_s) + drops.service_s * (np.arange(order.size) + 0.5)
    )


def _cost(drops: Drops) -> FloatArray:
    """Shape (n, 4), as `sequencing_kernel.Doors.cost`."""
    delay = np.full(drops.count, drops.delay_weight, dtype=np.float64)
    return np.column_stack([drops.earliest_s, drops.promised_s, delay, drops.late_weight])


def _ranks(drops: Drops) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """In which sequences to insert: most urgent, nearest and farthest first."""
    keys = (drops.promised_s, drops.out_s, -drops.out_s)
    return [np.argsort(key, kind="stable").astype(np.int64) for key in keys]
