"""Picking an order: the pick task, the stock, the order's state and the refunds move together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import database_now
from kit.errors import Conflict, IllegalTransition, Invalid
from kit.ids import new_id
from kit.sql import Query, json_parameter, load
from orders import substitutions
from orders.cancellation import cancel
from orders.errors import (
    NotPicked,
    SubstitutionOpen,
    TooMany,
    WrongBin,
    WrongProduct,
    WrongRider,
)
from orders.lines import count_line
from orders.model import DeliveryState, OrderState, Substitution
from orders.rows import lock_order
from orders.settings import SubstitutionSettings
from orders.shortages import report_missing
from orders.tables import orders
from orders.transitions import move
from riders import stops, trips
from stores import picking, reservations, substitutes
from stores.picking import PickStatus, PickTask
from stores.substitutes import TO_FETCH, WAITING

_DUE = load("orders", "due_for_picking")
_QUEUE = Query("orders.queue_for_picking", "SELECT queue_for_picking($1::text::jsonb, $2::float8)")

# Packed this long before the rider would have to leave: handing over takes its time.
HANDOVER_S = 120.0


class NothingToPick(Conflict):
    code = "nothing_to_pick"
    title = "There is nothing to pick"


class NotYours(Conflict):
    code = "pick_task_not_yours"
    title = "Claim the task first"


async def queue_for_picking(conn: AsyncConnection, order_ids: Sequence[str]) -> None:
    """Queue confirmed orders in their stores.  Doing it twice does nothing.

    Nor does doing it too early: a scheduled order waits for its time, when a periodic job comes
    (``queue_next_due``).  An order whose row is locked fails all of them at once: the relay holds
    streams that others wait for, so it must not wait.
    """
    wanted = [{"order_id": each, "pick_task_id": new_id("ptk")} for each in order_ids]
    await _QUEUE.run(conn, json_parameter(wanted), HANDOVER_S)


async def queue_next_due(conn: AsyncConnection) -> str | None:
    """Queue one scheduled order whose time has come; its id, or None when there is none."""
    row = await _DUE.first(conn)
    if row is None:
        return None
    await queue_for_picking(conn, [row.id])
    return str(row.id)


async def claim(
    conn: AsyncConnection, store_id: str, picker_id: str, pick_task_id: str | None
) -> PickTask:
    """Give a picker the most pressing task; the one that they hold, if they hold one.

    Raises NothingToPick.
    """
    held = await picking.claimed_by(conn, store_id, picker_id)
    if held is not None:
        return await picking.read(conn, held)
    if pick_task_id is not None:
        # Who wants a certain task waits for whoever has its order in hand this moment.
        task = await _take(conn, store_id, picker_id, pick_task_id, wait=True)
        if task is None:
            raise NothingToPick("This task is no longer waiting to be picked.")
        return task
    for candidate in await picking.candidates(conn, store_id):
        # A locked one is being claimed, cancelled or given a rider: the next one is as good.
        task = await _take(conn, store_id, picker_id, candidate, wait=False)
        if task is not None:
            return task
    raise NothingToPick("Nothing is waiting to be picked.")


async def _take(
    conn: AsyncConnection, store_id: str, picker_id: str, pick_task_id: str, *, wait: bool
) -> PickTask | None:
    """The task, claimed; None when it is not free, or without ``wait`` not at this moment."""
    order_id, _store = await picking.locate(conn, pick_task_id)
    # The order's row is locked before the task's, as everywhere.
    status = await conn.scalar(
        select(orders.c.status).where(orders.c.id == order_id).with_for_update(skip_locked=not wait)
    )
    if status is None or not await picking.claim(conn, store_id, picker_id, pick_task_id):
        return None
    if status == OrderState.CONFIRMED:
        await move(conn, order_id, OrderState.PICKING, picker_id)
    return await picking.announced(conn, pick_task_id)


async def scan(
    conn: AsyncConnection,
    pick_task_id: str,
    picker_id: str,
    line_id: str,
    barcode: str,
    bin_code: str,
    quantity: int,
) -> PickTask:
    """Put scanned units of a line, or of a substitute approved for it, into the bag.

    Raises NotYours, WrongProduct, WrongBin, TooMany.
    """
    task, line = await _line(conn, pick_task_id, picker_id, line_id)
    substitute = substitutes.of_line(line, barcode)
    wanted = line if substitute is None else substitute
    if barcode != wanted["barcode"]:
        raise WrongProduct(f"The scanned product is not {line['name']}.")
    if bin_code != wanted["bin"]:
        raise WrongBin(f"{wanted['name']} lies in bin {wanted['bin']}.")
    _check_open(wanted, quantity)
    if substitute is not None:
        await substitutions.take(conn, task["order_id"], substitute["id"], quantity, picker_id)
        return await picking.touched(conn, pick_task_id)
    await picking.count_line(conn, pick_task_id, line_id, picked=quantity)
    await reservations.take(conn, task["order_id"], line["sku_id"], quantity, picker_id)
    await count_line(conn, task["order_id"], line_id, picked=quantity)
    return await picking.announced(conn, pick_task_id)


async def short(
    conn: AsyncConnection,
    pick_task_id: str,
    picker_id: str,
    line_id: str,
    missing: int,
    reason: str,
    substitution_id: str | None = None,
) -> PickTask:
    """Report units that are not on the shelf: they leave the books and are refunded.

    With ``substitution_id``: units of a substitute that was approved and is not there either.
    Raises NotYours, TooMany.
    """
    task, line = await _line(conn, pick_task_id, picker_id, line_id)
    order_id = task["order_id"]
    if substitution_id is not None:
        _check_open(_substitute(line, substitution_id), missing)
        await substitutions.report_short(
            conn, order_id, substitution_id, missing, picker_id, reason
        )
        return await picking.touched(conn, pick_task_id)
    _check_open(line, missing)
    await report_missing(conn, task, picker_id, line_id, missing, reason)
    task = await picking.read(conn, pick_task_id)
    if _nothing_left(task):
        order = await lock_order(conn, order_id)
        if order.substitution == Substitution.REFUND or not any(
            [await substitutions.candidates(conn, task, each["line_id"], 1)
             for each in task["lines"]]
        ):  # fmt: skip
            # Nothing of the order is to be had: there is no bag to deliver.
            await cancel(conn, order_id, picker_id, "nothing_in_stock", fee_minor=0)
            return await picking.read(conn, pick_task_id)
    return await picking.announced(conn, pick_task_id)


async def substitute(
    conn: AsyncConnection,
    settings: SubstitutionSettings,
    pick_task_id: str,
    picker_id: str,
    line_id: str,
    sku_id: str,
    quantity: int,
    barcode: str | None,
) -> PickTask:
    """Offer another product for missing units, as the customer wished (``substitutions``)."""
    task = await _claimed(conn, pick_task_id, picker_id)
    await substitutions.propose(conn, settings, task, picker_id, line_id, sku_id, quantity, barcode)
    return await picking.touched(conn, pick_task_id)


async def pack(
    conn: AsyncConnection, pick_task_id: str, picker_id: str, bags: int, shelf: str
) -> PickTask:
    """Close the bags and put them on a shelf; an order of which nothing is there is cancelled.

    Raises NotYours, NotPicked, and SubstitutionOpen while a customer is being asked.
    """
    task = await _claimed(conn, pick_task_id, picker_id)
    _check_answered(task)
    fetched = [each for line in task["lines"] for each in (line, *_approved(line))]
    open_lines = [
        each["name"] for each in fetched if each["picked"] + each["missing"] < each["quantity"]
    ]
    if open_lines:
        raise NotPicked(f"Neither picked nor reported short: {', '.join(open_lines)}.")
    if _nothing_left(task):
        await cancel(conn, task["order_id"], picker_id, "nothing_in_stock", fee_minor=0)
        return await picking.read(conn, pick_task_id)
    packed_at = await database_now(conn)
    await picking.set_status(
        conn, pick_task_id, PickStatus.PACKED, bags=bags, shelf=shelf, packed_at=packed_at
    )
    await move(conn, task["order_id"], OrderState.PACKED, picker_id)
    return await picking.announced(conn, pick_task_id)


def _check_answered(task: PickTask) -> None:
    """Raises SubstitutionOpen while a customer is being asked."""
    asked = [s for line in task["lines"] for s in line["substitutes"] if s["status"] == WAITING]
    if asked:
        raise SubstitutionOpen(
            f"The customer is asked about {asked[0]['name']} until {asked[0]['deadline_at']}.",
            extra={"deadline_at": asked[0]["deadline_at"]},
        )


def _approved(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for s in line["substitutes"] if s["status"] == TO_FETCH]


def _nothing_left(task: PickTask) -> bool:
    """Whether every unit is missing and nothing stands in for any."""
    return all(
        line["missing"] == line["quantity"]
        and all(
            s["picked"] == 0 and s["status"] not in (WAITING, TO_FETCH) for s in line["substitutes"]
        )
        for line in task["lines"]
    )


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
    await reservations.consume(conn, order_id, actor)
    await stops.complete_pickup(conn, trip.id, order_id)
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
    return task, substitutions.line_of(task, line_id)


def _substitute(line: dict[str, Any], substitution_id: str) -> dict[str, Any]:
    for substitute in _approved(line):
        if substitute["id"] == substitution_id:
            return substitute
    raise Invalid("This line has no such substitute to fetch.")


def _check_open(line: dict[str, Any], quantity: int) -> None:
    left = line["quantity"] - line["picked"] - line["missing"]
    if quantity > left:
        raise TooMany(f"Only {left} of {line['name']} are left to account for.")
