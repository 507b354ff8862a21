"""Use cases of outgoing webhooks.  Functions that take ``conn`` never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.ids import new_id
from kit.wire import rfc3339
from notify import repository
from notify.errors import (
    TooManyWebhookEndpoints,
    WebhookDeliveryNotFound,
    WebhookEndpointNotFound,
)
from notify.guarded_http import check_url
from notify.repository import Record
from notify.settings import WebhookSettings
from notify.webhooks import PING, event_body, parse_events, secret_of


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose endpoints the caller may touch: those of ``city_ids``, or all (None)."""

    city_ids: frozenset[str] | None

    def holds(self, city_id: str | None) -> bool:
        return self.city_ids is None or city_id in self.city_ids


async def create(
    conn: AsyncConnection,
    settings: WebhookSettings,
    *,
    city_id: str | None,
    url: str,
    events: Sequence[str],
    description: str,
    actor: str,
) -> dict[str, object]:
    """A new endpoint with its secret, which is shown here and after a rotation only.

    Raises WebhookUrlRefused, Invalid (events) and TooManyWebhookEndpoints.
    """
    wanted = parse_events(events)
    check_url(url, allow_private=settings.allow_private)
    if await repository.count_endpoints(conn, city_id) >= settings.max_endpoints_per_city:
        raise TooManyWebhookEndpoints("Remove an endpoint that nobody needs, then add this one.")
    endpoint_id = new_id("whk")
    await repository.add_endpoint(
        conn,
        {
            "id": endpoint_id, "city_id": city_id, "url": url, "events": wanted,
            "description": description, "created_by": actor,
        },
    )  # fmt: skip
    row = await repository.find_endpoint(conn, endpoint_id)
    assert row is not None
    return {**endpoint_view(row), "secret": secret_of(settings, endpoint_id, 1)}


async def endpoint(
    conn: AsyncConnection, scope: Scope, endpoint_id: str, *, lock: bool = False
) -> Record:
    """Raises WebhookEndpointNotFound, for a foreign one too."""
    row = await repository.find_endpoint(conn, endpoint_id, lock=lock)
    if row is None or not scope.holds(row.city_id):
        raise WebhookEndpointNotFound("GET /v1/ops/webhooks lists the endpoints that you may see.")
    return row


async def change(
    conn: AsyncConnection,
    settings: WebhookSettings,
    scope: Scope,
    endpoint_id: str,
    wanted: Mapping[str, Any],
) -> dict[str, object]:
    """Change ``url``, ``events``, ``description`` or ``active``; switching on forgives failures."""
    await endpoint(conn, scope, endpoint_id, lock=True)
    values = dict(wanted)
    if "url" in values:
        check_url(values["url"], allow_private=settings.allow_private)
    if "events" in values:
        values["events"] = parse_events(values["events"])
    if values.get("active") is True:
        values |= {"disabled_reason": None, "failing_since": None}
    elif values.get("active") is False:
        values["disabled_reason"] = "switched off by staff"
    if values:
        await repository.change_endpoint(conn, endpoint_id, values)
    return endpoint_view(await endpoint(conn, scope, endpoint_id))


async def rotate(
    conn: AsyncConnection, settings: WebhookSettings, scope: Scope, endpoint_id: str
) -> dict[str, object]:
    """A new secret; for a day the one before signs along."""
    row = await endpoint(conn, scope, endpoint_id, lock=True)
    await repository.rotate_secret(conn, endpoint_id, settings.rotation_overlap_s)
    return {
        **endpoint_view(await endpoint(conn, scope, endpoint_id)),
        "secret": secret_of(settings, endpoint_id, row.secret_version + 1),
    }


async def ping(conn: AsyncConnection, scope: Scope, endpoint_id: str) -> dict[str, object]:
    """Queue a test event, so that a receiver can be tried before anything happens."""
    row = await endpoint(conn, scope, endpoint_id)
    event_id = new_id("evt")
    at = await database_now(conn)
    body = event_body(event_id, PING, at, "webhook_endpoint", endpoint_view(row))
    await repository.queue_event(conn, [endpoint_id], event_id, PING, body)
    (newest,) = await repository.list_deliveries(conn, endpoint_id, None, None, 1)
    return delivery_view(newest)


async def delivery(
    conn: AsyncConnection, scope: Scope, endpoint_id: str, delivery_id: str
) -> Record:
    """Raises WebhookEndpointNotFound, WebhookDeliveryNotFound."""
    await endpoint(conn, scope, endpoint_id)
    row = await repository.find_delivery(conn, delivery_id)
    if row is None or row.endpoint_id != endpoint_id:
        raise WebhookDeliveryNotFound("This endpoint has no delivery with this id.")
    return row


async def replay(
    conn: AsyncConnection, scope: Scope, endpoint_id: str, delivery_id: str | None
) -> int:
    """Send one delivery again, or all dead ones; returns how many wait now."""
    if delivery_id is None:
        await endpoint(conn, scope, endpoint_id)
    else:
        await delivery(conn, scope, endpoint_id, delivery_id)
    return await repository.replay(conn, endpoint_id, delivery_id)


def endpoint_view(row: Record) -> dict[str, object]:
    """An endpoint without its secret."""
    return {
        "id": row.id,
        "city_id": row.city_id,
        "url": row.url,
        "description": row.description,
        "events": list(row.events),
        "active": row.active,
        "disabled_reason": row.disabled_reason,
        "failing_since": rfc3339(row.failing_since),
        "created_at": rfc3339(row.created_at),
    }


def delivery_view(row: Record) -> dict[str, object]:
    waiting = row.status == "waiting"
    return {
        "id": row.id,
        "endpoint_id": row.endpoint_id,
        "event_id": row.event_id,
        "type": row.type,
        "status": row.status,
        "attempts": row.attempts,
        "next_attempt_at": rfc3339(row.next_attempt_at) if waiting else None,
        "created_at": rfc3339(row.created_at),
        "finished_at": rfc3339(row.finished_at),
    }


def attempt_view(row: Record) -> dict[str, object]:
    return {
        "n": row.n,
        "at": rfc3339(row.at),
        "duration_ms": row.duration_ms,
        "status_code": row.status_code,
        "error": row.error,
        "answer": row.answer,
    }
