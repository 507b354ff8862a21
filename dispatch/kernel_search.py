"""Ruin and recreate over the routes of `dispatch.kernel`, compiled.

SISR (Christiaens & Vanden Berghe, 2020): take out short strings of orders that lie near each other,
insert them again greedily with now and then a blind eye, keep the result by simulated annealing.
Importing this module imports numba.
"""

import numpy as np

from dispatch.arrays import Flags, Ints, Routes, Scratch, World
from dispatch.kernel import (
    State,
    below,
    cheapest,
    compiled,
    copy,
    copy_row,
    draw,
    inlined,
    objective,
    put,
    schedule,
    take_out,
)

# A place for an order is passed over with this probability, so that greed finds other ways.
BLINK = 0.01
# Ghosts that nobody brings are many and matter little: a few are tried again, now and then.
GHOSTS_A_ROUND = 3
GHOST_CHANCE = 0.1


@inlined
def _near(w: World, seed: int, o: int) -> float:
    """How little two orders have to do with each other, in seconds."""
    apart = 0.5 * abs(w.ready[seed] - w.ready[o])
    one, other = w.store[seed], w.store[o]
    if one == other:
        return float(apart + 0.5 * w.order_order[seed, o])
    # Orders of two stores meet where one route goes from the door of the one to the other store.
    way = min(w.store_order[other, seed], w.store_order[one, o])
    return float(apart + 0.5 * w.store_store[one, other] + 0.5 * way)


@inlined
def _seed(w: World, s: Routes, seeds: Ints, state: State) -> int:
    """An order around which to ruin: one of ``seeds``, and no ghost that is on no route."""
    seed = int(seeds[below(state, seeds.size)])
    tries = 0
    while w.ghost[seed] == 1 and s.owner[seed] < 0 and tries < 50:
        seed = int(seeds[below(state, seeds.size)])
        tries += 1
    return seed


@inlined
def _keep(s: Routes, spare: Routes, z: Scratch, r: int, iteration: int, touches: int) -> int:
    """Save rider ``r``'s route before its first change in this iteration."""
    if z.stamp[r] == iteration:
        return touches
    z.stamp[r] = iteration
    z.touched[touches] = r
    copy_row(s, spare, r)
    return touches + 1


@inlined
def _take_string(
    s: Routes, z: Scratch, movable: Flags, state: State, around: int, longest: int, outs: int
) -> int:
    """Remove up to ``longest`` neighbours in the route of order ``around``, that one among them."""
    r = int(s.owner[around])
    length = 1 + below(state, min(longest, s.size[r]))
    where = 0
    while s.order[r, where] != around:
        where += 1
    low = max(0, where - length + 1)
    high = min(where, s.size[r] - length)
    p = low + below(state, high - low + 1)
    for _ in range(length):
        o = int(s.order[r, p])
        if movable[o] == 0:
            p += 1
            continue
        z.out[outs] = o
        z.was[outs] = r
        z.distance[o] = np.inf
        outs += 1
        take_out(s, r, p)
    return outs


@inlined
def _ruin(
    w: World,
    s: Routes,
    spare: Routes,
    z: Scratch,
    movable: Flags,
    state: State,
    seed: int,
    iteration: int,
    wanted: int,
    longest: int,
) -> tuple[int, int]:
    """Strings around ``seed`` until ``wanted`` orders are out; returns (orders out, routes)."""
    outs = touches = 0
    for o in range(s.owner.size):
        z.distance[o] = np.inf
        if movable[o] == 1 and s.owner[o] >= 0:
            z.distance[o] = _near(w, seed, o)
    while outs < wanted:
        nearest, least = -1, np.inf
        for o in range(s.owner.size):
            if z.distance[o] < least and z.ruined[s.owner[o]] != iteration:
                nearest, least = o, z.distance[o]
        if nearest < 0:
            break
        r = int(s.owner[nearest])
        z.ruined[r] = iteration
        touches = _keep(s, spare, z, r, iteration, touches)
        outs = _take_string(s, z, movable, state, nearest, longest, outs)
        schedule(w, s, r)
    return outs, touches


@inlined
def _add_left(w: World, s: Routes, z: Scratch, movable: Flags, state: State, outs: int) -> int:
    """Put what nobody brings with the orders that are out; returns how many are out then."""
    ghosts, removed = 0, outs
    for i in range(removed):
        z.distance[z.out[i]] = -1.0
    for o in range(s.owner.size):
        if s.owner[o] >= 0 or movable[o] == 0 or z.distance[o] < 0.0:
            continue
        if w.ghost[o] == 1:
            if ghosts >= GHOSTS_A_ROUND or draw(state) > GHOST_CHANCE:
                continue
            ghosts += 1
        z.out[outs] = o
        z.was[outs] = -1
        outs += 1
    return outs


@inlined
def _arrange(w: World, z: Scratch, state: State, seed: int, outs: int) -> None:
    """Sort what is out: by chance, readiness, length of the way or distance; ghosts mostly last."""
    how = below(state, 8)
    for i in range(outs):
        o = int(z.out[i])
        if how < 3:
            z.key[i] = draw(state)
        elif how < 5:
            z.key[i] = w.ready[o]
        elif how < 6:
            z.key[i] = -w.direct[o]
        elif how < 7:
            z.key[i] = w.direct[o]
        else:
            z.key[i] = -_near(w, seed, o)
        if w.ghost[o] == 1 and how != 0:
            z.key[i] += 1e9
    for i in range(1, outs):
        key, o, was = z.key[i], z.out[i], z.was[i]
        j = i
        while j > 0 and z.key[j - 1] > key:
            z.key[j], z.out[j], z.was[j] = z.key[j - 1], z.out[j - 1], z.was[j - 1]
            j -= 1
        z.key[j], z.out[j], z.was[j] = key, o, was


@compiled
def improve(
    w: World,
    s: Routes,
    best: Routes,
    spare: Routes,
    z: Scratch,
    movable: Flags,
    seeds: Ints,
    state: State,
    hot: float,
    cold: float,
    begin: int,
    stop: int,
    total: int,
    mean_out: float,
    longest: int,
) -> float:
    """Iterations ``begin`` to ``stop`` of ``total``; ``best`` ends no worse than it was.

    s: current solution, best: best known, spare: scratch of the same shape. movable (n,): 1 for
    orders that may move between riders; seeds: rows around which to ruin. hot, cold: first and last
    temperature in cost seconds. mean_out: orders removed a time on average; longest: of one rider.
    Returns the best objective.
    """
    m = s.size.size
    here, least = objective(w, s), objective(w, best)
    for r in range(m):
        z.stamp[r] = -1
        z.ruined[r] = -1
    for iteration in range(begin, stop):
        heat = hot * (cold / hot) ** (iteration / total)
        seed = _seed(w, s, seeds, state)
        wanted = 1 + below(state, int(2 * mean_out) - 1)
        outs, touches = _ruin(w, s, spare, z, movable, state, seed, iteration, wanted, longest)
        outs = _add_left(w, s, z, movable, state, outs)
        _arrange(w, z, state, seed, outs)
        for i in range(outs):
            o = int(z.out[i])
            _cost, r, p, how = cheapest(w, s, o, w.price[o], BLINK, state, 0, m)
            if r >= 0:
                touches = _keep(s, spare, z, r, iteration, touches)
                put(w, s, r, p, o, how)
        there = here
        for i in range(touches):
            there += s.cost[z.touched[i]] - spare.cost[z.touched[i]]
        for i in range(outs):
            o = int(z.out[i])
            if z.was[i] >= 0 and s.owner[o] < 0:
                there += w.price[o]
            elif z.was[i] < 0 and s.owner[o] >= 0:
                there -= w.price[o]
        if there < here - heat * np.log(max(draw(state), 1e-12)):
            here = there
            if here < least - 1e-6:
                least = here
                copy(s, best)
        else:
            for i in range(touches):
                copy_row(spare, s, int(z.touched[i]))
            for i in range(outs):
                s.owner[z.out[i]] = z.was[i]
    return float(least)
