"""The served AsyncAPI document says what the stream does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import httpx
import jsonschema
import pytest

from realtime import ops
from realtime.channels import Channel, ChannelKind
from realtime.event_types import EVENT_TYPES
from realtime.events import Position, encode_event, encode_position
from realtime.frames import Frame
from realtime.ports import Snapshot
from realtime.writer import CloseCode
from server.api.asyncapi import CLIENT_OPS, document
from tests.http_support import make_services
from tests.realtime_support import ORDER, position, status


def misfits(schema_name: str, body: Any) -> list[str]:
    """What one schema of the document, references included, does not allow."""
    schemas = document()["components"]["schemas"]
    schema = {
        "$ref": f"#/components/schemas/{schema_name}",
        "components": {"schemas": schemas},
    }
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(body)]


def references(value: Any) -> list[str]:
    """Every ``$ref`` in a document."""
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [ref for inner in value.values() for ref in references(inner)]
    if isinstance(value, list):
        return [ref for inner in value for ref in references(inner)]
    return []


def test_every_reference_resolves() -> None:
    """No ``$ref`` of the document points at nothing."""
    found = references(document())
    assert found
    for reference in found:
        target: Any = document()
        for part in reference.removeprefix("#/").split("/"):
            assert part in target, reference
            target = target[part]


def test_every_event_type_is_described() -> None:
    """The closed set of events is the document's set of events, each on its kind of channel."""
    messages = document()["components"]["messages"]
    described = {name.removeprefix("event.") for name in messages if name.startswith("event.")}
    assert described == set(EVENT_TYPES)
    for event_type, (kind, _) in EVENT_TYPES.items():
        schema = document()["components"]["schemas"][f"event.{event_type}"]
        assert schema["properties"]["channel"]["pattern"] == f"^{kind}:"


def test_every_op_is_described() -> None:
    """What a session decodes is what clients are told that they may send."""
    assert set(CLIENT_OPS) == set(get_args(ops.Op))
    received = document()["operations"]["fromClients"]["messages"]
    assert len(received) == len(CLIENT_OPS)


@pytest.mark.parametrize(
    ("frame", "op"),
    [
        (ops.ready("con_1", 25.0, 4.0), "ready"),
        (ops.subscribed(1, "order:ord_1", "e", 4, recovered=True), "subscribed"),
        (ops.subscribed(None, "order:ord_1", "e", 4, recovered=False), "subscribed"),
        (ops.snapshot("order:ord_1", Snapshot("e", 4, {"id": "ord_1"})), "snapshot"),
        (ops.unsubscribed("a", "order:ord_1"), "unsubscribed"),
        (ops.error(2, "not_found", "There is no such channel."), "error"),
        (ops.error(None, "not_found", "It is gone.", "order:ord_1"), "error"),
        (ops.PONG, "pong"),
    ],
)
def test_frames_fit_their_description(frame: Frame, op: str) -> None:
    """What a session writes is what the document says, member for member."""
    assert misfits(f"frame.{op}", json.loads(frame.payload)) == []


def test_positions_fit_their_description() -> None:
    """Positions to a customer and to a city's map."""
    assert misfits("frame.position", json.loads(encode_position(ORDER, position(1)))) == []
    seen = Position(lat=1.0, lon=2.0, at=datetime.now(UTC), rider_id="rdr_1")
    city = Channel(ChannelKind.CITY, "cty_1")
    assert misfits("frame.position", json.loads(encode_position(city, seen))) == []


def test_an_event_fits_its_description() -> None:
    """An event as clients get it, and not one with a member that nobody knows."""
    body = json.loads(encode_event(status(3, reason="late")))
    assert misfits("event.order.status", body) == []
    assert misfits("event.order.status", body | {"surprise": 1})


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ("Auth", {"op": "auth", "ticket": "t"}),
        ("Subscribe", {"op": "subscribe", "id": 1, "channel": "order:ord_1"}),
        (
            "Subscribe",
            {
                "op": "subscribe",
                "id": "a",
                "channel": "order:ord_1",
                "since": {"epoch": "e", "seq": 41},
            },
        ),
        ("Unsubscribe", {"op": "unsubscribe", "channel": "order:ord_1"}),
        (
            "Positions",
            {"op": "positions", "points": [{"t": "2026-01-01T00:00:00Z", "lat": 1.5, "lon": 2.5}]},
        ),
        ("Ping", {"op": "ping"}),
    ],
)
def test_ops_fit_their_description(schema: str, body: dict[str, Any]) -> None:
    """What the decoder takes, the document allows."""
    ops.decode_op(json.dumps(body))
    assert misfits(schema, body) == []


def test_every_close_code_is_explained() -> None:
    """A client can look up each code with which the server ends a connection."""
    text = document()["info"]["description"]
    for code in CloseCode:
        assert f"- {code.value}: " in text


async def test_served_to_anybody() -> None:
    """``GET /asyncapi.json`` needs no token."""
    from server.app import create_app

    transport = httpx.ASGITransport(app=create_app(make_services()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/asyncapi.json")
    assert response.status_code == 200
    assert response.json() == document()
