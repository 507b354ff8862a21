"""Trips as riders see them."""

from __future__ import annotations

from riders.model import Stop, Trip


def shape(trip: Trip) -> dict[str, object]:
    """A trip as its rider's app shows it."""
    return {
        "id": trip.id,
        "status": trip.status.value,
        "store_id": trip.store_id,
        "rider_code": trip.rider_code,
        **shape_work(trip),
    }


def shape_work(trip: Trip) -> dict[str, object]:
    """What a trip asks of a rider and what it pays: the part that an offer shows."""
    return {
        "stops": [_shape_stop(stop, trip.currency) for stop in trip.stops],
        "orders": list(trip.order_ids),
        "distance_m": trip.distance_m,
        "pay": {"amount_minor": trip.pay_minor, "currency": trip.currency},
    }


def _shape_stop(stop: Stop, currency: str) -> dict[str, object]:
    due = stop.cash_due_minor
    return {
        "n": stop.n,
        "position": stop.position,
        "kind": stop.kind.value,
        "order_id": stop.order_id,
        "lat": stop.lat,
        "lon": stop.lon,
        "planned_at": stop.planned_at,
        "status": stop.status.value,
        "cash_due": {"amount_minor": due, "currency": currency} if due else None,
    }
