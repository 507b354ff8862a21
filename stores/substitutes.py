"""Substitutes on a pick task: what may go into the bag in place of missing units.

The store's side only: what is to be fetched and what was.  Whether it may be, and what it costs,
is decided by ``orders.substitutions``, which calls this in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from stores.tables import pick_task_substitutes as table

# In these a substitute is still to be asked about or fetched.
WAITING = "proposed"
TO_FETCH = "approved"


@dataclass(frozen=True, slots=True)
class Substitute:
    """``deadline_at`` is set while the customer is asked."""

    id: str
    line_id: str
    sku_id: str
    name: str
    quantity: int
    bin: str
    temperature: str
    barcode: str
    status: str
    deadline_at: datetime | None


async def add(conn: AsyncConnection, pick_task_id: str, substitute: Substitute) -> None:
    """Show a substitute on its line."""
    await conn.execute(
        insert(table).values(
            id=substitute.id, pick_task_id=pick_task_id, line_id=substitute.line_id,
            sku_id=substitute.sku_id, name=substitute.name, quantity=substitute.quantity,
            bin=substitute.bin, temperature=substitute.temperature, barcode=substitute.barcode,
            status=substitute.status, deadline_at=substitute.deadline_at,
        )
    )  # fmt: skip


async def set_status(conn: AsyncConnection, substitute_id: str, status: str) -> None:
    """The customer has answered, or nobody will fetch it."""
    await conn.execute(update(table).where(table.c.id == substitute_id).values(status=status))


async def count(
    conn: AsyncConnection, substitute_id: str, status: str, *, picked: int = 0, missing: int = 0
) -> None:
    """Add units to what was fetched, or to what was not there either."""
    await conn.execute(
        update(table)
        .where(table.c.id == substitute_id)
        .values(picked=table.c.picked + picked, missing=table.c.missing + missing, status=status)
    )


def of_line(line: dict[str, Any], barcode: str) -> dict[str, Any] | None:
    """The approved substitute of a task's line that has a barcode and is not fetched yet."""
    for substitute in line["substitutes"]:
        if (
            substitute["status"] == TO_FETCH
            and substitute["barcode"] == barcode
            and open_units(substitute) > 0
        ):
            found: dict[str, Any] = substitute
            return found
    return None


def open_units(substitute: dict[str, Any]) -> int:
    """Units that are neither fetched nor known to be missing."""
    left: int = substitute["quantity"] - substitute["picked"] - substitute["missing"]
    return left
