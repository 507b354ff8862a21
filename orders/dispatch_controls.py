"""The hand on the wheel: what city ops say about dispatch, in words that it obeys.

=========  ==========================================================================
pin        an order goes to this rider or to nobody
exclude    a rider gets not this order, nothing of this store, or nothing at all
pause      of a city, a store or a zone: ``hold_dispatch`` plans none of its orders,
           ``stop_orders`` takes no new ones; a zone is all doors in it, whoever serves them
=========  ==========================================================================

Each has a reason, an owner and an end, so that nothing stays switched off because nobody remembers
it; ops of the city may release any of them, whoever set it.  A control of which the time is over
counts no more from that moment on, and a periodic job closes its row.  None of them concerns what
ops themselves may do: ``orders.assigning`` overrides each, if told to.

Here they are read; ``orders.controlling`` sets and releases them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.distances import Point
from geo.zones import ZoneIndex
from kit import outbox
from kit.errors import NotFound
from kit.sql import load
from kit.wire import rfc3339
from orders.dispatch_tables import dispatch_controls

_LIST = load("orders", "dispatch_controls")

# How many rows of controls a city is planned with; far more than people can keep in their heads.
MOST_ACTIVE = 1_000


class ControlKind(StrEnum):
    PIN = "pin"
    EXCLUDE = "exclude"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Held:
    """Why an order is not planned."""

    control_id: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Controls:
    """The controls of a city that count now."""

    rows: Sequence[Mapping[str, Any]]

    def of(self, kind: ControlKind) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row["kind"] == kind]

    def pins(self) -> dict[str, str]:
        """(order id -> rider id)."""
        return {row["order_id"]: row["rider_id"] for row in self.of(ControlKind.PIN)}

    def riders_out(self) -> frozenset[str]:
        """Riders who get nothing at all."""
        return frozenset(
            row["rider_id"]
            for row in self.of(ControlKind.EXCLUDE)
            if row["order_id"] is None and row["store_id"] is None
        )

    def excluded(self, order_id: str, store_id: str) -> frozenset[str]:
        """Riders who get not this order."""
        return frozenset(
            row["rider_id"]
            for row in self.of(ControlKind.EXCLUDE)
            if row["order_id"] == order_id or row["store_id"] == store_id
        )

    def held(self, store_id: str, zone_ids: Collection[str]) -> Held | None:
        """Why orders of a store to a door in these zones are not planned."""
        for row in self.of(ControlKind.PAUSE):
            if row["hold_dispatch"] and _concerns(row, store_id, zone_ids):
                return Held(row["id"], row["reason"], row["until"])
        return None


def _concerns(row: Mapping[str, Any], store_id: str, zone_ids: Collection[str]) -> bool:
    if row["store_id"] is not None:
        return bool(row["store_id"] == store_id)
    return row["zone_id"] is None or row["zone_id"] in zone_ids


@dataclass(frozen=True, slots=True)
class Applied:
    """What is left to plan: rows by id, and what holds for them."""

    orders: Mapping[str, Any]
    riders: Mapping[str, Any]
    pins: Mapping[str, str]
    excluded: Mapping[str, frozenset[str]]
    held: Mapping[str, Held]


async def read_controls(conn: AsyncConnection, city_id: str) -> Controls:
    """The controls of a city that count at this moment, oldest first."""
    return Controls(await _LIST.dicts(conn, [city_id], False, None, MOST_ACTIVE))


def apply(
    controls: Controls,
    territory_zones: ZoneIndex,
    order_rows: Mapping[str, Any],
    rider_rows: Mapping[str, Any],
) -> Applied:
    """Leave out what may not be planned.  Rows of orders have ``store_id``, ``lat`` and ``lon``."""
    if not controls.rows:
        return Applied(order_rows, rider_rows, {}, {}, {})
    by_zone = any(row["zone_id"] is not None for row in controls.rows)
    held: dict[str, Held] = {}
    excluded: dict[str, frozenset[str]] = {}
    for order_id, row in order_rows.items():
        zone_ids = territory_zones.zones_at(Point(row.lat, row.lon)) if by_zone else ()
        why = controls.held(row.store_id, zone_ids)
        if why is not None:
            held[order_id] = why
        elif riders_out := controls.excluded(order_id, row.store_id):
            excluded[order_id] = riders_out
    out = controls.riders_out()
    return Applied(
        {k: row for k, row in order_rows.items() if k not in held},
        {k: row for k, row in rider_rows.items() if k not in out},
        {k: rider_id for k, rider_id in controls.pins().items() if k in order_rows},
        excluded,
        held,
    )


async def read(conn: AsyncConnection, control_id: str) -> dict[str, Any]:
    """One control, released or not.  Raises NotFound."""
    found = await conn.execute(
        select(dispatch_controls).where(dispatch_controls.c.id == control_id)
    )
    row = found.mappings().first()
    if row is None:
        raise NotFound("There is no such control.")
    return dict(row)


async def rows(
    conn: AsyncConnection,
    city_ids: Sequence[str] | None,
    *,
    over: bool,
    before: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Controls of these cities (None: of all), newest first; those that are over if asked for."""
    wanted = None if city_ids is None else list(city_ids)
    return await _LIST.dicts(conn, wanted, over, before, limit)


def shape(row: Mapping[str, Any]) -> dict[str, object]:
    """A control as ops read it, and as the ``dispatch.control`` event says it."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "status": "active" if row["released_at"] is None else "over",
        "city_id": row["city_id"],
        "order_id": row["order_id"],
        "rider_id": row["rider_id"],
        "store_id": row["store_id"],
        "zone_id": row["zone_id"],
        "hold_dispatch": row["hold_dispatch"],
        "stop_orders": row["stop_orders"],
        "reason": row["reason"],
        "set_by": row["set_by"],
        "set_at": rfc3339(row["set_at"]),
        "until": rfc3339(row["until"]),
        "released_at": rfc3339(row["released_at"]),
        "released_by": row["released_by"],
        "release_reason": row["release_reason"],
    }


async def announce(conn: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Tell the ops of the city how a control stands."""
    await outbox.append(conn, f"city:{row['city_id']}", "dispatch.control", shape(row))


async def active_of_order(
    conn: AsyncConnection, kind: ControlKind, *, order_id: str
) -> Mapping[str, Any] | None:
    found = await conn.execute(
        select(dispatch_controls).where(
            dispatch_controls.c.kind == kind.value,
            dispatch_controls.c.order_id == order_id,
            dispatch_controls.c.released_at.is_(None),
            dispatch_controls.c.until > func.darkstore_now(),
        )
    )
    row = found.mappings().first()
    return None if row is None else dict(row)


def covers(control: Mapping[str, Any], territory_zones: ZoneIndex, row: Any) -> bool:
    """Whether a pause concerns an order (or quote) with ``store_id``, ``lat`` and ``lon``."""
    zone_ids: Collection[str] = ()
    if control["zone_id"] is not None:
        zone_ids = territory_zones.zones_at(Point(row.lat, row.lon))
    return _concerns(control, row.store_id, zone_ids)
