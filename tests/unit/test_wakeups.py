"""What wakes a dispatcher: the relay's batch in, the cities that should look out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kit.relay import OutboxEvent
from server.wakeups import cities_to_wake


def event(stream: str, type_: str, **data: Any) -> OutboxEvent:
    return OutboxEvent(1, stream, 1, type_, data, datetime.now(UTC), 0)


def changed(status: str, delivery_status: str) -> OutboxEvent:
    return event("city:cty_1", "order.changed", status=status, delivery_status=delivery_status)


@pytest.mark.parametrize(
    ("status", "delivery_status"),
    [
        ("confirmed", "unassigned"),  # a new order
        ("picking", "unassigned"),  # somebody began, or declined the offer
        ("packed", "unassigned"),  # it can leave now
        ("picking", "assigned"),  # its trip may grow from now on
        ("delivered", "done"),  # its rider may be free
        ("undeliverable", "failed"),
        ("cancelled", "cancelled"),
    ],
)
def test_what_a_plan_can_use_wakes_the_city(status: str, delivery_status: str) -> None:
    """The dispatcher looks at once."""
    assert cities_to_wake([changed(status, delivery_status)]) == {"cty_1"}


@pytest.mark.parametrize(
    ("status", "delivery_status"),
    [("placed", "unassigned"), ("packed", "offered"), ("packed", "at_store"),
     ("arriving", "at_door")],
)  # fmt: skip
def test_what_changes_no_plan_wakes_nobody(status: str, delivery_status: str) -> None:
    """Most steps of an order are none of the dispatcher's business."""
    assert cities_to_wake([changed(status, delivery_status)]) == set()


def test_a_batch_wakes_each_city_once_and_other_streams_wake_none() -> None:
    """One hint for all that happened."""
    events = [
        changed("packed", "unassigned"),
        changed("delivered", "done"),
        event("city:cty_2", "rider.changed", rider_id="rdr_1", status="on_shift"),
        event("order:ord_1", "order.status", to="confirmed"),
        event("rider:rdr_1", "offer.closed", offer_id="ofr_1", reason="declined"),
    ]
    assert cities_to_wake(events) == {"cty_1", "cty_2"}
