"""The ops that clients send and the frames that answer them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kit.errors import Invalid
from realtime.frames import Frame
from realtime.ports import Point, Snapshot

OpId = int | Annotated[str, msgspec.Meta(max_length=64)] | None
ChannelName = Annotated[str, msgspec.Meta(max_length=80)]
Text = Annotated[str, msgspec.Meta(max_length=256)]


class Since(msgspec.Struct, frozen=True):
    epoch: Text
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Auth(msgspec.Struct, frozen=True, tag_field="op", tag="auth"):
    ticket: Text
    id: OpId = None


class Subscribe(msgspec.Struct, frozen=True, tag_field="op", tag="subscribe"):
    channel: ChannelName
    id: OpId = None
    since: Since | None = None


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="op", tag="unsubscribe"):
    channel: ChannelName
    id: OpId = None


class Positions(msgspec.Struct, frozen=True, tag_field="op", tag="positions"):
    points: tuple[Point, ...]
    id: OpId = None


class Ping(msgspec.Struct, frozen=True, tag_field="op", tag="ping"):
    id: OpId = None


Op = Auth | Subscribe | Unsubscribe | Positions | Ping


class _OnlyId(msgspec.Struct, frozen=True):
    id: OpId = None


# mypy takes a union for an object here, not for a type.
_decoder: msgspec.json.Decoder[Op] = msgspec.json.Decoder(Op)
_id_decoder = msgspec.json.Decoder(_OnlyId)
_encoder = msgspec.json.Encoder()

PONG = Frame(_encoder.encode({"op": "pong"}))


def decode_op(raw: bytes | str) -> Op:
    """The op in a frame; raises ``Invalid``."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"This frame is not an op: {error}.") from error


def id_of(raw: bytes | str) -> OpId:
    """The id in a frame that is not a valid op, so that its error can be matched."""
    try:
        return _id_decoder.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _frame(body: dict[str, object], op_id: OpId = None) -> Frame:
    if op_id is not None:
        body["id"] = op_id
    return Frame(_encoder.encode(body))


def ready(session: str, heartbeat_s: float, position_interval_s: float) -> Frame:
    return _frame(
        {
            "op": "ready",
            "session": session,
            "heartbeat_s": heartbeat_s,
            "position_interval_s": position_interval_s,
        }
    )


def subscribed(op_id: OpId, channel: str, epoch: str, seq: int, *, recovered: bool) -> Frame:
    return _frame(
        {
            "op": "subscribed",
            "channel": channel,
            "epoch": epoch,
            "seq": seq,
            "recovered": recovered,
        },
        op_id,
    )


def snapshot(channel: str, taken: Snapshot) -> Frame:
    return _frame(
        {
            "op": "snapshot",
            "channel": channel,
            "epoch": taken.epoch,
            "seq": taken.seq,
            "data": taken.data,
        }
    )


def unsubscribed(op_id: OpId, channel: str) -> Frame:
    return _frame({"op": "unsubscribed", "channel": channel}, op_id)


def error(op_id: OpId, code: str, detail: str, channel: str | None = None) -> Frame:
    """``channel`` is named when the error concerns one that was subscribed before."""
    body: dict[str, object] = {"op": "error", "code": code, "detail": detail}
    if channel is not None:
        body["channel"] = channel
    return _frame(body, op_id)
