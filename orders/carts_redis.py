"""Carts in the live layer: one hash a user, kept for a week after the last change.

A cart is a convenience: losing Redis loses carts, never an order.  Prices are those that the
customer saw when the line was put in, so that the cart can say what has changed since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from kit.errors import Busy, Conflict
from kit.redis import RedisError, load_script

MAX_LINES = 100
MAX_QUANTITY = 50
# Real seconds: Redis keeps them, and a cart is no part of the simulated business.
LIFE_S = 7 * 24 * 3600

_STORE = "store_id"
_LINE = "line:"

_log = structlog.get_logger(__name__)


class CartOfAnotherStore(Conflict):
    code = "cart_of_another_store"
    title = "The cart holds products of another store"


class CartFull(Conflict):
    code = "cart_full"
    title = "The cart is full"


class CartUnavailable(Busy):
    code = "cart_unavailable"
    title = "The cart cannot be reached"


@dataclass(frozen=True, slots=True)
class CartLine:
    """``quantity`` units of a product, put in at ``seen_price_minor``."""

    sku_id: str
    quantity: int
    seen_price_minor: int


@dataclass(frozen=True, slots=True)
class Cart:
    """``store_id`` is None for a cart that was never filled; lines in the order of adding."""

    store_id: str | None
    lines: tuple[CartLine, ...]


EMPTY = Cart(None, ())


def key_of(user_id: str) -> str:
    """The hash of a user's cart."""
    return f"cart:{{{user_id}}}"


async def load(redis: Redis, user_id: str) -> Cart:
    """The cart of a user, empty if there is none.  Raises ``CartUnavailable``."""
    async with _deadline():
        fields = await redis.hgetall(key_of(user_id))
    texts = {_text(name): _text(value) for name, value in fields.items()}
    lines = [
        (int(added_ms), CartLine(name.removeprefix(_LINE), int(quantity), int(price_minor)))
        for name, value in texts.items()
        if name.startswith(_LINE)
        for quantity, price_minor, added_ms in [value.split(":")]
    ]
    lines.sort(key=lambda entry: (entry[0], entry[1].sku_id))
    return Cart(texts.get(_STORE), tuple(line for _, line in lines))


async def replace(
    redis: Redis, user_id: str, store_id: str, lines: Sequence[CartLine], now_ms: int
) -> None:
    """Make the cart hold just these lines, each product once; ``now_ms`` is POSIX.

    Raises ``CartFull`` and ``CartUnavailable``.
    """
    if len(lines) > MAX_LINES:
        raise CartFull(f"A cart holds at most {MAX_LINES} different products.")
    fields: list[str] = [_STORE, store_id]
    for n, line in enumerate(lines):
        value = f"{line.quantity}:{line.seen_price_minor}:{now_ms + n}"
        fields += [f"{_LINE}{line.sku_id}", value]
    async with _deadline(), redis.pipeline(transaction=True) as pipeline:
        pipeline.delete(key_of(user_id))
        pipeline.hset(key_of(user_id), items=fields)
        pipeline.expire(key_of(user_id), LIFE_S)
        await pipeline.execute()


async def put_line(redis: Redis, user_id: str, store_id: str, line: CartLine, now_ms: int) -> None:
    """Put a line in, or change it.

    Raises ``CartOfAnotherStore``, ``CartFull`` and ``CartUnavailable``.
    """
    args: list[str | int] = [
        store_id, line.sku_id, line.quantity, line.seen_price_minor, now_ms, MAX_LINES, LIFE_S,
    ]  # fmt: skip
    async with _deadline():
        outcome = _text(await _put_line(redis)(keys=[key_of(user_id)], args=args))
    if outcome == "other_store":
        raise CartOfAnotherStore("Empty the cart first: one order comes from one store.")
    if outcome == "full":
        raise CartFull(f"A cart holds at most {MAX_LINES} different products.")
    assert outcome == "ok", outcome


async def remove_line(redis: Redis, user_id: str, sku_id: str) -> None:
    """Take a line out, if it is there.  Raises ``CartUnavailable``."""
    async with _deadline():
        await redis.hdel(key_of(user_id), f"{_LINE}{sku_id}")


async def clear(redis: Redis, user_id: str) -> None:
    """Forget the cart.  Raises ``CartUnavailable``."""
    async with _deadline():
        await redis.delete(key_of(user_id))


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """The client itself bounds every command (kit.redis); here its failures get a name."""
    try:
        yield
    except (RedisError, TimeoutError, OSError) as error:
        _log.warning("cart_unreachable", error=type(error).__name__)
        raise CartUnavailable("The cart cannot be reached; try again in a moment.") from error


@lru_cache(maxsize=8)
def _put_line(redis: Redis) -> AsyncScript:
    return load_script(redis, "orders", "put_cart_line")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
