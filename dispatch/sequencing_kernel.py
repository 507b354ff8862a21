"""The compiled part of `dispatch.sequencing`: an exact search over subsets, and a local one.

Importing this module imports numba, so it is imported where it is first needed.

All functions share their first arguments: out (n,) and between (n, n) are legs in seconds,
``cost`` (n, 4) holds for each drop its earliest delivery, its promise, the price of a second of
delay and that of a late one, ``late_curve`` is 1 / (2 * late scale), ``riding`` the price of a
second on the road, ``service`` the time at a door, ``leave`` when the rider leaves the store.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit(cache=True)
def late_price(one: Floats, late_curve: float, at: float) -> float:
    late = at - one[1]
    return float(one[3] * (late + late * late * late_curve)) if late > 0.0 else 0.0


@njit(cache=True)
def price(one: Floats, late_curve: float, at: float) -> float:
    """What a delivery at ``at`` costs; lateness that nobody could avoid any more is left out."""
    delayed = at - one[0]
    if delayed <= 0.0:
        return 0.0
    late = late_price(one, late_curve, at) - late_price(one, late_curve, one[0])
    return float(one[2] * delayed + late)


@njit(cache=True)
def cost_of(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    leave: float,
    sequence: Ints,
    limit: float,
) -> float:
    """Cost of a sequence; infinite as soon as it reaches ``limit``."""
    return _cost_at(out, between, cost, late_curve, riding, service, leave, 1.0, sequence, limit)


@njit(cache=True)
def _cost_at(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    leave: float,
    factor: float,
    sequence: Ints,
    limit: float,
) -> float:
    """`cost_of` for a rider who takes ``factor`` times as long."""
    at, total, last = leave, 0.0, -1
    for drop in sequence:
        leg = factor * (out[drop] if last < 0 else between[last, drop])
        at += leg
        total += riding * leg + price(cost[drop], late_curve, at + service / 2)
        if not total < limit:
            return np.inf
        at += service
        last = drop
    return total


@njit(cache=True)
def construct(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    leave: float,
    rank: Ints,
) -> Ints:
    """Cheapest insertion of the drops in the sequence ``rank``."""
    n = rank.size
    sequence = np.empty(n, np.int64)
    trial = np.empty(n, np.int64)
    for size in range(n):
        drop, best, best_at = rank[size], np.inf, size
        for position in range(size + 1):
            for at in range(size):
                trial[at if at < position else at + 1] = sequence[at]
            trial[position] = drop
            found = cost_of(
                out, between, cost, late_curve, riding, service, leave, trial[: size + 1], best
            )
            if found < best:
                best, best_at = found, position
        for position in range(size, best_at, -1):
            sequence[position] = sequence[position - 1]
        sequence[best_at] = drop
    return sequence


@njit(cache=True)
def descend(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    leave: float,
    sequence: Ints,
) -> float:
    """Or-opt (up to three drops moved, also reversed) and 2-opt until neither helps; in place.

    Returns the cost of what ``sequence`` then holds.
    """
    n = sequence.size
    trial = np.empty(n, np.int64)
    best = cost_of(out, between, cost, late_curve, riding, service, leave, sequence, np.inf)
    better = True
    while better:
        better = False
        for length in range(1, min(3, n - 1) + 1):
            for start in range(n - length + 1):
                for to in range(n - length + 1):
                    for turned in range(1 if length == 1 else 2):
                        if to == start and turned == 0:
                            continue
                        _moved(sequence, trial, start, length, to, turned == 1)
                        found = cost_of(
                            out, between, cost, late_curve, riding, service, leave, trial, best
                        )
                        if found < best - 1e-9:
                            best, better = found, True
                            _copy(trial, sequence)
        for start in range(n - 1):
            for end in range(start + 2, n + 1):
                _copy(sequence, trial)
                for at in range(start, end):
                    trial[at] = sequence[start + end - 1 - at]
                found = cost_of(out, between, cost, late_curve, riding, service, leave, trial, best)
                if found < best - 1e-9:
                    best, better = found, True
                    _copy(trial, sequence)
    return best


@njit(cache=True)
def _copy(source: Ints, target: Ints) -> None:
    for at in range(source.size):
        target[at] = source[at]


@njit(cache=True)
def _moved(sequence: Ints, trial: Ints, start: int, length: int, to: int, turned: bool) -> None:
    """``trial`` becomes ``sequence`` with a piece taken out and put in at ``to`` of the rest."""
    n = sequence.size
    at = 0
    for position in range(n):
        if position < start or position >= start + length:
            trial[at if at < to else at + length] = sequence[position]
            at += 1
    for index in range(length):
        trial[to + index] = sequence[start + (length - 1 - index if turned else index)]


@njit(cache=True)
def exact(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    leave: float,
    known: Ints,
    known_cost: float,
) -> Ints:
    """The cheapest sequence, by dynamic programming over subsets (M. Held, R. Karp, 1962).

    A state is the set of drops made and the last of them. Cost depends on time, which differs by
    way, so a state keeps every label (time, cost) that no other beats in both: prices never fall
    with time, hence nothing else can be part of a best sequence. A label is dropped when its cost
    and the least that the other drops can still add reach ``known_cost``, the cost of the
    sequence ``known``, which is returned when nothing is cheaper.
    """
    n = out.size
    full = (1 << n) - 1
    nearest = np.empty(n)
    timeless = True
    for drop in range(n):
        timeless = timeless and cost[drop, 2] == 0.0 and cost[drop, 3] == 0.0
        nearest[drop] = out[drop]
        for other in range(n):
            if other != drop:
                nearest[drop] = min(nearest[drop], between[other, drop])
    least_ride = np.zeros(full + 1)
    for made in range(full):
        for drop in range(n):
            if not made >> drop & 1:
                least_ride[made] += riding * nearest[drop]
    room = 1024
    at_s, paid = np.empty(room), np.empty(room)
    state, before, after = (
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    first = np.full((full + 1) * n, -1, np.int64)
    count = 0
    # Label -2 stands for the store, where nothing is delivered yet.
    best, best_label = known_cost, -1
    for made in range(full):
        for last in range(n) if made else range(1):
            label = first[made * n + last] if made else -2
            while label != -1:
                since = leave if label == -2 else at_s[label] + service
                spent = 0.0 if label == -2 else paid[label]
                for drop in range(n):
                    if made >> drop & 1 or not spent < best:
                        continue
                    leg = out[drop] if label == -2 else between[last, drop]
                    at = since + leg
                    total = spent + riding * leg + price(cost[drop], late_curve, at + service / 2)
                    now_made = made | 1 << drop
                    least = total + least_ride[now_made]
                    where = now_made * n + drop
                    if not least < best - 1e-9:
                        continue
                    if _beaten(first, after, at_s, paid, where, at, total):
                        continue
                    if not timeless:
                        for other in range(n):
                            if not now_made >> other & 1:
                                soonest = at + service * 1.5 + nearest[other]
                                least += price(cost[other], late_curve, soonest)
                        if not least < best - 1e-9:
                            continue
                    if count == room:
                        room *= 2
                        at_s, paid = _wider(at_s, room), _wider(paid, room)
                        state, before = _wider(state, room), _wider(before, room)
                        after = _wider(after, room)
                    at_s[count], paid[count], state[count] = at, total, where
                    before[count], after[count] = label, first[where]
                    first[where] = count
                    if now_made == full:
                        best, best_label = total, count
                    count += 1
                label = after[label] if label >= 0 else -1
    if best_label < 0:
        return known
    sequence = np.empty(n, np.int64)
    label = best_label
    for position in range(n - 1, -1, -1):
        sequence[position] = state[label] % n
        label = before[label]
    return sequence


@njit(cache=True)
def _beaten(
    first: Ints, after: Ints, at_s: Floats, paid: Floats, where: int, at: float, total: float
) -> bool:
    """Whether a label of the state is at least as good; those that the new one beats go."""
    label, previous = first[where], -1
    while label != -1:
        if at_s[label] <= at and paid[label] <= total:
            return True
        if at <= at_s[label] and total <= paid[label]:
            if previous < 0:
                first[where] = after[label]
            else:
                after[previous] = after[label]
        else:
            previous = label
        label = after[label]
    return False


@njit(cache=True)
def _wider(array, room):  # type: ignore[no-untyped-def]  # compiled for two types of array
    wider = np.empty(room, array.dtype)
    wider[: array.size] = array
    return wider


@njit(cache=True)
def price_bundles(
    out: Floats,
    between: Floats,
    cost: Floats,
    late_curve: float,
    riding: float,
    service: float,
    waiting: float,
    half: float,
    now: float,
    ready: Floats,
    bundle: Ints,
    permutation: Ints,
    rider: Floats,
) -> tuple[Floats, Ints]:
    """Cost of every bundle of one store with every rider, and the best permutation of its drops.

    bundle: shape (b, k), drops of the same number each. permutation: shape (k!, k), all of them.
    rider: shape (r, 4), each one's arrival at the store, ride to it, travel factor and end of
    shift. half: half a pickup service; waiting: price of a second there. Returns arrays of shape
    (b, r); the cost is infinite where the handover would be after the shift.
    """
    bundles, size = bundle.shape
    found = np.full((bundles, rider.shape[0]), np.inf)
    chosen = np.zeros((bundles, rider.shape[0]), np.int64)
    sequence = np.empty(size, np.int64)
    for b in range(bundles):
        packed = now
        for index in range(size):
            packed = max(packed, ready[bundle[b, index]])
        last_handover, last_factor, best, best_at = np.inf, 0.0, np.inf, 0
        for r in range(rider.shape[0]):
            arrival, ride, factor, end = rider[r]
            handover = max(arrival + half, packed)
            if not handover <= end:
                continue
            if handover != last_handover or factor != last_factor:
                last_handover, last_factor, best, best_at = handover, factor, np.inf, 0
                for p in range(permutation.shape[0]):
                    for index in range(size):
                        sequence[index] = bundle[b, permutation[p, index]]
                    total = _cost_at(
                        out, between, cost, late_curve, riding, service, handover + half, factor,
                        sequence, best,
                    )  # fmt: skip
                    if total < best:
                        best, best_at = total, p
            chosen[b, r] = best_at
            found[b, r] = best + riding * ride + waiting * (handover - half - arrival)
    return found, chosen
