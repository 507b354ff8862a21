"""Routes and what can be done to them, compiled: times, insertions, removals.

A *route* is the sequence of orders that one rider will deliver, cut into trips: each trip has one
store, one pickup for all its orders, and then its drop-offs. Everything is a flat array, so that
one epoch costs milliseconds. Importing this module imports numba, so only `dispatch.rolling` does,
late.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dispatch.arrays import Ints, Routes, World

# Without numba's reference counts (nothing here allocates): counting the forty arrays of the two
# tuples at each call made every iteration ten times as slow.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}
_F = TypeVar("_F", bound=Callable[..., Any])

State = NDArray[np.uint64]

# Riders who set out later than this may be too late for an order: worth a look.
FAR_S = 900.0


def compiled(function: _F) -> _F:
    return cast(_F, njit(**_OPTIONS)(function))


def inlined(function: _F) -> _F:
    return cast(_F, njit(**_OPTIONS, forceinline=True)(function))


@inlined
def draw(state: State) -> float:
    """The next of xorshift64*, as a float in [0, 1)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    bits = (x * np.uint64(2685821657736338717)) >> np.uint64(11)
    return float(bits * (1.0 / 9007199254740992.0))


@inlined
def below(state: State, n: int) -> int:
    return min(int(draw(state) * n), n - 1)


@inlined
def _delivered(w: World, o: int, at: float) -> float:
    """What it costs that order ``o`` is handed over at ``at``."""
    cost = w.delay_weight * max(0.0, at - w.earliest[o])
    late = at - w.promised[o]
    if late > 0.0:
        cost += w.late[o] * (late + late * late * w.late_curve)
    return float(cost * w.weight[o])


@compiled
def schedule(w: World, s: Routes, r: int) -> float:
    """Times and costs of rider ``r``'s route, into ``s``; infinite when not allowed."""
    n = s.size[r]
    t = w.leave[r]
    f = w.factor[r]
    prev = -1
    total = 0.0
    k = 0
    s.cost[r] = np.inf
    s.last[r] = s.order[r, n - 1] if n > 0 else -1
    s.free[r] = t
    while k < n:
        e = k + 1
        while e < n and s.head[r, e] == 0:
            e += 1
        current = k == 0 and w.fixed[r] > 0
        store = w.store[s.order[r, k]]
        half = w.half[store]
        if current:
            door = w.arrives[r]
        else:
            leg = f * (w.start_store[r, store] if prev < 0 else w.store_order[store, prev])
            placed = np.inf
            for j in range(k, e):
                placed = min(placed, w.placed[s.order[r, j]])
            door = max(t, placed) + leg
            total += w.ride_weight * leg
        if prev < 0:
            total += w.first[r, store]
        pickup = max(door + half, w.now)
        for j in range(k, e):
            pickup = max(pickup, w.ready[s.order[r, j]])
        if not (pickup <= w.end[r]) and not (current and e - k == w.fixed[r]):
            return np.inf
        t = pickup + half
        for j in range(k, e):
            o = int(s.order[r, j])
            leg = f * (w.direct[o] if j == k else w.order_order[prev, o])
            t += leg
            s.paid[r, j] = _delivered(w, o, t + w.service / 2)
            total += s.paid[r, j] + w.ride_weight * leg
            t += w.service
            s.done[r, j] = t
            s.pick[r, j] = pickup
            prev = o
        k = e
    s.free[r] = t
    if total != total:
        return np.inf
    s.cost[r] = total
    return total


@inlined
def _tail(w: World, s: Routes, r: int, k: int, t: float, prev: int, limit: float) -> float:
    """What changes in the trips from position ``k`` on when the rider leaves ``prev`` at ``t``."""
    n = s.size[r]
    f = w.factor[r]
    if k >= n:
        return 0.0
    store = w.store[s.order[r, k]]
    old = w.start_store[r, store] if k == 0 else w.store_order[store, s.order[r, k - 1]]
    delta = w.ride_weight * f * (w.store_order[store, prev] - old)
    if k == 0:
        delta -= w.first[r, store]
    while k < n:
        store = w.store[s.order[r, k]]
        ready, placed = w.now, np.inf
        e = k
        while e < n and (e == k or s.head[r, e] == 0):
            ready = max(ready, w.ready[s.order[r, e]])
            placed = min(placed, w.placed[s.order[r, e]])
            e += 1
        pickup = max(max(t, placed) + f * w.store_order[store, prev] + w.half[store], ready)
        if pickup > w.end[r]:
            return np.inf
        shift = pickup - s.pick[r, k]
        if abs(shift) < 1e-6:
            return float(delta)
        for j in range(k, e):
            at = s.done[r, j] + shift - w.service / 2
            delta += _delivered(w, int(s.order[r, j]), at) - s.paid[r, j]
        if delta >= limit:
            return np.inf
        t = s.done[r, e - 1] + shift
        prev = int(s.order[r, e - 1])
        k = e
    return float(delta)


@inlined
def _alone(w: World, s: Routes, r: int, k: int, t: float, prev: int, o: int, limit: float) -> float:
    """Added cost of order ``o`` as a trip of its own before position ``k``."""
    store = w.store[o]
    f = w.factor[r]
    half = w.half[store]
    leg = f * (w.start_store[r, store] if prev < 0 else w.store_order[store, prev])
    pickup = max(max(t, w.placed[o]) + leg + half, w.now, w.ready[o])
    if pickup > w.end[r]:
        return np.inf
    at = pickup + half + f * w.direct[o] + w.service / 2
    own = _delivered(w, o, at) + w.ride_weight * (leg + f * w.direct[o])
    if prev < 0:
        own += w.first[r, store]
    if own >= limit:
        return np.inf
    return float(own + _tail(w, s, r, k, at + w.service / 2, o, limit - own))


@inlined
def _joined(w: World, s: Routes, r: int, a: int, e: int, p: int, o: int, limit: float) -> float:
    """Added cost of order ``o`` at position ``p`` of the trip that spans ``a`` to ``e``."""
    f = w.factor[r]
    half = w.half[w.store[o]]
    pickup = max(s.pick[r, a], w.ready[o])
    if pickup > w.end[r]:
        return np.inf
    shift = pickup - s.pick[r, a]
    delta = 0.0
    for j in range(a, p):
        at = s.done[r, j] + shift - w.service / 2
        delta += _delivered(w, int(s.order[r, j]), at) - s.paid[r, j]
    if p == a:
        t = pickup + half
        leg = f * w.direct[o]
    else:
        t = s.done[r, p - 1] + shift
        leg = f * w.order_order[s.order[r, p - 1], o]
    delta += _delivered(w, o, t + leg + w.service / 2) + w.ride_weight * leg
    if delta >= limit:
        return np.inf
    t += leg + w.service
    last = o
    if p < e:
        nxt = s.order[r, p]
        leg = f * w.order_order[o, nxt]
        before = s.done[r, p] - w.service
        delta += w.ride_weight * leg
        if p == a:
            delta -= w.ride_weight * f * w.direct[nxt]
        else:
            delta -= w.ride_weight * f * w.order_order[s.order[r, p - 1], nxt]
        shift = t + leg - before
        for j in range(p, e):
            at = s.done[r, j] + shift - w.service / 2
            delta += _delivered(w, int(s.order[r, j]), at) - s.paid[r, j]
        t = s.done[r, e - 1] + shift
        last = int(s.order[r, e - 1])
    if delta >= limit:
        return np.inf
    return float(delta + _tail(w, s, r, e, t, last, limit - delta))


@inlined
def _fits(w: World, s: Routes, r: int, a: int, e: int, o: int) -> bool:
    """Whether the trip that spans ``a`` to ``e`` has room for order ``o``."""
    if e - a + 1 > w.capacity[r, 0]:
        return False
    for c in range(3):
        load = w.loads[o, c]
        for j in range(a, e):
            load += w.loads[s.order[r, j], c]
        if load > w.capacity[r, c + 1] and not (c == 2 and load == 0.0):
            return False
    return True


@compiled
def cheapest(
    w: World, s: Routes, o: int, limit: float, blink: float, state: State, low: int, high: int
) -> tuple[float, int, int, int]:
    """The cheapest way to insert order ``o``, if it costs less than ``limit``.

    low, high: the riders to look at, as a range. Returns (cost, rider, position, how), in the form
    of `put`; rider -1 when there is no way. With probability ``blink`` a place is not looked at.
    """
    best = limit
    rider, position, joins = -1, 0, 0
    store = w.store[o]
    width = s.order.shape[1]
    tail_s = w.half[store] + w.service / 2
    far = w.now + FAR_S
    # At the end of a route an order moves nobody else: exact and cheap, so later looks end early.
    for r in range(low, high):
        n = s.size[r]
        if n == 0 and w.leave[r] > far and _delivered(w, o, w.leave[r] + tail_s) >= best:
            # Riders without a trip are sorted by when they set out: all that follow come too late.
            high = r
            break
        if w.allowed[o, r] == 0 or n >= width:
            continue
        f = w.factor[r]
        last = s.last[r]
        if last < 0:
            leg = f * w.start_store[r, store]
            t = max(w.leave[r], w.placed[o]) + leg
            cost = w.first[r, store] + 0.0
        else:
            leg = f * w.store_order[store, last]
            t = max(s.free[r], w.placed[o]) + leg
            cost = 0.0
        pickup = max(t + w.half[store], w.now, w.ready[o])
        if pickup > w.end[r]:
            continue
        ride = f * w.direct[o]
        cost += _delivered(w, o, pickup + tail_s + ride) + w.ride_weight * (leg + ride)
        if cost < best and (blink == 0.0 or draw(state) >= blink):
            best, rider, position, joins = cost, r, n, 0
    for r in range(low, high):
        n = s.size[r]
        if n == 0 or w.allowed[o, r] == 0 or n >= width:
            continue
        k = 0
        t = w.leave[r]
        prev = -1
        least = tail_s + w.factor[r] * w.direct[o]
        while k < n:
            if _delivered(w, o, max(t, w.ready[o]) + least) >= best or t > w.end[r]:
                # Whatever comes later in this route is later still.
                if not (k == 0 and w.fixed[r] > 0):
                    break
            elif not (k == 0 and w.fixed[r] > 0):
                cost = _alone(w, s, r, k, t, prev, o, best)
                if cost < best and (blink == 0.0 or draw(state) >= blink):
                    best, rider, position, joins = cost, r, k, 0
            e = k + 1
            while e < n and s.head[r, e] == 0:
                e += 1
            if (
                w.store[s.order[r, k]] == store
                and (k > 0 or w.fixed[r] == 0 or w.grows[r] == 1)
                and _fits(w, s, r, k, e, o)
            ):
                for p in range(k, e + 1):
                    cost = _joined(w, s, r, k, e, p, o, best)
                    if cost < best and (blink == 0.0 or draw(state) >= blink):
                        best, rider, position, joins = cost, r, p, 2 if p == k else 1
            t = s.done[r, e - 1]
            prev = int(s.order[r, e - 1])
            k = e
    return best, rider, position, joins


@compiled
def put(w: World, s: Routes, r: int, p: int, o: int, joins: int) -> float:
    """Insert order ``o`` at position ``p``: as a trip (0), into one (1), or at its start (2)."""
    n = s.size[r]
    for j in range(n, p, -1):
        s.order[r, j] = s.order[r, j - 1]
        s.head[r, j] = s.head[r, j - 1]
    s.order[r, p] = o
    s.head[r, p] = 0 if joins == 1 else 1
    if joins == 2:
        s.head[r, p + 1] = 0
    s.size[r] = n + 1
    s.owner[o] = r
    return schedule(w, s, r)


@inlined
def take_out(s: Routes, r: int, p: int) -> None:
    """Remove the order at position ``p`` without new times."""
    n = s.size[r]
    s.owner[s.order[r, p]] = -1
    if s.head[r, p] == 1 and p + 1 < n and s.head[r, p + 1] == 0:
        s.head[r, p + 1] = 1
    for j in range(p, n - 1):
        s.order[r, j] = s.order[r, j + 1]
        s.head[r, j] = s.head[r, j + 1]
    s.size[r] = n - 1


@inlined
def copy_row(a: Routes, b: Routes, r: int) -> None:
    n = a.size[r]
    b.size[r] = n
    b.cost[r] = a.cost[r]
    b.last[r] = a.last[r]
    b.free[r] = a.free[r]
    for j in range(n):
        b.order[r, j] = a.order[r, j]
        b.head[r, j] = a.head[r, j]
        b.pick[r, j] = a.pick[r, j]
        b.done[r, j] = a.done[r, j]
        b.paid[r, j] = a.paid[r, j]


@compiled
def copy(a: Routes, b: Routes) -> None:
    for r in range(a.size.size):
        copy_row(a, b, r)
    for o in range(a.owner.size):
        b.owner[o] = a.owner[o]


@compiled
def objective(w: World, s: Routes) -> float:
    """Cost of all routes and of all orders that are on none."""
    total = 0.0
    for r in range(s.size.size):
        total += s.cost[r]
    for o in range(s.owner.size):
        if s.owner[o] < 0:
            total += w.price[o]
    return total


@compiled
def shorten(w: World, s: Routes, r: int) -> None:
    """Take orders off the end of a route until it is allowed; those of a current trip stay."""
    while not schedule(w, s, r) < np.inf and s.size[r] > w.fixed[r]:
        p = s.size[r] - 1
        while p > 0 and w.aboard[s.order[r, p]] == 1:
            p -= 1
        if w.aboard[s.order[r, p]] == 1:
            return
        take_out(s, r, p)


@compiled
def shorten_all(w: World, s: Routes) -> None:
    for r in range(s.size.size):
        shorten(w, s, r)


@compiled
def take_ghosts_out(w: World, s: Routes) -> None:
    """Routes without expected orders; where no way is left without them, orders go as well."""
    for r in range(s.size.size):
        n = s.size[r]
        for p in range(n - 1, -1, -1):
            if w.ghost[s.order[r, p]] == 1:
                take_out(s, r, p)
        if s.size[r] < n:
            shorten(w, s, r)


@compiled
def second_choice(
    w: World, s: Routes, spare: Routes, rows: Ints, mine: int, state: State
) -> tuple[float, int]:
    """What the orders ``rows`` would add to the cheapest rider other than ``mine``, and who."""
    least = np.inf
    rider = -1
    for r in range(s.size.size):
        if r == mine:
            continue
        copy_row(s, spare, r)
        total = 0.0
        for i in range(rows.size):
            o = int(rows[i])
            cost, at, p, how = cheapest(w, s, o, least - total, 0.0, state, r, r + 1)
            if at < 0:
                total = np.inf
                break
            total += cost
            put(w, s, r, p, o, how)
        copy_row(spare, s, r)
        if total < least:
            least, rider = total, r
    for i in range(rows.size):
        s.owner[rows[i]] = mine
    return least, rider


@compiled
def fill(w: World, s: Routes, rows: Ints, state: State) -> None:
    """Insert the orders of ``rows`` greedily, in their sequence."""
    for i in range(rows.size):
        o = int(rows[i])
        _cost, r, p, joins = cheapest(w, s, o, w.price[o], 0.0, state, 0, s.size.size)
        if r >= 0:
            put(w, s, r, p, o, joins)
