"""The closed set of events: for every type its channel kind and the shape of its ``data``.

Times are aware UTC, money is integer minor units, coordinates are WGS 84 degrees.  Unknown fields
are refused, so that what a feature appends and what the clients are told cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from realtime.channels import ChannelKind
from realtime.errors import InvalidEvent


class EventData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every ``data`` is."""


class Money(EventData, frozen=True):
    amount_minor: int
    currency: str


class Promise(EventData, frozen=True):
    low: datetime
    high: datetime


class RiderCard(EventData, frozen=True):
    """What a customer may know of a rider."""

    name: str
    vehicle: str


class OrderStatus(EventData, frozen=True):
    """One step of one of an order's three machines, and where all three stand after it."""

    machine: Literal["order", "delivery", "payment"]
    to: str
    status: str
    delivery_status: str
    payment_status: str
    version: int
    from_: str | None = msgspec.field(name="from")
    reason: str | None = None
    promised_at: Promise | None = None
    rider: RiderCard | None = None


class SlotWindow(EventData, frozen=True, rename={"from_": "from"}):
    from_: datetime
    to: datetime


class OrderPromise(EventData, frozen=True):
    """The order is promised for another time, or goes to another door; not which one."""

    reason: Literal["rescheduled", "address_changed"]
    promised_at: Promise
    scheduled: SlotWindow | None
    status: str
    delivery_status: str
    payment_status: str
    version: int


class CheckoutRefused(EventData, frozen=True):
    """A checkout that had waited for the database was refused; there is no order."""

    code: str
    detail: str


class OrderLine(EventData, frozen=True):
    line_id: str
    sku_id: str
    quantity: int
    picked_quantity: int
    refunded_minor: int


class OrderSubstitution(EventData, frozen=True):
    """A substitute: offered, decided, picked.  ``price_minor`` is what all of it costs with tax;
    ``fallback`` is applied when nobody has answered by ``deadline_at``.
    """

    id: str
    line_id: str
    sku_id: str
    name: str
    quantity: int
    picked_quantity: int
    status: Literal["proposed", "approved", "rejected", "picked", "withdrawn"]
    price_minor: int
    charged_minor: int
    fallback: Literal["refund", "best_match"]
    deadline_at: datetime | None = None


class OrderClaim(EventData, frozen=True):
    """What became of a claim; ``refund_to`` once it is approved."""

    id: str
    kind: str
    status: Literal["open", "approved", "rejected"]
    refunded_minor: int
    refund_to: str | None = None
    reason: str | None = None


class OrderRider(EventData, frozen=True):
    """Who carries the order now; ``null`` when nobody does any more."""

    rider: RiderCard | None


class PickSubstitute(EventData, frozen=True):
    """What may go into the bag in place of missing units of a line."""

    id: str
    sku_id: str
    name: str
    quantity: int
    picked: int
    missing: int
    bin: str
    temperature: str
    barcode: str
    status: str
    deadline_at: datetime | None


class PickLine(EventData, frozen=True):
    line_id: str
    sku_id: str
    name: str
    quantity: int
    picked: int
    missing: int
    bin: str | None
    temperature: str | None
    barcode: str | None
    # A customer is being asked about one of the substitutes.
    waiting: bool = False
    substitutes: tuple[PickSubstitute, ...] = msgspec.field(default_factory=tuple)


class PickTaskChanged(EventData, frozen=True):
    """The whole pick task, so that a client replaces what it has."""

    id: str
    order_id: str
    store_id: str
    status: str
    due_at: datetime
    lines: tuple[PickLine, ...]
    picker_id: str | None = None
    bags: int | None = None
    shelf: str | None = None
    version: int | None = None


class RiderAtStore(EventData, frozen=True):
    order_id: str
    rider_name: str


class StockChanged(EventData, frozen=True):
    """Units in a store; ``available`` is what can still be promised."""

    sku_id: str
    on_hand: int
    reserved: int
    available: int


class StockLow(EventData, frozen=True):
    """A product has run low; said again only after it has risen above ``threshold``."""

    sku_id: str
    available: int
    threshold: int


class StockShort(EventData, frozen=True):
    """A count found ``short`` units fewer than orders hold; ``order_ids`` may be picked short."""

    sku_id: str
    short: int
    order_ids: tuple[str, ...]


class StockBack(EventData, frozen=True):
    """A product is there again, and these stock alerts have been fired."""

    sku_id: str
    available: int
    alert_ids: tuple[str, ...]


class TripStop(EventData, frozen=True):
    """``n`` names the stop for good; stops are ridden in the order of ``position``."""

    n: int
    kind: Literal["pickup", "dropoff"]
    order_id: str
    lat: float
    lon: float
    planned_at: datetime | None = None
    status: str | None = None
    cash_due: Money | None = None
    position: int | None = None


class OfferedTrip(EventData, frozen=True):
    """``orders`` is how many, or which."""

    stops: tuple[TripStop, ...]
    orders: int | tuple[str, ...]
    distance_m: float
    pay: Money


class OfferMade(EventData, frozen=True):
    """``auto_accept``: nobody is asked, the offer is taken in the same moment."""

    id: str
    trip: OfferedTrip
    expires_at: datetime
    auto_accept: bool = False


class OfferClosed(EventData, frozen=True):
    offer_id: str
    reason: str


class TripChanged(EventData, frozen=True):
    """The whole trip, so that a client replaces what it has."""

    id: str
    status: str
    store_id: str
    rider_code: str
    stops: tuple[TripStop, ...]
    orders: tuple[str, ...]
    distance_m: float
    pay: Money


class TripTakenOff(EventData, frozen=True):
    """Orders that were not collected are no longer the rider's, and why."""

    trip_id: str
    order_ids: tuple[str, ...]
    reason: str


class TripCheckIn(EventData, frozen=True):
    """Nothing was heard of the rider who carries these orders: is anybody there?"""

    trip_id: str
    order_ids: tuple[str, ...]
    asked_at: datetime


class RiderAvailability(EventData, frozen=True):
    """Whether the rider gets offers; a pause without ``until`` ends when the rider says so."""

    status: Literal["available", "paused"]
    auto_accept: bool
    reason: str | None = None
    until: datetime | None = None


class RiderCash(EventData, frozen=True):
    """The cash in the rider's hands now, one amount a currency."""

    held: tuple[Money, ...]


class CityOrderChanged(EventData, frozen=True):
    order_id: str
    status: str
    delivery_status: str
    payment_status: str
    version: int
    store_id: str | None = None
    rider_id: str | None = None
    promised_at: Promise | None = None


class CityRiderChanged(EventData, frozen=True):
    rider_id: str
    status: str
    name: str | None = None
    vehicle: str | None = None
    trip_id: str | None = None


class DispatchAlert(EventData, frozen=True):
    """An order needs a person, or does no longer; the whole alert, to replace what is known."""

    id: str
    kind: Literal["needs_rider", "rider_silent", "handed_back"]
    status: Literal["open", "resolved"]
    order_id: str
    store_id: str
    detail: str
    raised_at: datetime
    trip_id: str | None = None
    rider_id: str | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None


class DispatchControl(EventData, frozen=True):
    """Ops have said something about dispatch, or it is over; the whole of it."""

    id: str
    kind: Literal["pin", "exclude", "pause"]
    status: Literal["active", "over"]
    city_id: str
    hold_dispatch: bool
    stop_orders: bool
    reason: str
    set_by: str
    set_at: datetime
    until: datetime
    order_id: str | None = None
    rider_id: str | None = None
    store_id: str | None = None
    zone_id: str | None = None
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None


class WaitingPlace(EventData, frozen=True):
    """A store at which an idle rider had better wait; ``chance`` of being needed there."""

    id: str
    store_id: str
    store_name: str
    lat: float
    lon: float
    way_s: int
    chance: float
    status: Literal["open", "accepted"]
    made_at: datetime
    expires_at: datetime


class RiderProposal(EventData, frozen=True):
    """The proposal that stands now; ``null`` when none does any more."""

    proposal: WaitingPlace | None


class SupplyChanged(EventData, frozen=True):
    """What a store's promises grow by from now on; ``riders_short``: it takes no orders."""

    store_id: str
    growth_s: int
    riders_short: bool
    riders_missing: int


EVENT_TYPES: Final[Mapping[str, tuple[ChannelKind, type[EventData]]]] = {
    "order.status": (ChannelKind.ORDER, OrderStatus),
    "order.promise": (ChannelKind.ORDER, OrderPromise),
    "order.line": (ChannelKind.ORDER, OrderLine),
    "order.rider": (ChannelKind.ORDER, OrderRider),
    "order.substitution": (ChannelKind.ORDER, OrderSubstitution),
    "order.claim": (ChannelKind.ORDER, OrderClaim),
    "checkout.refused": (ChannelKind.ORDER, CheckoutRefused),
    "pick_task.changed": (ChannelKind.STORE, PickTaskChanged),
    "rider.at_store": (ChannelKind.STORE, RiderAtStore),
    "stock.changed": (ChannelKind.STORE, StockChanged),
    "stock.low": (ChannelKind.STORE, StockLow),
    "stock.short": (ChannelKind.STORE, StockShort),
    "stock.back": (ChannelKind.STORE, StockBack),
    "offer.made": (ChannelKind.RIDER, OfferMade),
    "offer.closed": (ChannelKind.RIDER, OfferClosed),
    "trip.changed": (ChannelKind.RIDER, TripChanged),
    "trip.taken_off": (ChannelKind.RIDER, TripTakenOff),
    "trip.check_in": (ChannelKind.RIDER, TripCheckIn),
    "rider.availability": (ChannelKind.RIDER, RiderAvailability),
    "rider.cash": (ChannelKind.RIDER, RiderCash),
    "rider.proposal": (ChannelKind.RIDER, RiderProposal),
    "order.changed": (ChannelKind.CITY, CityOrderChanged),
    "rider.changed": (ChannelKind.CITY, CityRiderChanged),
    "supply.changed": (ChannelKind.CITY, SupplyChanged),
    "dispatch.alert": (ChannelKind.CITY, DispatchAlert),
    "dispatch.control": (ChannelKind.CITY, DispatchControl),
}

_DECODERS = {name: msgspec.json.Decoder(shape) for name, (_, shape) in EVENT_TYPES.items()}


def decode_data(event_type: str, raw: bytes | str | Mapping[str, object]) -> EventData:
    """The typed ``data`` of an event, from JSON text or from a mapping.

    Raises :class:`InvalidEvent` for a type outside the closed set and for data that do not fit it.
    """
    decoder = _DECODERS.get(event_type)
    if decoder is None:
        raise InvalidEvent(f"There is no event type {event_type!r}.")
    try:
        if isinstance(raw, bytes | str):
            return decoder.decode(raw)
        return msgspec.convert(raw, EVENT_TYPES[event_type][1])
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"The data of {event_type} do not fit: {error}.") from error
    except msgspec.DecodeError as error:
        raise InvalidEvent(f"The data of {event_type} are not JSON: {error}.") from error
