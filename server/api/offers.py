"""Offers on a rider's phone: take them, leave them, take a break, be back."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from orders import offers
from riders import availability, shifts, trip_views, waiting
from riders.model import DeclineReason, PauseReason
from server.api.access import ServicesDep
from server.api.rider import RiderActor, rider_id_of
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from server.stream_ports import rider_state

router = APIRouter(prefix="/v1", tags=["rider"])

_REASONS = frozenset(reason.value for reason in DeclineReason)


class DeclineIn(RequestModel):
    """A reason that is not on the list counts as `other`, with its text as the note."""

    reason: DeclineReason = DeclineReason.OTHER
    note: ShortText | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: object) -> object:
        """Apps that are older or newer than the list go on working."""
        if not isinstance(given, dict) or not isinstance(given.get("reason"), str):
            return given
        said = given["reason"].strip()
        known = said.lower().replace(" ", "_")
        if known in _REASONS:
            return {**given, "reason": known}
        return {**given, "reason": DeclineReason.OTHER, "note": given.get("note") or said}


class AvailabilityIn(RequestModel):
    """`minutes` end a break by themselves; without them it ends when the rider says so."""

    available: bool = True
    minutes: float | None = Field(default=None, gt=0, le=24 * 60)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.available and self.minutes is not None:
            raise ValueError("only a break has minutes")
        return self


class PreferencesIn(RequestModel):
    auto_accept: bool = Field(description="Offers are taken at once, without asking")


@router.get("/riders/me/availability")
async def read_availability(services: ServicesDep, actor: RiderActor) -> dict[str, object]:
    """Whether there will be offers, and the place in the queue of a store at which one waits."""
    rider_id = rider_id_of(actor)
    async with services.database.begin() as conn:
        found = await availability.read(conn, rider_id)
        place = await waiting.place_of(conn, rider_id)
    queue = None
    if place is not None:
        queue = {"store_id": place[0], "place": place[1], "waiting": place[2]}
    return {**availability.shape(found), "queue": queue}


@router.post("/riders/me/availability")
async def set_availability(
    body: AvailabilityIn, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Be back with one tap, or take a break.  An offer that waits stays; a trip goes on."""
    rider_id = rider_id_of(actor)

    async def use_case(conn: AsyncConnection) -> Reply:
        await shifts.rider(conn, rider_id)
        if body.available:
            await availability.resume(conn, rider_id)
        else:
            until = None if body.minutes is None else services.clock.after(body.minutes * 60)
            await availability.pause(conn, rider_id, PauseReason.BREAK, until)
        return Reply(200, availability.shape(await availability.read(conn, rider_id)))

    return await write(request, services, actor, use_case)


@router.put("/riders/me/preferences")
async def set_preferences(
    body: PreferencesIn, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Whether offers are taken at once; it holds for the next one."""
    rider_id = rider_id_of(actor)

    async def use_case(conn: AsyncConnection) -> Reply:
        await shifts.rider(conn, rider_id)
        await availability.prefer(conn, rider_id, auto_accept=body.auto_accept)
        return Reply(200, {"auto_accept": body.auto_accept})

    return await write(request, services, actor, use_case)


@router.get("/riders/me/offers")
async def list_offers(services: ServicesDep, actor: RiderActor) -> dict[str, object]:
    """Offers that wait for an answer."""
    async with services.database.begin() as conn:
        state = await rider_state(conn, rider_id_of(actor))
    return {"items": state["offers"], "next_cursor": None}


@router.post("/offers/{offer_id}/accept")
async def accept_offer(
    offer_id: IdText, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Take an offer; the trip comes back."""

    async def use_case(conn: AsyncConnection) -> Reply:
        return Reply(200, trip_views.shape(await offers.accept(conn, rider_id_of(actor), offer_id)))

    return await write(request, services, actor, use_case)


@router.post("/offers/{offer_id}/decline")
async def decline_offer(
    offer_id: IdText,
    request: Request,
    services: ServicesDep,
    actor: RiderActor,
    body: DeclineIn | None = None,
) -> Response:
    """Leave an offer to somebody else.

    `break` and `vehicle_problem` also begin a pause, `shift_ends` one until the next shift; with
    all others the rider gets the next offer, only never again of these orders.
    """
    said = body or DeclineIn()
    rider_id, rules = rider_id_of(actor), services.settings.riders.offers

    async def use_case(conn: AsyncConnection) -> Reply:
        await offers.decline(conn, rules, rider_id, offer_id, said.reason, said.note)
        found = await availability.read(conn, rider_id)
        return Reply(
            200,
            {"id": offer_id, "status": "declined", "availability": availability.shape(found)},
        )

    return await write(request, services, actor, use_case)
