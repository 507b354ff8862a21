"""Telling a customer what has run short, and what could be had instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from catalog.repository import Alternative, alternatives
from kit.wire import money_of
from orders.errors import StockShort


async def stock_short(
    conn: AsyncConnection, store_id: str, lines: Sequence[Mapping[str, Any]]
) -> StockShort:
    """The error for lines of ``{sku_id, requested, available}``, with alternatives for each."""
    others = await alternatives(conn, store_id, [line["sku_id"] for line in lines])
    return StockShort(
        "Some products have just run short: take fewer, or something else.",
        extra={
            "lines": [
                {**line, "alternatives": [*map(shape_alternative, others.get(line["sku_id"], ()))]}
                for line in lines
            ]
        },
    )


def shape_alternative(other: Alternative) -> dict[str, object]:
    """A product that may stand in for another one, as answers show it."""
    return {
        "sku_id": other.sku_id,
        "name": other.name,
        "brand": other.brand,
        "unit": other.unit,
        "price": money_of(other.price),
        "list_price": money_of(other.list_price),
        "available": other.available,
        "image_url": other.image_url,
    }
