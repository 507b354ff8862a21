"""The three state machines of an order, and the rules that read them.  No I/O.

Order, delivery and payment run side by side.  Each is one table of edges here; ``darkstore
migrate`` copies the tables into Postgres, where ``order_move`` and a trigger enforce them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Machine(StrEnum):
    ORDER = "order"
    DELIVERY = "delivery"
    PAYMENT = "payment"


class OrderState(StrEnum):
    PLACED = "placed"
    CONFIRMED = "confirmed"
    PICKING = "picking"
    PACKED = "packed"
    PICKED_UP = "picked_up"
    ARRIVING = "arriving"
    DELIVERED = "delivered"
    PAYMENT_FAILED = "payment_failed"
    CANCELLED = "cancelled"
    UNDELIVERABLE = "undeliverable"
    RETURNED = "returned"


class DeliveryState(StrEnum):
    UNASSIGNED = "unassigned"
    OFFERED = "offered"
    ASSIGNED = "assigned"
    AT_STORE = "at_store"
    COLLECTED = "collected"
    AT_DOOR = "at_door"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PaymentState(StrEnum):
    PENDING = "pending"
    AUTHORISED = "authorised"
    CAPTURED = "captured"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    DECLINED = "declined"
    VOIDED = "voided"
    UNKNOWN = "unknown"
    DISPUTED = "disputed"


_O, _D, _P = OrderState, DeliveryState, PaymentState

ORDER_EDGES: Mapping[OrderState, frozenset[OrderState]] = {
    _O.PLACED: frozenset({_O.CONFIRMED, _O.PAYMENT_FAILED, _O.CANCELLED}),
    _O.CONFIRMED: frozenset({_O.PICKING, _O.CANCELLED}),
    _O.PICKING: frozenset({_O.PACKED, _O.CANCELLED}),
    _O.PACKED: frozenset({_O.PICKED_UP, _O.CANCELLED}),
    _O.PICKED_UP: frozenset({_O.ARRIVING, _O.UNDELIVERABLE}),
    _O.ARRIVING: frozenset({_O.DELIVERED, _O.UNDELIVERABLE}),
    _O.UNDELIVERABLE: frozenset({_O.RETURNED}),
    _O.DELIVERED: frozenset(),
    _O.PAYMENT_FAILED: frozenset(),
    _O.CANCELLED: frozenset(),
    _O.RETURNED: frozenset(),
}

DELIVERY_EDGES: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    # Straight to assigned: an order that joins a trip which its rider has taken already.
    _D.UNASSIGNED: frozenset({_D.OFFERED, _D.ASSIGNED, _D.CANCELLED}),
    _D.OFFERED: frozenset({_D.ASSIGNED, _D.UNASSIGNED, _D.CANCELLED}),
    _D.ASSIGNED: frozenset({_D.AT_STORE, _D.UNASSIGNED, _D.CANCELLED}),
    _D.AT_STORE: frozenset({_D.COLLECTED, _D.UNASSIGNED, _D.CANCELLED}),
    _D.COLLECTED: frozenset({_D.AT_DOOR, _D.FAILED}),
    _D.AT_DOOR: frozenset({_D.DONE, _D.FAILED}),
    _D.DONE: frozenset(),
    _D.FAILED: frozenset(),
    _D.CANCELLED: frozenset(),
}

PAYMENT_EDGES: Mapping[PaymentState, frozenset[PaymentState]] = {
    _P.PENDING: frozenset({_P.AUTHORISED, _P.DECLINED, _P.VOIDED, _P.UNKNOWN}),
    _P.UNKNOWN: frozenset({_P.AUTHORISED, _P.DECLINED, _P.VOIDED}),
    _P.AUTHORISED: frozenset({_P.CAPTURED, _P.VOIDED}),
    _P.CAPTURED: frozenset({_P.PARTIALLY_REFUNDED, _P.REFUNDED, _P.DISPUTED}),
    _P.PARTIALLY_REFUNDED: frozenset({_P.REFUNDED, _P.DISPUTED}),
    _P.DISPUTED: frozenset({_P.CAPTURED, _P.PARTIALLY_REFUNDED, _P.REFUNDED}),
    _P.DECLINED: frozenset(),
    _P.VOIDED: frozenset(),
    _P.REFUNDED: frozenset(),
}


def edges() -> frozenset[tuple[str, str, str]]:
    """Every legal edge of the three machines as (machine, from, to)."""
    order = {("order", a.value, b.value) for a, ends in ORDER_EDGES.items() for b in ends}
    delivery = {("delivery", a.value, b.value) for a, to in DELIVERY_EDGES.items() for b in to}
    payment = {("payment", a.value, b.value) for a, ends in PAYMENT_EDGES.items() for b in ends}
    return frozenset(order | delivery | payment)


FINAL_ORDER_STATES = frozenset(state for state, ends in ORDER_EDGES.items() if not ends)

# While the rider carries the order, its customer may see the rider's position.
RIDER_VISIBLE = frozenset({_D.COLLECTED, _D.AT_DOOR})


class PaymentMethod(StrEnum):
    CARD = "card"
    UPI = "upi"
    WALLET = "wallet"
    COD = "cod"


class Substitution(StrEnum):
    ASK = "ask"
    BEST_MATCH = "best_match"
    REFUND = "refund"
