"""Dispatch explained to ops: what it would do now and why, what it did with an order, and what two
parameter sets made of theirs.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import StringConstraints
from sqlalchemy import select
from starlette.requests import HTTPConnection

from dispatch.overrides import Value, parse_overrides
from identity.model import Actor, Role
from kit.errors import NotFound
from orders import comparison
from orders.access import visible_order
from orders.tables import orders
from riders import decisions, parameter_sets
from riders.parameter_sets import ParametersInvalid, Running, check_overrides
from server.api.access import CityOps, ServicesDep, allow
from server.api.dispatch_sets import of_own_city, shape_comparison
from server.api.schemas import IdText
from server.dispatch_history import shape
from server.what_if import WhatIf
from server.what_if_shape import shape_answers

router = APIRouter(prefix="/v1/ops", tags=["ops"])

Staff = Annotated[Actor, allow(Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)]
SetText = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z_.]+=[\x21-\x7e]+$")]
HISTORY_MAX = 200


def _what_if(connection: HTTPConnection) -> WhatIf:
    """The questions of this process."""
    found: WhatIf = connection.app.state.what_if
    return found


@router.get("/cities/{city_id}/dispatch/what-if")
async def what_if(
    city_id: IdText,
    connection: HTTPConnection,
    services: ServicesDep,
    actor: CityOps,
    order_id: Annotated[IdText | None, Query(description="Tell all about this order")] = None,
    set_: Annotated[
        list[SetText] | None,
        Query(alias="set", max_length=40, description="`group.parameter=value`, tried on top"),
    ] = None,
) -> dict[str, Any]:
    """What the engine would do with the city now, and why.  Nothing is written.

    `trips` it would commit, `held` with the reason and when it looks again, `unassigned` with the
    reason and what would help; `costs_mean` says what the costs are of. 503 with `Retry-After`
    while the engine starts or is asked already.
    """
    overrides = _overrides(set_ or [])
    store_id = None
    async with services.database.begin() as conn:
        await of_own_city(conn, actor, city_id)
        if order_id is not None:
            query = select(orders.c.store_id).where(
                orders.c.id == order_id, orders.c.city_id == city_id
            )
            store_id = await conn.scalar(query)
            if store_id is None:
                raise NotFound("There is no such order in this city.")
    answers = await _what_if(connection).ask(city_id, store_id, overrides)
    # Pricing every rider of a large city for the one order takes a while.
    return await asyncio.to_thread(shape_answers, city_id, answers, overrides, order_id)


def _overrides(texts: list[str]) -> dict[str, Value]:
    try:
        overrides = parse_overrides(texts)
    except ValueError as error:
        raise ParametersInvalid(f"{error}.") from None
    check_overrides(overrides)
    return overrides


@router.get("/orders/{order_id}/dispatch")
async def read_decisions(order_id: IdText, services: ServicesDep, actor: Staff) -> dict[str, Any]:
    """What dispatch did with an order, in sequence: held why and until when, given to whom at what
    cost, and who came second by how much.  An entry is made whenever that changed.

    `cost_s` is of the trip as it was decided, `runner_up.cost_s` what its new orders would have
    cost with the cheapest other rider, beside what that rider had to do already.
    """
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        rows = await decisions.of_order(conn, order_id, HISTORY_MAX)
    return {"items": [shape(row) for row in reversed(rows)], "next_cursor": None}


@router.get("/dispatch/comparison")
async def read_comparison(
    services: ServicesDep,
    actor: CityOps,
    city_id: IdText,
    comparison_id: Annotated[
        IdText | None, Query(description="An earlier one (default: the newest)")
    ] = None,
) -> dict[str, Any]:
    """Two parameter sets, by what became of the orders placed on their duty.

    Every difference is treatment minus control, with a 95 % interval over pairs of windows; the
    verdict is `too_few` until there are enough of them.
    """
    async with services.database.begin() as conn:
        await of_own_city(conn, actor, city_id)
        running = await parameter_sets.latest(conn, city_id, comparison_id)
        until = running.ended_at or services.clock.now()
        found = await comparison.outcome(
            conn, city_id, running.experiment, running.started_at, until
        )
    return _shape_outcome(running, found)


def _shape_outcome(running: Running, found: comparison.Outcome) -> dict[str, Any]:
    return {
        **shape_comparison(running),
        "arms": {
            name: {
                "parameter_set": parameter_set,
                "orders": arm.orders,
                "delivered": arm.delivered,
                "windows": arm.windows,
                "planned_by_other": arm.planned_by_other,
            }
            for name, parameter_set, arm in (
                ("control", running.experiment.control, found.control),
                ("treatment", running.experiment.treatment, found.treatment),
            )
        },
        "measures": {
            name: {
                "control": one.control,
                "treatment": one.treatment,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "pairs": one.pairs,
                "verdict": one.verdict.value,
            }
            for name, one in found.measures.items()
        },
    }
