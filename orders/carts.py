"""A customer's cart as it stands now: live prices and availability, and what changed since.

Nothing is reserved by a cart; the quote and the checkout decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis

from catalog import repository as catalog
from catalog.repository import StoreProduct
from catalog.service import Availability, ProductNotFound
from kit.db import Database
from kit.errors import Invalid
from kit.money import Money
from orders import carts_redis
from orders.carts_redis import Cart, CartLine


class CartNote(StrEnum):
    """What a customer should look at before ordering a line; stable codes."""

    PRICE_CHANGED = "price_changed"
    UNITS_SHORT = "units_short"
    OUT_OF_STOCK = "out_of_stock"
    NO_LONGER_SOLD = "no_longer_sold"


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line with its product as sold now, None when it no longer is; ``available`` in units."""

    line: CartLine
    product: StoreProduct | None
    available: int
    notes: tuple[CartNote, ...]

    @property
    def total(self) -> Money | None:
        return None if self.product is None else self.product.price * self.line.quantity


@dataclass(frozen=True, slots=True)
class PricedCart:
    """``items_total`` adds the lines that are sold, short or not; None for an empty cart."""

    store_id: str | None
    lines: tuple[PricedLine, ...]

    @property
    def items_total(self) -> Money | None:
        total: Money | None = None
        for line in self.lines:
            if line.total is not None:
                total = line.total if total is None else total + line.total
        return total


@dataclass(frozen=True, slots=True)
class Carts:
    """The use cases on carts; all raise ``CartUnavailable`` when Redis does not answer."""

    database: Database
    redis: Redis
    availability: Availability

    async def show(self, user_id: str) -> PricedCart:
        """The cart of a user at the prices of this moment."""
        return await self._priced(await carts_redis.load(self.redis, user_id))

    async def replace(
        self, user_id: str, store_id: str, quantities: Mapping[str, int], now_ms: int
    ) -> PricedCart:
        """Fill the cart anew with units by product.

        Raises ``ProductNotFound`` for what the store does not sell, and ``CartFull``.
        """
        _check(quantities)
        products = await self._products(store_id, list(quantities))
        lines = [
            CartLine(sku_id, quantity, products[sku_id].price.amount_minor)
            for sku_id, quantity in quantities.items()
        ]
        await carts_redis.replace(self.redis, user_id, store_id, lines, now_ms)
        return await self.show(user_id)

    async def put_line(
        self, user_id: str, store_id: str | None, sku_id: str, quantity: int, now_ms: int
    ) -> PricedCart:
        """Put ``quantity`` units of a product in, instead of those that were there.

        ``store_id`` None means the store of the cart.  Raises ``ProductNotFound``,
        ``CartOfAnotherStore``, ``CartFull``, and ``Invalid`` when no store is known.
        """
        _check({sku_id: quantity})
        if store_id is None:
            store_id = (await carts_redis.load(self.redis, user_id)).store_id
        if store_id is None:
            raise Invalid("The cart is empty: say which store_id the product comes from.")
        products = await self._products(store_id, [sku_id])
        line = CartLine(sku_id, quantity, products[sku_id].price.amount_minor)
        await carts_redis.put_line(self.redis, user_id, store_id, line, now_ms)
        return await self.show(user_id)

    async def remove_line(self, user_id: str, sku_id: str) -> PricedCart:
        """Take a product out; no error if it is not there."""
        await carts_redis.remove_line(self.redis, user_id, sku_id)
        return await self.show(user_id)

    async def clear(self, user_id: str) -> None:
        await carts_redis.clear(self.redis, user_id)

    async def _products(self, store_id: str, sku_ids: Sequence[str]) -> dict[str, StoreProduct]:
        async with self.database.begin() as conn:
            products = await catalog.find_products(conn, store_id, sku_ids)
        missing = [sku_id for sku_id in sku_ids if sku_id not in products]
        if missing:
            raise ProductNotFound(
                "This store does not sell this product; look for another one.",
                extra={"sku_ids": missing},
            )
        return products

    async def _priced(self, cart: Cart) -> PricedCart:
        if cart.store_id is None or not cart.lines:
            return PricedCart(cart.store_id, ())
        sku_ids = [line.sku_id for line in cart.lines]
        async with self.database.begin() as conn:
            products = await catalog.find_products(conn, cart.store_id, sku_ids)
        units = await self.availability(cart.store_id, sku_ids)
        lines = [
            _price_line(line, products.get(line.sku_id), units.get(line.sku_id, 0))
            for line in cart.lines
        ]
        return PricedCart(cart.store_id, tuple(lines))


def _check(quantities: Mapping[str, int]) -> None:
    if any(not 1 <= quantity <= carts_redis.MAX_QUANTITY for quantity in quantities.values()):
        raise Invalid(f"The quantity of a line is between 1 and {carts_redis.MAX_QUANTITY}.")


def _price_line(line: CartLine, product: StoreProduct | None, available: int) -> PricedLine:
    if product is None:
        return PricedLine(line, None, 0, (CartNote.NO_LONGER_SOLD,))
    notes: list[CartNote] = []
    if product.price.amount_minor != line.seen_price_minor:
        notes.append(CartNote.PRICE_CHANGED)
    if available == 0:
        notes.append(CartNote.OUT_OF_STOCK)
    elif available < line.quantity:
        notes.append(CartNote.UNITS_SHORT)
    return PricedLine(line, product, available, tuple(notes))
