"""How a city's dispatch is split into parts, and who plans for each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from identity.model import Actor
from kit.sql import load
from kit.wire import rfc3339
from riders.leases import partition_id
from server import audit
from server.api.access import CityOps, ServicesDep, in_own_city
from server.api.schemas import IdText, ReasonIn
from server.api.writes import Reply, write
from stores import parts

router = APIRouter(prefix="/v1/ops", tags=["ops"])

Part = Annotated[list[IdText], Field(min_length=1, max_length=500)]

_PARTS = load("server", "dispatch_parts")


class PartsIn(ReasonIn):
    """Groups of store ids; one group is a city that is not split."""

    parts: list[Part] = Field(min_length=1, max_length=50)


@router.get("/cities/{city_id}/dispatch-parts")
async def list_parts(city_id: IdText, services: ServicesDep, actor: CityOps) -> dict[str, object]:
    """The parts, their stores, whether a dispatcher has them, and when it looked last."""
    async with services.database.begin() as conn:
        return await _shape(conn, actor, city_id)


@router.post("/cities/{city_id}/dispatch-parts")
async def split_city(
    city_id: IdText, body: PartsIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Split the city, or put it together again; every store of it is named once.

    A part is planned by itself, so that several dispatchers share a large city.  Riders belong to
    the part of their trip's store, or of the store that is nearest.
    """

    async def use_case(conn: AsyncConnection) -> Reply:
        before = await _shape(conn, actor, city_id)
        await parts.split(conn, city_id, body.parts)
        after = await _shape(conn, actor, city_id)
        deed = Deed(
            "dispatch.split", "city", city_id, city_id, None, body.reason,
            before=_groups(before), after=_groups(after),
        )  # fmt: skip
        await audit.record(conn, actor, deed)
        return Reply(200, after)

    return await write(request, services, actor, use_case)


def _groups(shape: dict[str, object]) -> dict[str, object]:
    items = shape["items"]
    assert isinstance(items, list)
    return {"parts": [item["store_ids"] for item in items]}


async def _shape(conn: AsyncConnection, actor: Actor, city_id: str) -> dict[str, object]:
    rows = await _PARTS.all(conn, city_id)
    in_own_city(actor, city_id if rows else None)
    return {
        "items": [
            {
                "part": row.part,
                "partition_id": partition_id(city_id, row.part),
                "store_ids": list(row.store_ids),
                "held": row.holder is not None,
                "looked_at": None if row.looked_at is None else rfc3339(row.looked_at),
            }
            for row in rows
        ],
        "next_cursor": None,
    }
