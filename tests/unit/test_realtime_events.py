"""Channels, the closed set of events, frames and packets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from realtime.bus import EventPacket, PositionPacket, pack_event, pack_position, unpack
from realtime.channels import Channel, ChannelKind, parse_channel
from realtime.errors import InvalidChannel, InvalidEvent
from realtime.event_types import EVENT_TYPES, OrderRider, decode_data
from realtime.events import StreamEvent, check_event, decode_event, encode_event, event_from_row
from realtime.frames import Frame
from tests.realtime_support import EPOCH, ORDER, START, position, status


def test_channel_names() -> None:
    """A channel reads back from its text."""
    for kind in ChannelKind:
        channel = Channel(kind, "abc_01J")
        assert parse_channel(str(channel)) == channel


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("order", "kind and an id"),
        ("", "kind and an id"),
        ("planet:x", "order, store, rider, city"),
        ("order:", "1 to 64"),
        ("order:a b", "1 to 64"),
        ("order:a:b", "1 to 64"),
        ("order:{x}", "1 to 64"),
        ("order:" + "x" * 65, "1 to 64"),
        ("order:a\n", "1 to 64"),
    ],
)
def test_bad_channel_names(text: str, part: str) -> None:
    """What is no channel is refused with the reason."""
    with pytest.raises(InvalidChannel, match=part):
        parse_channel(text)


def test_event_reads_back() -> None:
    """An event survives its frame, and a row of the outbox gives the same event."""
    event = status(3, reason="late")
    frame = encode_event(event)
    assert decode_event(frame) == event
    body = json.loads(frame)
    assert body["op"] == "event"
    assert body["at"].endswith("Z")
    assert body["data"]["from"] == "placed"
    assert event_from_row(str(ORDER), 3, "order.status", event.at, body["data"]) == event


def test_null_rider() -> None:
    """An order without a rider says so."""
    assert decode_data("order.rider", '{"rider": null}') == OrderRider(None)


_LINE = {
    "line_id": "lin_1",
    "sku_id": "sku_1",
    "name": "Milk",
    "quantity": 2,
    "picked": 1,
    "missing": 0,
    "bin": "A1",
    "temperature": "chilled",
    "barcode": "123",
}
_STOP = {
    "n": 0,
    "kind": "pickup",
    "order_id": "ord_1",
    "lat": -30.03,
    "lon": -51.2,
    "planned_at": "2026-01-01T12:00:00+00:00",
    "status": "planned",
    "cash_due": None,
}
_WORK = {
    "stops": [_STOP],
    "orders": ["ord_1"],
    "distance_m": 1200,
    "pay": {"amount_minor": 4500, "currency": "INR"},
}
_STATES = {
    "status": "placed",
    "delivery_status": "unassigned",
    "payment_status": "pending",
    "version": 1,
}
# What the features append, field by field.
_SAMPLES: dict[str, dict[str, object]] = {
    "order.status": {"machine": "order", "from": None, "to": "placed", "reason": None, **_STATES},
    "checkout.refused": {"code": "store_paused", "detail": "The store is paused."},
    "order.line": {
        "line_id": "lin_1",
        "sku_id": "sku_1",
        "quantity": 2,
        "picked_quantity": 1,
        "refunded_minor": 500,
    },
    "order.promise": {
        "reason": "rescheduled",
        "promised_at": {"low": "2026-01-01T12:00:00Z", "high": "2026-01-01T12:15:00Z"},
        "scheduled": {"from": "2026-01-01T12:00:00Z", "to": "2026-01-01T12:15:00Z"},
        **_STATES,
    },
    "order.rider": {"rider": {"name": "Ana", "vehicle": "bike"}},
    "order.substitution": {
        "id": "sub_1",
        "line_id": "lin_1",
        "sku_id": "sku_2",
        "name": "Oat milk",
        "quantity": 1,
        "picked_quantity": 0,
        "status": "proposed",
        "price_minor": 6_300,
        "charged_minor": 0,
        "fallback": "refund",
        "deadline_at": "2026-01-01T12:02:00.000Z",
    },
    "order.claim": {
        "id": "clm_1",
        "kind": "missing",
        "status": "approved",
        "refunded_minor": 500,
        "refund_to": "original",
        "reason": None,
    },
    "pick_task.changed": {
        "id": "ptk_1",
        "order_id": "ord_1",
        "store_id": "sto_1",
        "status": "queued",
        "due_at": "2026-01-01T12:00:00.000Z",
        "picker_id": None,
        "bags": None,
        "shelf": None,
        "version": 1,
        "lines": [_LINE],
    },
    "rider.at_store": {"order_id": "ord_1", "rider_name": "Ana"},
    "stock.changed": {"sku_id": "sku_1", "on_hand": 5, "reserved": 2, "available": 3},
    "stock.low": {"sku_id": "sku_1", "available": 2, "threshold": 3},
    "stock.short": {"sku_id": "sku_1", "short": 2, "order_ids": ["ord_1"]},
    "stock.back": {"sku_id": "sku_1", "available": 9, "alert_ids": ["alr_1"]},
    "offer.made": {
        "id": "ofr_1",
        "trip": _WORK,
        "expires_at": "2026-01-01T12:00:00+00:00",
        "auto_accept": False,
    },
    "offer.closed": {"offer_id": "ofr_1", "reason": "accepted"},
    "trip.taken_off": {"trip_id": "trp_1", "order_ids": ["ord_1"], "reason": "rider_late"},
    "trip.check_in": {
        "trip_id": "trp_1",
        "order_ids": ["ord_1"],
        "asked_at": "2026-01-01T12:00:00.000Z",
    },
    "rider.availability": {
        "status": "paused",
        "reason": "break",
        "until": "2026-01-01T12:15:00.000Z",
        "auto_accept": True,
    },
    "dispatch.alert": {
        "id": "dal_1",
        "kind": "needs_rider",
        "status": "resolved",
        "order_id": "ord_1",
        "store_id": "sto_1",
        "trip_id": None,
        "rider_id": None,
        "detail": "It waits.",
        "raised_at": "2026-01-01T12:00:00.000Z",
        "resolved_at": "2026-01-01T12:05:00.000Z",
        "resolved_by": "system",
        "resolution": "assigned",
    },
    "dispatch.control": {
        "id": "dct_1",
        "kind": "pause",
        "status": "active",
        "city_id": "cty_1",
        "order_id": None,
        "rider_id": None,
        "store_id": None,
        "zone_id": "zon_1",
        "hold_dispatch": True,
        "stop_orders": False,
        "reason": "flooded",
        "set_by": "usr_1",
        "set_at": "2026-01-01T12:00:00.000Z",
        "until": "2026-01-01T13:00:00.000Z",
        "released_at": None,
        "released_by": None,
        "release_reason": None,
    },
    "rider.cash": {"held": [{"amount_minor": 4_000, "currency": "INR"}]},
    "trip.changed": {
        "id": "trp_1",
        "status": "active",
        "store_id": "sto_1",
        "rider_code": "1234",
        **_WORK,
    },
    "order.changed": {
        "order_id": "ord_1",
        "store_id": "sto_1",
        "rider_id": None,
        "promised_at": {"low": "2026-01-01T12:00:00Z", "high": "2026-01-01T12:10:00Z"},
        **_STATES,
    },
    "rider.changed": {"rider_id": "rdr_1", "status": "free", "name": "Ana", "vehicle": "bike"},
    "rider.proposal": {
        "proposal": {
            "id": "prp_1",
            "store_id": "sto_1",
            "store_name": "North",
            "lat": 12.9,
            "lon": 77.6,
            "way_s": 240,
            "chance": 0.8,
            "status": "open",
            "made_at": "2026-01-01T08:00:00Z",
            "expires_at": "2026-01-01T08:18:00Z",
        }
    },
    "supply.changed": {
        "store_id": "sto_1",
        "growth_s": 300,
        "riders_short": False,
        "riders_missing": 3,
    },
}


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_what_features_append(event_type: str) -> None:
    """The shape that a feature appends is read, and its clients are told every field of it."""
    sample = _SAMPLES[event_type]
    decoded = decode_data(event_type, json.dumps(sample))
    assert decode_data(event_type, sample) == decoded
    channel = Channel(EVENT_TYPES[event_type][0], "abc")
    told = json.loads(encode_event(StreamEvent(channel, 1, event_type, START, decoded)))["data"]
    assert sample.keys() <= told.keys()


@pytest.mark.parametrize(
    ("event_type", "raw"),
    [
        ("order.exploded", "{}"),
        ("order.rider", "{}"),
        ("order.rider", '{"rider": {"name": "Ana", "vehicle": "bike", "phone": "1"}}'),
        ("order.rider", '{"rider": null, "extra": 1}'),
        ("order.rider", "{"),
        ("order.line", {"line_id": "a"}),
    ],
)
def test_poison(event_type: str, raw: str | dict[str, object]) -> None:
    """An unknown type, a missing or foreign field, broken JSON: none of it passes."""
    with pytest.raises(InvalidEvent):
        decode_data(event_type, raw)


@pytest.mark.parametrize(
    "event",
    [
        replace(status(1), channel=Channel(ChannelKind.CITY, "cty_1")),
        replace(status(1), type="order.line"),
        replace(status(1), seq=0),
        replace(status(1), at=datetime(2026, 1, 1)),  # noqa: DTZ001 - the point of the case
    ],
)
def test_events_that_do_not_fit_together(event: object) -> None:
    """Type, channel, data, seq and time are checked against each other."""
    with pytest.raises(InvalidEvent):
        check_event(event)  # type: ignore[arg-type]  # parametrize gives objects


def test_every_kind_has_events() -> None:
    """Each channel kind has its types, and each type one kind."""
    assert {kind for kind, _ in EVENT_TYPES.values()} == set(ChannelKind)


def test_packets() -> None:
    """A packet carries the frame unchanged, and what the hub needs to place it."""
    assert unpack(pack_event(EPOCH, status(7))) == EventPacket(EPOCH, 7, encode_event(status(7)))
    packet = unpack(pack_position(ORDER, position(2, "rdr_1")))
    assert isinstance(packet, PositionPacket)
    assert (packet.key, packet.at_ms) == ("rdr_1", int(START.timestamp() * 1000) + 2_000)
    assert json.loads(packet.frame)["rider_id"] == "rdr_1"
    for wrong in (b"", b"{}", b"x 1 2\n{}", b"e 1 2"):
        with pytest.raises(ValueError, match=r"not a packet|invalid literal"):
            unpack(wrong)


@pytest.mark.parametrize(
    ("size", "header"),
    [(125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65_536, b"\x81\x7f" + b"\0\0\0\0\0\1\0\0")],
)
def test_wire_header(size: int, header: bytes) -> None:
    """The length is written in the shortest of the three forms of RFC 6455."""
    frame = Frame(b"x" * size)
    assert frame.wire == header + b"x" * size
    assert frame.text == "x" * size
