"""Ops take the wheel, and let it go: pins, exclusions and pauses are set and released.

What they mean is in ``orders.dispatch_controls``.  Every function is one use case in the caller's
transaction; who may call it, and the audit row, are the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from geo.zones import ZoneIndex
from kit.clock import database_now
from kit.errors import IllegalTransition, Invalid, NotFound
from kit.ids import new_id
from orders.dispatch_controls import ControlKind, active_of_order, announce, covers, read
from orders.dispatch_tables import dispatch_controls
from orders.errors import AlreadyPinned, OrderHasRider
from orders.model import DeliveryState
from orders.rows import lock_order
from orders.tables import orders, quotes
from orders.transitions import SYSTEM
from riders import shifts, trips
from riders.tables import riders
from stores.tables import stores, zones

# Virtual seconds: long enough for a flooded quarter, short enough for a forgotten switch.
LONGEST_S = 7 * 24 * 3600.0

_TO_BE_FETCHED = frozenset(
    {
        DeliveryState.UNASSIGNED,
        DeliveryState.OFFERED,
        DeliveryState.ASSIGNED,
        DeliveryState.AT_STORE,
    }
)


@dataclass(frozen=True, slots=True)
class Said:
    """Who sets a control, why, and until when."""

    by: str
    reason: str
    until: datetime


async def pin(conn: AsyncConnection, order_id: str, rider_id: str, said: Said) -> dict[str, Any]:
    """This order to this rider or to nobody.  Plans and offers of the order are void.

    Raises NotFound (rider), IllegalTransition (collected or over), OrderHasRider, AlreadyPinned,
    Invalid.
    """
    row = await lock_order(conn, order_id)
    if row.delivery_status not in _TO_BE_FETCHED:
        raise IllegalTransition(f"The delivery is {row.delivery_status}: it is too late to choose.")
    await _rider_of(conn, rider_id, row.city_id)
    trip = await trips.active_of_order(conn, order_id)
    if trip is not None and trip.rider_id != rider_id:
        raise OrderHasRider(
            "Another rider has the order; take that one off first.",
            extra={"rider_id": trip.rider_id, "trip_id": trip.id},
        )
    known = await active_of_order(conn, ControlKind.PIN, order_id=order_id)
    if known is not None:
        raise AlreadyPinned(
            "The order is pinned already; release that first.",
            extra={"control_id": known["id"], "rider_id": known["rider_id"]},
        )
    await _touch_order(conn, order_id)
    return await _set(
        conn, row.city_id, ControlKind.PIN, said, order_id=order_id, rider_id=rider_id
    )


async def exclude(
    conn: AsyncConnection,
    rider_id: str,
    said: Said,
    *,
    order_id: str | None = None,
    store_id: str | None = None,
) -> dict[str, Any]:
    """This rider gets not this order, nothing of this store, or nothing at all.

    What the rider has stays; ``reassigning.unassign`` takes it away.
    Raises NotFound (rider, or a store of another city), Invalid.
    """
    if order_id is not None and store_id is not None:
        raise Invalid("Name an order or a store, not both.")
    if order_id is not None:
        await lock_order(conn, order_id)
        await _touch_order(conn, order_id)
    rider = await shifts.rider(conn, rider_id)
    if store_id is not None:
        city_id = await conn.scalar(select(stores.c.city_id).where(stores.c.id == store_id))
        if city_id != rider.city_id:
            raise NotFound("There is no such store in the rider's city.")
    await trips.touch_rider(conn, rider_id)
    return await _set(
        conn, rider.city_id, ControlKind.EXCLUDE, said,
        rider_id=rider_id, order_id=order_id, store_id=store_id,
    )  # fmt: skip


async def pause(
    conn: AsyncConnection,
    territory_zones: ZoneIndex,
    city_id: str,
    said: Said,
    *,
    store_id: str | None = None,
    zone_id: str | None = None,
    hold_dispatch: bool,
    stop_orders: bool,
) -> dict[str, Any]:
    """Plan nothing, or sell nothing, for a while in a zone, a store, or all of the city.

    Trips that are under way go on.  Quotes that nobody has used yet are void where nothing is sold.
    Raises Invalid.
    """
    if not (hold_dispatch or stop_orders):
        raise Invalid("Say what is paused: hold_dispatch, stop_orders, or both.")
    row = await _set(
        conn, city_id, ControlKind.PAUSE, said, store_id=store_id, zone_id=zone_id,
        hold_dispatch=hold_dispatch, stop_orders=stop_orders, tell=False,
    )  # fmt: skip
    if hold_dispatch:
        await _touch_waiting(conn, territory_zones, row)
    if stop_orders:
        await _void_quotes(conn, territory_zones, row)
    await announce(conn, row)
    return row


async def release(
    conn: AsyncConnection, control_id: str, by: str, reason: str | None
) -> dict[str, Any]:
    """End a control before its time.  Saying it twice is fine.  Raises NotFound."""
    released = await conn.execute(
        update(dispatch_controls)
        .where(dispatch_controls.c.id == control_id, dispatch_controls.c.released_at.is_(None))
        .values(released_at=await database_now(conn), released_by=by, release_reason=reason)
    )
    row = await read(conn, control_id)
    if released.rowcount:
        await announce(conn, row)
    return row


async def release_pins(conn: AsyncConnection, order_id: str, by: str, reason: str) -> list[str]:
    """Somebody decided otherwise about a pinned order: its pin is over; ids of what was."""
    row = await active_of_order(conn, ControlKind.PIN, order_id=order_id)
    if row is None:
        return []
    await release(conn, row["id"], by, reason)
    return [str(row["id"])]


async def close_expired(conn: AsyncConnection, limit: int = 100) -> int:
    """Close the rows of controls of which the time is over, and of pins that are fulfilled."""
    done = await conn.execute(
        update(dispatch_controls)
        .where(
            dispatch_controls.c.id.in_(
                select(dispatch_controls.c.id)
                .where(
                    dispatch_controls.c.released_at.is_(None),
                    or_(
                        dispatch_controls.c.until <= func.darkstore_now(),
                        dispatch_controls.c.order_id.in_(
                            select(orders.c.id).where(
                                orders.c.id == dispatch_controls.c.order_id,
                                orders.c.delivery_status.not_in(_TO_BE_FETCHED),
                            )
                        ),
                    ),
                )
                .order_by(dispatch_controls.c.city_id, dispatch_controls.c.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        )
        .values(released_at=func.darkstore_now(), released_by=SYSTEM, release_reason="over")
        .returning(dispatch_controls)
    )
    rows = [dict(row) for row in done.mappings()]
    for row in sorted(rows, key=lambda row: (row["city_id"], row["id"])):
        await announce(conn, row)
    return len(rows)


async def zone_city(conn: AsyncConnection, zone_id: str) -> str:
    """The city of a zone.  Raises NotFound."""
    found = await conn.scalar(
        select(stores.c.city_id)
        .join(zones, zones.c.store_id == stores.c.id)
        .where(zones.c.id == zone_id)
    )
    if found is None:
        raise NotFound("There is no such zone.")
    return str(found)


async def _set(
    conn: AsyncConnection,
    city_id: str,
    kind: ControlKind,
    said: Said,
    *,
    tell: bool = True,
    **target: object,
) -> dict[str, Any]:
    now = await database_now(conn)
    left_s = (said.until - now).total_seconds()
    if not 0 < left_s <= LONGEST_S:
        raise Invalid(
            "A control ends: say when, at most a week from now.",
            errors=[{"field": "until", "detail": "between now and a week from now"}],
        )
    added = await conn.execute(
        insert(dispatch_controls)
        .values(
            id=new_id("dct"), city_id=city_id, kind=kind.value, reason=said.reason,
            set_by=said.by, set_at=now, until=said.until, **target,
        )
        .returning(dispatch_controls)
    )  # fmt: skip
    row = dict(added.mappings().one())
    if tell:
        await announce(conn, row)
    return row


async def _rider_of(conn: AsyncConnection, rider_id: str, city_id: str) -> None:
    """Raises NotFound unless the rider is of the city."""
    if await conn.scalar(select(riders.c.city_id).where(riders.c.id == rider_id)) != city_id:
        raise NotFound("There is no such rider in the order's city.")


async def _touch_order(conn: AsyncConnection, order_id: str) -> None:
    """Count the order's version up, so that a plan made before is seen to be stale."""
    await conn.execute(
        update(orders).where(orders.c.id == order_id).values(version=orders.c.version + 1)
    )


async def _touch_waiting(
    conn: AsyncConnection, territory_zones: ZoneIndex, control: Mapping[str, Any]
) -> None:
    """Plans of the orders that are held now are stale; what is changed this moment is anyhow."""
    waiting = await conn.execute(
        select(orders.c.id, orders.c.store_id, orders.c.lat, orders.c.lon)
        .where(
            orders.c.city_id == control["city_id"],
            orders.c.delivery_status == DeliveryState.UNASSIGNED.value,
        )
        .order_by(orders.c.id)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in waiting if covers(control, territory_zones, row)]
    if ids:
        await conn.execute(
            update(orders).where(orders.c.id.in_(ids)).values(version=orders.c.version + 1)
        )


async def _void_quotes(
    conn: AsyncConnection, territory_zones: ZoneIndex, control: Mapping[str, Any]
) -> None:
    """Open quotes cannot be used any more; one that is being paid at this moment goes through."""
    now = await database_now(conn)
    open_ = await conn.execute(
        select(quotes.c.id, quotes.c.store_id, quotes.c.lat, quotes.c.lon)
        .where(
            quotes.c.city_id == control["city_id"],
            quotes.c.order_id.is_(None),
            quotes.c.expires_at > now,
        )
        .order_by(quotes.c.id)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in open_ if covers(control, territory_zones, row)]
    if ids:
        await conn.execute(update(quotes).where(quotes.c.id.in_(ids)).values(expires_at=now))
