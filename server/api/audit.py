"""The audit log, for those who look after a city."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from control import audit
from control.audit import Wanted
from identity.model import Actor, Role
from kit.wire import rfc3339
from server.api.access import CityOps, ServicesDep
from server.api.paging import PagingDep
from server.api.schemas import IdText

router = APIRouter(prefix="/v1/ops", tags=["ops"])

ActionText = Annotated[str, Query(max_length=64, pattern=r"^[a-z_.]+$")]


def cities_of(actor: Actor) -> list[str] | None:
    """The cities in which the actor may look around; None is everywhere."""
    return None if actor.role is Role.ADMIN else sorted(actor.city_ids)


@router.get("/audit")
async def list_audit(
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    who: Annotated[IdText | None, Query(description="A user's id")] = None,
    action: Annotated[
        ActionText | None, Query(description="`order.assign`, or `order.` for all about orders")
    ] = None,
    object_id: Annotated[IdText | None, Query(description="What it was done to")] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> dict[str, object]:
    """What staff did in the cities of the caller, newest first."""
    wanted = Wanted(
        city_ids=cities_of(actor),
        actor=who,
        action=action,
        object_id=object_id,
        since=since,
        until=until,
        before_id=page.after,
        limit=page.fetch,
    )
    async with services.database.begin() as conn:
        rows = await audit.rows(conn, wanted)
    return page.body(rows, _shape)


def _shape(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "id": row["id"],
        "at": rfc3339(row["at"]),
        "actor": row["actor"],
        "role": row["role"],
        "action": row["action"],
        "object": {"kind": row["object_kind"], "id": row["object_id"]},
        "city_id": row["city_id"],
        "store_id": row["store_id"],
        "reason": row["reason"],
        "before": json_of(row["before"]),
        "after": json_of(row["after"]),
        "request_id": row["request_id"],
    }


def json_of(value: Any) -> Any:
    """A JSON column of a named query, which is not typed: its JSON comes as text."""
    return orjson.loads(value) if isinstance(value, str) else value
