"""What a phone knows of a trip only moves forward, in whatever order the news comes."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from simulator.trip_state import KnownTrips


def _trip(status: str = "active", *stops: str, cash: int = 0) -> dict[str, Any]:
    pickup, dropoff = stops or ("pending", "pending")
    due = {"amount_minor": cash, "currency": "INR"} if cash else None
    place = {"order_id": "ord_1", "lat": 1.0, "lon": 2.0}
    return {
        "id": "trp_1", "store_id": "sto_1", "rider_code": "0421", "status": status,
        "stops": [
            {"n": 2, "kind": "dropoff", "status": dropoff, "cash_due": due, **place},
            {"n": 1, "kind": "pickup", "status": pickup, "cash_due": None, **place},
        ],
    }  # fmt: skip


def test_stops_are_ridden_in_the_order_of_their_numbers() -> None:
    """Whatever the order in which the server lists them."""
    trips = KnownTrips()
    trips.note(_trip())
    trip = trips.next()
    assert trip is not None
    assert [stop.kind for stop in trip.stops] == ["pickup", "dropoff"]


def test_an_old_view_undoes_nothing() -> None:
    """Every order of three views of one trip leads to the furthest of them."""
    views = [
        _trip(),
        _trip("active", "arrived", "pending"),
        _trip("active", "completed", "arrived"),
    ]
    for order in permutations(views):
        trips = KnownTrips()
        for view in order:
            trips.note(view)
        trip = trips.next()
        assert trip is not None
        assert [stop.status for stop in trip.stops] == ["completed", "arrived"]


def test_a_trip_that_is_over_is_not_ridden_again() -> None:
    """Neither after it was completed, nor after a list of open trips that does not hold it."""
    trips = KnownTrips()
    trips.note(_trip())
    trips.note(_trip("completed", "completed", "completed"))
    assert trips.next() is None
    trips.note(_trip())
    held = trips.next()
    assert held is not None
    trips.replace([])
    assert held.over
    assert trips.next() is None


def test_an_offered_trip_is_no_trip_yet() -> None:
    """Only an accepted one is ridden."""
    trips = KnownTrips()
    trips.note(_trip("offered"))
    assert trips.next() is None


def test_cash_only_shrinks() -> None:
    """A short pick lowers what is due; the earlier amount does not come back."""
    trips = KnownTrips()
    for cash in (900, 700, 900):
        trips.note(_trip(cash=cash))
    trip = trips.next()
    assert trip is not None
    assert trip.stops[1].cash_due_minor == 700


def _grown() -> dict[str, Any]:
    """The same trip, with a second order that is delivered first."""
    trip = _trip()
    place = {"order_id": "ord_2", "lat": 1.5, "lon": 2.5, "status": "pending", "cash_due": None}
    positions = {1: 1, 3: 2, 4: 3, 2: 4}
    added = [{"n": 3, "kind": "pickup", **place}, {"n": 4, "kind": "dropoff", **place}]
    stops = [*trip["stops"], *added]
    return {**trip, "stops": [{**stop, "position": positions[stop["n"]]} for stop in stops]}


def test_a_trip_that_grows_is_ridden_by_position() -> None:
    """The numbers of the stops stay; an older, shorter view changes nothing any more."""
    views = [{**_trip(), "stops": [{**s, "position": s["n"]} for s in _trip()["stops"]]}, _grown()]
    for order in permutations(views):
        trips = KnownTrips()
        for view in order:
            trips.note(view)
        trip = trips.next()
        assert trip is not None
        assert [stop.n for stop in trip.stops] == [1, 3, 4, 2]
        assert [stop.n for stop in trip.waiting_pickups()] == [1, 3]
        assert trip.next_stop() is trip.stops[0]
        assert trip.next_stop({1, 3}) is trip.stops[2]
