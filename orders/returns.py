"""Undeliverable orders: what they cost, and what becomes of their goods.

===============  =======================================================
whose fault      money
===============  =======================================================
the customer's   a fee (``ReturnSettings.customer_fault_fee_minor``); none for cash
ours             nothing is charged
===============  =======================================================

Back in the store each product goes on the shelf again or is thrown away.  Without a word from the
store that is decided by how cold it has to stay and how long it was out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.errors import IllegalTransition, Invalid
from kit.sql import load
from orders import paying
from orders.adjustments import charge_fee
from orders.errors import ColdChainBroken
from orders.model import Machine, OrderState, PaymentState
from orders.rows import OrderRow, lock_order
from orders.settings import ReturnSettings
from orders.tables import order_history
from orders.transitions import move
from stores import reservations

# What a rider reports at the door, and the customer could have helped.
CUSTOMER_FAULT = frozenset({"nobody_there", "refused", "wrong_address"})

_PICKED = load("orders", "picked_products")


class Disposition(StrEnum):
    RESTOCK = "restock"
    WASTE = "waste"


async def settle_undeliverable(
    conn: AsyncConnection, order: OrderRow, actor: str, reason: str, fee_minor: int
) -> None:
    """Charge the fee where the customer is at fault, else nothing.  The order's row is held.

    ``fee_minor`` is at most taken as far as the order's total goes.
    """
    chargeable = order.payment_status == PaymentState.AUTHORISED and order.gateway != paying.CASH
    if reason in CUSTOMER_FAULT and fee_minor and chargeable:
        await charge_fee(conn, order, fee_minor, actor, reason)
    else:
        await paying.let_go(conn, order)


async def take_back(
    conn: AsyncConnection,
    settings: ReturnSettings,
    order_id: str,
    actor: str,
    *,
    restock: bool = True,
    dispositions: Mapping[str, Disposition] | None = None,
) -> dict[str, Disposition]:
    """The store has an undeliverable order back; returns what became of each product (sku id).

    ``restock`` false: everything is thrown away.  ``dispositions`` by sku id win over what would
    happen by itself.
    Raises NotFound, IllegalTransition, Invalid, ColdChainBroken.
    """
    order = await lock_order(conn, order_id)
    if order.status != OrderState.UNDELIVERABLE:
        raise IllegalTransition(
            f"The order is {order.status}: only an undeliverable one comes back.",
            extra={"machine": "order", "state": order.status, "wanted": "returned"},
        )
    wanted = dict(dispositions or {})
    left_at = await _left_store_at(conn, order_id)
    out_s = (await database_now(conn) - left_at).total_seconds()
    decided: dict[str, Disposition] = {}
    for product in await _PICKED.all(conn, order_id):
        too_warm = out_s > _out_max_s(settings, product.temperature)
        chosen = wanted.pop(product.sku_id, None)
        if chosen is Disposition.RESTOCK and too_warm:
            raise ColdChainBroken(
                f"{product.name} has to stay {product.temperature} and was out for"
                f" {round(out_s / 60)} minutes: it has to be thrown away."
            )
        sound = restock and not too_warm
        decided[product.sku_id] = chosen or (Disposition.RESTOCK if sound else Disposition.WASTE)
    if wanted:
        raise Invalid("The order has no such product: " + ", ".join(sorted(wanted)) + ".")
    await move(conn, order_id, OrderState.RETURNED, actor, _summary(decided))
    await reservations.lock_stock(conn, order_id)
    for sku_id, disposition in sorted(decided.items()):
        waste = "undeliverable" if disposition is Disposition.WASTE else None
        await reservations.take_back(conn, order_id, actor, sku_id=sku_id, waste_reason=waste)
    return decided


def _out_max_s(settings: ReturnSettings, temperature: str) -> float:
    limits = {"chilled": settings.chilled_out_max_s, "frozen": settings.frozen_out_max_s}
    return limits.get(temperature, float("inf"))


def _summary(decided: Mapping[str, Disposition]) -> str:
    wasted = sum(each is Disposition.WASTE for each in decided.values())
    if not wasted:
        return "restocked"
    return "wasted" if wasted == len(decided) else "partly_restocked"


async def _left_store_at(conn: AsyncConnection, order_id: str) -> datetime:
    moment: datetime | None = await conn.scalar(
        select(order_history.c.at).where(
            order_history.c.order_id == order_id,
            order_history.c.machine == Machine.ORDER.value,
            order_history.c.to_state == OrderState.PICKED_UP.value,
        )
    )
    assert moment is not None, "what is undeliverable had left the store"
    return moment
