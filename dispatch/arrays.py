"""The world and a solution of it as flat arrays, in the form that `dispatch.kernel` works on."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Flags = NDArray[np.uint8]
Floats = NDArray[np.float64]
Legs = NDArray[np.float32]


class World(NamedTuple):
    """What does not change while the search runs: n orders, m riders, s stores; seconds.

    store, ready, placed, earliest, promised, weight, late, price: per order; nobody sets out for
    it before ``placed`` (no bound but for ghosts), ``earliest`` is the delivery that no dispatcher
    could beat, ``weight`` scales all its cost (1, or less for a ghost), ``late`` the price of a
    late second, ``price`` that of leaving it out altogether.
    loads (n, 3): grams, millilitres, cash. ghost: 1 for an order that nobody placed yet;
    aboard: 1 for one on a current trip.
    half: half a pickup service per store. leave, end, factor: per rider, when he can set out, the
    last pickup, the travel factor. capacity (m, 4): orders, grams, millilitres, cash a trip.
    fixed: orders of the trip that he has already, the first of his route; arrives: when he is at
    its door; grows: whether orders may join it. allowed (n, m): nothing forbids the pair.
    start_store (m, s): from where the rider starts; store_order (s, n): from order to store;
    order_order (n, n), store_store (s, s), direct (n,) from the store: travel at the matrix's own
    pace. first (m, s): small price of starting there, a tie-break.
    """

    now: float
    service: float
    delay_weight: float
    late_curve: float
    ride_weight: float
    store: Ints
    ready: Floats
    placed: Floats
    earliest: Floats
    promised: Floats
    weight: Floats
    late: Floats
    price: Floats
    loads: Floats
    ghost: Flags
    aboard: Flags
    half: Floats
    leave: Floats
    end: Floats
    factor: Floats
    capacity: Floats
    fixed: Ints
    arrives: Floats
    grows: Flags
    allowed: Flags
    start_store: Legs
    store_order: Legs
    order_order: Legs
    store_store: Legs
    direct: Legs
    first: Legs


class Routes(NamedTuple):
    """A solution: per rider a row of orders. Shapes (m, width), then (m,), and owner (n,).

    head: 1 where a trip starts. pick: the trip's handover. done: when the rider leaves the door.
    paid: cost of that order. size: orders of the route. last, free: its last order, -1 for none,
    and when the rider leaves that door. cost: of the whole route. owner: rider of the order or -1.
    """

    order: Ints
    head: Flags
    pick: Floats
    done: Floats
    paid: Floats
    size: Ints
    last: Ints
    free: Floats
    cost: Floats
    owner: Ints


def empty_routes(orders: int, riders: int, width: int) -> Routes:
    return Routes(
        order=np.full((riders, width), -1, np.int32),
        head=np.zeros((riders, width), np.uint8),
        pick=np.zeros((riders, width)),
        done=np.zeros((riders, width)),
        paid=np.zeros((riders, width)),
        size=np.zeros(riders, np.int32),
        last=np.full(riders, -1, np.int32),
        free=np.zeros(riders),
        cost=np.zeros(riders),
        owner=np.full(orders, -1, np.int32),
    )


def spans(routes: Routes, rider: int) -> list[tuple[int, int]]:
    """Begin and end of each trip in a rider's row."""
    size = int(routes.size[rider])
    heads = [at for at in range(size) if routes.head[rider, at]]
    return list(pairwise([*heads, size]))


class Scratch(NamedTuple):
    """Working memory of the search: per order, then per rider."""

    out: Ints
    was: Ints
    key: Floats
    distance: Floats
    stamp: Ints
    touched: Ints
    ruined: Ints


def scratch(orders: int, riders: int) -> Scratch:
    return Scratch(
        out=np.empty(orders, np.int32),
        was=np.empty(orders, np.int32),
        key=np.empty(orders),
        distance=np.empty(orders),
        stamp=np.empty(riders, np.int32),
        touched=np.empty(riders, np.int32),
        ruined=np.empty(riders, np.int32),
    )
