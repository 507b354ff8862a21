"""Every query on webhook endpoints, deliveries and attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.ids import new_id
from kit.sql import load
from notify.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

_QUEUE = load("notify", "queue_event")
_CLAIM = load("notify", "claim_deliveries")
_RECORD = load("notify", "record_attempt")

Record = Row[*tuple[Any, ...]]
_KEEP_DELIVERED_DAYS = 30


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that this sender has claimed; ``overlap``: the secret before it signs too."""

    id: str
    endpoint_id: str
    event_id: str
    body: bytes
    attempts: int
    url: str
    secret_version: int
    overlap: bool


async def queue_event(
    conn: AsyncConnection, endpoint_ids: Sequence[str], event_id: str, event_type: str, body: bytes
) -> None:
    """A delivery to each endpoint; one that has the event already gets no second one."""
    ids = [new_id("whd") for _ in endpoint_ids]
    await _QUEUE.run(conn, ids, list(endpoint_ids), event_id, event_type, body)


async def claim(
    conn: AsyncConnection, limit: int, per_endpoint: int, lease_s: float, busy: Sequence[str]
) -> list[DueDelivery]:
    """Deliveries that are due, without those of endpoints that are ``busy``."""
    rows = await _CLAIM.all(conn, limit, per_endpoint, lease_s, list(busy))
    return [
        DueDelivery(
            row.id, row.endpoint_id, row.event_id, bytes(row.body), row.attempts, row.url,
            row.secret_version, row.overlap,
        )
        for row in rows
    ]  # fmt: skip


async def record_attempt(
    conn: AsyncConnection,
    delivery: DueDelivery,
    *,
    duration_ms: int,
    status_code: int | None,
    error: str | None,
    answer: str | None,
    status: str,
    again_in_s: float,
    disable_after_s: float,
) -> bool:
    """Write an attempt down; True when its endpoint was switched off for failing too long."""
    row = await _RECORD.first(
        conn, delivery.id, delivery.attempts, duration_ms, status_code, error, answer, status,
        again_in_s, disable_after_s,
    )  # fmt: skip
    return row is not None and bool(row.switched_off)


async def add_endpoint(conn: AsyncConnection, values: Mapping[str, object]) -> None:
    await conn.execute(insert(webhook_endpoints).values(**values, created_at=func.darkstore_now()))


async def count_endpoints(conn: AsyncConnection, city_id: str | None) -> int:
    """Endpoints of a city (or of all cities), counted under a lock so that two are not one."""
    await conn.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks:' || :city, 7))"),
        {"city": city_id or "all"},
    )
    table = webhook_endpoints
    of_city = table.c.city_id.is_(None) if city_id is None else table.c.city_id == city_id
    found = await conn.scalar(select(func.count()).select_from(table).where(of_city))
    return int(found or 0)


async def find_endpoint(
    conn: AsyncConnection, endpoint_id: str, *, lock: bool = False
) -> Record | None:
    query = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
    return (await conn.execute(query.with_for_update() if lock else query)).first()


async def list_endpoints(conn: AsyncConnection, city_ids: Sequence[str] | None) -> Sequence[Record]:
    """Endpoints of some cities; None: all there are."""
    query = select(webhook_endpoints).order_by(webhook_endpoints.c.id)
    if city_ids is not None:
        query = query.where(webhook_endpoints.c.city_id.in_(city_ids))
    return (await conn.execute(query)).all()


async def change_endpoint(
    conn: AsyncConnection, endpoint_id: str, values: Mapping[str, object]
) -> None:
    await conn.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id).values(**values)
    )


async def rotate_secret(conn: AsyncConnection, endpoint_id: str, overlap_s: float) -> None:
    """The next secret version; the one before signs along for ``overlap_s`` real seconds."""
    await conn.execute(
        text(
            "UPDATE webhook_endpoints SET secret_version = secret_version + 1,"
            " previous_secret_until = clock_timestamp() + make_interval(secs => :overlap)"
            " WHERE id = :id"
        ),
        {"id": endpoint_id, "overlap": overlap_s},
    )


async def remove_endpoint(conn: AsyncConnection, endpoint_id: str) -> None:
    """With everything that was sent to it."""
    await conn.execute(webhook_endpoints.delete().where(webhook_endpoints.c.id == endpoint_id))


async def list_deliveries(
    conn: AsyncConnection, endpoint_id: str, status: str | None, before: str | None, limit: int
) -> Sequence[Record]:
    """Newest first, without bodies."""
    table = webhook_deliveries
    query = (
        select(*(column for column in table.c if column is not table.c.body))
        .where(table.c.endpoint_id == endpoint_id)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    if status is not None:
        query = query.where(table.c.status == status)
    if before is not None:
        query = query.where(table.c.id < before)
    return (await conn.execute(query)).all()


async def find_delivery(conn: AsyncConnection, delivery_id: str) -> Record | None:
    query = select(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id)
    return (await conn.execute(query)).first()


async def attempts_of(conn: AsyncConnection, delivery_id: str) -> Sequence[Record]:
    query = (
        select(webhook_attempts)
        .where(webhook_attempts.c.delivery_id == delivery_id)
        .order_by(webhook_attempts.c.n)
    )
    return (await conn.execute(query)).all()


async def replay(conn: AsyncConnection, endpoint_id: str, delivery_id: str | None) -> int:
    """Send again: one delivery whatever became of it, or all dead ones of the endpoint.

    Attempts go on counting, so each replayed delivery has one more before it is dead again.
    """
    table = webhook_deliveries
    which = table.c.status == "dead" if delivery_id is None else table.c.id == delivery_id
    done = await conn.execute(
        update(table)
        .where(table.c.endpoint_id == endpoint_id, which)
        .values(status="waiting", next_attempt_at=func.clock_timestamp(), finished_at=None)
    )
    return done.rowcount


async def forget_delivered(conn: AsyncConnection) -> int:
    """Drop what was delivered a month ago; dead deliveries stay until somebody looks."""
    done = await conn.execute(
        text(
            "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries"
            " WHERE status = 'delivered'"
            " AND finished_at < darkstore_now() - make_interval(days => :days) LIMIT 5000)"
        ),
        {"days": _KEEP_DELIVERED_DAYS},
    )
    return done.rowcount
