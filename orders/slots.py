"""Scheduled deliveries: quarters of an hour with room for so many orders.

A place is taken by the checkout (``take_slot``), in the transaction that reserves the stock, and
freed by a trigger when the order ends before it is picked.  Stock is reserved from the checkout
on and not when picking begins: whoever paid for six eggs tomorrow at nine gets them, and whoever
walks past the shelf tonight does not (decision 0015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.sql import Query, load
from kit.wire import rfc3339
from orders.errors import SlotFull, SlotUnavailable
from orders.settings import SlotSettings

SLOT = timedelta(minutes=15)
DAY = timedelta(days=1)
# What a refusal offers instead.
OTHERS = 4
_MOST = 7 * 24 * 4 + 1

_SLOTS = load("orders", "slots")
_CAPACITY = Query("orders.slot_capacity", "SELECT slot_capacity($1::text, $2::timestamptz) AS n")
_SWAP = Query(
    "orders.swap_slot",
    "SELECT swap_slot($1::text, $2::timestamptz, $3::timestamptz) AS swapped",
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A quarter of an hour of a store; ``remaining`` is 0 when it is full or blocked."""

    start: datetime
    capacity: int
    taken: int
    remaining: int
    blocked: bool
    blocked_reason: str | None

    @property
    def end(self) -> datetime:
        return self.start + SLOT


def pick_from(settings: SlotSettings, start: datetime, travel_s: float) -> datetime:
    """When picking may begin for a slot, so that the rider is at the door when it does."""
    return start - timedelta(seconds=travel_s + settings.picking_lead_s)


def first_start(settings: SlotSettings, now: datetime, travel_s: float) -> datetime:
    """The first slot for which there is time enough, on a quarter of an hour."""
    earliest = now + timedelta(seconds=travel_s + settings.picking_lead_s)
    quarter = SLOT.total_seconds()
    return datetime.fromtimestamp(-(-earliest.timestamp() // quarter) * quarter, UTC)


def last_start(settings: SlotSettings, now: datetime) -> datetime:
    """Further ahead than this nobody can order."""
    return now + timedelta(days=settings.days_ahead)


async def of_store(
    conn: AsyncConnection,
    store_id: str,
    first: datetime,
    last: datetime,
    *,
    free_only: bool = False,
    limit: int = _MOST,
) -> list[Slot]:
    """Slots that begin between two moments (``first`` on a quarter of an hour), in order."""
    rows = await _SLOTS.all(conn, store_id, first, last, limit, free_only)
    return [
        Slot(row.starts_at, row.capacity, row.taken, row.remaining, row.blocked, row.blocked_reason)
        for row in rows
    ]


async def check_bookable(
    conn: AsyncConnection,
    settings: SlotSettings,
    now: datetime,
    store_id: str,
    start: datetime,
    travel_s: float,
) -> None:
    """Whether a slot can be promised at this moment; the checkout decides again.

    Raises SlotUnavailable (no slot begins there, too soon, too far ahead) and SlotFull.
    """
    first, last = first_start(settings, now, travel_s), last_start(settings, now)
    found = await of_store(conn, store_id, start, start) if _on_quarter(start) else []
    if not found or found[0].capacity == 0:
        reason = "The store delivers at other times: choose one of the listed slots."
    elif start < first:
        reason = "That is too soon to pick and bring it: choose a later slot."
    elif start > last:
        reason = f"Slots can be chosen up to {settings.days_ahead} days ahead."
    elif found[0].remaining == 0:
        raise await full(conn, settings, now, store_id, start, travel_s)
    else:
        return
    others = await of_store(conn, store_id, first, last, free_only=True, limit=OTHERS)
    raise SlotUnavailable(reason, extra={"slots": [shape(slot) for slot in others]})


async def full(
    conn: AsyncConnection,
    settings: SlotSettings,
    now: datetime,
    store_id: str,
    start: datetime,
    travel_s: float,
) -> SlotFull:
    """The refusal of a full slot, with the next ones in which there is room."""
    first = max(start, first_start(settings, now, travel_s))
    others = await of_store(
        conn, store_id, first, last_start(settings, now), free_only=True, limit=OTHERS
    )
    return SlotFull(
        "This slot has just filled up: choose another one.",
        extra={"slots": [shape(slot) for slot in others if slot.start != start]},
    )


async def swap(conn: AsyncConnection, store_id: str, old: datetime | None, new: datetime) -> bool:
    """Take a place in ``new`` and free the one in ``old``; False leaves both as they were."""
    return bool((await _SWAP.one(conn, store_id, old, new)).swapped)


async def block(conn: AsyncConnection, store_id: str, start: datetime, reason: str | None) -> None:
    """Take no more orders for a slot; None as the reason opens it again.

    Orders that have a place keep it.  Raises SlotUnavailable where no slot begins.
    """
    if (await _CAPACITY.one(conn, store_id, start)).n is None:
        raise SlotUnavailable("No slot begins at that time.", extra={"slots": []})
    await conn.execute(
        text(
            "INSERT INTO delivery_slots (store_id, starts_at, capacity, blocked, blocked_reason)"
            " VALUES (:store_id, :start, 0, :blocked, :reason)"
            " ON CONFLICT (store_id, starts_at)"
            " DO UPDATE SET blocked = excluded.blocked, blocked_reason = excluded.blocked_reason"
        ),
        {"store_id": store_id, "start": start, "blocked": reason is not None, "reason": reason},
    )


def shape(slot: Slot) -> dict[str, object]:
    """A slot as shoppers see it."""
    return {**window(slot.start), "remaining": slot.remaining}


def window(start: datetime) -> dict[str, object]:
    """``{"from", "to"}`` of the slot that begins at ``start``."""
    return {"from": rfc3339(start), "to": rfc3339(start + SLOT)}


def shape_for_staff(slots: Sequence[Slot]) -> list[dict[str, object]]:
    """Slots with everything that the store's staff may know."""
    return [
        {
            **shape(slot),
            "capacity": slot.capacity,
            "taken": slot.taken,
            "blocked": slot.blocked,
            "blocked_reason": slot.blocked_reason,
        }
        for slot in slots
    ]


def _on_quarter(start: datetime) -> bool:
    return start.timestamp() % SLOT.total_seconds() == 0
