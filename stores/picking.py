"""Pick tasks: queue, claim, scan, short, pack.  Each runs in the caller's transaction.

Moving the order along, refunds and events belong to ``orders.picking``, which calls this.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.errors import NotFound
from kit.sql import load
from kit.wire import rfc3339
from stores.substitutes import TO_FETCH, WAITING
from stores.tables import pick_task_lines, pick_task_substitutes, pick_tasks

_VIEW = load("stores", "pick_tasks")
_CLAIM = load("stores", "claim_pick_task")


class PickStatus(StrEnum):
    QUEUED = "queued"
    CLAIMED = "claimed"
    PACKED = "packed"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"


# What a store has to do something about.
OPEN = (PickStatus.QUEUED, PickStatus.CLAIMED, PickStatus.PACKED)

# A pick task as a JSON value, as API.md shows it.
PickTask = dict[str, Any]


async def read(conn: AsyncConnection, pick_task_id: str) -> PickTask:
    """One pick task.  Raises NotFound."""
    found = await _VIEW.dicts(conn, pick_task_id, None, None, 1)
    if not found:
        raise NotFound("There is no such pick task.")
    return _shape(found[0])


async def queue(
    conn: AsyncConnection, store_id: str, statuses: Sequence[PickStatus], limit: int = 200
) -> list[PickTask]:
    """A store's tasks by due time, the most pressing first."""
    rows = await _VIEW.dicts(conn, None, store_id, [s.value for s in statuses], limit)
    return [_shape(row) for row in rows]


def _shape(row: dict[str, Any]) -> PickTask:
    return {**row, "due_at": rfc3339(row["due_at"])}


async def claim(
    conn: AsyncConnection, store_id: str, picker_id: str, pick_task_id: str | None
) -> str | None:
    """Claim the most pressing queued task, or a certain one; None when there is none to claim."""
    row = await _CLAIM.first(conn, store_id, picker_id, pick_task_id)
    return None if row is None else str(row.id)


async def candidates(conn: AsyncConnection, store_id: str, limit: int = 10) -> list[str]:
    """Queued tasks with the least slack, not locked: the claim itself checks again."""
    found = await conn.scalars(
        select(pick_tasks.c.id)
        .where(
            pick_tasks.c.store_id == store_id,
            pick_tasks.c.status == PickStatus.QUEUED,
            ~_only_waiting(),
        )
        .order_by(pick_tasks.c.due_at, pick_tasks.c.id)
        .limit(limit)
    )
    return list(found)


def _only_waiting() -> ColumnElement[bool]:
    """A task on which nothing can be done until a customer has answered."""
    waiting = exists().where(
        pick_task_substitutes.c.pick_task_id == pick_tasks.c.id,
        pick_task_substitutes.c.status == WAITING,
    )
    open_lines = exists().where(
        pick_task_lines.c.pick_task_id == pick_tasks.c.id,
        pick_task_lines.c.picked + pick_task_lines.c.missing < pick_task_lines.c.quantity,
    )
    to_fetch = exists().where(
        pick_task_substitutes.c.pick_task_id == pick_tasks.c.id,
        pick_task_substitutes.c.status == TO_FETCH,
    )
    return waiting & ~open_lines & ~to_fetch


async def claimed_by(conn: AsyncConnection, store_id: str, picker_id: str) -> str | None:
    """The task that a picker holds in a store."""
    found = await conn.scalar(
        select(pick_tasks.c.id).where(
            pick_tasks.c.store_id == store_id,
            pick_tasks.c.picker_id == picker_id,
            pick_tasks.c.status == PickStatus.CLAIMED,
        )
    )
    return None if found is None else str(found)


async def locate(conn: AsyncConnection, pick_task_id: str) -> tuple[str, str]:
    """(order id, store id) of a task, which never change.  Raises NotFound."""
    row = (
        await conn.execute(
            select(pick_tasks.c.order_id, pick_tasks.c.store_id).where(
                pick_tasks.c.id == pick_task_id
            )
        )
    ).first()
    if row is None:
        raise NotFound("There is no such pick task.")
    return str(row.order_id), str(row.store_id)


async def of_order(conn: AsyncConnection, order_id: str) -> PickTask | None:
    """The pick task of an order, locked; None before it is queued."""
    found = await conn.scalar(
        select(pick_tasks.c.id).where(pick_tasks.c.order_id == order_id).with_for_update()
    )
    return None if found is None else await read(conn, found)


async def lock(conn: AsyncConnection, pick_task_id: str) -> PickTask:
    """A task, locked until the end of the transaction (after its order).  Raises NotFound."""
    await conn.execute(
        select(pick_tasks.c.id).where(pick_tasks.c.id == pick_task_id).with_for_update()
    )
    return await read(conn, pick_task_id)


async def count_line(
    conn: AsyncConnection, pick_task_id: str, line_id: str, *, picked: int = 0, missing: int = 0
) -> None:
    """Add units to a line's picked or missing count."""
    await conn.execute(
        update(pick_task_lines)
        .where(pick_task_lines.c.pick_task_id == pick_task_id, pick_task_lines.c.line_id == line_id)
        .values(
            picked=pick_task_lines.c.picked + picked, missing=pick_task_lines.c.missing + missing
        )
    )
    await _touch(conn, pick_task_id)


async def set_status(
    conn: AsyncConnection, pick_task_id: str, status: PickStatus, **values: object
) -> None:
    """Move a task; further columns may be set with it."""
    await _touch(conn, pick_task_id, status=status.value, **values)


async def withdraw(conn: AsyncConnection, task: PickTask) -> None:
    """Take a task that nobody has begun out of the queue; its order may be queued anew later."""
    assert task["status"] == PickStatus.QUEUED, "somebody picks it"
    await conn.execute(delete(pick_task_lines).where(pick_task_lines.c.pick_task_id == task["id"]))
    await conn.execute(delete(pick_tasks).where(pick_tasks.c.id == task["id"]))
    await announce(conn, {**task, "status": PickStatus.CANCELLED.value})


async def announce(conn: AsyncConnection, task: PickTask) -> None:
    """Tell the store's screens; last in a transaction, because a store's stream is shared."""
    await outbox.append(conn, f"store:{task['store_id']}", "pick_task.changed", task)


async def announced(conn: AsyncConnection, pick_task_id: str) -> PickTask:
    """Read a task as it is now and tell the store's screens."""
    task = await read(conn, pick_task_id)
    await announce(conn, task)
    return task


async def touched(conn: AsyncConnection, pick_task_id: str) -> PickTask:
    """What belongs to a task has changed: count its version up and tell the store's screens."""
    await _touch(conn, pick_task_id)
    return await announced(conn, pick_task_id)


async def _touch(conn: AsyncConnection, pick_task_id: str, **values: object) -> None:
    await conn.execute(
        update(pick_tasks)
        .where(pick_tasks.c.id == pick_task_id)
        .values(version=pick_tasks.c.version + 1, **values)
    )
