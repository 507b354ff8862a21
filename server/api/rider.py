"""What a rider's phone calls.  Actions carry a client key and their own time, for replays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit import outbox
from kit.errors import NotFound
from kit.redis import RedisError
from kit.wire import rfc3339
from orders import deliveries, reassigning
from orders.errors import OnTrip, WrongDeliveryCode
from realtime.ports import Point
from riders import availability, shifts, trip_views, trips
from riders.model import HandBackReason, TripStatus
from server.api.access import RateLimiterDep, ServicesDep, allow
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from server.stream_ports import principal_of, take_positions

router = APIRouter(prefix="/v1", tags=["rider"])

RiderActor = Annotated[Actor, allow(Role.RIDER)]
StopNumber = Annotated[int, Field(ge=1, le=100)]
HOUR_S = 3600.0


class ShiftIn(RequestModel):
    hours: float = Field(default=8.0, gt=0, le=24)


class FixIn(RequestModel):
    """One fix of the phone; ``t`` is when it was taken."""

    t: AwareDatetime
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    accuracy_m: float | None = Field(default=None, ge=0)
    speed_mps: float | None = Field(default=None, ge=0)
    heading_deg: float | None = Field(default=None, ge=0, le=360)


class PositionsIn(RequestModel):
    points: list[FixIn] = Field(min_length=1, max_length=500)


class HandBackIn(RequestModel):
    reason: HandBackReason
    note: ShortText | None = None


class ActionIn(RequestModel):
    """``at``: when the rider did it, if the phone was offline then."""

    at: AwareDatetime | None = None


class CompleteIn(ActionIn):
    otp: str | None = Field(default=None, max_length=10)
    cash_collected: int | None = Field(default=None, ge=0, description="Minor units")


class FailIn(ActionIn):
    reason: Literal["nobody_there", "refused", "wrong_address", "damaged", "other"]


def rider_id_of(actor: Actor) -> str:
    if actor.rider_id is None:
        raise NotFound("There is no rider for this account.")
    return actor.rider_id


@router.post("/riders/me/shift/start", status_code=201)
async def start_shift(
    body: ShiftIn, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Begin a shift; from the first position on there may be offers."""
    rider_id = rider_id_of(actor)
    length_s = min(body.hours * HOUR_S, services.settings.riders.shift_max_s)

    async def use_case(conn: AsyncConnection) -> Reply:
        rider = await shifts.rider(conn, rider_id)
        now = services.clock.now()
        await shifts.start(conn, rider_id, now, now + timedelta(seconds=length_s))
        if (await availability.read(conn, rider_id)).paused:
            await availability.resume(conn, rider_id)
        shift = await shifts.open_shift(conn, rider_id)
        assert shift is not None
        await _tell_city(conn, rider, "on_shift")
        return Reply(201, _shift(rider_id, shift.id, shift.started_at, shift.ends_at))

    return await write(request, services, actor, use_case)


def _shift(
    rider_id: str, shift_id: str, started_at: datetime, ends_at: datetime
) -> dict[str, object]:
    return {
        "id": shift_id,
        "rider_id": rider_id,
        "started_at": rfc3339(started_at),
        "ends_at": rfc3339(ends_at),
    }


@router.post("/riders/me/shift/stop")
async def stop_shift(request: Request, services: ServicesDep, actor: RiderActor) -> Response:
    """End the shift.  Somebody on a trip finishes it first."""
    rider_id = rider_id_of(actor)

    async def use_case(conn: AsyncConnection) -> Reply:
        rider = await shifts.rider(conn, rider_id)
        if await shifts.on_trip(conn, rider_id):
            raise OnTrip("Finish your trip before you end the shift.")
        await shifts.stop(conn, rider_id, services.clock.now())
        await _tell_city(conn, rider, "off_shift")
        return Reply(200, {"rider_id": rider_id, "on_shift": False})

    response = await write(request, services, actor, use_case)
    async with services.database.begin() as conn:
        card = await shifts.rider(conn, rider_id)
    try:
        await services.locations.forget(card.city_id, rider_id)
    except (RedisError, TimeoutError):
        # Off shift is what keeps offers away; a stale dot on the map goes with the next restart.
        return response
    return response


async def _tell_city(conn: AsyncConnection, rider: shifts.RiderCard, status: str) -> None:
    data = {
        "rider_id": rider.rider_id,
        "status": status,
        "name": rider.name,
        "vehicle": rider.vehicle,
    }
    await outbox.append(conn, f"city:{rider.city_id}", "rider.changed", data)


@router.post("/riders/me/positions")
async def send_positions(
    body: PositionsIn, request: Request, services: ServicesDep, actor: RiderActor
) -> dict[str, object]:
    """A batch of fixes; late and repeated ones are fine."""
    points = [Point(**point.model_dump()) for point in body.points]
    reply = take_positions(services, request.app.state.ingest, principal_of(actor), points)
    return {"accepted": reply.accepted, "code": reply.code}


@router.get("/riders/me/trips")
async def list_trips(
    services: ServicesDep,
    actor: RiderActor,
    status: Annotated[list[TripStatus] | None, Query()] = None,
) -> dict[str, object]:
    """The rider's trips, newest first; without a filter the open ones."""
    async with services.database.begin() as conn:
        found = await trips.of_rider(conn, rider_id_of(actor), status or trips.OPEN_TRIPS, 50)
    return {"items": [trip_views.shape(trip) for trip in found], "next_cursor": None}


@router.get("/riders/me/earnings")
async def list_earnings(
    services: ServicesDep,
    actor: RiderActor,
    days: Annotated[int, Query(ge=1, le=90)] = 7,
) -> dict[str, object]:
    """What the rider earned in the last days, and its sum."""
    since = services.clock.now() - timedelta(days=days)
    async with services.database.begin() as conn:
        rows = await shifts.earned(conn, rider_id_of(actor), since)
    items = [
        {
            "id": row["id"],
            "order_id": row["order_id"],
            "kind": row["kind"],
            "amount": {"amount_minor": row["amount_minor"], "currency": row["currency"]},
            "at": row["at"],
        }
        for row in rows
    ]
    totals: dict[str, int] = {}
    for row in rows:
        currency = str(row["currency"])
        totals[currency] = totals.get(currency, 0) + int(str(row["amount_minor"]))
    return {
        "items": items,
        "next_cursor": None,
        "totals": [{"amount_minor": n, "currency": c} for c, n in sorted(totals.items())],
    }


@router.post("/trips/{trip_id}/hand-back")
async def hand_back(
    trip_id: IdText, body: HandBackIn, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Give a trip up.  What is not collected goes to others; for the rest the ops are called.

    There are no offers then until the rider says so (`/riders/me/availability`).
    """

    async def use_case(conn: AsyncConnection) -> Reply:
        trip = await reassigning.hand_back(
            conn, rider_id_of(actor), actor.user_id, trip_id, body.reason, body.note
        )
        return Reply(200, trip_views.shape(trip))

    return await write(request, services, actor, use_case)


@router.post("/trips/{trip_id}/check-in")
async def check_in(
    trip_id: IdText, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Answer `trip.check_in`: somebody is there and on the way."""

    async def use_case(conn: AsyncConnection) -> Reply:
        trip = await reassigning.check_in(conn, rider_id_of(actor), actor.user_id, trip_id)
        return Reply(200, trip_views.shape(trip))

    return await write(request, services, actor, use_case)


@router.post("/trips/{trip_id}/stops/{n}/arrive")
async def arrive(
    trip_id: IdText,
    n: StopNumber,
    request: Request,
    services: ServicesDep,
    actor: RiderActor,
    body: ActionIn | None = None,
) -> Response:
    """Stand at a stop."""
    at = (body or ActionIn()).at

    async def use_case(conn: AsyncConnection) -> Reply:
        trip = await deliveries.arrive(conn, rider_id_of(actor), actor.user_id, trip_id, n, at)
        return Reply(200, trip_views.shape(trip))

    return await write(request, services, actor, use_case)


@router.post("/trips/{trip_id}/stops/{n}/complete")
async def complete(
    trip_id: IdText,
    n: StopNumber,
    body: CompleteIn,
    request: Request,
    services: ServicesDep,
    limiter: RateLimiterDep,
    actor: RiderActor,
) -> Response:
    """Hand the order over against the customer's code (and cash)."""
    proof = deliveries.Proof(body.otp, body.cash_collected)

    async def use_case(conn: AsyncConnection) -> Reply:
        trip = await deliveries.complete(
            conn, rider_id_of(actor), actor.user_id, trip_id, n, proof, body.at
        )
        return Reply(200, trip_views.shape(trip))

    tries = services.settings.riders.delivery_code_tries
    await limiter.check("delivery_code", tries, trip_id)
    try:
        return await write(request, services, actor, use_case)
    except WrongDeliveryCode:
        await limiter.hit("delivery_code", tries, trip_id)
        raise


@router.post("/trips/{trip_id}/stops/{n}/fail")
async def fail(
    trip_id: IdText,
    n: StopNumber,
    body: FailIn,
    request: Request,
    services: ServicesDep,
    actor: RiderActor,
) -> Response:
    """Nobody takes the order: it goes back to the store."""
    fee_minor = services.settings.orders.returns.customer_fault_fee_minor

    async def use_case(conn: AsyncConnection) -> Reply:
        trip = await deliveries.fail(
            conn, rider_id_of(actor), actor.user_id, trip_id, n, body.reason, body.at,
            fee_minor=fee_minor,
        )  # fmt: skip
        return Reply(200, trip_views.shape(trip))

    return await write(request, services, actor, use_case)
