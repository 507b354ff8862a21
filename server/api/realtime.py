"""Tickets for the stream: an access token never stands in a URL."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from identity.model import Actor, Role
from realtime.tickets import TICKET_LIFE_S, RedisTickets
from server.api.access import ServicesDep, allow
from server.stream_ports import principal_of

router = APIRouter(prefix="/v1/realtime", tags=["realtime"])


@router.post("/tickets", status_code=201)
async def issue_ticket(
    services: ServicesDep, actor: Annotated[Actor, allow(*Role)]
) -> dict[str, object]:
    """A ticket that opens one socket, within half a minute."""
    ticket = await RedisTickets(services.redis).issue(principal_of(actor))
    return {"ticket": ticket, "expires_in_s": int(TICKET_LIFE_S)}
