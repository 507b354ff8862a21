"""The compiled part of `dispatch.sequencing`: an exact search over subsets, and a local one.

Importing this module imports numba, so it is imported where it is first needed.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


# Columns of `Doors.cost`.
_EARLIEST, _PROMISED, _DELAY, _LATE = 0, 1, 2, 3


class Doors(NamedTuple):
    """The n doors that may share a trip, and what delivering there costs; all in seconds.

    out (n,) and between (n, n): legs from the store and from door to door. cost (n, 4): of each
    its earliest delivery, its promise, the price of a second of delay and that of a late one.
    late_curve: 1 / (2 * late scale). riding: price of a second on the road. service: at a door.
    """

    out: Floats
    between: Floats
    cost: Floats
    late_curve: float
    riding: float
    service: float


@njit(cache=True)
def late_price(one: Floats, late_curve: float, at: float) -> float:
    late = at - one[_PROMISED]
    return float(one[_LATE] * (late + late * late * late_curve)) if late > 0.0 else 0.0


@njit(cache=True)
def price(one: Floats, late_curve: float, at: float) -> float:
    """What a delivery at ``at`` costs; lateness that nobody could avoid any more is left out."""
    delayed = at - one[_EARLIEST]
    if delayed <= 0.0:
        return 0.0
    late = late_price(one, late_curve, at) - late_price(one, late_curve, one[_EARLIEST])
    return float(one[_DELAY] * delayed + late)


@njit(cache=True)
def cost_of(doors: Doors, leave: float, factor: float, sequence: Ints, limit: float) -> float:
    """Cost of a sequence for a rider who leaves the store at ``leave``.

    factor: how many times as long as the legs say the rider takes. Infinite as soon as the cost
    reaches ``limit``.
    """
    out, between, cost, late_curve, riding, service = doors
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
def search(doors: Doors, leave: float, rank: Ints) -> tuple[Ints, float]:
    """A good sequence and its cost: the drops inserted in the sequence ``rank``, then improved."""
    sequence = _construct(doors, leave, rank)
    return sequence, _descend(doors, leave, sequence)


@njit(cache=True)
def _construct(doors: Doors, leave: float, rank: Ints) -> Ints:
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
            found = cost_of(doors, leave, 1.0, trial[: size + 1], best)
            if found < best:
                best, best_at = found, position
        for position in range(size, best_at, -1):
            sequence[position] = sequence[position - 1]
        sequence[best_at] = drop
    return sequence


@njit(cache=True)
def _descend(doors: Doors, leave: float, sequence: Ints) -> float:
    """Or-opt (up to three drops moved, also reversed) and 2-opt until neither helps; in place.

    Returns the cost of what ``sequence`` then holds.
    """
    n = sequence.size
    trial = np.empty(n, np.int64)
    best = cost_of(doors, leave, 1.0, sequence, np.inf)
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
                        found = cost_of(doors, leave, 1.0, trial, best)
                        if found < best - 1e-9:
                            best, better = found, True
                            _copy(trial, sequence)
        for start in range(n - 1):
            for end in range(start + 2, n + 1):
                _copy(sequence, trial)
                for at in range(start, end):
                    trial[at] = sequence[start + end - 1 - at]
                found = cost_of(doors, leave, 1.0, trial, best)
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


# A label is a way to make some of the drops. Columns of its row of numbers: when the last drop is
# reached, and the cost so far. Of its row of links: the state, the label that it goes on from, and
# the next label of the same state.
_AT, _PAID = 0, 1
_STATE, _BEFORE, _AFTER = 0, 1, 2
# Instead of a label: there is none; and the store, where nothing is delivered yet.
_NONE, _STORE = -1, -2


@njit(cache=True)
def exact(doors: Doors, leave: float, known: Ints, known_cost: float) -> tuple[Ints, float]:
    """The cheapest sequence and its cost, by dynamic programming over subsets.

    M. Held, R. Karp, 1962. A state is the set of drops made and the last of them. Cost depends on
    time, which differs by way, so a state keeps every label (time, cost) that no other beats in
    both: prices never fall with time, hence nothing else can be part of a best sequence. A label
    is dropped when its cost and the least that the other drops can still add reach ``known_cost``,
    the cost of the sequence ``known``, which is returned when nothing is cheaper.
    """
    out, between, cost, late_curve, riding, service = doors
    n = out.size
    full = (1 << n) - 1
    nearest, timed = _nearest(doors), cost[:, _DELAY:].any()
    least_ride = _least_ride(doors, nearest)
    labels, links = np.empty((1024, 2)), np.empty((1024, 3), np.int64)
    newest = np.full(n << n, _NONE, np.int64)
    best, best_label, count = known_cost, _NONE, 0
    for made in range(full):
        for last in range(n) if made else range(1):
            label = newest[made * n + last] if made else _STORE
            while label != _NONE:
                since = leave if label == _STORE else labels[label, _AT] + service
                spent = 0.0 if label == _STORE else labels[label, _PAID]
                for drop in range(n):
                    if made >> drop & 1 or not spent < best:
                        continue
                    leg = out[drop] if label == _STORE else between[last, drop]
                    at = since + leg
                    paid = spent + riding * leg + price(cost[drop], late_curve, at + service / 2)
                    now_made = made | 1 << drop
                    state = now_made * n + drop
                    least = paid + least_ride[now_made]
                    if not least < best - 1e-9 or _beaten(newest, labels, links, state, at, paid):
                        continue
                    if timed:
                        least += _least_delay(cost, late_curve, service, nearest, now_made, at)
                        if not least < best - 1e-9:
                            continue
                    if count == labels.shape[0]:
                        labels, links = _wider(labels), _wider(links)
                    labels[count, _AT], labels[count, _PAID] = at, paid
                    links[count, _STATE], links[count, _BEFORE] = state, label
                    links[count, _AFTER] = newest[state]
                    newest[state] = count
                    if now_made == full:
                        best, best_label = paid, count
                    count += 1
                label = links[label, _AFTER] if label >= 0 else _NONE
    sequence = known if best_label < 0 else _way_to(links, best_label, n)
    return sequence, cost_of(doors, leave, 1.0, sequence, np.inf)


@njit(cache=True)
def _nearest(doors: Doors) -> Floats:
    """Shape (n,): the shortest leg to each door."""
    nearest = doors.out.copy()
    for drop in range(nearest.size):
        for other in range(nearest.size):
            if other != drop:
                nearest[drop] = min(nearest[drop], doors.between[other, drop])
    return nearest


@njit(cache=True)
def _least_ride(doors: Doors, nearest: Floats) -> Floats:
    """Per set of drops made: the least that riding to the others costs."""
    full = (1 << nearest.size) - 1
    least = np.zeros(full + 1)
    for made in range(full):
        for drop in range(nearest.size):
            if not made >> drop & 1:
                least[made] += doors.riding * nearest[drop]
    return least


@njit(cache=True)
def _least_delay(
    cost: Floats, late_curve: float, service: float, nearest: Floats, made: int, at: float
) -> float:
    """The least that delivering the others costs, each as the next after the door of ``at``."""
    least = 0.0
    for drop in range(nearest.size):
        if not made >> drop & 1:
            least += price(cost[drop], late_curve, at + service * 1.5 + nearest[drop])
    return least


@njit(cache=True)
def _beaten(newest: Ints, labels: Floats, links: Ints, state: int, at: float, paid: float) -> bool:
    """Whether a label of the state is at least as good; those that the new one beats go."""
    label, previous = newest[state], _NONE
    while label != _NONE:
        if labels[label, _AT] <= at and labels[label, _PAID] <= paid:
            return True
        if at <= labels[label, _AT] and paid <= labels[label, _PAID]:
            if previous < 0:
                newest[state] = links[label, _AFTER]
            else:
                links[previous, _AFTER] = links[label, _AFTER]
        else:
            previous = label
        label = links[label, _AFTER]
    return False


@njit(cache=True)
def _wider(rows):  # type: ignore[no-untyped-def]  # compiled for two types of array
    """The same rows, with room for as many again."""
    return np.concatenate((rows, np.empty_like(rows)))


@njit(cache=True)
def _way_to(links: Ints, label: int, drops: int) -> Ints:
    sequence = np.empty(drops, np.int64)
    for position in range(drops - 1, -1, -1):
        sequence[position] = links[label, _STATE] % drops
        label = links[label, _BEFORE]
    return sequence


@njit(cache=True)
def price_bundles(
    doors: Doors,
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
    shift. half: half a pickup service. Returns arrays of shape (b, r); the cost is infinite where
    the handover would be after the shift.
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
                    total = cost_of(doors, handover + half, factor, sequence, best)
                    if total < best:
                        best, best_at = total, p
            chosen[b, r] = best_at
            found[b, r] = best + doors.riding * ride
    return found, chosen
