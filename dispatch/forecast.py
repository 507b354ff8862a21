"""The orders that a store may expect in the next minutes, from its own recent hours.

The store's demand is a known shape times an unknown level. The shape ``e(t)`` is the number of
orders that earlier days had at this time of the week, or a constant when nothing is known of
them. The level is Gamma distributed, and what is older counts for less (a discounted
Gamma-Poisson model: A. C. Harvey, C. Fernandes, *Time Series Models for Count or Qualitative
Observations*, Journal of Business & Economic Statistics 7, 1989)::

    w(age) = 2 ** -(age / half_life)                  half_life ~ 1 / sqrt(orders an hour)
    whole  = (k + orders) / (k + integral of e(t))    over the whole window
    a      = k + sum of w over the orders placed      k: orders that the prior counts for
    b      = k / whole + integral of w(age) e(t)
    level  ~ Gamma(a, b)                              mean a / b: an exponentially smoothed rate
    N(h)   ~ NegativeBinomial(a, b / (b + E))         E = integral of e over the next h seconds
    mean   = E a / b,   variance = mean (1 + E / b)

So a store of which little is known has a wide forecast, not a wrong one; what is forgotten fast
still leans on the whole window, and that on the prior. Times are seconds on the
caller's axis. Nothing here is random.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import exp, isfinite, log, log1p, sqrt
from typing import TypeVar

import numpy as np

from dispatch.travel import FloatArray

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastParameters:
    """How fast the past is forgotten and what an unknown store is taken for."""

    # Of a store with 30 orders an hour; it goes with one over the square root of the rate, because
    # a busy store's change shows through the noise sooner. On the 24 public MDRP days the best
    # fixed ones were 900, 1,800 and 2,700 s for a city, a quarter and a ninth of it (about 120, 32
    # and 14 orders an hour); by this rule 800 to 1,200 are within a fiftieth of each other.
    half_life_s: float = 1000.0
    least_half_life_s: float = 300.0
    most_half_life_s: float = 7200.0
    # A store of which nothing is known.
    prior_per_hour: float = 4.0
    # How many orders the prior counts for: after as many real ones it has half a say. 0.5 to 2.0
    # are within one hundredth of each other there.
    prior_orders: float = 0.5
    # Expected orders less likely than this are not told.
    least_chance: float = 0.15
    # From an order to its packed bags where no order tells.
    ready_after_s: float = 240.0

    def __post_init__(self) -> None:
        if min(self.half_life_s, self.prior_per_hour, self.prior_orders) <= 0:
            raise ValueError("half life and prior must be positive")
        if not 0 < self.least_half_life_s <= self.most_half_life_s:
            raise ValueError("the bounds of the half life must be positive and in sequence")
        if not (0 < self.least_chance < 1 and self.ready_after_s >= 0):
            raise ValueError("least_chance is a probability, ready_after_s is not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order of the past. place: its drop-off. ready_after_s: from placing to packed."""

    at_s: float
    place: int = 0
    ready_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """Orders that earlier days had: ``expected[i]`` in the i-th ``step_s`` seconds from start_s.

    It has to cover the past that is handed in and the future that is asked for; outside it, its
    mean counts. Raises ValueError when it is empty, negative or not finite.
    """

    start_s: float
    step_s: float
    expected: FloatArray

    def __post_init__(self) -> None:
        if not (self.expected.size and self.step_s > 0 and np.isfinite(self.expected).all()):
            raise ValueError("a shape needs finite numbers of orders and a positive step")
        if self.expected.min() < 0:
            raise ValueError("a shape must not be negative")

    def floored(self, per_hour: float) -> "Shape":
        """Nowhere below this rate: a quiet Tuesday must not forbid a busy one."""
        least = per_hour * self.step_s / 3600
        return Shape(
            start_s=self.start_s, step_s=self.step_s, expected=np.maximum(self.expected, least)
        )

    def rate(self, at_s: FloatArray) -> FloatArray:
        """Orders a second at these moments."""
        step = np.floor((at_s - self.start_s) / self.step_s)
        inside = (step >= 0) & (step < self.expected.size)
        taken = self.expected[np.clip(step, 0, self.expected.size - 1).astype(np.intp)]
        return np.asarray(np.where(inside, taken, self.expected.mean()) / self.step_s)


# The rate at which ``half_life_s`` counts as it stands.
REFERENCE_PER_HOUR = 30.0
# The past and the future are summed in steps of this many seconds.
STEP_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """A store's demand from ``now_s`` on: Gamma(a, b) times the shape.

    places: drop-offs of its recent orders, newest first, with weights that sum to one.
    ready_after_s: expected seconds from placing to packed.
    """

    store_id: str
    now_s: float
    a: float
    b: float
    shape: Shape | None
    parameters: ForecastParameters
    places: Sequence[tuple[int, float]] = field(default_factory=tuple)
    ready_after_s: float = 0.0

    @property
    def level(self) -> float:
        """How the store does against its shape; 1 is as expected."""
        return self.a / self.b

    def cumulative(self, horizon_s: float) -> tuple[FloatArray, FloatArray]:
        """(seconds from now, expected orders until then) in steps of `STEP_S`, from 0 on."""
        steps = max(1, round(horizon_s / STEP_S))
        middle = np.asarray(self.now_s + (np.arange(steps) + 0.5) * (horizon_s / steps))
        rate = _rates(self.shape, middle, self.parameters)
        expected = np.concatenate([[0.0], np.cumsum(rate) * (horizon_s / steps)])
        return np.linspace(0.0, horizon_s, steps + 1), self.level * expected

    def mean(self, horizon_s: float) -> float:
        """Expected orders in the next ``horizon_s`` seconds."""
        return float(self.cumulative(horizon_s)[1][-1])

    def variance(self, horizon_s: float) -> float:
        """Of that number: above its mean, because the level is not known for sure."""
        mean = self.mean(horizon_s)
        return mean * (1 + mean / self.a)

    def chances(self, horizon_s: float, most: int) -> FloatArray:
        """Shape (most,): the probability of at least 1, 2, … orders in ``horizon_s`` seconds."""
        return at_least(self.a, self.mean(horizon_s), most)

    def quantile(self, horizon_s: float, share: float, most: int = 10_000) -> int:
        """The least number of orders that is not exceeded with probability ``share``."""
        more = self.chances(horizon_s, most)
        return int(np.searchsorted(-more, -(1 - share)))


def at_least(a: float, mean: float, most: int) -> FloatArray:
    """Shape (most,): P(N >= 1), P(N >= 2), … of a negative binomial with ``a`` and this mean.

    Its tail falls from one number to the next, so it sums to at most the mean.
    """
    if mean <= 0:
        return np.zeros(most)
    odds = mean / (a + mean)
    log_mass = a * log1p(-odds)
    mass = np.empty(most)
    for count in range(most):
        mass[count] = exp(log_mass)
        log_mass += log(odds) + log((a + count) / (count + 1))
    return np.clip(1.0 - np.cumsum(mass), 0.0, 1.0)


def forecast_store(
    store_id: str,
    placed: Sequence[Placed],
    now_s: float,
    since_s: float,
    shape: Shape | None = None,
    parameters: ForecastParameters | None = None,
) -> Forecast:
    """The forecast of one store from its orders between ``since_s`` and ``now_s``.

    placed: its orders in any sequence; those outside the window are left out.
    shape: orders of earlier days at this time of the week, None where nothing is known.
    Raises ValueError when the window is not finite or ends before it begins.
    """
    parameters = parameters or ForecastParameters()
    if not (isfinite(now_s) and isfinite(since_s) and since_s <= now_s):
        raise ValueError("the window must be finite and must not end before it begins")
    if shape is not None:
        shape = shape.floored(parameters.prior_per_hour / 4)
    seen = [one for one in placed if since_s <= one.at_s <= now_s]
    seen.sort(key=lambda one: -one.at_s)
    half_life_s = _half_life_s(len(seen), now_s - since_s, parameters)
    weights = decay(np.array([now_s - one.at_s for one in seen]), half_life_s)
    steps = max(1, round((now_s - since_s) / STEP_S))
    width_s = (now_s - since_s) / steps
    middle = np.asarray(since_s + (np.arange(steps) + 0.5) * width_s, dtype=np.float64)
    expected = _rates(shape, middle, parameters) * width_s
    prior = parameters.prior_orders
    whole = (prior + len(seen)) / (prior + float(expected.sum()))
    return Forecast(
        store_id=store_id,
        now_s=now_s,
        a=prior + float(weights.sum()),
        b=prior / whole + float((decay(now_s - middle, half_life_s) * expected).sum()),
        shape=shape,
        parameters=parameters,
        places=_shares_of(seen, weights),
        ready_after_s=_ready_after_s(seen, weights, parameters),
    )


def shares(keys: Sequence[Key], age_s: Sequence[float], half_life_s: float) -> dict[Key, float]:
    """The share of each key (say, the H3 cell of a drop-off), newer ones counting for more.

    They sum to one, or there are none.
    """
    weights = decay(np.asarray(age_s, dtype=np.float64), half_life_s)
    total = float(weights.sum())
    found: dict[Key, float] = {}
    for key, weight in zip(keys, weights.tolist(), strict=True):
        found[key] = found.get(key, 0.0) + weight / total
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ghost:
    """An order that may come. weight: how likely it is. place: where a recent one went."""

    at_s: float
    store_id: str
    place: int
    weight: float
    ready_after_s: float


def expected_orders(
    forecasts: Sequence[Forecast], horizon_s: float, most: int = 200
) -> tuple[Ghost, ...]:
    """The orders that these stores may expect, by time.

    The k-th order of a store is told with the probability that there are k of them, at the time
    when k - 1/2 are expected, at a recent drop-off; those below ``least_chance`` are left out.
    most: the likeliest are kept when there are more. Forecasts without places say nothing.
    """
    found: list[Ghost] = []
    for forecast in forecasts:
        if forecast.places:
            found += _ghosts(forecast, horizon_s, most)
    found.sort(key=lambda ghost: (-ghost.weight, ghost.at_s, ghost.store_id))
    return tuple(sorted(found[:most], key=lambda ghost: (ghost.at_s, ghost.store_id, ghost.place)))


def _ghosts(forecast: Forecast, horizon_s: float, most: int) -> list[Ghost]:
    after_s, cumulative = forecast.cumulative(horizon_s)
    chances = forecast.chances(horizon_s, most)
    told = int((chances >= forecast.parameters.least_chance).sum())
    # Beyond the mean the times are spread on: the last ones come when the level is higher.
    scale = min(1.0, cumulative[-1] / told) if told else 1.0
    times = np.interp((np.arange(told) + 0.5) * scale, cumulative, after_s)
    return [
        Ghost(
            at_s=forecast.now_s + float(times[index]),
            store_id=forecast.store_id,
            place=place,
            weight=float(chances[index]),
            ready_after_s=forecast.ready_after_s,
        )
        for index, place in enumerate(_systematic(forecast.places, told))
    ]


def _half_life_s(orders: int, window_s: float, parameters: ForecastParameters) -> float:
    prior = parameters.prior_orders
    hours = prior / parameters.prior_per_hour + window_s / 3600
    scale = sqrt(REFERENCE_PER_HOUR * hours / (prior + orders))
    return min(
        max(parameters.least_half_life_s, parameters.half_life_s * scale),
        parameters.most_half_life_s,
    )


def _systematic(places: Sequence[tuple[int, float]], count: int) -> list[int]:
    """``count`` places in proportion to their weights: systematic sampling without chance."""
    edges = np.cumsum([weight for _, weight in places])
    # The golden ratio spreads neighbouring picks over the whole range, however few there are.
    picks = (0.5 + np.arange(count) * 0.6180339887498949) % 1.0 * edges[-1]
    return [
        places[min(int(at), len(places) - 1)][0]
        for at in np.searchsorted(edges, picks, side="right")
    ]


def _shares_of(seen: Sequence[Placed], weights: FloatArray) -> tuple[tuple[int, float], ...]:
    total = float(weights.sum())
    if total <= 0:
        return ()
    return tuple((one.place, w / total) for one, w in zip(seen, weights.tolist(), strict=True))


def _ready_after_s(
    seen: Sequence[Placed], weights: FloatArray, parameters: ForecastParameters
) -> float:
    known = [
        (one.ready_after_s, weight)
        for one, weight in zip(seen, weights.tolist(), strict=True)
        if one.ready_after_s is not None
    ]
    # The default counts as one order of this moment, so that a single odd one does not decide.
    total = parameters.ready_after_s + sum(after_s * weight for after_s, weight in known)
    return float(total / (1.0 + sum(weight for _, weight in known)))


def _rates(shape: Shape | None, at_s: FloatArray, parameters: ForecastParameters) -> FloatArray:
    if shape is None:
        return np.full(at_s.shape, parameters.prior_per_hour / 3600)
    return shape.rate(at_s)


def decay(age_s: FloatArray, half_life_s: float) -> FloatArray:
    """What an observation of this age counts for: 1 now, 1/2 after a half life."""
    return np.asarray(np.exp2(-age_s / half_life_s), dtype=np.float64)


def smoothed_mean(
    values: Sequence[float],
    age_s: Sequence[float],
    half_life_s: float,
    *,
    prior_value: float,
    prior_weight: float,
) -> float:
    """A mean in which newer values count for more; the prior counts as so many of this moment."""
    weights = decay(np.asarray(age_s, dtype=np.float64), half_life_s)
    total = prior_value * prior_weight + float((weights * np.asarray(values)).sum())
    return total / (prior_weight + float(weights.sum()))
