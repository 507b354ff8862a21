"""Delivery slots: what a shopper can choose, moving an order to another one, and their rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from geo.distances import Point
from identity.model import SHOPPERS, Actor, Role
from kit.errors import Invalid, NotFound
from orders import rescheduling, slots
from orders.access import staffed_store, visible_order
from orders.quotes import serving_store
from orders.views import shape_order
from server.api.access import PUBLIC, ServicesDep, allow
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from stores import hours
from stores.hours import Hours, SlotRules

router = APIRouter(prefix="/v1", tags=["slots"])

Rescheduler = Annotated[Actor, allow(*SHOPPERS, Role.SUPPORT, Role.OPS, Role.ADMIN)]
StoreStaff = Annotated[Actor, allow(Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)]

_DAYS_DEFAULT, _DAYS_MAX = 2, 7
_CLOCK_TIME = r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"
ClockTime = Annotated[str, Field(pattern=_CLOCK_TIME, description="HH:MM on the store's wall")]
Weekday = Annotated[int, Field(ge=0, le=6, description="0 is Monday")]


class RescheduleIn(RequestModel):
    slot: AwareDatetime = Field(description="When the wanted slot begins")


class HoursIn(RequestModel):
    """Without `weekday`: of all days that have no hours of their own.

    Equal times are a day off; a weekday without times is like the others again.
    """

    weekday: Weekday | None = None
    opens: ClockTime | None = None
    closes: ClockTime | None = None

    @model_validator(mode="after")
    def _relations(self) -> HoursIn:
        if (self.opens is None) != (self.closes is None):
            raise ValueError("give opens and closes, or neither")
        if self.opens is None and self.weekday is None:
            raise ValueError("a store has opening hours")
        if self.opens is not None and self.closes is not None and self.opens > self.closes:
            raise ValueError("a store opens before it closes; end a day at 24:00")
        return self


class CapacityIn(RequestModel):
    """Without `weekday` and `hour`: of all slots that have no capacity of their own."""

    weekday: Weekday | None = None
    hour: int | None = Field(default=None, ge=0, le=23)
    capacity: int = Field(ge=0, le=1000)

    @model_validator(mode="after")
    def _relations(self) -> CapacityIn:
        if (self.weekday is None) != (self.hour is None):
            raise ValueError("give weekday and hour, or neither")
        return self


class BlockIn(RequestModel):
    slot: AwareDatetime
    blocked: bool
    reason: ShortText = "blocked"


@router.get("/stores/{store_id}/slots", dependencies=[PUBLIC])
async def list_slots(
    store_id: IdText,
    services: ServicesDep,
    lat: Annotated[float | None, Query(ge=-90, le=90)] = None,
    lon: Annotated[float | None, Query(ge=-180, le=180)] = None,
    days: Annotated[int, Query(ge=1, le=_DAYS_MAX)] = _DAYS_DEFAULT,
) -> dict[str, object]:
    """A store's delivery slots with the places that are left, from the first that can be kept.

    With `lat` and `lon` the way to that door counts; without, the longest way that the store
    goes.
    """
    settings, now = services.settings.orders, services.clock.now()
    territory = await services.territory.get()
    if store_id not in territory.stores:
        raise NotFound("There is no such store.")
    if (lat is None) != (lon is None):
        raise Invalid("A place has both lat and lon.")
    travel_s = settings.max_travel_s
    if lat is not None and lon is not None:
        _store, travel_s = serving_store(territory, settings, store_id, Point(lat, lon))
    first = slots.first_start(settings.slots, now, travel_s)
    last = min(now + days * slots.DAY, slots.last_start(settings.slots, now))
    async with services.database.begin() as conn:
        found = await slots.of_store(conn, store_id, first, last)
    return {
        "store_id": store_id,
        "items": [slots.shape(slot) for slot in found if slot.capacity],
        "next_cursor": None,
    }


@router.post("/orders/{order_id}/reschedule")
async def reschedule(
    order_id: IdText,
    body: RescheduleIn,
    request: Request,
    services: ServicesDep,
    actor: Rescheduler,
) -> Response:
    """Move an order to another slot, until picking begins; its price stays."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        await rescheduling.reschedule(
            conn, services.settings.orders.slots, order_id, actor.user_id, body.slot
        )
        order = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(order, with_code=order["user_id"] == actor.user_id))

    return await write(request, services, actor, use_case)


@router.get("/ops/stores/{store_id}/slots")
async def list_slots_for_staff(
    store_id: IdText,
    services: ServicesDep,
    actor: StoreStaff,
    days: Annotated[int, Query(ge=1, le=_DAYS_MAX)] = 1,
) -> dict[str, object]:
    """A store's slots from now on, with how many orders each has, and the rules behind them."""
    first = slots.first_start(services.settings.orders.slots, services.clock.now(), 0.0)
    async with services.database.begin() as conn:
        await staffed_store(conn, actor, store_id)
        found = await slots.of_store(conn, store_id, first, first + days * slots.DAY)
        rules = await hours.read(conn, store_id)
    return {
        "rules": _shape_rules(rules),
        "items": slots.shape_for_staff(found),
        "next_cursor": None,
    }


@router.post("/ops/stores/{store_id}/hours")
async def set_hours(
    store_id: IdText, body: HoursIn, request: Request, services: ServicesDep, actor: StoreStaff
) -> Response:
    """Set when a store delivers scheduled orders."""
    wanted = None
    if body.opens is not None and body.closes is not None:
        wanted = Hours(_minute(body.opens), _minute(body.closes))

    async def use_case(conn: AsyncConnection) -> Reply:
        await staffed_store(conn, actor, store_id)
        await hours.set_hours(conn, store_id, body.weekday, wanted)
        return Reply(200, _shape_rules(await hours.read(conn, store_id)))

    return await write(request, services, actor, use_case)


@router.post("/ops/stores/{store_id}/slots/capacity")
async def set_capacity(
    store_id: IdText, body: CapacityIn, request: Request, services: ServicesDep, actor: StoreStaff
) -> Response:
    """Set how many orders a slot takes; whoever has a place keeps it."""
    when = None
    if body.weekday is not None and body.hour is not None:
        when = (body.weekday, body.hour)

    async def use_case(conn: AsyncConnection) -> Reply:
        await staffed_store(conn, actor, store_id)
        await hours.set_capacity(conn, store_id, when, body.capacity)
        return Reply(200, _shape_rules(await hours.read(conn, store_id)))

    return await write(request, services, actor, use_case)


@router.post("/ops/stores/{store_id}/slots/block")
async def block_slot(
    store_id: IdText, body: BlockIn, request: Request, services: ServicesDep, actor: StoreStaff
) -> Response:
    """Take no more orders for one slot, or take them again."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await staffed_store(conn, actor, store_id)
        await slots.block(conn, store_id, body.slot, body.reason if body.blocked else None)
        return Reply(200, await _slot(conn, store_id, body.slot))

    return await write(request, services, actor, use_case)


async def _slot(conn: AsyncConnection, store_id: str, start: datetime) -> dict[str, object]:
    return slots.shape_for_staff(await slots.of_store(conn, store_id, start, start))[0]


def _minute(clock_time: str) -> int:
    hour, minute = clock_time.split(":")
    return int(hour) * 60 + int(minute)


def _clock_time(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _shape_hours(of: Hours) -> dict[str, object]:
    return {"opens": _clock_time(of.opens_minute), "closes": _clock_time(of.closes_minute)}


def _shape_rules(rules: SlotRules) -> dict[str, object]:
    return {
        "timezone": rules.timezone,
        **_shape_hours(rules.hours),
        "capacity": rules.capacity,
        "weekdays": [
            {"weekday": weekday, **_shape_hours(of)} for weekday, of in rules.by_weekday.items()
        ],
        "capacities": [
            {"weekday": weekday, "hour": hour, "capacity": capacity}
            for (weekday, hour), capacity in rules.by_hour.items()
        ],
    }
