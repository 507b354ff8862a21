"""How long an order still takes to its door, from its row and its rider's place."""

from __future__ import annotations

from datetime import datetime, timedelta

from dispatch.eta import EtaInputs, Stage, eta
from geo.distances import Point
from orders.model import DeliveryState, OrderState
from orders.picking import HANDOVER_S
from orders.territory import Territory
from orders.views import Record
from riders.locations import RiderFix

# Until a rider sets out for an order that has none; a guess that dispatch soon replaces.
RIDER_WAIT_S = 60.0
# Picking that is overdue is not done in no time.
LEAST_PICK_S = 20.0


def seconds_left(order: Record, fix: RiderFix | None, territory: Territory, now: datetime) -> float:
    """Virtual seconds; ``fix`` is where the order's rider was seen last, if anybody knows."""
    return eta(_inputs(order, fix, territory, now))


def _inputs(order: Record, fix: RiderFix | None, territory: Territory, now: datetime) -> EtaInputs:
    travel_s = float(order["travel_s"])
    pack_by = order["promised_low_at"] - timedelta(seconds=travel_s + HANDOVER_S)
    ready_in_s = max(LEAST_PICK_S, (pack_by - now).total_seconds())
    to_store_s = 0.0
    if fix is not None:
        here = Point(fix.lat, fix.lon)
        store = territory.stores[order["store_id"]].point
        door = Point(order["lat"], order["lon"])
        to_store_s = territory.travel_s(order["city_id"], here, store)
        to_door_s = territory.travel_s(order["city_id"], here, door)
    else:
        to_door_s = travel_s
    match DeliveryState(order["delivery_status"]):
        case DeliveryState.AT_DOOR:
            return EtaInputs(stage=Stage.AT_DOOR)
        case DeliveryState.COLLECTED:
            return EtaInputs(stage=Stage.EN_ROUTE, travel_s=to_door_s)
        case DeliveryState.ASSIGNED | DeliveryState.AT_STORE:
            packed = order["packed_at"] is not None
            return EtaInputs(
                stage=Stage.RIDER_TO_STORE,
                ready_in_s=0.0 if packed else ready_in_s,
                rider_to_store_s=to_store_s,
                travel_s=travel_s,
            )
        case _:
            packed = order["status"] == OrderState.PACKED
            return EtaInputs(
                stage=Stage.PACKED if packed else Stage.PICKING,
                ready_in_s=ready_in_s,
                rider_wait_s=RIDER_WAIT_S,
                travel_s=travel_s,
            )
