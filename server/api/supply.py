"""Scarcity and abundance: what ops see of a city's riders and orders, and what idle riders are
proposed.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor, Role
from kit.errors import NotFound
from kit.wire import rfc3339
from orders import supply
from riders import proposals
from riders.proposals import ProposalStatus
from server.api.access import ServicesDep, allow, in_own_city
from server.api.schemas import IdText
from server.api.writes import Reply, write
from server.supply import life

router = APIRouter(prefix="/v1", tags=["supply"])

CityDesk = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]
RiderActor = Annotated[Actor, allow(Role.RIDER)]


@router.get("/ops/cities/{city_id}/supply")
async def read_supply(city_id: IdText, services: ServicesDep, actor: CityDesk) -> dict[str, object]:
    """Riders needed and missing, what promises grow by, expected orders, and proposals that stand.

    `stale` says that rounds have stopped: then quotes have gone back to the plain promise.
    """
    in_own_city(actor, city_id)
    async with services.database.begin() as conn:
        report = await supply.report_of(conn, city_id)
        standing = await proposals.standing(conn, city_id)
    at = report["at"]
    return {
        **report,
        "city_id": city_id,
        "at": rfc3339(at),
        "stale": services.clock.now() > at + life(services),
        "proposals": [
            {
                "id": row.id,
                "rider_id": row.rider_id,
                "store_id": row.store_id,
                "status": row.status,
                "way_s": row.way_s,
                "chance": round(row.chance, 2),
                "gain_s": round(row.gain_s),
                "expires_at": rfc3339(row.expires_at),
            }
            for row in standing
        ],
    }


def _rider_id(actor: Actor) -> str:
    if actor.rider_id is None:
        raise NotFound("There is no rider for this account.")
    return actor.rider_id


@router.get("/riders/me/proposal")
async def read_proposal(services: ServicesDep, actor: RiderActor) -> dict[str, object]:
    """Where an idle rider had better wait; `null` when there is nothing to propose."""
    async with services.database.begin() as conn:
        return {"proposal": await proposals.current(conn, _rider_id(actor))}


@router.post("/riders/me/proposal/{proposal_id}/accept")
async def accept_proposal(
    proposal_id: IdText, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Say that one is going there.  It binds to nothing."""
    return await _answer(proposal_id, ProposalStatus.ACCEPTED, request, services, actor)


@router.post("/riders/me/proposal/{proposal_id}/dismiss")
async def dismiss_proposal(
    proposal_id: IdText, request: Request, services: ServicesDep, actor: RiderActor
) -> Response:
    """Stay.  It costs nothing, and there is no other proposal for a while."""
    return await _answer(proposal_id, ProposalStatus.DISMISSED, request, services, actor)


async def _answer(
    proposal_id: str,
    status: ProposalStatus,
    request: Request,
    services: ServicesDep,
    actor: Actor,
) -> Response:
    async def use_case(conn: AsyncConnection) -> Reply:
        now = services.clock.now()
        standing = await proposals.answer(conn, _rider_id(actor), proposal_id, status, now)
        return Reply(200, {"proposal": standing})

    return await write(request, services, actor, use_case)
