"""Orders for which a person is called: one open alert an order and kind, told on the city's stream.

``needs_rider``   offers of it were declined or ran out so often, or it waits for too long
``rider_silent``  who carries it has not been heard of: ops decide, it is never moved by itself
``handed_back``   who carries it cannot bring it there: ops decide

An alert closes by itself when its order gets on (the trigger of ``140_dispatch_alerts.sql``), so
none is open about an order that is as it should be; ops may close one before.  Every function runs
in the caller's transaction, with the order's row locked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import NotFound
from kit.ids import new_id
from kit.sql import Query, load
from kit.wire import rfc3339
from orders.dispatch_tables import dispatch_alerts
from orders.model import DeliveryState
from orders.tables import orders

_RESOLVE = Query(
    "orders.dispatch_alert_resolve",
    "SELECT dispatch_alert_resolve($1::text, $2::text[], $3::text, $4::text)",
)
_FAILED = load("orders", "failed_offers")
_LIST = load("orders", "dispatch_alerts")

_WITHOUT_RIDER = frozenset({DeliveryState.UNASSIGNED, DeliveryState.OFFERED})
_CARRIED = frozenset({DeliveryState.COLLECTED, DeliveryState.AT_DOOR})


class AlertKind(StrEnum):
    NEEDS_RIDER = "needs_rider"
    RIDER_SILENT = "rider_silent"
    HANDED_BACK = "handed_back"


_STATES: Mapping[AlertKind, frozenset[DeliveryState]] = {
    AlertKind.NEEDS_RIDER: _WITHOUT_RIDER,
    AlertKind.RIDER_SILENT: _CARRIED,
    AlertKind.HANDED_BACK: _CARRIED,
}


async def call(
    conn: AsyncConnection,
    order_id: str,
    kind: AlertKind,
    detail: str,
    facts: Mapping[str, object],
    *,
    trip_id: str | None = None,
    rider_id: str | None = None,
) -> bool:
    """Call ops; False when they are called already, or there is no longer a reason to."""
    order = (
        await conn.execute(
            select(orders.c.city_id, orders.c.store_id, orders.c.delivery_status).where(
                orders.c.id == order_id
            )
        )
    ).one()
    if order.delivery_status not in _STATES[kind]:
        return False
    row = (
        (
            await conn.execute(
                insert(dispatch_alerts)
                .values(
                    id=new_id("dal"), city_id=order.city_id, store_id=order.store_id,
                    order_id=order_id, kind=kind.value, trip_id=trip_id, rider_id=rider_id,
                    detail=detail, facts=dict(facts), raised_at=await database_now(conn),
                )
                .on_conflict_do_nothing()
                .returning(dispatch_alerts)
            )
        )
        .mappings()
        .first()
    )  # fmt: skip
    if row is None:
        return False
    await outbox.append(conn, f"city:{order.city_id}", "dispatch.alert", event(row))
    return True


async def count_failed_offers(
    conn: AsyncConnection, order_ids: Sequence[str], failed_alert: int
) -> None:
    """Call ops for those of the orders whose offers have come to nothing so often."""
    for row in await _FAILED.all(conn, list(order_ids)):
        if row.declined + row.expired >= failed_alert:
            await call(
                conn, row.order_id, AlertKind.NEEDS_RIDER,
                f"{row.declined} riders declined it and {row.expired} did not answer.",
                {"cause": "offers_failed", "declined": row.declined, "expired": row.expired},
            )  # fmt: skip


async def resolve(
    conn: AsyncConnection,
    order_id: str,
    kinds: Sequence[AlertKind],
    by: str,
    resolution: str,
) -> int:
    """Close the order's open alerts of these kinds; returns how many there were."""
    row = await _RESOLVE.one(conn, order_id, [kind.value for kind in kinds], by, resolution)
    return int(row[0])


async def close(conn: AsyncConnection, alert_id: str, by: str, resolution: str) -> dict[str, Any]:
    """Ops say what became of an alert; the first word stands.  Raises NotFound."""
    row = await read(conn, alert_id)
    if row["resolved_at"] is not None:
        return row
    done = await conn.execute(
        update(dispatch_alerts)
        .where(dispatch_alerts.c.id == alert_id, dispatch_alerts.c.resolved_at.is_(None))
        .values(resolved_at=await database_now(conn), resolved_by=by, resolution=resolution)
    )
    row = await read(conn, alert_id)
    if done.rowcount:
        await outbox.append(conn, f"city:{row['city_id']}", "dispatch.alert", event(row))
    return row


async def read(conn: AsyncConnection, alert_id: str) -> dict[str, Any]:
    """One alert.  Raises NotFound."""
    found = await conn.execute(select(dispatch_alerts).where(dispatch_alerts.c.id == alert_id))
    row = found.mappings().first()
    if row is None:
        raise NotFound("There is no such alert.")
    return dict(row)


async def rows(
    conn: AsyncConnection,
    city_ids: Sequence[str] | None,
    *,
    resolved: bool,
    before: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Alerts of these cities (None: of all), newest first; resolved ones only if asked for."""
    wanted = None if city_ids is None else list(city_ids)
    return await _LIST.dicts(conn, wanted, resolved, before, limit)


def shape(row: Mapping[str, Any]) -> dict[str, object]:
    """An alert as ops read it."""
    facts = row["facts"]
    # A statement of ours is not typed: its JSON comes as text.
    told = orjson.loads(facts) if isinstance(facts, str) else facts
    return {**event(row), "city_id": row["city_id"], "facts": told}


def event(row: Mapping[str, Any]) -> dict[str, object]:
    """An alert as the ``dispatch.alert`` event says it."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "status": "open" if row["resolved_at"] is None else "resolved",
        "order_id": row["order_id"],
        "store_id": row["store_id"],
        "trip_id": row["trip_id"],
        "rider_id": row["rider_id"],
        "detail": row["detail"],
        "raised_at": rfc3339(row["raised_at"]),
        "resolved_at": rfc3339(row["resolved_at"]),
        "resolved_by": row["resolved_by"],
        "resolution": row["resolution"],
    }
