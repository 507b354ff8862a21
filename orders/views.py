"""Orders and quotes as API.md shows them: plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.errors import NotFound
from kit.sql import load
from kit.wire import money, rfc3339
from orders import slots
from orders.errors import QuoteNotFound
from orders.substitution_rows import shape as shape_substitution
from orders.tables import quotes

_ORDER_VIEWS = load("orders", "order_views")
_HISTORY = load("orders", "history")
_CHANGES = load("orders", "changes")

TOTALS = (
    "items_total", "tax", "delivery_fee", "small_order_fee", "discount", "tip", "total",
)  # fmt: skip

_JSON_COLUMNS = frozenset({"lines", "substitutions", "cancellation"})

# A database row by column name.
Record = Mapping[str, Any]


async def read_order(conn: AsyncConnection, order_id: str) -> Record:
    """All columns of an order with its lines, store and rider.  Raises NotFound."""
    rows = await _ORDER_VIEWS.dicts(conn, [order_id], [None])
    if not rows:
        raise NotFound("There is no such order.")
    return rows[0]


def record_of(row: Record) -> Record:
    """The same from a row of the driver, which hands JSON over as text."""
    return {
        name: orjson.loads(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in row.items()
    }


async def order_view(
    conn: AsyncConnection, order_id: str, *, with_code: bool, eta_at: datetime | None = None
) -> dict[str, object]:
    """An order as its customer (``with_code``) or anybody else may see it."""
    return shape_order(await read_order(conn, order_id), with_code=with_code, eta_at=eta_at)


def shape_order(
    order: Record, *, with_code: bool, eta_at: datetime | None = None
) -> dict[str, object]:
    """The view of an order that was read before.

    ``eta_at`` None means that nobody has predicted anything better than the promise.
    """
    currency = order["currency"]
    middle = order["promised_low_at"] + (order["promised_high_at"] - order["promised_low_at"]) / 2
    over = order["delivery_status"] in ("done", "failed", "cancelled")
    view: dict[str, object] = {
        "id": order["id"],
        "number": order["number"],
        "status": order["status"],
        "delivery_status": order["delivery_status"],
        "payment_status": order["payment_status"],
        "payment_method": order["payment_method"],
        "payment_note": _payment_note(order),
        "store_id": order["store_id"],
        "lines": [_line(line, currency) for line in order["lines"]],
        **{name: money(order[f"{name}_minor"], currency) for name in TOTALS},
        "refunded": money(order["refunded_minor"], currency),
        "paid_from_wallet": money(order["wallet_minor"], currency),
        "substitution": order["substitution"],
        "substitutions": [shape_substitution(each, currency) for each in order["substitutions"]],
        "dropoff": {
            "lat": order["lat"],
            "lon": order["lon"],
            "address": order["address"],
            "note": order["address_note"],
        },
        "placed_at": rfc3339(order["placed_at"]),
        "promised_at": {
            "low": rfc3339(order["promised_low_at"]),
            "high": rfc3339(order["promised_high_at"]),
        },
        "scheduled": slots.window(order["slot_start"]) if order["slot_start"] else None,
        "eta": None if over else rfc3339(eta_at or middle),
        "delivered_at": rfc3339(order["delivered_at"]),
        "rider": rider_card(order),
        "rating": order["stars"],
        "cancellation": _cancellation(order),
        "version": order["version"],
    }
    if with_code:
        view["delivery_code"] = order["delivery_code"]
        view["tracking_token"] = order["tracking_token"]
    return view


def _cancellation(order: Record) -> dict[str, object] | None:
    """By whom an order was cancelled, why, and what that cost."""
    told, currency = order["cancellation"], order["currency"]
    if told is None:
        return None
    return {
        "by": told["by"],
        "reason": told["reason"],
        "fee": money(told["fee_minor"], currency),
        "refund": money(told["refund_minor"], currency),
    }


def _payment_note(order: Record) -> str | None:
    """What a customer is told of a payment that is neither made nor refused."""
    if order["status"] == "placed" and order["payment_status"] in ("pending", "unknown"):
        return "The payment is being confirmed; the goods are kept for you meanwhile."
    if order["payment_status"] == "disputed":
        return "The payment is disputed at the bank; refunds wait until that is decided."
    return None


def rider_card(order: Record) -> dict[str, object] | None:
    """What a customer may know of the rider: a first name and a vehicle."""
    if order["rider_id"] is None:
        return None
    return {"name": order["rider_name"].split()[0], "vehicle": order["rider_vehicle"]}


def _line(line: Record, currency: str) -> dict[str, object]:
    return {
        "line_id": line["line_id"],
        "sku_id": line["sku_id"],
        "name": line["name"],
        "quantity": line["quantity"],
        "unit_price": money(line["unit_price_minor"], currency),
        "line_total": money(line["line_total_minor"], currency),
        "picked_quantity": line["picked_quantity"],
        "missing_quantity": line["missing_quantity"],
        "claimed_quantity": line["claimed_quantity"],
        "refunded": money(line["refunded_minor"], currency),
    }


async def history_view(conn: AsyncConnection, order_id: str) -> list[dict[str, object]]:
    """The entries of all three machines in one sequence, oldest first."""
    return [
        {
            "seq": row.seq,
            "machine": row.machine,
            "from": row.from_state,
            "to": row.to_state,
            "at": rfc3339(row.at),
            "actor": row.actor,
            "reason": row.reason,
        }
        for row in await _HISTORY.all(conn, order_id)
    ]


async def changes_view(conn: AsyncConnection, order_id: str) -> list[dict[str, object]]:
    """New slots and new addresses, oldest first; which address it was is nobody's business."""
    return [
        {
            "kind": row.kind,
            "version": row.version,
            "at": rfc3339(row.at),
            "actor": row.actor,
            "from": slots.window(row.from_slot) if row.from_slot else None,
            "to": slots.window(row.to_slot) if row.to_slot else None,
        }
        for row in await _CHANGES.all(conn, order_id)
    ]


async def quote_view(conn: AsyncConnection, quote_id: str, user_id: str) -> dict[str, object]:
    """A quote for its customer.  Raises QuoteNotFound."""
    row = (
        await conn.execute(
            select(quotes).where(quotes.c.id == quote_id, quotes.c.user_id == user_id)
        )
    ).mappings().first()  # fmt: skip
    if row is None:
        raise QuoteNotFound("There is no such quote; ask for a new one.")
    return shape_quote(dict(row))


def shape_quote(row: Record) -> dict[str, object]:
    """The view of a quote from its columns."""
    currency = row["currency"]
    return {
        "id": row["id"],
        "store_id": row["store_id"],
        "lines": [
            {
                "sku_id": line["sku_id"],
                "name": line["name"],
                "quantity": line["quantity"],
                "unit_price": money(line["unit_price_minor"], currency),
                "line_total": money(line["line_total_minor"], currency),
            }
            for line in row["lines"]
        ],
        **{name: money(row[f"{name}_minor"], currency) for name in TOTALS},
        "promise": {"low_s": row["promise_low_s"], "high_s": row["promise_high_s"]},
        "scheduled": slots.window(row["slot_start"]) if row["slot_start"] else None,
        "expires_at": rfc3339(row["expires_at"]),
    }
