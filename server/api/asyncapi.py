"""``GET /asyncapi.json``: the contract of the stream, made from the types that the stream runs on.

AsyncAPI 3.0.  Operations are named from the side of the application, as that standard wants it:
``receive`` is what clients send.  Ops that clients send and the data of events come from their own
decoders' types; the frames that answer are described here, and a test holds them against what a
session writes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from fastapi import APIRouter

from realtime.channels import ChannelKind
from realtime.event_types import EVENT_TYPES
from realtime.limits import StreamLimits
from realtime.ops import Auth, Ping, Positions, Subscribe, Unsubscribe
from realtime.tickets import TICKET_LIFE_S
from realtime.writer import CloseCode
from server.api.access import PROBE
from server.api.stream import PATH

router = APIRouter(tags=["operations"], dependencies=[PROBE])

VERSION: Final = "3.0.0"
_REF: Final = "#/components/schemas/{name}"

# From clients.  A struct's tag is its ``op``.
CLIENT_OPS: Final = (Auth, Subscribe, Unsubscribe, Positions, Ping)

_TEXT: Final = {"type": "string"}
_SEQ: Final = {"type": "integer", "minimum": 0}
_TIME: Final = {"type": "string", "format": "date-time"}
_OP_ID: Final = {
    "description": "As in the op that this answers",
    "anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}],
}
_HEADS: Final = {"channel": _TEXT, "epoch": _TEXT, "seq": _SEQ}

# To clients: (summary, members, which of them are always there).
SERVER_FRAMES: Final[dict[str, tuple[str, dict[str, Any], tuple[str, ...]]]] = {
    "ready": (
        "The ticket was good; ops may follow",
        {
            "session": _TEXT,
            "heartbeat_s": {"type": "number"},
            "position_interval_s": {"type": "number"},
        },
        ("session", "heartbeat_s", "position_interval_s"),
    ),
    "subscribed": (
        "Events follow: the missing ones if `recovered`, else a snapshot and those after it",
        {"id": _OP_ID, **_HEADS, "recovered": {"type": "boolean"}},
        ("channel", "epoch", "seq", "recovered"),
    ),
    "snapshot": (
        "The channel's whole state after event `seq`",
        {**_HEADS, "data": {"type": "object"}},
        ("channel", "epoch", "seq", "data"),
    ),
    "unsubscribed": (
        "Nothing more of this channel",
        {"id": _OP_ID, "channel": _TEXT},
        ("channel",),
    ),
    "position": (
        "Where a rider is now; newest wins, none is kept",
        {
            "channel": _TEXT,
            "lat": {"type": "number"},
            "lon": {"type": "number"},
            "heading_deg": {"type": ["number", "null"]},
            "eta_s": {"type": ["integer", "null"]},
            "at": _TIME,
            "rider_id": {"description": "On channels that show several riders", **_TEXT},
        },
        ("channel", "lat", "lon", "heading_deg", "eta_s", "at"),
    ),
    "pong": ("Answers ping", {}, ()),
    "error": (
        "An op was refused, or a channel was lost; `code` is stable",
        {"id": _OP_ID, "channel": _TEXT, "code": _TEXT, "detail": _TEXT},
        ("code", "detail"),
    ),
}

_CLOSE_CODES: Final = {
    CloseCode.NORMAL: "the client left",
    CloseCode.UNSUPPORTED: "a binary frame",
    CloseCode.POLICY: "too many frames",
    CloseCode.TOO_BIG: "a frame above the limit",
    CloseCode.INTERNAL: "an error of the server: reconnect",
    CloseCode.RESTART: "the server restarts: reconnect and resume",
    CloseCode.UNAUTHENTICATED: "no ticket in time, a bad one, or the log-in has ended",
    CloseCode.SLOW: "too slow: resume from the last event",
}


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> dict[str, Any]:
    """The contract of the stream."""
    return document()


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The AsyncAPI document.  Callers must not change it."""
    schemas = _schemas()
    messages = _messages(schemas)
    received = [f"op.{_tag(op)}" for op in CLIENT_OPS]
    sent = [name for name in messages if name not in received]
    whole = {
        "asyncapi": VERSION,
        "info": {
            "title": "Darkstore stream",
            "version": "1",
            "license": {"name": "Apache-2.0"},
            "description": _description(),
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": PATH,
                "description": "One WebSocket; text frames, JSON.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "fromClients": _operation("receive", received),
            "toClients": _operation("send", sent),
        },
        "components": {"messages": messages, "schemas": schemas},
    }
    # Defaults of fields are Python's; what is served has lists where those have tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _operation(action: str, messages: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in messages],
    }


def _tag(op: type[msgspec.Struct]) -> str:
    return str(op.__struct_config__.tag)


def _schemas() -> dict[str, Any]:
    """Every data type and op by its class name, every frame to clients as ``frame.OP``."""
    types = [*CLIENT_OPS, *(shape for _, shape in EVENT_TYPES.values())]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    for op, (summary, members, required) in SERVER_FRAMES.items():
        schemas[f"frame.{op}"] = _frame(op, summary, members, required)
    for event_type, (kind, shape) in EVENT_TYPES.items():
        schemas[f"event.{event_type}"] = _event(event_type, kind, shape)
    return schemas


def _frame(
    op: str, summary: str, members: dict[str, Any], required: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "title": op,
        "description": summary,
        "type": "object",
        "properties": {"op": {"const": op}, **members},
        "required": ["op", *required],
        "additionalProperties": False,
    }


def _event(event_type: str, kind: ChannelKind, shape: type[msgspec.Struct]) -> dict[str, Any]:
    members = {
        "channel": {"type": "string", "pattern": f"^{kind}:"},
        "seq": {"type": "integer", "minimum": 1},
        "type": {"const": event_type},
        "at": _TIME,
        "data": {"$ref": _REF.format(name=shape.__name__)},
    }
    summary = f"On `{kind}:…`, durable: `seq` has no gaps"
    return _frame("event", summary, members, tuple(members))


def _messages(schemas: dict[str, Any]) -> dict[str, Any]:
    """One message an op, a frame and an event type, by the names in ``document``."""
    messages = {}
    for op in CLIENT_OPS:
        name = _tag(op)
        messages[f"op.{name}"] = {
            "name": name,
            "payload": {"$ref": _REF.format(name=op.__name__)},
        }
    for name in schemas:
        if name.startswith(("frame.", "event.")):
            messages[name] = {
                "name": name.partition(".")[2],
                "summary": schemas[name]["description"],
                "payload": {"$ref": _REF.format(name=name)},
            }
    return messages


def _description() -> str:
    limits = StreamLimits()
    codes = "\n".join(f"- {code.value}: {why}" for code, why in _CLOSE_CODES.items())
    kinds = ", ".join(f"`{kind}:{{id}}`" for kind in ChannelKind)
    return (
        f"The first frame is `auth` with a one-use ticket of `POST /v1/realtime/tickets` (good for"
        f" {TICKET_LIFE_S:g} s), within {limits.auth_timeout_s:g} s. Channels are {kinds}. A frame"
        f" has at most {limits.max_frame_bytes} bytes, a connection at most {limits.max_channels}"
        f" channels. To resume, subscribe with `since`: the epoch and the seq of the last event"
        f" that was seen.\n\nThe server closes with:\n\n{codes}\n"
    )
