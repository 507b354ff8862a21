"""Picking an order: the pick task, the stock, the order's state and the refunds move together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import Conflict, IllegalTransition, Invalid
from kit.ids import new_id
from orders.cancellation import cancel
from orders.errors import NotPicked, TooMany, WrongBin, WrongProduct, WrongRider
from orders.model import DeliveryState, OrderState
from orders.pricing import PricedLine, refund_for
from orders.rows import lock_order
from orders.tables import order_adjustments, order_lines, orders
from orders.transitions import move
from riders import trips
from stores import picking, reservations
from stores.picking import PickStatus, PickTask

# Packed this long before the rider would have to leave: handing over takes its time.
HANDOVER_S = 120.0


class NothingToPick(Conflict):
    code = "nothing_to_pick"
    title = "There is nothing to pick"


class NotYours(Conflict):
    code = "pick_task_not_yours"
    title = "Claim the task first"


async def queue_for_picking(conn: AsyncConnection, order_id: str) -> None:
    """Queue a confirmed order in its store.  Doing it twice does nothing."""
    order = (
        # The relay holds streams that others wait for with this row in hand; it must not wait.
        await conn.execute(
            select(orders).where(orders.c.id == order_id).with_for_update(nowait=True)
        )
    ).one()
    if order.status != OrderState.CONFIRMED:
        return
    lines = (
        await conn.execute(
            select(
                order_lines.c.line_id, order_lines.c.n, order_lines.c.sku_id, order_lines.c.name,
                order_lines.c.quantity,
            ).where(order_lines.c.order_id == order_id)
        )
    ).mappings()  # fmt: skip
    due_at = order.promised_low_at - timedelta(seconds=order.travel_s + HANDOVER_S)
    task = await picking.create(conn, order_id, due_at, [dict(line) for line in lines])
    if task is not None:
        await picking.announce(conn, task)


async def claim(
    conn: AsyncConnection, store_id: str, picker_id: str, pick_task_id: str | None
) -> PickTask:
    """Give a picker the most pressing task; the one that they hold, if they hold one.

    Raises NothingToPick.
    """
    held = await picking.claimed_by(conn, store_id, picker_id)
    if held is not None:
        return await picking.read(conn, held)
    wanted = [pick_task_id] if pick_task_id else await picking.candidates(conn, store_id)
    for candidate in wanted:
        order_id, _store = await picking.locate(conn, candidate)
        # The order's row is locked before the task's, as everywhere; a locked one is being
        # claimed or cancelled this moment.
        status = await conn.scalar(
            select(orders.c.status).where(orders.c.id == order_id).with_for_update(skip_locked=True)
        )
        if status is None or not await picking.claim(conn, store_id, picker_id, candidate):
            continue
        if status == OrderState.CONFIRMED:
            await move(conn, order_id, OrderState.PICKING, picker_id)
        return await picking.announced(conn, candidate)
    raise NothingToPick("Nothing is waiting to be picked.")


async def scan(
    conn: AsyncConnection,
    pick_task_id: str,
    picker_id: str,
    line_id: str,
    barcode: str,
    bin_code: str,
    quantity: int,
) -> PickTask:
    """Put scanned units of a line into the bag.

    Raises NotYours, WrongProduct, WrongBin, TooMany.
    """
    task, line = await _line(conn, pick_task_id, picker_id, line_id)
    if barcode != line["barcode"]:
        raise WrongProduct(f"The scanned product is not {line['name']}.")
    if bin_code != line["bin"]:
        raise WrongBin(f"{line['name']} lies in bin {line['bin']}.")
    _check_open(line, quantity)
    await picking.count_line(conn, pick_task_id, line_id, picked=quantity)
    await reservations.take(conn, task["order_id"], line["sku_id"], quantity, picker_id)
    await _count_order_line(conn, task["order_id"], line_id, picked=quantity)
    return await picking.announced(conn, pick_task_id)


async def short(
    conn: AsyncConnection,
    pick_task_id: str,
    picker_id: str,
    line_id: str,
    missing: int,
    reason: str,
) -> PickTask:
    """Report units that are not on the shelf: they leave the books and are refunded.

    Raises NotYours, TooMany.
    """
    task, line = await _line(conn, pick_task_id, picker_id, line_id)
    _check_open(line, missing)
    await picking.count_line(conn, pick_task_id, line_id, missing=missing)
    await reservations.write_off(conn, task["order_id"], line["sku_id"], missing, picker_id)
    await _refund_missing(conn, task["order_id"], line_id, missing, reason)
    gone = sum(line["missing"] for line in task["lines"]) + missing
    if gone == sum(line["quantity"] for line in task["lines"]):
        # Nothing of the order is to be had: there is no bag to deliver.
        await cancel(conn, task["order_id"], picker_id, "nothing_in_stock", fee_minor=0)
        return await picking.read(conn, pick_task_id)
    return await picking.announced(conn, pick_task_id)


async def pack(
    conn: AsyncConnection, pick_task_id: str, picker_id: str, bags: int, shelf: str
) -> PickTask:
    """Close the bags and put them on a shelf.  Raises NotYours, NotPicked."""
    task = await _claimed(conn, pick_task_id, picker_id)
    open_lines = [
        line["name"]
        for line in task["lines"]
        if line["picked"] + line["missing"] < line["quantity"]
    ]
    if open_lines:
        raise NotPicked(f"Neither picked nor reported short: {', '.join(open_lines)}.")
    packed_at = await database_now(conn)
    await picking.set_status(
        conn, pick_task_id, PickStatus.PACKED, bags=bags, shelf=shelf, packed_at=packed_at
    )
    await move(conn, task["order_id"], OrderState.PACKED, picker_id)
    return await picking.announced(conn, pick_task_id)


async def release(conn: AsyncConnection, pick_task_id: str, picker_id: str) -> PickTask:
    """Put a claimed task back into the queue; what was picked stays picked."""
    await _claimed(conn, pick_task_id, picker_id)
    await picking.set_status(conn, pick_task_id, PickStatus.QUEUED, picker_id=None, claimed_at=None)
    return await picking.announced(conn, pick_task_id)


async def hand_over(
    conn: AsyncConnection, pick_task_id: str, actor: str, rider_code: str
) -> PickTask:
    """Give the packed bags to the rider who shows the right code.

    The order is picked up and the delivery collected in one transaction: the two machines meet.
    Raises WrongRider; IllegalTransition unless the order is packed and a rider is at the store.
    """
    order_id, _store = await picking.locate(conn, pick_task_id)
    order = await lock_order(conn, order_id)
    task = await picking.lock(conn, pick_task_id)
    if task["status"] != PickStatus.PACKED:
        raise IllegalTransition(f"The pick task is {task['status']}: pack it before handing over.")
    trip = await trips.active_of_order(conn, order_id)
    if trip is None or order.delivery_status != DeliveryState.AT_STORE:
        raise IllegalTransition("No rider has arrived for this order yet.")
    if rider_code != trip.rider_code:
        raise WrongRider("That is not the code of this order's rider: check the order number.")
    await move(conn, order_id, OrderState.PICKED_UP, actor)
    await move(conn, order_id, DeliveryState.COLLECTED, actor)
    await reservations.consume(conn, order_id)
    await trips.complete_pickup(conn, trip.id, order_id)
    await picking.set_status(conn, pick_task_id, PickStatus.HANDED_OVER)
    await trips.announce(conn, trip.id)
    return await picking.announced(conn, pick_task_id)


async def _claimed(conn: AsyncConnection, pick_task_id: str, picker_id: str) -> PickTask:
    order_id, _store = await picking.locate(conn, pick_task_id)
    await lock_order(conn, order_id)
    task = await picking.lock(conn, pick_task_id)
    if task["status"] != PickStatus.CLAIMED or task["picker_id"] != picker_id:
        raise NotYours("You do not hold this task; claim it, or ask who does.")
    return task


async def _line(
    conn: AsyncConnection, pick_task_id: str, picker_id: str, line_id: str
) -> tuple[PickTask, dict[str, Any]]:
    task = await _claimed(conn, pick_task_id, picker_id)
    for line in task["lines"]:
        if line["line_id"] == line_id:
            return task, line
    raise Invalid("This task has no such line.")


def _check_open(line: dict[str, Any], quantity: int) -> None:
    left = line["quantity"] - line["picked"] - line["missing"]
    if quantity > left:
        raise TooMany(f"Only {left} of {line['name']} are left to account for.")


async def _refund_missing(
    conn: AsyncConnection, order_id: str, line_id: str, missing: int, reason: str
) -> None:
    row = (
        await conn.execute(
            select(order_lines).where(
                order_lines.c.order_id == order_id, order_lines.c.line_id == line_id
            )
        )
    ).one()
    line = PricedLine(
        row.sku_id, row.name, row.quantity, row.unit_price_minor, row.line_total_minor,
        row.discount_minor, row.tax_rate_bp, row.tax_minor, row.weight_g,
    )  # fmt: skip
    back = refund_for(line, missing, row.missing_quantity)
    now = await database_now(conn)
    await conn.execute(
        insert(order_adjustments).values(
            id=new_id("adj"), order_id=order_id, line_id=line_id, kind=f"short_pick:{reason}",
            items_minor=back.items_minor, tax_minor=back.tax_minor, tax_rate_bp=row.tax_rate_bp,
            quantity=missing, at=now,
        )
    )  # fmt: skip
    await conn.execute(
        update(orders)
        .where(orders.c.id == order_id)
        .values(
            refunded_minor=orders.c.refunded_minor + back.total_minor,
            version=orders.c.version + 1,
        )
    )
    await _count_order_line(
        conn, order_id, line_id, missing=missing, refunded_minor=back.total_minor
    )
    trip_id = await trips.lower_cash_due(conn, order_id, back.total_minor)
    if trip_id is not None:
        await trips.announce(conn, trip_id)


async def _count_order_line(
    conn: AsyncConnection,
    order_id: str,
    line_id: str,
    *,
    picked: int = 0,
    missing: int = 0,
    refunded_minor: int = 0,
) -> None:
    row = (
        await conn.execute(
            update(order_lines)
            .where(order_lines.c.order_id == order_id, order_lines.c.line_id == line_id)
            .values(
                picked_quantity=order_lines.c.picked_quantity + picked,
                missing_quantity=order_lines.c.missing_quantity + missing,
                refunded_minor=order_lines.c.refunded_minor + refunded_minor,
            )
            .returning(
                order_lines.c.sku_id, order_lines.c.quantity, order_lines.c.picked_quantity,
                order_lines.c.refunded_minor,
            )
        )
    ).one()  # fmt: skip
    await outbox.append(
        conn,
        f"order:{order_id}",
        "order.line",
        {
            "line_id": line_id,
            "sku_id": row.sku_id,
            "quantity": row.quantity,
            "picked_quantity": row.picked_quantity,
            "refunded_minor": row.refunded_minor,
        },
    )
