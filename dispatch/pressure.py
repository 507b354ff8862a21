"""Scarcity: how long a new order would wait for a rider, and how many riders are missing.

Each zone (a store, or a city) is a queue with several servers. Riders within reach of the zone
serve it, orders of all zones within reach come before it, nearer ones with more weight::

    weight(t)  = 1 up to near_s of travel, falling in a line to 0 at far_s
    A[k]       = orders waiting + expected orders by step k, weighted, + 1/2
    c[k]       = riders free and on shift at step k, were no more work given out, weighted
    B[k]       = max(B[k-1], min(A[k], B[k-m] + c[k]))        m: steps that an order keeps a rider
    wait[j]    = (first k with B[k] >= A[j]) - j          an order that is placed at step j
    wait       = max(wait[0], mean of wait[j] over the next minutes)

B counts the orders that have got a rider: those started within the last m steps keep as many
riders busy, and the others are free. (The fluid form of a first-come first-served queue with
service times all equal; W. Whitt, *Fluid Models for Multiserver Queues with Abandonments*,
Operations Research 54, 2006.) A, c and m go in monotonically, so more orders, more work for each,
or fewer riders never make a wait shorter.

Riders needed follow the square-root rule (S. Halfin, W. Whitt, *Heavy-Traffic Limits for Queues
with Many Exponential Servers*, Operations Research 29, 1981)::

    load   = work * (orders expected in the next clear_s + orders that wait then) / clear_s
    needed = ceil(load + comfort * sqrt(load))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, isfinite, sqrt

import numpy as np

from dispatch.travel import FloatArray

# Seconds from now for which missing riders are told.
LOOKS_S = (0.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureParameters:
    """How far riders are shared, what counts as enough, and how steadily the promise moves."""

    # A rider closer than this is as good as one at the door; one farther than far_s is none.
    # A quick-commerce city is one pool of riders up to about ten minutes of riding.
    near_s: float = 600.0
    far_s: float = 1500.0
    step_s: float = 30.0
    # Waits longer than this are all the same: nobody should be promised anything.
    horizon_s: float = 5400.0
    # The promise answers for the orders of the next minutes, not for this second alone.
    look_s: float = 600.0
    # A wait that picking and packing hide anyway (145 s by `dispatch.promise`, less the way).
    absorbed_s: float = 60.0
    # The promise grows by at most this, in steps that a customer can see.
    cap_s: float = 1200.0
    round_s: float = 60.0
    # A store whose orders would wait longer takes none for now; again at ``reopen`` of it.
    refuse_above_s: float = 3600.0
    reopen: float = 0.7
    # Time constants: up in about a minute, down in about five, so that it does not flap.
    rise_s: float = 60.0
    fall_s: float = 300.0
    # What is told moves when the smoothed value is this share of a step away from it.
    band: float = 0.75
    # Orders that wait should have a rider within this, and so much is kept against chance.
    clear_s: float = 900.0
    comfort: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.near_s < self.far_s:
            raise ValueError("near_s must be below far_s and not negative")
        if min(self.step_s, self.round_s, self.rise_s, self.fall_s, self.clear_s) <= 0:
            raise ValueError("steps and time constants must be positive")
        if not self.cap_s <= self.refuse_above_s < self.horizon_s - self.look_s:
            raise ValueError("cap_s <= refuse_above_s < horizon_s - look_s must hold")
        if not (0.5 < self.band <= 1 and 0 < self.reopen < 1):
            raise ValueError("band lies in (0.5, 1], reopen between 0 and 1")
        if min(self.absorbed_s, self.comfort, self.cap_s, self.look_s) < 0:
            raise ValueError("pressure parameters must not be negative")


DEFAULT_PARAMETERS = PressureParameters()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZoneDemand:
    """Orders of a zone. waiting: without a rider. after_s, expected: cumulative orders that may
    come until so many seconds from now (`Forecast.cumulative`); later ones come at the same pace.
    """

    zone_id: str
    waiting: float
    after_s: FloatArray
    expected: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RiderSupply:
    """A rider on shift. free_at_s: when the work in hand is done. shift_end_s: no work later."""

    rider_id: str
    free_at_s: float
    shift_end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Supply against demand of a zone, everything weighted by nearness.

    wait_s: of a new order for a rider, 0 .. horizon_s. growth_s: what the promise would have to
    grow by, before smoothing and cap. riders, needed, missing: by seconds from now (`LOOKS_S`).
    """

    zone_id: str
    wait_s: float
    growth_s: float
    waiting: float
    expected: float
    riders: Mapping[float, float]
    needed: Mapping[float, int]
    missing: Mapping[float, int]


def nearness(
    travel_s: FloatArray, parameters: PressureParameters = DEFAULT_PARAMETERS
) -> FloatArray:
    """The weight of a rider (or of another zone's orders) so many seconds away; 0 .. 1.

    Not a number, or infinite: there is no way, and no weight.
    """
    weight = (parameters.far_s - travel_s) / (parameters.far_s - parameters.near_s)
    return np.nan_to_num(np.clip(weight, 0.0, 1.0), nan=0.0)


def balance(
    now_s: float,
    zones: Sequence[ZoneDemand],
    riders: Sequence[RiderSupply],
    rider_near: FloatArray,
    zone_near: FloatArray,
    work_s: float,
    parameters: PressureParameters = DEFAULT_PARAMETERS,
) -> tuple[Balance, ...]:
    """The balance of each zone, in their sequence.

    rider_near: shape (zones, riders), zone_near: shape (zones, zones), weights 0 .. 1 (see
    `nearness`; the diagonal is 1). work_s: rider seconds that an order takes.
    Raises ValueError when shapes disagree or ``work_s`` is not positive.
    """
    if rider_near.shape != (len(zones), len(riders)) or zone_near.shape != (len(zones),) * 2:
        raise ValueError("rider_near is (zones, riders), zone_near is (zones, zones)")
    if not (isfinite(work_s) and work_s > 0):
        raise ValueError("work_s must be positive")
    if not zones:
        return ()
    after_s = np.arange(0.0, parameters.horizon_s + parameters.step_s / 2, parameters.step_s)
    waiting = zone_near @ np.array([zone.waiting for zone in zones])
    coming = zone_near @ np.array([_coming(zone, after_s) for zone in zones])
    free_s = np.array([rider.free_at_s for rider in riders]) - now_s
    end_s = np.array([rider.shift_end_s for rider in riders]) - now_s
    on_shift = (end_s[:, None] > after_s[None, :]).astype(np.float64)
    free = rider_near @ (on_shift * (free_s[:, None] <= after_s[None, :]))
    # Half an order: the new one comes after all that wait, and is not yet there to be waited for.
    orders = waiting[:, None] + coming + 0.5
    begun = _begun(orders, free, max(1, ceil(work_s / parameters.step_s)))
    wait_s = _waits(orders, begun, parameters)
    queued = np.maximum(0.0, orders - 0.5 - begun)
    # At this moment all that wait need a rider, those who have one at hand included.
    queued[:, 0] = waiting
    staff = rider_near @ on_shift
    return tuple(
        _balance(zone.zone_id, *row, after_s=after_s, work_s=work_s, parameters=parameters)
        for zone, row in zip(
            zones,
            zip(wait_s.tolist(), queued, coming, staff, strict=True),
            strict=True,
        )
    )


def _coming(zone: ZoneDemand, after_s: FloatArray) -> FloatArray:
    """Cumulative orders of a zone at each step."""
    last_s, last = float(zone.after_s[-1]), float(zone.expected[-1])
    pace = last / last_s if last_s > 0 else 0.0
    inside = np.interp(after_s, zone.after_s, zone.expected)
    return np.asarray(inside + pace * np.maximum(0.0, after_s - last_s))


def _begun(orders: FloatArray, free: FloatArray, keeps: int) -> FloatArray:
    """B of the recursion above; orders, free: A and c, shape (zones, steps)."""
    begun = np.zeros_like(orders)
    for k in range(orders.shape[1]):
        earlier = begun[:, k - keeps] if k >= keeps else 0.0
        before = begun[:, k - 1] if k else 0.0
        begun[:, k] = np.maximum(before, np.minimum(orders[:, k], earlier + free[:, k]))
    return begun


def _waits(orders: FloatArray, begun: FloatArray, parameters: PressureParameters) -> FloatArray:
    """Shape (zones,): the wait of an order placed now, or the mean of those of the next
    ``look_s`` seconds if that is longer: a queue is told of before it is there.
    """
    looked_at = np.arange(int(parameters.look_s / parameters.step_s) + 1)
    waits = np.empty((orders.shape[0], looked_at.size))
    for row in range(orders.shape[0]):
        # A hair less than A, because the sums are rounded.
        reached = np.searchsorted(begun[row], orders[row, looked_at] - 1e-9)
        waits[row] = np.maximum(0, reached - looked_at)
    return np.asarray(np.maximum(waits[:, 0], waits.mean(axis=1)) * parameters.step_s)


def _balance(
    zone_id: str,
    wait_s: float,
    queued: FloatArray,
    coming: FloatArray,
    staff: FloatArray,
    *,
    after_s: FloatArray,
    work_s: float,
    parameters: PressureParameters,
) -> Balance:
    riders: dict[float, float] = {}
    needed: dict[float, int] = {}
    for look_s in LOOKS_S:
        ends_s = look_s + parameters.clear_s
        orders = np.interp([look_s, ends_s], after_s, coming)
        waiting = float(np.interp(look_s, after_s, queued))
        load = work_s * (float(orders[1] - orders[0]) + waiting) / parameters.clear_s
        riders[look_s] = float(np.interp(look_s, after_s, staff))
        needed[look_s] = ceil(load + parameters.comfort * sqrt(load) - 1e-9)
    return Balance(
        zone_id=zone_id,
        wait_s=wait_s,
        growth_s=max(0.0, wait_s - parameters.absorbed_s),
        waiting=float(queued[0]),
        expected=float(np.interp(LOOKS_S[-1], after_s, coming)),
        riders=riders,
        needed=needed,
        missing={
            look_s: max(0, ceil(needed[look_s] - riders[look_s] - 1e-9)) for look_s in LOOKS_S
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What quotes are told of a zone, and the smoothed value behind it.

    growth_s: seconds that the promise grows by, a multiple of ``round_s`` up to the cap.
    full: the store takes no orders for now.
    """

    at_s: float
    level_s: float
    growth_s: float
    full: bool = False


def settle(
    previous: Told | None,
    growth_s: float,
    now_s: float,
    parameters: PressureParameters = DEFAULT_PARAMETERS,
) -> Told:
    """The next thing to tell, given what was told before and the growth that is needed now.

    Rises and falls exponentially, moves in whole steps with a band around what is told, and never
    leaves 0 .. ``cap_s``. Monotone in ``growth_s`` and in the previous value.
    """
    growth_s = min(max(0.0, growth_s), parameters.horizon_s)
    if previous is None:
        level_s, told_s, full = growth_s, 0.0, False
    else:
        rising = growth_s > previous.level_s
        constant_s = parameters.rise_s if rising else parameters.fall_s
        left = exp(-max(0.0, now_s - previous.at_s) / constant_s)
        level_s = growth_s + (previous.level_s - growth_s) * left
        told_s, full = previous.growth_s, previous.full
    if abs(level_s - told_s) >= parameters.band * parameters.round_s:
        told_s = round(level_s / parameters.round_s) * parameters.round_s
    limit_s = parameters.refuse_above_s * (parameters.reopen if full else 1.0)
    return Told(
        at_s=now_s,
        level_s=level_s,
        growth_s=min(told_s, parameters.cap_s),
        full=level_s >= limit_s,
    )
