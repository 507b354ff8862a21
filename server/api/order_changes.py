"""Changing one's mind about an order: what cancelling costs, another door, the same again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from catalog.repository import Alternative
from geo.distances import Point
from identity.model import SHOPPERS, Actor, Role
from kit.wire import money, money_of
from orders import address, cancellation
from orders.access import visible_order
from orders.cancellation_rules import Party
from orders.carts import Carts
from orders.reorder import OldLine, Reorder, old_order, reorder
from orders.rows import read_row
from orders.views import shape_order
from server import audit
from server.api.access import ServicesDep, allow
from server.api.cart import CartOut, cart_out
from server.api.catalogue import live_availability
from server.api.schemas import IdText, LatLon, RequestModel, ShortText
from server.api.writes import Reply, write

router = APIRouter(prefix="/v1", tags=["orders"])

Shopper = Annotated[Actor, allow(*SHOPPERS)]
Support = Annotated[Actor, allow(Role.SUPPORT, Role.OPS, Role.ADMIN)]
Changer = Annotated[Actor, allow(*SHOPPERS, Role.SUPPORT, Role.OPS, Role.ADMIN)]
Canceller = Annotated[
    Actor, allow(*SHOPPERS, Role.STORE_MANAGER, Role.SUPPORT, Role.OPS, Role.ADMIN)
]


class AddressIn(LatLon):
    """`accept_promise` takes a later delivery that the longer way makes; see `promise_later`."""

    address: ShortText = Field(min_length=1)
    note: ShortText | None = Field(default=None, description="For the rider: a gate, a floor")
    accept_promise: bool = False


class CancelReason(StrEnum):
    """Why support cancels."""

    CUSTOMER_REQUEST = "customer_request"
    OUT_OF_STOCK = "out_of_stock"
    STORE_CLOSING = "store_closing"
    NO_RIDER = "no_rider"
    PAYMENT_SUSPECT = "payment_suspect"
    DUPLICATE = "duplicate"
    OTHER = "other"


class FeeIn(RequestModel):
    """An amount by hand, up to the cap of the city."""

    amount_minor: int = Field(ge=0)


class SupportCancelIn(RequestModel):
    """`rule` is what the customer would pay at this stage."""

    reason: CancelReason
    fee: Literal["waive", "rule"] | FeeIn = "waive"


def party_of(actor: Actor) -> Party:
    """On whose side somebody cancels."""
    if actor.role in SHOPPERS:
        return Party.CUSTOMER
    return Party.STORE if actor.role is Role.STORE_MANAGER else Party.SUPPORT


@router.get("/orders/{order_id}/cancellation")
async def preview_cancellation(
    order_id: IdText, services: ServicesDep, actor: Canceller
) -> dict[str, object]:
    """What cancelling would cost at this moment, or why it is too late."""
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        order = await read_row(conn, order_id)
    fees = services.settings.orders.cancellation_fees_in(order.city_id)
    terms = cancellation.preview(order, party_of(actor), fees)
    return {
        "allowed": terms.allowed,
        "fee": money(terms.fee_minor, order.currency),
        "refund": money(terms.refund_minor, order.currency),
        "reason": terms.reason,
    }


@router.post("/ops/orders/{order_id}/cancel")
async def cancel_for_customer(
    order_id: IdText,
    body: SupportCancelIn,
    request: Request,
    services: ServicesDep,
    actor: Support,
) -> Response:
    """Cancel an order that has not left the store; the fee is waived, by the rule, or by hand."""

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        seen = await read_row(conn, order_id)
        await cancellation.cancel_as_support(
            conn, order_id, actor.user_id, body.reason.value,
            services.settings.orders.cancellation_fees_in(seen.city_id), _charge_minor(body.fee),
        )  # fmt: skip
        await audit.of_order(
            conn, actor, "order.cancel", order_id, body.reason.value,
            before={"status": seen.status}, after={"status": "cancelled"},
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        return Reply(200, shape_order(order, with_code=False))

    return await write(request, services, actor, use_case)


def _charge_minor(fee: Literal["waive", "rule"] | FeeIn) -> int | None:
    """None is what the rule says."""
    if isinstance(fee, FeeIn):
        return fee.amount_minor
    return 0 if fee == "waive" else None


@router.post("/orders/{order_id}/address")
async def change_address(
    order_id: IdText, body: AddressIn, request: Request, services: ServicesDep, actor: Changer
) -> Response:
    """Send an order to another door of the same store, until a rider has it."""
    territory = await services.territory.get()
    door = address.Door(Point(body.lat, body.lon), body.address, body.note)

    async def use_case(conn: AsyncConnection) -> Reply:
        await visible_order(conn, actor, order_id)
        later_s = await address.change_address(
            conn, territory, services.settings.orders, order_id, actor.user_id, door,
            accept_promise=body.accept_promise,
        )  # fmt: skip
        order = await services.tracking.order_record(conn, order_id)
        shown = shape_order(order, with_code=order["user_id"] == actor.user_id)
        return Reply(200, {**shown, "later_s": later_s})

    return await write(request, services, actor, use_case)


@router.post("/orders/{order_id}/reorder")
async def order_again(order_id: IdText, services: ServicesDep, actor: Shopper) -> dict[str, object]:
    """Put the lines of an old order into the cart, at today's price and as far as they go.

    Asking twice changes nothing, with or without a key.
    """
    async with services.database.begin() as conn:
        await visible_order(conn, actor, order_id)
        old = await old_order(conn, order_id)
    carts = Carts(services.database, services.redis, live_availability(services))
    now_ms = int(services.clock.now_s() * 1000)
    told = await reorder(carts, actor.user_id, old, now_ms)
    return _shape_reorder(told, cart_out(services, told.cart), old.currency)


def _shape_reorder(told: Reorder, cart: CartOut, currency: str) -> dict[str, object]:
    return {
        "cart": cart.model_dump(mode="json"),
        "gone": [
            {**_shape_line(entry.line), "alternatives": _shape_others(entry.alternatives)}
            for entry in told.gone
        ],
        "short": [
            {
                **_shape_line(entry.line),
                "available": entry.available,
                "alternatives": _shape_others(entry.alternatives),
            }
            for entry in told.short
        ],
        "price_changed": [
            {
                **_shape_line(entry.line),
                "price_then": money(entry.line.unit_price_minor, currency),
                "price_now": money_of(entry.price),
            }
            for entry in told.repriced
        ],
    }


def _shape_line(line: OldLine) -> dict[str, object]:
    return {"sku_id": line.sku_id, "name": line.name, "quantity": line.quantity}


def _shape_others(others: tuple[Alternative, ...]) -> list[dict[str, object]]:
    return [
        {
            "sku_id": other.sku_id,
            "name": other.name,
            "price": money_of(other.price),
            "available": other.available,
        }
        for other in others
    ]
