"""Who wants what, where and when: a day's demand from a seed.  Pure.

Nothing here depends on what the server answers or on how fast time runs: each order is drawn from
a generator of its own, keyed by the seed and the order's number, so the same seed, streets, stores
and catalogue give the same demand to the byte (``Demand.digest``).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Final

import numpy as np

from geo.distances import LocalProjection, Point
from geo.roads import RoadGraph

HOUR_S: Final = 3600.0

# A town's orders over a stretch: a level, a lunch peak and a higher evening peak (share of the
# stretch where it is, how wide, how high).  Scaled to mean 1, so a rate is a rate.
_LEVEL: Final = 1.0
_PEAKS: Final = ((0.30, 0.10, 0.45), (0.72, 0.13, 0.70))
_SHAPE_STEPS: Final = 2_000

# Homes stand around the stores, the fewer the farther; districts differ by a factor of about 4.
_NEIGHBOURHOOD_M: Final = 1_300.0
_FURTHEST_M: Final = 2_600.0
_DISTRICT_M: Final = 600.0
_DISTRICT_SPREAD: Final = 0.7

# Popularity of the k-th product of a category's list is 1 / (k + 1) ** exponent.
_ZIPF_EXPONENT: Final = 0.8

PAYMENTS: Final[Sequence[tuple[str, str | None, float]]] = (
    ("upi", "tok_ok", 0.50),
    ("card", "tok_ok", 0.25),
    ("wallet", "tok_ok", 0.08),
    ("cod", None, 0.11),
    ("card", "tok_declined", 0.02),
    ("card", "tok_insufficient_funds", 0.005),
    ("upi", "tok_slow", 0.01),
    ("card", "tok_timeout_charged", 0.005),
    ("card", "tok_timeout_failed", 0.005),
    ("upi", "tok_duplicate_webhook", 0.015),
)


@dataclass(frozen=True, slots=True)
class Product:
    """A product as far as demand knows it.  ``key`` is the same in every seeding of a catalogue."""

    key: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where people live: street nodes [n] and their cumulated weights [n], the last one 1."""

    nodes: tuple[int, ...]
    points: tuple[Point, ...]
    cumulated: tuple[float, ...]

    def draw(self, u: float) -> int:
        """The index of a place for ``u`` in [0, 1)."""
        return min(bisect_left(self.cumulated, u), len(self.nodes) - 1)


@dataclass(frozen=True, slots=True)
class Line:
    """``product`` is an index into the catalogue of ``Demand``."""

    product: int
    quantity: int


@dataclass(frozen=True, slots=True)
class DemandedOrder:
    """One wish.  Times are virtual seconds; ``at_s`` counts from the start of the day."""

    n: int
    at_s: float
    place: int
    lat: float
    lon: float
    lines: tuple[Line, ...]
    method: str
    token: str | None
    registered: bool
    pages: int
    uses_cart: bool
    tip_minor: int
    cancel_after_s: float | None
    tracks: bool
    drops_socket: int
    at_home: bool
    door_s: float
    stars: int | None


@dataclass(frozen=True, slots=True)
class Habits:
    """Shares of customers who do a thing."""

    registered: float = 0.15
    cart: float = 0.25
    cancel: float = 0.04
    tracks: float = 0.8
    drops_socket: float = 0.15
    away: float = 0.01
    rates: float = 0.35
    tips: float = 0.3


@dataclass(frozen=True)
class Demand:
    """Orders from time 0 on.  ``stretch_s`` is the stretch over which the peaks lie.

    Raises ValueError without places or products, or for a rate that is not above 0.
    """

    seed: int
    places: Places
    products: Sequence[Product]
    orders_per_hour: float = 300.0
    stretch_s: float = HOUR_S
    habits: Habits = field(default_factory=Habits)

    def __post_init__(self) -> None:
        if not (self.places.nodes and self.products):
            raise ValueError("demand needs at least one place and one product")
        if not (self.orders_per_hour > 0 and self.stretch_s > 0):
            raise ValueError("demand needs a rate and a stretch above 0")

    def orders(self, until_s: float = math.inf) -> Iterator[DemandedOrder]:
        """The orders before ``until_s``, by time."""
        shelves = _Shelves(self.products)
        for n, at_s in enumerate(self.arrivals(until_s)):
            yield self._order(n, at_s, shelves)

    def arrivals(self, until_s: float = math.inf) -> Iterator[float]:
        """Arrival times: an inhomogeneous Poisson process by thinning (Lewis and Shedler, 1979)."""
        rng = random.Random(f"{self.seed}:arrivals")
        mean_rate = self.orders_per_hour / HOUR_S
        highest = mean_rate * _HIGHEST
        at_s = 0.0
        while True:
            at_s -= math.log(1.0 - rng.random()) / highest
            if at_s >= until_s:
                return
            rate = mean_rate * shape(at_s / self.stretch_s)
            if rng.random() * highest < rate:
                yield at_s

    def digest(self, until_s: float) -> str:
        """SHA-256 of every order before ``until_s``, products by their keys."""
        hasher = hashlib.sha256()
        for order in self.orders(until_s):
            hasher.update(self.as_bytes(order))
        return hasher.hexdigest()

    def as_bytes(self, order: DemandedOrder) -> bytes:
        """An order as canonical JSON; node numbers and times rounded to what matters."""
        record: dict[str, object] = asdict(order)
        record["at_s"] = round(order.at_s, 3)
        record["lines"] = [[self.products[x.product].key, x.quantity] for x in order.lines]
        return json.dumps(record, sort_keys=True).encode() + b"\n"

    def _order(self, n: int, at_s: float, shelves: _Shelves) -> DemandedOrder:
        rng = random.Random(f"{self.seed}:order:{n}")
        habits = self.habits
        place = self.places.draw(rng.random())
        point = self.places.points[place]
        method, token = _payment(rng.random())
        cancels = rng.random() < habits.cancel
        return DemandedOrder(
            n=n,
            at_s=at_s,
            place=place,
            lat=round(point.lat, 6),
            lon=round(point.lon, 6),
            lines=_basket(rng, shelves),
            method=method,
            token=token,
            registered=rng.random() < habits.registered,
            pages=1 + int(rng.random() * 2),
            uses_cart=rng.random() < habits.cart,
            tip_minor=rng.choice((1_000, 2_000, 3_000)) if rng.random() < habits.tips else 0,
            cancel_after_s=round(rng.uniform(5.0, 600.0), 1) if cancels else None,
            tracks=rng.random() < habits.tracks,
            drops_socket=rng.randint(1, 4) if rng.random() < habits.drops_socket else 0,
            at_home=rng.random() >= habits.away,
            door_s=round(rng.uniform(10.0, 60.0), 1),
            stars=_stars(rng) if rng.random() < habits.rates else None,
        )


def shape(share: float) -> float:
    """How busy it is after this share of a stretch, on average 1; stretches repeat."""
    return _raw_shape(share % 1.0) / _MEAN


def _raw_shape(share: float) -> float:
    return _LEVEL + sum(
        height * math.exp(-(((share - middle) / width) ** 2)) for middle, width, height in _PEAKS
    )


_MEAN: Final = sum(_raw_shape((i + 0.5) / _SHAPE_STEPS) for i in range(_SHAPE_STEPS)) / _SHAPE_STEPS
_HIGHEST: Final = 1.01 * max(shape(i / _SHAPE_STEPS) for i in range(_SHAPE_STEPS))


class _Shelves:
    """Products by category, and what makes each likely; built once a run."""

    def __init__(self, products: Sequence[Product]) -> None:
        by_category: dict[str, list[int]] = {}
        for index, product in enumerate(products):
            by_category.setdefault(product.categories[0] if product.categories else "", []).append(
                index
            )
        self.categories = sorted(by_category)
        self._members = [by_category[name] for name in self.categories]
        # A category with more products sells more, but not in proportion.
        self._category_cumulated = list(accumulate(math.sqrt(len(m)) for m in self._members))
        self._zipf = [
            list(accumulate((k + 1) ** -_ZIPF_EXPONENT for k in range(len(m))))
            for m in self._members
        ]

    def draw(self, rng: random.Random) -> int:
        """A product: first its category, then its rank in the category's list."""
        category = _draw(self._category_cumulated, rng.random())
        return self._members[category][_draw(self._zipf[category], rng.random())]


def _draw(cumulated: Sequence[float], u: float) -> int:
    return min(bisect_left(cumulated, u * cumulated[-1]), len(cumulated) - 1)


def _basket(rng: random.Random, shelves: _Shelves) -> tuple[Line, ...]:
    """Mostly a few things: 1 + a geometric number of lines, 10 at most, each product once."""
    wanted = 1
    while wanted < 10 and rng.random() < 0.68:
        wanted += 1
    chosen: dict[int, int] = {}
    for _ in range(wanted):
        chosen.setdefault(shelves.draw(rng), rng.choices((1, 2, 3, 4), (70, 20, 7, 3))[0])
    return tuple(Line(product, quantity) for product, quantity in chosen.items())


def _payment(u: float) -> tuple[str, str | None]:
    for method, token, share in PAYMENTS:
        if u < share:
            return method, token
        u -= share
    return PAYMENTS[0][0], PAYMENTS[0][1]


def _stars(rng: random.Random) -> int:
    return rng.choices((1, 2, 3, 4, 5), (3, 4, 10, 30, 53))[0]


def places_around(roads: RoadGraph, stores: Sequence[Point], seed: int) -> Places:
    """Homes at the street nodes around stores, weighted by distance and by district.

    Raises ValueError if no street is near a store.
    """
    if not stores:
        raise ValueError("a city without stores has no demand")
    projection = LocalProjection(stores[0])
    metres = projection.to_metres(roads.lat, roads.lon)
    at = projection.to_metres([s.lat for s in stores], [s.lon for s in stores])
    nearest_m = np.min(np.linalg.norm(metres[:, None, :] - at[None, :, :], axis=2), axis=1)
    near = np.flatnonzero(nearest_m <= _FURTHEST_M)
    if not near.size:
        raise ValueError("no street is near a store")
    weight = np.exp(-((nearest_m[near] / _NEIGHBOURHOOD_M) ** 2))
    district = np.floor(metres[near] / _DISTRICT_M).astype(int).tolist()
    liveliness: dict[tuple[int, int], float] = {}
    factors = []
    for x, y in district:
        if (x, y) not in liveliness:
            draw = random.Random(f"{seed}:district:{x}:{y}").gauss(0.0, _DISTRICT_SPREAD)
            liveliness[x, y] = math.exp(draw)
        factors.append(liveliness[x, y])
    # Nodes crowd where streets bend: each district shares its weight among its own.
    counts: dict[tuple[int, int], int] = {}
    for x, y in district:
        counts[x, y] = counts.get((x, y), 0) + 1
    crowding = np.array([math.sqrt(counts[x, y]) for x, y in district])
    cumulated = np.cumsum(weight * np.array(factors) / crowding)
    return Places(
        nodes=tuple(near.tolist()),
        points=tuple(roads.points_along(near.tolist())),
        cumulated=tuple((cumulated / cumulated[-1]).tolist()),
    )


def catalogue_of(listing: Sequence[Mapping[str, object]]) -> tuple[list[Product], list[str]]:
    """Products in the order of their names, and their sku ids, from a store's listing."""
    keyed = []
    for item in listing:
        key = (str(item["name"]), str(item["unit"]), str(item["brand"] or ""))
        categories = item["categories"]
        names = tuple(str(c) for c in categories) if isinstance(categories, list) else ()
        keyed.append((key, str(item["sku_id"]), names))
    keyed.sort()
    return [Product(key, names) for key, _, names in keyed], [sku for _, sku, _ in keyed]
