"""The cart of a shopper: what it holds now, at the prices and in the quantities of this moment."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from identity.model import SHOPPERS, Actor
from kit.errors import Invalid
from orders.carts import CartNote, Carts, PricedCart, PricedLine
from orders.carts_redis import MAX_LINES, MAX_QUANTITY
from server.api.access import ServicesDep, allow
from server.api.catalogue import live_availability, money_out
from server.api.schemas import IdText, MoneyOut, RequestModel
from server.wiring import Services

router = APIRouter(prefix="/v1/cart", tags=["cart"])

Shopper = Annotated[Actor, allow(*SHOPPERS)]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]

_NOTES = {
    CartNote.PRICE_CHANGED: "The price has changed since you put this in.",
    CartNote.UNITS_SHORT: "Fewer units are left than you want.",
    CartNote.OUT_OF_STOCK: "This is out of stock at the moment.",
    CartNote.NO_LONGER_SOLD: "This store no longer sells this.",
}


class CartLineIn(RequestModel):
    sku_id: IdText
    quantity: Quantity


class CartIn(RequestModel):
    """A whole cart; each product once."""

    store_id: IdText
    lines: list[CartLineIn] = Field(max_length=MAX_LINES)


class LineIn(RequestModel):
    """`store_id` may be left out once the cart has a store."""

    quantity: Quantity
    store_id: IdText | None = None


class NoteOut(BaseModel):
    """`code` is stable; `detail` is for the customer."""

    code: CartNote
    detail: str


class CartLineOut(BaseModel):
    """Name and prices are null once the store no longer sells it; `available` is capped."""

    sku_id: str
    quantity: int
    name: str | None
    unit: str | None
    image_url: str | None
    unit_price: MoneyOut | None
    line_total: MoneyOut | None
    available: int
    notes: list[NoteOut]


class CartOut(BaseModel):
    """`items_total` adds the lines that are sold; null for an empty cart."""

    store_id: str | None
    lines: list[CartLineOut]
    items_total: MoneyOut | None


@router.get("")
async def get_cart(actor: Shopper, services: ServicesDep) -> CartOut:
    """The cart, with what has changed since its lines were put in."""
    return cart_out(services, await _carts(services).show(actor.user_id))


@router.put("")
async def put_cart(body: CartIn, actor: Shopper, services: ServicesDep) -> CartOut:
    """Replace the whole cart."""
    quantities = {line.sku_id: line.quantity for line in body.lines}
    if len(quantities) < len(body.lines):
        raise Invalid("A product stands in the cart once: add its quantities up.")
    cart = await _carts(services).replace(
        actor.user_id, body.store_id, quantities, _now_ms(services)
    )
    return cart_out(services, cart)


@router.delete("", status_code=204)
async def delete_cart(actor: Shopper, services: ServicesDep) -> Response:
    """Empty the cart."""
    await _carts(services).clear(actor.user_id)
    return Response(status_code=204)


@router.put("/lines/{sku_id}")
async def put_line(sku_id: IdText, body: LineIn, actor: Shopper, services: ServicesDep) -> CartOut:
    """Put units of a product in, instead of those that were there."""
    cart = await _carts(services).put_line(
        actor.user_id, body.store_id, sku_id, body.quantity, _now_ms(services)
    )
    return cart_out(services, cart)


@router.delete("/lines/{sku_id}")
async def delete_line(sku_id: IdText, actor: Shopper, services: ServicesDep) -> CartOut:
    """Take a product out; no error if it is not there."""
    return cart_out(services, await _carts(services).remove_line(actor.user_id, sku_id))


def _carts(services: Services) -> Carts:
    return Carts(services.database, services.redis, live_availability(services))


def _now_ms(services: Services) -> int:
    return int(services.clock.now_s() * 1000)


def cart_out(services: Services, cart: PricedCart) -> CartOut:
    """A cart as its shopper's app shows it."""
    shown_max = services.settings.stores.shown_units_max
    total = cart.items_total
    return CartOut(
        store_id=cart.store_id,
        lines=[_line_out(line, shown_max) for line in cart.lines],
        items_total=None if total is None else money_out(total),
    )


def _line_out(line: PricedLine, shown_max: int) -> CartLineOut:
    product, total = line.product, line.total
    return CartLineOut(
        sku_id=line.line.sku_id,
        quantity=line.line.quantity,
        name=None if product is None else product.name,
        unit=None if product is None else product.unit,
        image_url=None if product is None else product.image_url,
        unit_price=None if product is None else money_out(product.price),
        line_total=None if total is None else money_out(total),
        available=min(line.available, shown_max),
        notes=[NoteOut(code=note, detail=_NOTES[note]) for note in line.notes],
    )
