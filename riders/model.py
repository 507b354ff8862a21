"""Words for what riders do.  No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TripStatus(StrEnum):
    OFFERED = "offered"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class OfferStatus(StrEnum):
    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class DeclineReason(StrEnum):
    """Why a rider leaves an offer to others: a closed list, so that it can mean something."""

    TOO_FAR = "too_far"
    VEHICLE_PROBLEM = "vehicle_problem"
    BREAK = "break"
    TOO_HEAVY = "too_heavy"
    UNSAFE_AREA = "unsafe_area"
    SHIFT_ENDS = "shift_ends"
    OTHER = "other"


# These say something of the rider and nothing of the order: it may be offered again after the
# pause that they begin.  All others decline the order for good.
PAUSING = frozenset({DeclineReason.VEHICLE_PROBLEM, DeclineReason.BREAK, DeclineReason.SHIFT_ENDS})


class PauseReason(StrEnum):
    """Why a rider gets no offers."""

    BREAK = "break"
    VEHICLE_PROBLEM = "vehicle_problem"
    SHIFT_ENDS = "shift_ends"
    NOT_RESPONDING = "not_responding"
    HANDED_BACK = "handed_back"


class HandBackReason(StrEnum):
    """Why a rider gives up a trip that was accepted."""

    ACCIDENT = "accident"
    VEHICLE_PROBLEM = "vehicle_problem"
    UNWELL = "unwell"
    EMERGENCY = "emergency"
    UNSAFE_AREA = "unsafe_area"
    OTHER = "other"


class StopKind(StrEnum):
    PICKUP = "pickup"
    DROPOFF = "dropoff"


class StopStatus(StrEnum):
    PENDING = "pending"
    ARRIVED = "arrived"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


DONE_STOPS = frozenset({StopStatus.COMPLETED, StopStatus.FAILED, StopStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class PlannedStop:
    """A stop of a trip that is about to be offered; one row for each order at a stop."""

    kind: StopKind
    order_id: str
    lat: float
    lon: float
    planned_at: datetime
    cash_due_minor: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """``n`` is the stop's name for good; stops are ridden in the order of ``position``."""

    n: int
    position: int
    kind: StopKind
    order_id: str
    lat: float
    lon: float
    planned_at: str
    status: StopStatus
    # What the customer pays at the door; 0 for a paid order and at a pickup.
    cash_due_minor: int


@dataclass(frozen=True, slots=True)
class Trip:
    id: str
    rider_id: str
    store_id: str
    city_id: str
    status: TripStatus
    rider_code: str
    pay_minor: int
    currency: str
    distance_m: int
    offer_id: str | None
    offer_status: OfferStatus | None
    expires_at: datetime | None
    stops: tuple[Stop, ...]

    @property
    def order_ids(self) -> tuple[str, ...]:
        """The trip's orders in the sequence of delivery."""
        return tuple(stop.order_id for stop in self.stops if stop.kind is StopKind.DROPOFF)

    @property
    def kept_order_ids(self) -> tuple[str, ...]:
        """Those of ``order_ids`` that have not been taken off the trip."""
        return tuple(
            stop.order_id
            for stop in self.stops
            if stop.kind is StopKind.DROPOFF and stop.status is not StopStatus.CANCELLED
        )

    @property
    def waiting_pickups(self) -> tuple[Stop, ...]:
        """Pickups of orders that the store has not handed over."""
        return tuple(
            stop
            for stop in self.stops
            if stop.kind is StopKind.PICKUP and stop.status not in DONE_STOPS
        )

    @property
    def has_collected(self) -> bool:
        """Whether the rider carries, or has carried, an order of this trip."""
        return any(
            stop.kind is StopKind.PICKUP and stop.status is StopStatus.COMPLETED
            for stop in self.stops
        )

    @property
    def is_at_store(self) -> bool:
        """Whether the rider has said that they stand in the store."""
        return any(
            stop.kind is StopKind.PICKUP
            and stop.status in (StopStatus.ARRIVED, StopStatus.COMPLETED)
            for stop in self.stops
        )

    def stop(self, n: int) -> Stop | None:
        return next((stop for stop in self.stops if stop.n == n), None)

    @property
    def finished(self) -> bool:
        return all(stop.status in DONE_STOPS for stop in self.stops)
