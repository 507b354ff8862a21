"""Substitutes for what is missing, as the customer wished at checkout.

A missing unit is refunded in any case.  A substitute that really goes into the bag is then charged
again, at most what the missing units gave back: so at every moment the price is right for what is
in the bag, whatever is proposed, approved, forgotten or cancelled.

===========  ====================================================================
preference   what happens when a picker offers a substitute
===========  ====================================================================
refund       refused: the customer wants none
best_match   approved at once
ask          the customer has until a deadline; then ``fallback`` is applied
===========  ====================================================================

Units are reserved from the proposal on, and given back when it comes to nothing.  Lock order: the
order, its pick task, then stock by product, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog.repository import Alternative, alternatives
from kit.clock import database_now
from kit.errors import Invalid
from kit.ids import new_id
from kit.sql import load
from orders import substitution_rows as rows
from orders.adjustments import Adjustment, AdjustmentKind, adjust
from orders.errors import (
    NotASubstitute,
    NoTimeToAsk,
    SubstituteShort,
    SubstitutionDecided,
    SubstitutionNotWanted,
    TooMany,
    WrongProduct,
)
from orders.lines import priced, read_lines
from orders.model import Substitution
from orders.pricing import LineRefund
from orders.rows import OrderRow, lock_order
from orders.settings import SubstitutionSettings
from orders.shortages import report_missing
from orders.substitution_price import agreed_price, difference, share
from orders.substitution_rows import RESERVED, SubstitutionState
from orders.tables import order_substitutions as table
from orders.transitions import SYSTEM
from stores import picking, reservations, substitutes
from stores.picking import PickTask
from stores.substitutes import Substitute

# Closing the bags and handing them over takes its time: by then every answer has to be there.
CLOSING_S = 150.0

_SUBSTITUTE = load("orders", "substitute")


async def candidates(
    conn: AsyncConnection, task: PickTask, line_id: str, limit: int
) -> tuple[Alternative, ...]:
    """What may stand in for a line: same category, nearest in price, in stock.  Raises Invalid."""
    line = line_of(task, line_id)
    found = await alternatives(conn, task["store_id"], [line["sku_id"]], limit)
    return found.get(line["sku_id"], ())


def line_of(task: PickTask, line_id: str) -> dict[str, Any]:
    """A line of a pick task.  Raises Invalid."""
    for line in task["lines"]:
        if line["line_id"] == line_id:
            found: dict[str, Any] = line
            return found
    raise Invalid("This task has no such line.")


def uncovered(line: Mapping[str, Any]) -> int:
    """Missing units of a task's line for which nothing was offered that still stands."""
    covered = sum(
        s["quantity"] - s["missing"]
        for s in line["substitutes"]
        if s["status"] not in (SubstitutionState.REJECTED, SubstitutionState.WITHDRAWN)
    )
    left: int = line["missing"] - covered
    return left


async def propose(
    conn: AsyncConnection,
    settings: SubstitutionSettings,
    task: PickTask,
    picker_id: str,
    line_id: str,
    sku_id: str,
    quantity: int,
    barcode: str | None,
) -> None:
    """Offer ``quantity`` units of another product for as many missing ones of a line.

    Units that are still open on the line are reported missing with it.  The caller holds the
    order and the task.  With a ``barcode`` the units are in the picker's hand: where nobody has to
    be asked they go into the bag at once.
    Raises SubstitutionNotWanted, TooMany, NotASubstitute, WrongProduct, SubstituteShort,
    NoTimeToAsk.
    """
    order = await lock_order(conn, task["order_id"])
    if order.substitution == Substitution.REFUND:
        raise SubstitutionNotWanted("Report the line short: the customer wants the money back.")
    line = line_of(task, line_id)
    still_open = line["quantity"] - line["picked"] - line["missing"]
    if quantity > uncovered(line) + still_open:
        raise TooMany(f"Only {uncovered(line) + still_open} of {line['name']} are missing.")
    product = await _SUBSTITUTE.first(conn, task["store_id"], line["sku_id"], sku_id)
    if product is None:
        raise NotASubstitute(f"Choose a product of the same category as {line['name']}.")
    if barcode is not None and barcode != product.barcode:
        raise WrongProduct(f"The scanned product is not {product.name}.")
    now = await database_now(conn)
    deadline_at = None
    if order.substitution == Substitution.ASK:
        deadline_at = _deadline(settings, order, now)
    await reservations.lock_stock(conn, order.id, [sku_id])
    missing = max(0, quantity - uncovered(line))
    if missing:
        await report_missing(conn, task, picker_id, line_id, missing, "substituted")
    if not await reservations.reserve_more(conn, order.id, sku_id, quantity, picker_id):
        raise SubstituteShort(
            f"There are not {quantity} of {product.name} left to sell.",
            extra={"available": max(0, product.available)},
        )
    row = await _insert(conn, settings, order, line_id, product, quantity, picker_id, deadline_at)
    await substitutes.add(
        conn, task["id"],
        Substitute(
            row.id, line_id, sku_id, product.name, quantity, product.bin, product.temperature,
            product.barcode, row.status, deadline_at,
        ),
    )  # fmt: skip
    await rows.tell(conn, order.id, row.id)
    if barcode is not None and row.status == SubstitutionState.APPROVED:
        await take(conn, order.id, row.id, quantity, picker_id)


def _deadline(settings: SubstitutionSettings, order: OrderRow, now: datetime) -> datetime:
    """Until when the customer may answer.  Raises NoTimeToAsk."""
    leave_at = order.promised_high_at - timedelta(seconds=order.travel_s + CLOSING_S)
    deadline: datetime = min(now + timedelta(seconds=settings.answer_s), leave_at)
    if deadline < now + timedelta(seconds=settings.answer_min_s):
        raise NoTimeToAsk("The order has to leave soon: report the line short.")
    return deadline


async def _insert(
    conn: AsyncConnection,
    settings: SubstitutionSettings,
    order: OrderRow,
    line_id: str,
    product: Any,  # a row of orders.substitute
    quantity: int,
    picker_id: str,
    deadline_at: datetime | None,
) -> OrderRow:
    line = priced((await read_lines(conn, order.id))[line_id])
    agreed = agreed_price(line, quantity, product.price_minor, product.tax_rate_bp)
    asked = deadline_at is not None
    now = await database_now(conn)
    substitution_id = new_id("sub")
    await conn.execute(
        insert(table).values(
            id=substitution_id, order_id=order.id, line_id=line_id, sku_id=product.sku_id,
            name=product.name, quantity=quantity, unit_price_minor=product.price_minor,
            tax_rate_bp=product.tax_rate_bp, items_minor=agreed.items_minor,
            tax_minor=agreed.tax_minor,
            status=SubstitutionState.PROPOSED if asked else SubstitutionState.APPROVED,
            fallback=settings.fallback if asked else Substitution.BEST_MATCH.value,
            proposed_by=picker_id, proposed_at=now, deadline_at=deadline_at,
            decided_by=None if asked else order.user_id, decided_at=None if asked else now,
        )
    )  # fmt: skip
    return await rows.read(conn, order.id, substitution_id)


async def decide(
    conn: AsyncConnection, order_id: str, substitution_id: str, actor: str, *, approved: bool
) -> None:
    """The customer answers.  Giving the same answer twice is fine.

    Raises NotFound, SubstitutionDecided.
    """
    await lock_order(conn, order_id)
    row = await rows.read(conn, order_id, substitution_id)
    if row.status == SubstitutionState.PROPOSED:
        await _decide(conn, row, actor, approved=approved)
        return
    same = (
        row.status in (SubstitutionState.APPROVED, SubstitutionState.PICKED)
        if approved
        else row.status == SubstitutionState.REJECTED
    )
    if not same:
        raise SubstitutionDecided(f"It is {row.status} already.", extra={"status": row.status})


async def apply_default(conn: AsyncConnection, order_id: str, substitution_id: str) -> bool:
    """Nobody has answered in time: do what the proposal said.  False when it was too late for that.

    An answer that came first stands.
    """
    await lock_order(conn, order_id)
    row = await rows.read(conn, order_id, substitution_id)
    if row.status != SubstitutionState.PROPOSED or row.deadline_at > await database_now(conn):
        return False
    approved = row.fallback == Substitution.BEST_MATCH
    await _decide(conn, row, SYSTEM, approved=approved)
    return True


async def overdue(conn: AsyncConnection, limit: int = 50) -> list[tuple[str, str]]:
    """(order id, substitution id) of proposals whose time is over, not locked."""
    found = await conn.execute(
        select(table.c.order_id, table.c.id)
        .where(
            table.c.status == SubstitutionState.PROPOSED,
            table.c.deadline_at <= await database_now(conn),
        )
        .order_by(table.c.deadline_at)
        .limit(limit)
    )
    return [(row.order_id, row.id) for row in found]


async def _decide(conn: AsyncConnection, row: OrderRow, actor: str, *, approved: bool) -> None:
    task = await picking.of_order(conn, row.order_id)
    assert task is not None, "a substitution belongs to a task"
    if not approved:
        await reservations.release_some(conn, row.order_id, row.sku_id, row.quantity, actor)
    status = SubstitutionState.APPROVED if approved else SubstitutionState.REJECTED
    await rows.set_state(conn, row, status, decided_by=actor)
    await picking.announced(conn, task["id"])


async def take(
    conn: AsyncConnection, order_id: str, substitution_id: str, quantity: int, picker_id: str
) -> None:
    """Units of an approved substitute go into the bag and are charged.

    The caller holds the order and the task, and has checked that so many are open.
    Raises StockExpired.
    """
    row = await rows.read(conn, order_id, substitution_id)
    assert row.status in RESERVED
    await reservations.take(conn, order_id, row.sku_id, quantity, picker_id)
    agreed = LineRefund(row.items_minor, row.tax_minor)
    charge = difference(
        share(agreed, row.picked_quantity + quantity, row.quantity),
        share(agreed, row.picked_quantity, row.quantity),
    )
    await _count(conn, row, picked=quantity, charged_minor=charge.total_minor)
    await adjust(
        conn, order_id,
        [
            Adjustment(
                AdjustmentKind.SUBSTITUTION, -charge.items_minor, -charge.tax_minor,
                row.tax_rate_bp, row.line_id, quantity,
            )
        ],
        actor=picker_id, reason="substituted", source_id=row.id,
    )  # fmt: skip


async def report_short(
    conn: AsyncConnection, order_id: str, substitution_id: str, missing: int, picker_id: str,
    reason: str,
) -> None:  # fmt: skip
    """Units of an approved substitute are not there either; they were never charged."""
    row = await rows.read(conn, order_id, substitution_id)
    await reservations.write_off(conn, order_id, row.sku_id, missing, picker_id, reason)
    await _count(conn, row, missing=missing)


async def _count(
    conn: AsyncConnection, row: OrderRow, *, picked: int = 0, missing: int = 0,
    charged_minor: int = 0,
) -> None:  # fmt: skip
    done = row.picked_quantity + row.missing_quantity + picked + missing == row.quantity
    status = SubstitutionState.APPROVED
    if done:
        any_picked = row.picked_quantity + picked > 0
        status = SubstitutionState.PICKED if any_picked else SubstitutionState.WITHDRAWN
    await conn.execute(
        update(table)
        .where(table.c.id == row.id)
        .values(
            picked_quantity=table.c.picked_quantity + picked,
            missing_quantity=table.c.missing_quantity + missing,
            charged_minor=table.c.charged_minor + charged_minor,
            status=status.value,
        )
    )
    await substitutes.count(conn, row.id, status.value, picked=picked, missing=missing)
    await rows.tell(conn, row.order_id, row.id)
