"""Durable events and ephemeral positions, and the frames in which clients see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from realtime.channels import Channel, parse_channel
from realtime.errors import InvalidEvent
from realtime.event_types import EVENT_TYPES, EventData, decode_data


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Event ``seq`` (from 1, gap-free) of a channel; ``at`` is aware UTC."""

    channel: Channel
    seq: int
    type: str
    at: datetime
    data: EventData


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a rider is: degrees WGS 84; ``eta_s`` to the subscriber's own dropoff.

    ``rider_id`` is given on channels that show several riders (a city), where the newest position
    *of each rider* wins.
    """

    lat: float
    lon: float
    at: datetime
    heading_deg: float | None = None
    eta_s: int | None = None
    rider_id: str | None = None


class _EventFrame(msgspec.Struct, frozen=True):
    op: str
    channel: str
    seq: int
    type: str
    at: datetime
    data: EventData


class _RawEventFrame(msgspec.Struct, frozen=True):
    channel: str
    seq: int
    type: str
    at: datetime
    data: msgspec.Raw


class _PositionFrame(msgspec.Struct, frozen=True):
    op: str
    channel: str
    lat: float
    lon: float
    heading_deg: float | None
    eta_s: int | None
    at: datetime


class _RiderPositionFrame(_PositionFrame, frozen=True):
    rider_id: str


_encoder = msgspec.json.Encoder()
_frame_decoder = msgspec.json.Decoder(_RawEventFrame)


def event_from_row(
    stream: str, seq: int, event_type: str, at: datetime, data: bytes | str | Mapping[str, object]
) -> StreamEvent:
    """The event that an outbox row holds.

    Raises :class:`InvalidEvent` (a poison event) or :class:`InvalidChannel`.
    """
    channel = parse_channel(stream)
    event = StreamEvent(channel, seq, event_type, at, decode_data(event_type, data))
    check_event(event)
    return event


def check_event(event: StreamEvent) -> None:
    """Raise :class:`InvalidEvent` unless type, channel kind, data and ``seq`` fit together."""
    known = EVENT_TYPES.get(event.type)
    if known is None:
        raise InvalidEvent(f"There is no event type {event.type!r}.")
    kind, shape = known
    if event.channel.kind is not kind:
        raise InvalidEvent(f"{event.type} belongs on a {kind} channel, not on {event.channel}.")
    if type(event.data) is not shape:
        raise InvalidEvent(f"The data of {event.type} are {type(event.data).__name__}.")
    if event.seq < 1:
        raise InvalidEvent(f"The sequence of a channel starts at 1, not at {event.seq}.")
    if event.at.tzinfo is None:
        raise InvalidEvent("The time of an event carries its zone.")


def encode_event(event: StreamEvent) -> bytes:
    """The frame ``{"op": "event", …}`` that every subscriber receives."""
    return _encoder.encode(
        _EventFrame("event", str(event.channel), event.seq, event.type, event.at, event.data)
    )


def decode_event(frame: bytes) -> StreamEvent:
    """The event in a frame of :func:`encode_event`; raises :class:`InvalidEvent`."""
    try:
        raw = _frame_decoder.decode(frame)
    except msgspec.DecodeError as error:
        raise InvalidEvent(f"This is not an event frame: {error}.") from error
    return event_from_row(raw.channel, raw.seq, raw.type, raw.at, bytes(raw.data))


def encode_position(channel: Channel, position: Position) -> bytes:
    """The frame ``{"op": "position", …}``, without ``seq``: the newest wins."""
    fields = (
        "position",
        str(channel),
        position.lat,
        position.lon,
        position.heading_deg,
        position.eta_s,
        position.at,
    )
    if position.rider_id is None:
        return _encoder.encode(_PositionFrame(*fields))
    return _encoder.encode(_RiderPositionFrame(*fields, position.rider_id))
