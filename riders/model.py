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
    n: int
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

    def stop(self, n: int) -> Stop | None:
        return next((stop for stop in self.stops if stop.n == n), None)

    @property
    def finished(self) -> bool:
        return all(stop.status in DONE_STOPS for stop in self.stops)
