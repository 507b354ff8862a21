"""What a customer's app calls: serviceability, quotes, orders."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from geo.distances import Point
from identity.model import Actor, Role
from kit.errors import Conflict, Invalid, NotFound
from kit.sql import load
from orders import cancellation, quotes
from orders.access import visible_order
from orders.checkout import CheckoutRequest
from orders.errors import AlreadyRated
from orders.model import OrderState, PaymentMethod, Substitution
from orders.queued import outcome_view
from orders.rows import read_row
from orders.tables import orders, ratings
from orders.views import changes_view, history_view, quote_view, shape_order
from server import audit
from server.api.access import PUBLIC, ServicesDep, allow, checkouts
from server.api.order_changes import party_of
from server.api.paging import PagingDep
from server.api.schemas import IdText, LatLon, RequestModel, ShortText
from server.api.writes import (
    REPLAYED_HEADER,
    Reply,
    idempotency_key,
    request_hash,
    write,
)
from server.wiring import Services

router = APIRouter(prefix="/v1", tags=["customer"])

Shopper = Annotated[Actor, allow(Role.CUSTOMER, Role.GUEST)]
AnyRole = Annotated[Actor, allow(*Role)]

_ORDERS_OF_USER = load("orders", "orders_of_user")


class LineIn(RequestModel):
    sku_id: IdText
    quantity: int = Field(ge=1, le=1000)


class DropoffIn(LatLon):
    address: ShortText = Field(min_length=1)


class QuoteIn(RequestModel):
    """``store_id`` may be left out: then the store that serves the drop-off."""

    store_id: IdText | None = None
    lines: list[LineIn] = Field(min_length=1, max_length=500)
    dropoff: DropoffIn
    coupon: ShortText | None = None
    delivery_option: Literal["standard", "scheduled"] = "standard"
    slot: AwareDatetime | None = Field(
        default=None, description="When the slot of a scheduled delivery begins"
    )
    tip: int = Field(default=0, ge=0, description="Minor units of the city's currency")

    @model_validator(mode="after")
    def _relations(self) -> QuoteIn:
        if (self.slot is not None) != (self.delivery_option == "scheduled"):
            raise ValueError("a scheduled delivery has a slot, another has none")
        return self


class PaymentIn(RequestModel):
    method: PaymentMethod
    token: str | None = Field(default=None, min_length=1, max_length=200)
    tokens: dict[ShortText, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=dict,
        max_length=5,
        description="By gateway: one that is sent a token of its own can stand in for another",
    )
    use_wallet: bool = Field(
        default=False, description="The wallet pays what it can, the method the rest"
    )


class OrderIn(RequestModel):
    quote_id: IdText
    payment: PaymentIn
    substitution: Substitution = Substitution.REFUND
    tip: int | None = Field(default=None, ge=0, description="Minor units; left out: as quoted")


class CancelIn(RequestModel):
    reason: ShortText = "customer_request"


class RatingIn(RequestModel):
    stars: int = Field(ge=1, le=5)
    comment: str | None = Field(default=None, max_length=1000, pattern=r"^[^\x00]*$")


@router.get("/serviceability", dependencies=[PUBLIC])
async def serviceability(
    services: ServicesDep,
    lat: Annotated[float, Query(ge=-90, le=90)],
    lon: Annotated[float, Query(ge=-180, le=180)],
) -> dict[str, object]:
    """Which store serves a point now, and how fast."""
    territory = await services.territory.get()
    async with services.database.begin() as conn:
        found = await quotes.serviceability(
            conn, territory, services.settings.orders, Point(lat, lon)
        )
    return {
        "serviceable": found.store is not None,
        "store_id": found.store.store_id if found.store else None,
        "promise": (
            {"low_s": found.promise.low_s, "high_s": found.promise.high_s}
            if found.promise
            else None
        ),
        "reason": found.reason,
    }


@router.post("/quotes", status_code=201)
async def create_quote(
    body: QuoteIn, request: Request, services: ServicesDep, actor: Shopper
) -> Response:
    """A price snapshot and a promise for a basket."""
    settings = services.settings.orders
    if len(body.lines) > settings.max_lines:
        raise Invalid(f"A basket has at most {settings.max_lines} different products.")
    if len({line.sku_id for line in body.lines}) < len(body.lines):
        raise Invalid("Each product stands in one line: add up its quantities.")
    if any(line.quantity > settings.max_quantity for line in body.lines):
        raise Invalid(f"At most {settings.max_quantity} of one product fit one order.")
    _check_tip(services, body.tip)
    wanted = quotes.QuoteRequest(
        user_id=actor.user_id,
        store_id=body.store_id,
        lines=tuple(quotes.WantedLine(line.sku_id, line.quantity) for line in body.lines),
        dropoff=Point(body.dropoff.lat, body.dropoff.lon),
        address=body.dropoff.address,
        coupon=body.coupon,
        tip_minor=body.tip,
        slot=body.slot,
    )
    territory = await services.territory.get()
    if idempotency_key(request) is None:
        quote = await quotes.create_plain_quote(
            services.database.pool, territory, settings, services.clock, wanted
        )
        if quote is not None:
            await checkouts(request).remember_quote(str(quote["id"]), actor.user_id)
            return Response(orjson.dumps(quote), 201, media_type="application/json")

    async def use_case(conn: AsyncConnection) -> Reply:
        quote_id = await quotes.create_quote(conn, territory, settings, services.clock, wanted)
        return Reply(201, await quote_view(conn, quote_id, actor.user_id))

    answer = await write(request, services, actor, use_case)
    quote_id = orjson.loads(bytes(answer.body))["id"]
    await checkouts(request).remember_quote(quote_id, actor.user_id)
    return answer


@router.get("/quotes/{quote_id}")
async def read_quote(quote_id: IdText, services: ServicesDep, actor: Shopper) -> dict[str, object]:
    """A quote as it was made."""
    async with services.database.begin() as conn:
        return await quote_view(conn, quote_id, actor.user_id)


def _check_tip(services: Services, tip_minor: int) -> None:
    if tip_minor > services.settings.orders.max_tip_minor:
        raise Invalid("The tip is larger than we accept; check the number of digits.")


@router.post("/orders", status_code=201)
async def create_order(
    body: OrderIn, request: Request, services: ServicesDep, actor: Shopper
) -> Response:
    """Place an order for a quote; 202 when it has to wait for the database to come back."""
    tokenless = (PaymentMethod.COD, PaymentMethod.WALLET)
    if body.payment.method not in tokenless and not (body.payment.token or body.payment.tokens):
        raise Invalid(
            "This payment method needs the token of a payment.",
            errors=[{"field": "payment.token", "detail": "missing"}],
        )
    if body.tip is not None:
        _check_tip(services, body.tip)
    wanted = CheckoutRequest(
        user_id=actor.user_id,
        key=idempotency_key(request) or f"auto-{secrets.token_urlsafe(24)}",
        body_hash=await request_hash(request),
        quote_id=body.quote_id,
        method=body.payment.method,
        token=body.payment.token,
        substitution=body.substitution,
        tip_minor=body.tip,
        use_wallet=body.payment.use_wallet,
        tokens=body.payment.tokens,
        open_orders_max=services.settings.orders.open_orders.limit(actor.role is Role.GUEST),
    )
    placed = await checkouts(request).place(wanted)
    headers = {REPLAYED_HEADER: "true"} if placed.replayed else None
    return Response(placed.answer.body, placed.answer.status, headers, "application/json")


@router.get("/orders")
async def list_orders(
    services: ServicesDep,
    actor: Shopper,
    page: PagingDep,
) -> dict[str, object]:
    """The customer's orders, newest first."""
    async with services.database.begin() as conn:
        ids = await _ORDERS_OF_USER.all(conn, actor.user_id, page.after, page.fetch)
        rows = [await services.tracking.order_record(conn, row.id) for row in ids]
    return page.body(rows, lambda row: shape_order(row, with_code=True))


@router.get("/orders/{order_id}")
async def read_order(
    order_id: IdText, request: Request, services: ServicesDep, actor: AnyRole
) -> dict[str, object]:
    """An order as it stands now, with the current prediction of its arrival.

    A checkout that waits for the database, or was refused after it had waited, is shown as that.
    """
    queued = await checkouts(request).waiting(order_id, actor.user_id)
    if queued is not None:
        return queued
    try:
        async with services.database.begin() as conn:
            await visible_order(conn, actor, order_id)
            order = await services.tracking.order_record(conn, order_id)
    except NotFound:
        async with services.database.begin() as conn:
            ended = await outcome_view(conn, order_id, actor.user_id)
        if ended is None:
            raise
        return ended
    eta_at = await services.tracking.eta_at(order)
    return shape_order(order, with_code=order["user_id"] == actor.user_id, eta_at=eta_at)


@router.get("/orders/{order_id}/history")
async def read_history(
    order_id: IdText, services: ServicesDep, actor: AnyRole
) -> dict[str, object]:
    """Every step of the order's three state machines, and its new slots and addresses."""
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        return {
            "items": await history_view(conn, order_id),
            "changes": await changes_view(conn, order_id),
            "next_cursor": None,
        }


@router.post("/orders/{order_id}/cancel")
async def cancel_order(
    order_id: IdText, body: CancelIn, request: Request, services: ServicesDep, actor: AnyRole
) -> Response:
    """Cancel an order; what that costs depends on how far it has come (docs/architecture.md)."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        match actor.role:
            case Role.CUSTOMER | Role.GUEST:
                order = await read_row(conn, order_id)
                fees = services.settings.orders.cancellation_fees_in(order.city_id)
                await cancellation.cancel_as_customer(
                    conn, order_id, actor.user_id, body.reason, fees.picking_minor
                )
            case Role.RIDER | Role.PICKER:
                raise Conflict("Ask your store or support to cancel an order.")
            case _:
                await cancellation.cancel_as_staff(
                    conn, order_id, actor.user_id, body.reason, party_of(actor)
                )
                await audit.of_order(conn, actor, "order.cancel", order_id, body.reason)
        record = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(record, with_code=record["user_id"] == actor.user_id))

    return await write(request, services, actor, use_case)


@router.post("/orders/{order_id}/rating", status_code=201)
async def rate_order(
    order_id: IdText, body: RatingIn, request: Request, services: ServicesDep, actor: Shopper
) -> Response:
    """Rate a delivered order, once."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        status = await conn.scalar(select(orders.c.status).where(orders.c.id == order_id))
        if status != OrderState.DELIVERED:
            raise Conflict("An order can be rated once it is delivered.")
        try:
            async with conn.begin_nested():
                await conn.execute(
                    insert(ratings).values(
                        order_id=order_id, stars=body.stars, comment=body.comment,
                        at=services.clock.now(),
                    )
                )  # fmt: skip
        except IntegrityError as error:
            raise AlreadyRated("You have rated this order already.") from error
        return Reply(201, {"order_id": order_id, "stars": body.stars})

    return await write(request, services, actor, use_case)


@router.get("/tracking/{token}", dependencies=[PUBLIC])
async def shared_tracking(
    token: Annotated[str, Field(min_length=22, max_length=64)], services: ServicesDep
) -> dict[str, object]:
    """An order for whoever holds its link: where it stands, not what is in it or where it goes."""
    return await services.tracking.shared(token)
