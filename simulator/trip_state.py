"""A rider's trips as the phone knows them, from events and answers in any order.  Pure.

An answer and an event may overtake each other, so what is known only moves forward: a stop never
becomes less done, a trip never comes back to life, and cash that is due only shrinks.
Stops are only added, so of two views that differ in their number the longer one is the newer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

_TRIP_RANK: Final = {"offered": 0, "active": 1, "completed": 2, "cancelled": 2}
_STOP_RANK: Final = {"pending": 0, "arrived": 1, "completed": 2, "failed": 2, "cancelled": 2}


@dataclass(slots=True)
class KnownStop:
    """``n`` names the stop; ``position`` is its place in the ride, and ``cash_due_minor`` is 0 for
    what is paid.
    """

    n: int
    position: int
    kind: str
    order_id: str
    lat: float
    lon: float
    status: str
    cash_due_minor: int

    @property
    def over(self) -> bool:
        return _STOP_RANK[self.status] == 2


@dataclass(slots=True)
class KnownTrip:
    """``rider_code`` is what the rider shows at the counter."""

    id: str
    store_id: str
    rider_code: str
    status: str
    stops: list[KnownStop]

    @property
    def over(self) -> bool:
        return _TRIP_RANK[self.status] == 2

    def merge(self, trip: Json) -> None:
        """Take in a newer or older view of the same trip."""
        if _TRIP_RANK[trip["status"]] > _TRIP_RANK[self.status]:
            self.status = trip["status"]
        known = {stop.n: stop for stop in self.stops}
        newer = len(trip["stops"]) >= len(known)
        for view in trip["stops"]:
            stop = known.get(view["n"])
            if stop is None:
                self.stops.append(_stop(view))
                continue
            if _STOP_RANK[view["status"] or "pending"] > _STOP_RANK[stop.status]:
                stop.status = view["status"]
            stop.cash_due_minor = min(stop.cash_due_minor, _cash(view))
            if newer:
                stop.position = _position(view)
        self.stops.sort(key=_by_position)

    def next_stop(self, told: Collection[int] = ()) -> KnownStop | None:
        """The first stop of the ride that is not over; ``told``: done, but nobody knows it yet."""
        return next((one for one in self.stops if not one.over and one.n not in told), None)

    def waiting_pickups(self) -> list[KnownStop]:
        """Pickups of orders that the store has not handed over."""
        return [stop for stop in self.stops if stop.kind == "pickup" and not stop.over]


class KnownTrips:
    """The trips that are not over, oldest first."""

    def __init__(self) -> None:
        self._trips: dict[str, KnownTrip] = {}

    def note(self, trip: Json) -> None:
        """Take in a trip as an event or an answer shows it."""
        known = self._trips.get(trip["id"])
        if known is not None:
            known.merge(trip)
        elif trip["status"] == "active":
            self._trips[trip["id"]] = _trip(trip)

    def replace(self, active: list[Json]) -> None:
        """Take in a list of all open trips: what is not in it is over."""
        ids = {trip["id"] for trip in active}
        for trip_id, known in self._trips.items():
            if trip_id not in ids:
                known.status = "cancelled"
        for trip in active:
            self.note(trip)

    def next(self) -> KnownTrip | None:
        """The trip to ride; those that are over are forgotten."""
        self._trips = {k: trip for k, trip in self._trips.items() if not trip.over}
        return next(iter(self._trips.values()), None)


def _trip(trip: Json) -> KnownTrip:
    stops = sorted((_stop(view) for view in trip["stops"]), key=_by_position)
    return KnownTrip(trip["id"], trip["store_id"], trip["rider_code"], trip["status"], stops)


def _stop(view: Json) -> KnownStop:
    return KnownStop(
        n=view["n"],
        position=_position(view),
        kind=view["kind"],
        order_id=view["order_id"],
        lat=view["lat"],
        lon=view["lon"],
        status=view["status"] or "pending",
        cash_due_minor=_cash(view),
    )


def _cash(view: Json) -> int:
    due = view["cash_due"]
    return int(due["amount_minor"]) if due else 0


def _position(view: Json) -> int:
    return int(view.get("position") or view["n"])


def _by_position(stop: KnownStop) -> tuple[int, int]:
    return stop.position, stop.n
