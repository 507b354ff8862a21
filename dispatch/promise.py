"""The range of minutes told to a customer before the order exists.

    pick     = base + per_line * lines + per_unit * units
    queue    = (orders ahead) * typical_pick / pickers           (pickers work side by side)
    ready    = queue + pick + pack          (+ no_picker_wait when nobody is on shift)
    shortage = max(0, orders that wait for a rider + 1 - riders free)
    rider    = approach + shortage * expected_rider_wait
    calm     = max(ready, approach)         (goods and rider come together, neither waits twice)
    handover = max(calm + growth, rider)    (growth: what `dispatch.pressure` says riders lack)
    total    = handover + pickup_service + travel + dropoff_service
    sd       = sqrt((handover_cv * handover)^2 + (travel_cv * travel)^2 + door_sd^2)
    low      = total - low_sd * sd, rounded down; high = total + high_sd * sd, rounded up

Both ends grow with every input that costs time, because low_sd * cv stays below one.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseParameters:
    """Seconds of work in a store and how uncertain they are.

    Raises ValueError if the low end could fall while the work grows, or a number is negative.
    """

    # Walking to the first shelf and back to the packing table.
    pick_base_s: float = 40.0
    # From one bin to the next, and its scan.
    pick_line_s: float = 10.0
    # A further unit from the same bin.
    pick_unit_s: float = 2.0
    pack_s: float = 20.0
    # What an order ahead in the queue takes: 5 lines of 1.5 units by the figures above.
    typical_pick_s: float = 125.0
    # Until somebody has been called to the shelves.
    no_picker_wait_s: float = 600.0
    # Coefficients of variation: picking and waiting scatter more than riding.
    handover_cv: float = 0.3
    travel_cv: float = 0.2
    # Lifts, gates, finding the door.
    door_sd_s: float = 30.0
    # About one order in six is faster than the low end, one in ten slower than the high end.
    low_sd: float = 1.0
    high_sd: float = 1.3
    # The steps to which the ends are rounded, and the least distance between them.
    round_s: int = 60
    least_width_s: int = 120

    def __post_init__(self) -> None:
        if self.low_sd * max(self.handover_cv, self.travel_cv) >= 1:
            raise ValueError("low_sd times a coefficient of variation must stay below 1")
        if self.round_s < 1 or any(getattr(self, name) < 0 for name in self.__slots__):
            raise ValueError("promise parameters must not be negative, rounding at least 1 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseInputs:
    """What is known at the time of the quote.

    lines, units: of this basket. orders_ahead: in the store's pick queue. pickers: on shift.
    orders_waiting: packed or not, without a rider, and served by the same riders. riders_free:
    without work. approach_s: a free rider's way to the store. expected_rider_wait_s: mean time
    between two of these riders becoming free. growth_s: how much later than with riders enough an
    order of this store is expected to get one.
    travel_s: store to drop-off. pickup_service_s, dropoff_service_s: at the two doors.
    Raises ValueError for anything negative or not finite.
    """

    lines: int
    units: int
    orders_ahead: int
    orders_waiting: int
    pickers: int
    riders_free: int
    expected_rider_wait_s: float
    travel_s: float
    approach_s: float = 0.0
    growth_s: float = 0.0
    pickup_service_s: float = 45.0
    dropoff_service_s: float = 60.0

    def __post_init__(self) -> None:
        values = [float(getattr(self, name)) for name in self.__slots__]
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError("promise inputs must be finite and not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseRange:
    """Seconds from placing the order to the handover at the door."""

    low_s: int
    high_s: int


DEFAULT_PARAMETERS = PromiseParameters()


def promise(
    inputs: PromiseInputs, parameters: PromiseParameters = DEFAULT_PARAMETERS
) -> PromiseRange:
    """The range for one basket; monotone in every input (see the formula above)."""
    calm_s = max(_ready_s(inputs, parameters), inputs.approach_s)
    handover_s = max(calm_s + inputs.growth_s, _rider_s(inputs))
    total_s = handover_s + inputs.pickup_service_s + inputs.travel_s + inputs.dropoff_service_s
    sd_s = math.hypot(
        parameters.handover_cv * handover_s,
        parameters.travel_cv * inputs.travel_s,
        parameters.door_sd_s,
    )
    step_s = parameters.round_s
    low_s = max(0.0, total_s - parameters.low_sd * sd_s)
    high_s = total_s + parameters.high_sd * sd_s
    low = math.floor(low_s / step_s) * step_s
    high = math.ceil(high_s / step_s) * step_s
    return PromiseRange(low_s=low, high_s=max(high, low + parameters.least_width_s))


def _ready_s(inputs: PromiseInputs, parameters: PromiseParameters) -> float:
    pick_s = (
        parameters.pick_base_s
        + parameters.pick_line_s * inputs.lines
        + parameters.pick_unit_s * inputs.units
    )
    queue_s = inputs.orders_ahead * parameters.typical_pick_s / max(1, inputs.pickers)
    nobody_s = parameters.no_picker_wait_s if inputs.pickers == 0 else 0.0
    return nobody_s + queue_s + pick_s + parameters.pack_s


def _rider_s(inputs: PromiseInputs) -> float:
    """The orders that wait go first; each rider short costs one more interval."""
    shortage = max(0, inputs.orders_waiting + 1 - inputs.riders_free)
    return inputs.approach_s + shortage * inputs.expected_rider_wait_s
