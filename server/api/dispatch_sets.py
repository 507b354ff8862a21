"""Dispatch parameters by name: a city's sets, the one in use, and two that are compared.

Every change is in the audit log.  A dispatcher follows within seconds; whatever is wrong with a
set, it goes on with the parameters that the program comes with.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from dispatch.compare import Experiment, Unit
from dispatch.decision import DEFAULT_SET
from identity.model import Actor
from kit.wire import rfc3339
from riders import parameter_sets
from riders.parameter_sets import ParametersInvalid, Running
from server import audit
from server.api.access import CityOps, ServicesDep, in_own_city
from server.api.schemas import IdText, ReasonIn, RequestModel, ShortText
from server.api.writes import Reply, write
from stores.tables import cities, stores

router = APIRouter(prefix="/v1/ops", tags=["ops"])

SetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
ParameterName = Annotated[str, StringConstraints(max_length=60, pattern=r"^[a-z_]+(\.[a-z_]+)?$")]
NameText = Annotated[str, StringConstraints(max_length=40)]


class SetIn(RequestModel):
    """Only what differs from the parameters that the program comes with."""

    overrides: dict[ParameterName, bool | int | float | NameText] = Field(
        max_length=100, description='`{"lateness.late_weight": 3}`'
    )
    note: ShortText = Field(default="", description="What it is for")


class UseIn(ReasonIn):
    parameter_set: SetName = Field(description="`default` for what the program comes with")


class CompareIn(ReasonIn):
    """Two sets that take turns, a window each, in pairs whose first one a coin decides.

    `unit`: what takes turns: the whole `city` (nothing disturbs the comparison), or each `store`
    by itself. `fixed`: the stores of `store_ids` keep the treatment all the time.
    """

    control: SetName = DEFAULT_SET
    treatment: SetName
    unit: Unit = Unit.CITY
    window_s: int = Field(default=1800, ge=60, le=86_400)
    washout_s: int = Field(
        default=300, ge=0, description="Orders placed this soon after a switch are not counted"
    )
    store_ids: list[IdText] = Field(default_factory=list, max_length=500)
    seed: int = Field(default=0, ge=0, lt=2**31)


async def of_own_city(conn: AsyncConnection, actor: Actor, city_id: str) -> None:
    """Raises NotFound for a city that is not there or not the actor's."""
    in_own_city(actor, await conn.scalar(select(cities.c.id).where(cities.c.id == city_id)))


@router.get("/cities/{city_id}/dispatch/parameter-sets")
async def list_parameter_sets(
    city_id: IdText, services: ServicesDep, actor: CityOps
) -> dict[str, object]:
    """The city's sets, `default` first."""
    async with services.database.begin() as conn:
        await of_own_city(conn, actor, city_id)
        rows = await parameter_sets.of_city(conn, city_id)
    default = {
        "name": DEFAULT_SET, "overrides": {}, "note": "What the program comes with",
        "in_use": not any(row.in_use for row in rows), "version": 1, "updated_at": None,
        "updated_by": None,
    }  # fmt: skip
    return {"items": [default, *map(_shape_set, rows)], "next_cursor": None}


@router.put("/cities/{city_id}/dispatch/parameter-sets/{name}")
async def put_parameter_set(
    city_id: IdText,
    name: SetName,
    body: SetIn,
    request: Request,
    services: ServicesDep,
    actor: CityOps,
) -> Response:
    """Make or replace a set.  A comparison that runs keeps what it was when that began."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await of_own_city(conn, actor, city_id)
        before = [row for row in await parameter_sets.of_city(conn, city_id) if row.name == name]
        row = await parameter_sets.put(
            conn, city_id, name, body.overrides, body.note, actor.user_id, services.clock.now()
        )
        await _wrote(
            conn, actor, city_id, "dispatch.set_put", name, body.note or None,
            before=_shape_set(before[0]) if before else None, after=_shape_set(row),
        )  # fmt: skip
        return Reply(200, _shape_set(row))

    return await write(request, services, actor, use_case)


@router.delete("/cities/{city_id}/dispatch/parameter-sets/{name}")
async def delete_parameter_set(
    city_id: IdText, name: SetName, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Delete a set that is not in use."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await of_own_city(conn, actor, city_id)
        row = await parameter_sets.remove(conn, city_id, name)
        await _wrote(
            conn, actor, city_id, "dispatch.set_delete", name, None, before=_shape_set(row)
        )
        return Reply(200, _shape_set(row))

    return await write(request, services, actor, use_case)


@router.post("/cities/{city_id}/dispatch/parameters")
async def use_parameter_set(
    city_id: IdText, body: UseIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Let the city plan with a set, from the next decision on and until this is called again."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await of_own_city(conn, actor, city_id)
        before = await parameter_sets.use(conn, city_id, body.parameter_set)
        await _wrote(
            conn, actor, city_id, "dispatch.set_use", body.parameter_set, body.reason,
            before={"parameter_set": before}, after={"parameter_set": body.parameter_set},
        )  # fmt: skip
        return Reply(200, {"city_id": city_id, "parameter_set": body.parameter_set})

    return await write(request, services, actor, use_case)


@router.post("/cities/{city_id}/dispatch/comparison", status_code=201)
async def start_comparison(
    city_id: IdText, body: CompareIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Begin to compare two sets in a city; one comparison at a time."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await of_own_city(conn, actor, city_id)
        now = services.clock.now()
        await _check_stores(conn, city_id, body.store_ids)
        try:
            experiment = Experiment(
                control=body.control, treatment=body.treatment, unit=body.unit,
                started_at_s=now.timestamp(), window_s=body.window_s, washout_s=body.washout_s,
                seed=body.seed, store_ids=frozenset(body.store_ids),
            )  # fmt: skip
        except ValueError as error:
            raise ParametersInvalid(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
        running = await parameter_sets.start(conn, city_id, experiment, actor.user_id, now)
        shown = shape_comparison(running)
        await _wrote(
            conn, actor, city_id, "dispatch.comparison_start", running.id, body.reason, after=shown
        )
        return Reply(201, shown)

    return await write(request, services, actor, use_case)


@router.post("/cities/{city_id}/dispatch/comparison/end")
async def end_comparison(
    city_id: IdText, body: ReasonIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """End the comparison; the city plans with the set in use, and the outcome can still be read."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await of_own_city(conn, actor, city_id)
        ended = await parameter_sets.end(conn, city_id, actor.user_id, services.clock.now())
        shown = shape_comparison(ended)
        await _wrote(
            conn, actor, city_id, "dispatch.comparison_end", ended.id, body.reason, after=shown
        )
        return Reply(200, shown)

    return await write(request, services, actor, use_case)


async def _check_stores(conn: AsyncConnection, city_id: str, store_ids: list[str]) -> None:
    known = set(await conn.scalars(select(stores.c.id).where(stores.c.city_id == city_id)))
    missing = sorted(set(store_ids) - known)
    if missing:
        raise ParametersInvalid(f"There is no store {missing[0]} in this city.")


async def _wrote(
    conn: AsyncConnection,
    actor: Actor,
    city_id: str,
    action: str,
    object_id: str,
    reason: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    deed = Deed(
        action, "dispatch_parameters", object_id, city_id, None, reason, before=before, after=after
    )
    await audit.record(conn, actor, deed)


def _shape_set(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "overrides": row.overrides,
        "note": row.note,
        "in_use": row.in_use,
        "version": row.version,
        "updated_at": rfc3339(row.updated_at),
        "updated_by": row.updated_by,
    }


def shape_comparison(running: Running) -> dict[str, Any]:
    """What is or was compared, without its outcome."""
    one = running.experiment
    return {
        "id": running.id,
        "city_id": running.city_id,
        "control": one.control,
        "treatment": one.treatment,
        "overrides": {name: dict(values) for name, values in running.overrides.items()},
        "unit": one.unit.value,
        "store_ids": sorted(one.store_ids),
        "window_s": round(one.window_s),
        "washout_s": round(one.washout_s),
        "seed": one.seed,
        "started_at": rfc3339(running.started_at),
        "ended_at": rfc3339(running.ended_at),
        # Stores that are fixed differ in more than their parameters.
        "randomised": one.unit is not Unit.FIXED,
    }
