"""Seconds until an order is at its door, from where it stands now."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class Stage(StrEnum):
    """Where an order is on its way."""

    PICKING = "picking"
    """Not packed yet; a rider may or may not be on the way."""
    PACKED = "packed"
    """On the shelf, no rider yet."""
    RIDER_TO_STORE = "rider_to_store"
    """A rider has it and rides to, or stands at, the store; the goods may still be picked."""
    EN_ROUTE = "en_route"
    AT_DOOR = "at_door"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtaInputs:
    """Durations in seconds that still lie ahead; those of stages already passed are ignored.

    ready_in_s: until the goods are packed; negative when overdue or done. rider_wait_s: until a
    rider sets out. rider_to_store_s: that rider's remaining way to the store. travel_s: from the
    store, or when en route from the rider's position, to this door, over the stops before it.
    stops_before: drop-offs of other orders before this one, each of dropoff_service_s.
    at_door_since_s: how long the rider has stood at the door.
    Raises ValueError for what is not finite, or negative where that has no meaning.
    """

    stage: Stage
    ready_in_s: float = 0.0
    rider_wait_s: float = 0.0
    rider_to_store_s: float = 0.0
    pickup_service_s: float = 45.0
    travel_s: float = 0.0
    stops_before: int = 0
    dropoff_service_s: float = 60.0
    at_door_since_s: float = 0.0

    def __post_init__(self) -> None:
        durations = (
            self.rider_wait_s,
            self.rider_to_store_s,
            self.pickup_service_s,
            self.travel_s,
            self.stops_before,
            self.dropoff_service_s,
            self.at_door_since_s,
        )
        if not all(math.isfinite(value) and value >= 0 for value in durations):
            raise ValueError("eta inputs must be finite and not negative")
        if not math.isfinite(self.ready_in_s):
            raise ValueError("ready_in_s must be finite")


def eta(inputs: EtaInputs) -> float:
    """Seconds until the handover at the door, never negative.

    Goods and rider come together at the store, so the later of the two counts:
    max(ready, wait + way to store) + pickup service + travel + stops before + own drop-off.
    """
    match inputs.stage:
        case Stage.PICKING | Stage.RIDER_TO_STORE | Stage.PACKED:
            ready_s = 0.0 if inputs.stage is Stage.PACKED else max(0.0, inputs.ready_in_s)
            wait_s = 0.0 if inputs.stage is Stage.RIDER_TO_STORE else inputs.rider_wait_s
            handover_s = max(ready_s, wait_s + inputs.rider_to_store_s)
            return handover_s + inputs.pickup_service_s + _ride_s(inputs)
        case Stage.EN_ROUTE:
            return _ride_s(inputs)
        case Stage.AT_DOOR:
            return max(0.0, inputs.dropoff_service_s - inputs.at_door_since_s)
        case Stage.DELIVERED:
            return 0.0
        case _:
            assert_never(inputs.stage)


def _ride_s(inputs: EtaInputs) -> float:
    return inputs.travel_s + (inputs.stops_before + 1) * inputs.dropoff_service_s
