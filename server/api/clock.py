"""The time of the system, for apps that live in a simulated day."""

from __future__ import annotations

from fastapi import APIRouter

from kit.wire import rfc3339
from server.api.access import PUBLIC, ServicesDep

router = APIRouter(prefix="/v1", tags=["operations"])


@router.get("/clock", dependencies=[PUBLIC])
async def read_clock(services: ServicesDep) -> dict[str, object]:
    """Virtual time and its speed: virtual seconds a real second, 1 in production."""
    return {"now": rfc3339(services.clock.now()), "speed": services.clock.speed}
