"""Payments for those who look after them: gateways of a city, alerts, disputes, differences.

And for customers' apps: which gateways a store takes, so that they know whose tokens to send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from control.audit import Deed
from identity.model import Actor, Role
from kit.errors import Invalid, NotFound
from kit.sql import Query as NamedQuery
from kit.sql import load
from kit.wire import money, rfc3339
from orders.access import visible_order
from orders.model import PaymentMethod
from payments import routing
from payments.alerts import resolve_alert
from payments.disputes import DisputeState
from payments.reconciler import resolve_difference
from server import audit
from server.api.access import PUBLIC, CityOps, ServicesDep, allow, in_own_city
from server.api.paging import Paging, PagingDep
from server.api.schemas import IdText, RequestModel, ShortText
from server.api.writes import Reply, write
from server.wiring import Services

router = APIRouter(prefix="/v1", tags=["payments"])

Staff = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]

_ALERTS = load("server", "payment_alerts")
_DIFFERENCES = load("server", "reconciliation_differences")
_DISPUTES = load("server", "disputes")
_OPTIONS = load("server", "payment_options")
# Cash is taken at the door and the wallet is ours: neither has a gateway to choose.
_ROUTED = frozenset({PaymentMethod.CARD, PaymentMethod.UPI})

GatewayList = Annotated[list[ShortText], Field(min_length=1, max_length=5)]


class GatewaysIn(RequestModel):
    """Gateways by payment method, the preferred one first; other methods go by the settings."""

    methods: dict[PaymentMethod, GatewayList]


class ResolutionIn(RequestModel):
    resolution: ShortText = Field(min_length=1, description="What became of it")


@router.get("/payments/options", dependencies=[PUBLIC])
async def payment_options(store_id: IdText, services: ServicesDep) -> dict[str, object]:
    """How an order of this store can be paid.

    A token belongs to a gateway; an app that sends one for each (`payment.tokens`) can be paid
    while the preferred gateway is away.
    """
    async with services.database.begin() as conn:
        rows = await _OPTIONS.all(conn, store_id)
    if not rows:
        raise NotFound("There is no such store.")
    own = {row.method: list(row.gateways) for row in rows if row.method is not None}
    return {
        "methods": [
            {
                "method": method.value,
                "gateways": own.get(method.value)
                or list(services.gateways.for_method(method.value)),
            }
            for method in sorted(_ROUTED)
        ]
        + [{"method": method, "gateways": []} for method in ("cod", "wallet")],
        "shared_tokens": services.settings.payments.shared_tokens,
    }


@router.get("/ops/cities/{city_id}/gateways")
async def read_gateways(
    city_id: IdText, services: ServicesDep, actor: CityOps
) -> dict[str, object]:
    """The order in which a city's gateways are asked."""
    async with services.database.begin() as conn:
        await _own_city(conn, actor, city_id)
        return _gateways_out(services, city_id, await routing.gateways_of_city(conn, city_id))


@router.put("/ops/cities/{city_id}/gateways")
async def set_gateways(
    city_id: IdText, body: GatewaysIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Change it, for orders that are placed from now on."""
    wanted = {method.value: gateways for method, gateways in body.methods.items()}
    _check_gateways(services, body)

    async def use_case(conn: AsyncConnection) -> Reply:
        await _own_city(conn, actor, city_id)
        before = await routing.gateways_of_city(conn, city_id)
        await routing.set_gateways_of_city(
            conn, city_id, wanted, actor.user_id, services.clock.now()
        )
        deed = Deed(
            "city.gateways", "city", city_id, city_id, before=dict(before), after=dict(wanted)
        )
        await audit.record(conn, actor, deed)
        return Reply(200, _gateways_out(services, city_id, wanted))

    return await write(request, services, actor, use_case)


@router.get("/ops/payments/alerts")
async def list_alerts(
    services: ServicesDep,
    actor: Staff,
    page: PagingDep,
    resolved: Annotated[bool, Query(description="Resolved ones too")] = False,
) -> dict[str, object]:
    """What does not fit about payments, newest first."""
    rows = await _rows(services, _ALERTS, actor, resolved, page)
    return page.body(rows, _alert_out)


@router.post("/ops/payments/alerts/{alert_id}/resolve")
async def resolve(
    alert_id: IdText, body: ResolutionIn, request: Request, services: ServicesDep, actor: CityOps
) -> Response:
    """Say what became of an alert.  The first word stands."""

    async def use_case(conn: AsyncConnection) -> Reply:
        row = await resolve_alert(
            conn, alert_id, actor.user_id, body.resolution, services.clock.now()
        )
        await _own(conn, actor, row)
        return Reply(200, _alert_out(row))

    return await write(request, services, actor, use_case)


@router.get("/ops/payments/differences")
async def list_differences(
    services: ServicesDep,
    actor: CityOps,
    page: PagingDep,
    resolved: Annotated[bool, Query(description="Resolved ones too")] = False,
) -> dict[str, object]:
    """What reconciliation found between us and the gateways, newest first."""
    rows = await _rows(services, _DIFFERENCES, actor, resolved, page)
    return page.body(rows, _difference_out)


@router.post("/ops/payments/differences/{difference_id}/resolve")
async def resolve_one(
    difference_id: IdText,
    body: ResolutionIn,
    request: Request,
    services: ServicesDep,
    actor: CityOps,
) -> Response:
    """Say what became of a difference.  The first word stands."""

    async def use_case(conn: AsyncConnection) -> Reply:
        row = await resolve_difference(
            conn, difference_id, actor.user_id, body.resolution, services.clock.now()
        )
        await _own(conn, actor, row)
        return Reply(200, _difference_out(row))

    return await write(request, services, actor, use_case)


@router.get("/ops/disputes")
async def list_disputes(
    services: ServicesDep,
    actor: Staff,
    page: PagingDep,
    status: Annotated[list[DisputeState] | None, Query()] = None,
) -> dict[str, object]:
    """Payments that their payers want back from the bank, newest first."""
    wanted = None if status is None else [state.value for state in status]
    rows = await _rows(services, _DISPUTES, actor, wanted, page)
    return page.body(rows, _dispute_out)


async def _rows(
    services: Services, query: NamedQuery, actor: Actor, wanted: object, page: Paging
) -> list[dict[str, Any]]:
    async with services.database.begin() as conn:
        return await query.dicts(
            conn, sorted(actor.store_ids), sorted(actor.city_ids), actor.role is Role.ADMIN,
            wanted, page.after, page.fetch,
        )  # fmt: skip


async def _own(conn: AsyncConnection, actor: Actor, row: Mapping[str, Any]) -> None:
    """What belongs to no order is for admins alone.  Raises NotFound."""
    if row["order_id"] is not None:
        await visible_order(conn, actor, row["order_id"])
    elif actor.role is not Role.ADMIN:
        raise NotFound("There is no such thing.")


async def _own_city(conn: AsyncConnection, actor: Actor, city_id: str) -> None:
    known = await conn.scalar(text("SELECT id FROM cities WHERE id = :id"), {"id": city_id})
    in_own_city(actor, known)


def _check_gateways(services: Services, body: GatewaysIn) -> None:
    """Raises Invalid."""
    for method, gateways in body.methods.items():
        if method not in _ROUTED:
            raise Invalid(f"The method {method.value} has no gateway to choose.")
        unknown = [name for name in gateways if name not in services.gateways.by_name]
        if unknown:
            raise Invalid(f"There is no gateway {', '.join(unknown)} here.")
        if len(set(gateways)) < len(gateways):
            raise Invalid("A gateway stands in the list once.")


def _gateways_out(
    services: Services, city_id: str, own: Mapping[str, list[str]]
) -> dict[str, object]:
    return {
        "city_id": city_id,
        "methods": dict(own),
        "defaults": {
            method.value: list(services.gateways.for_method(method.value))
            for method in sorted(_ROUTED)
        },
        "circuits": {
            name: services.gateways.breakers.of(name).state.value
            for name in sorted(services.gateways.by_name)
        },
    }


def _json(value: Any) -> Any:
    # A statement of ours is not typed: its JSON comes as text.
    return orjson.loads(value) if isinstance(value, str) else value


def _alert_out(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "gateway": row["gateway"],
        "subject": row["subject"],
        "order_id": row["order_id"],
        "detail": row["detail"],
        "facts": _json(row["facts"]),
        "raised_at": rfc3339(row["raised_at"]),
        **_resolution_out(row),
    }


def _difference_out(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "gateway": row["gateway"],
        "order_id": row["order_id"],
        "operation_id": row["operation_id"],
        "gateway_operation_id": row["gateway_operation_id"],
        "ours": _json(row["ours"]),
        "theirs": _json(row["theirs"]),
        "found_at": rfc3339(row["found_at"]),
        "last_seen_at": rfc3339(row["last_seen_at"]),
        **_resolution_out(row),
    }


def _resolution_out(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "resolved_at": rfc3339(row["resolved_at"]),
        "resolved_by": row["resolved_by"],
        "resolution": row["resolution"],
    }


def _dispute_out(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        "id": row["id"],
        "gateway": row["gateway"],
        "reference": row["reference"],
        "order_id": row["order_id"],
        "amount": money(row["amount_minor"], row["currency"]),
        "fee": money(row["fee_minor"], row["currency"]),
        "reason": row["reason"],
        "status": row["status"],
        "due_by": rfc3339(row["due_by"]),
        "opened_at": rfc3339(row["opened_at"]),
        "closed_at": rfc3339(row["closed_at"]),
    }
