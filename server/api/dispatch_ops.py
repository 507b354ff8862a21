"""The hand on the wheel: ops assign, unassign, pin, exclude and pause.

Whatever is set here has a reason and an end, is written to the audit log in its own transaction,
and can be released by any ops of the city (``dispatch_desk``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from geo.distances import Point
from identity.model import Actor
from kit.errors import IllegalTransition, NotFound
from kit.redis import RedisError
from orders import assigning, controlling, dispatch_controls, reassigning
from orders.access import visible_order
from orders.assigning import Seen
from orders.controlling import Said
from orders.views import shape_order
from riders import trips
from riders.tables import riders
from server import audit
from server.api.access import CityOps, ServicesDep, in_own_city
from server.api.schemas import IdText, ReasonIn
from server.api.writes import Reply, write
from server.wiring import Services
from stores.tables import cities, stores

router = APIRouter(prefix="/v1/ops", tags=["ops"])

A_WEEK_MINUTES = 7 * 24 * 60


class AssignIn(ReasonIn):
    rider_id: IdText
    force: bool = Field(
        default=False, description="Also against what `would_override` says speaks against it"
    )


class UntilIn(ReasonIn):
    """The end of a control: a moment, or so many minutes from now."""

    until: AwareDatetime | None = None
    minutes: float | None = Field(default=None, gt=0, le=A_WEEK_MINUTES)

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.until is None) == (self.minutes is None):
            raise ValueError("give either until or minutes: a control has an end")
        return self

    def ends_at(self, now: datetime) -> datetime:
        return self.until or now + timedelta(minutes=self.minutes or 0.0)


class PinIn(UntilIn):
    rider_id: IdText


class ExcludeIn(UntilIn):
    """Without an order and a store: the rider gets nothing at all."""

    order_id: IdText | None = None
    store_id: IdText | None = None


class PauseIn(UntilIn):
    hold_dispatch: bool = Field(default=True, description="Riders are sent to no order of it")
    stop_orders: bool = Field(default=False, description="No new orders are taken")


def _said(body: UntilIn, services: Services, actor: Actor) -> Said:
    return Said(actor.user_id, body.reason, body.ends_at(services.clock.now()))


# Orders.


@router.post("/orders/{order_id}/assign")
async def assign(
    order_id: IdText, body: AssignIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Give an order to a rider, who is not asked.

    409 `cannot_assign`: nobody could carry that out. 409 `would_override`: the list says what
    speaks against it; with `force` it is done, and the answer tells what was overridden.
    """
    territory = await services.territory.get()
    seen = await _seen(services, body.rider_id)

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        had = await trips.active_of_order(conn, order_id)
        done = await assigning.assign(
            conn, territory, services.settings.riders, order_id, body.rider_id, actor.user_id,
            body.reason, seen, force=body.force,
        )  # fmt: skip
        await audit.of_order(
            conn, actor, "order.assign", order_id, body.reason,
            before={"rider_id": had and had.rider_id, "trip_id": had and had.id},
            after={
                "rider_id": body.rider_id, "trip_id": done.trip.id,
                "overridden": list(done.overridden),
            },
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        return Reply(
            200,
            {
                "order": shape_order(order, with_code=False),
                "trip_id": done.trip.id,
                "overridden": list(done.overridden),
            },
        )

    return await write(request, services, actor, use_case)


async def _seen(services: Services, rider_id: str) -> Seen:
    """Where the rider was seen last.  Without Redis nobody knows, which keeps ops from nothing."""
    async with services.database.begin() as conn:
        city_id = await conn.scalar(select(riders.c.city_id).where(riders.c.id == rider_id))
    if city_id is None:
        raise NotFound("There is no such rider.")
    try:
        fix = (await services.locations.read(city_id, [rider_id])).get(rider_id)
    except (RedisError, TimeoutError):
        return Seen(None, silent=False)
    if fix is None:
        return Seen(None, silent=True)
    heard_since_ms = (services.clock.now_s() - services.settings.riders.silent_after_s) * 1000
    return Seen(Point(fix.lat, fix.lon), silent=fix.t_ms < heard_since_ms)


@router.post("/orders/{order_id}/unassign")
async def unassign(
    order_id: IdText, body: ReasonIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Take the rider off an order that is not collected yet; dispatch finds another one."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        trip = await trips.active_of_order(conn, order_id)
        if trip is None:
            raise IllegalTransition("The order has no rider.")
        await reassigning.unassign(conn, trip.id, actor.user_id, body.reason)
        await audit.of_order(
            conn, actor, "order.unassign", order_id, body.reason,
            before={"rider_id": trip.rider_id, "trip_id": trip.id},
            after={"orders": list(trip.kept_order_ids)},
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(order, with_code=False))

    return await write(request, services, actor, use_case)


@router.post("/orders/{order_id}/bring-back")
async def bring_back(
    order_id: IdText, body: ReasonIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """A rider who carries the order brings it back to the store; the customer pays nothing.

    It is `undeliverable` then, and `POST /v1/ops/orders/{id}/return` once the store has it.
    """

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        trip = await reassigning.bring_back(conn, order_id, actor.user_id, body.reason)
        await audit.of_order(
            conn, actor, "order.bring_back", order_id, body.reason,
            after={"rider_id": trip.rider_id, "trip_id": trip.id},
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(order, with_code=False))

    return await write(request, services, actor, use_case)


@router.post("/orders/{order_id}/pin", status_code=201)
async def pin(
    order_id: IdText, body: PinIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """This order goes to this rider or to nobody, until then or until it is released."""
    said = _said(body, services, actor)

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        return await _set(
            conn, actor, "order.pin", await controlling.pin(conn, order_id, body.rider_id, said)
        )

    return await write(request, services, actor, use_case)


# Riders.


@router.post("/riders/{rider_id}/exclude", status_code=201)
async def exclude(
    rider_id: IdText, body: ExcludeIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """The rider gets not this order, nothing of this store, or nothing at all for a while.

    What the rider has already stays.
    """
    said = _said(body, services, actor)

    async def use_case(conn: AsyncConnection) -> Reply:
        city_id = await conn.scalar(select(riders.c.city_id).where(riders.c.id == rider_id))
        in_own_city(actor, city_id, "rider")
        if body.order_id is not None:
            await visible_order(conn, actor, body.order_id)
        row = await controlling.exclude(
            conn, rider_id, said, order_id=body.order_id, store_id=body.store_id
        )
        return await _set(conn, actor, "rider.exclude", row)

    return await write(request, services, actor, use_case)


# Pauses.


@router.post("/cities/{city_id}/pause", status_code=201)
async def pause_city(
    city_id: IdText, body: PauseIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Hold dispatch in a whole city, or take no orders there, for a while."""

    async def use_case(conn: AsyncConnection) -> Reply:
        known = await conn.scalar(select(cities.c.id).where(cities.c.id == city_id))
        in_own_city(actor, known, "city")
        return await _pause(conn, services, actor, city_id, body)

    return await write(request, services, actor, use_case)


@router.post("/stores/{store_id}/pause-dispatch", status_code=201)
async def pause_store(
    store_id: IdText, body: PauseIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Hold the orders of a store, or take none, for a while."""

    async def use_case(conn: AsyncConnection) -> Reply:
        city_id = await conn.scalar(select(stores.c.city_id).where(stores.c.id == store_id))
        in_own_city(actor, city_id, "store")
        return await _pause(conn, services, actor, str(city_id), body, store_id=store_id)

    return await write(request, services, actor, use_case)


@router.post("/zones/{zone_id}/pause", status_code=201)
async def pause_zone(
    zone_id: IdText, body: PauseIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Hold the orders that go into a zone, or take none from there, for a while."""

    async def use_case(conn: AsyncConnection) -> Reply:
        city_id = await controlling.zone_city(conn, zone_id)
        in_own_city(actor, city_id, "zone")
        return await _pause(conn, services, actor, city_id, body, zone_id=zone_id)

    return await write(request, services, actor, use_case)


async def _pause(
    conn: AsyncConnection, services: Services, actor: Actor, city_id: str, body: PauseIn,
    *, store_id: str | None = None, zone_id: str | None = None,
) -> Reply:  # fmt: skip
    territory = await services.territory.get()
    row = await controlling.pause(
        conn, territory.zones, city_id, _said(body, services, actor),
        store_id=store_id, zone_id=zone_id,
        hold_dispatch=body.hold_dispatch, stop_orders=body.stop_orders,
    )  # fmt: skip
    return await _set(conn, actor, "dispatch.pause", row)


async def _set(conn: AsyncConnection, actor: Actor, action: str, row: dict[str, object]) -> Reply:
    """A control was set: in the audit log its own id is the object, which all of its life has."""
    shaped = dispatch_controls.shape(row)
    await audit.record(
        conn,
        actor,
        Deed(
            action, "control", str(row["id"]), str(row["city_id"]),
            None if row["store_id"] is None else str(row["store_id"]),
            str(row["reason"]), after=shaped,
        ),
    )  # fmt: skip
    return Reply(201, shaped)
