"""Steps for tests of offers, alerts and controls on a ``Shop``: time, answers, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control import audit
from control.audit import Deed
from kit.clock import load_clock
from orders import controlling, dispatch_controls, offers
from orders.controlling import Said
from riders.locations import RiderFix
from riders.model import DeclineReason
from riders.settings import RiderSettings
from server.wiring import Services
from tests.order_support import Shop

OPS = "usr_ops"


async def later(shop: Shop, seconds: float) -> None:
    """The database's clock jumps ahead, and the shop's with it."""
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE clock SET anchor_virtual = anchor_virtual + make_interval(secs => :s)"),
            {"s": seconds},
        )
        shop.clock = await load_clock(conn)


def riders_of(shop: Shop) -> tuple[str, ...]:
    """The ids of the shop's riders."""
    return tuple(str(rider.rider_id) for rider in shop.place.riders)


async def decline(shop: Shop, order_id: str, reason: DeclineReason = DeclineReason.TOO_FAR) -> None:
    """Whoever is asked about the order leaves it to others."""
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await offers.decline(
            conn, shop.rider_settings.offers, trip.rider_id, trip.offer_id or "", reason
        )


async def let_pass(shop: Shop, order_id: str) -> None:
    """Nobody answers the order's offer until its time is over."""
    trip = await shop.trip(order_id)
    async with shop.database.begin() as conn:
        await conn.execute(
            text("UPDATE offers SET expires_at = darkstore_now() WHERE id = :id"),
            {"id": trip.offer_id},
        )
    async with shop.database.begin() as conn:
        await offers.expire(conn, trip.id, shop.rider_settings.offers)


async def events(shop: Shop, stream: str, event_type: str) -> list[dict[str, Any]]:
    """The data of a stream's events of one type, oldest first."""
    rows = await shop.rows(
        "SELECT data FROM outbox WHERE stream = :stream AND type = :type ORDER BY seq",
        stream=stream, type=event_type,
    )  # fmt: skip
    return [row["data"] for row in rows]


async def alerts(shop: Shop, order_id: str) -> list[tuple[str, bool]]:
    """(kind, whether it is open) of an order's alerts, oldest first."""
    rows = await shop.rows(
        "SELECT kind, resolved_at IS NULL AS open FROM dispatch_alerts"
        " WHERE order_id = :id ORDER BY id", id=order_id,
    )  # fmt: skip
    return [(row["kind"], row["open"]) for row in rows]


def said(shop: Shop, minutes: float = 30.0) -> Said:
    """Ops say something for so long."""
    return Said(OPS, "the bridge is closed", shop.clock.now() + timedelta(minutes=minutes))


async def audited(conn: AsyncConnection, row: Mapping[str, Any], action: str = "test.set") -> str:
    """What the API does around a control; returns its id."""
    await audit.record(conn, OPS, "ops", Deed(action, "control", row["id"], row["city_id"]))
    return str(row["id"])


async def pin(shop: Shop, order_id: str, rider_id: str, minutes: float = 30.0) -> str:
    async with shop.database.begin() as conn:
        row = await controlling.pin(conn, order_id, rider_id, said(shop, minutes))
        return await audited(conn, row)


async def exclude(shop: Shop, rider_id: str, minutes: float = 30.0, **target: Any) -> str:
    async with shop.database.begin() as conn:
        row = await controlling.exclude(conn, rider_id, said(shop, minutes), **target)
        return await audited(conn, row)


async def pause(
    shop: Shop, *, hold: bool = True, stop: bool = False, minutes: float = 30.0, **target: Any
) -> str:
    async with shop.database.begin() as conn:
        row = await controlling.pause(
            conn, shop.territory.zones, shop.place.city.id, said(shop, minutes),
            hold_dispatch=hold, stop_orders=stop, **target,
        )  # fmt: skip
        return await audited(conn, row)


async def release(shop: Shop, control_id: str) -> None:
    async with shop.database.begin() as conn:
        await controlling.release(conn, control_id, OPS, "enough")


async def applied(shop: Shop) -> dispatch_controls.Applied:
    """What would be planned of the shop's city now."""
    async with shop.database.begin() as conn:
        controls = await dispatch_controls.read_controls(conn, shop.place.city.id)
        orders = (
            await conn.execute(
                text("SELECT * FROM orders WHERE city_id = :c AND delivery_status = 'unassigned'"),
                {"c": shop.place.city.id},
            )
        ).all()
        riders = (
            await conn.execute(
                text("SELECT * FROM riders WHERE city_id = :c"), {"c": shop.place.city.id}
            )
        ).all()
    return dispatch_controls.apply(
        controls, shop.territory.zones, {row.id: row for row in orders},
        {row.id: row for row in riders},
    )  # fmt: skip


class Streets:
    """Positions as a test says them, in place of Redis; ``None`` removes one."""

    def __init__(self) -> None:
        self.fixes: dict[str, RiderFix] = {}

    def put(self, shop: Shop, rider_id: str, north_m: float) -> None:
        """The rider is so far north of the store now."""
        store = shop.place.store
        self.fixes[rider_id] = RiderFix(
            rider_id, shop.place.city.id, round(shop.clock.now_s() * 1000),
            store.lat + north_m / 111_195.0, store.lon,
        )  # fmt: skip

    async def read(self, city_id: str, rider_ids: Sequence[str]) -> dict[str, RiderFix]:
        return {k: fix for k, fix in self.fixes.items() if k in rider_ids}


def services_of(shop: Shop, streets: Streets, settings: RiderSettings | None = None) -> Services:
    """As much of the services as the jobs that watch need."""

    async def get() -> object:
        return shop.territory

    made = SimpleNamespace(
        database=shop.database,
        clock=shop.clock,
        locations=streets,
        territory=SimpleNamespace(get=get),
        settings=SimpleNamespace(riders=settings or shop.rider_settings),
    )
    return cast(Services, made)
