"""Cycle counts: blind, by bin or by product.

Whoever counts is not told what the books say.  A line's variance is taken against what was on
hand at the moment of counting, so picks before it is booked change nothing.  Small variances are
booked at once; larger ones wait for somebody else to approve, reject or ask for a recount.

Stock never falls below what is promised.  If a count finds fewer units than orders hold, the books
go down to the promised units, and ``stock.short`` names the units that are missing and the orders
at risk, the latest first.  Pickers report those units short; only then do they leave the books.

Lock order: the count, then stock rows by SKU, then the store's stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import outbox
from kit.clock import database_now
from kit.errors import Invalid
from kit.ids import is_id, new_id
from kit.sql import json_parameter, load
from kit.wire import rfc3339
from stores import stock
from stores.errors import CountClosed, CountNotFound, CountOpen, OwnCount, StockNotFound
from stores.settings import CountSettings
from stores.stock import Grounds, MovementKind, StockCount
from stores.tables import stock_count_lines as lines_table
from stores.tables import stock_counts

MAX_LINES = 500
_DEFAULT_REASON = "cycle_count"

Decision = Literal["approve", "reject", "recount"]
# A count as a JSON value.
Count = dict[str, Any]

_OPEN = load("stores", "open_count")
_ON_HAND_AT = load("stores", "on_hand_at")
_AT_RISK = load("stores", "orders_at_risk")
_LINES = load("stores", "count_lines")


@dataclass(frozen=True, slots=True)
class Counted:
    """Units that somebody found; ``counted_at`` None: now."""

    sku_id: str
    units: int
    counted_at: datetime | None = None
    reason: str | None = None


async def open_count(
    conn: AsyncConnection,
    store_id: str,
    actor: str,
    *,
    sku_ids: Collection[str] = (),
    bins: Collection[str] = (),
) -> str:
    """Open a count of products and of bins; its id.  Raises ``StockNotFound``, ``CountOpen``."""
    count_id = new_id("cnt")
    await conn.execute(
        insert(stock_counts).values(
            id=count_id, store_id=store_id, status="open", opened_by=actor,
            opened_at=func.darkstore_now(),
        )
    )  # fmt: skip
    opened = {
        row.sku_id
        for row in await _OPEN.all(conn, count_id, store_id, sorted(sku_ids), sorted(bins))
    }
    if len(opened) > MAX_LINES:
        raise Invalid(f"A count has at most {MAX_LINES} products; open several.")
    missed = set(sku_ids) - opened
    if missed:
        await stock.lock(conn, store_id, missed)
        raise CountOpen(
            "Some of these products are being counted already.", extra={"sku_ids": sorted(missed)}
        )
    if not opened:
        raise StockNotFound("Nothing that is not being counted already lies in these bins.")
    return count_id


async def record(
    conn: AsyncConnection,
    settings: CountSettings,
    store_id: str,
    count_id: str,
    found: Sequence[Counted],
    actor: str,
) -> None:
    """Write down what was found; book what differs little.

    Raises ``CountNotFound``, ``CountClosed`` for a product that is not open in this count, and
    ``Invalid`` for a time outside the count.
    """
    opened_at = await _lock_count(conn, store_id, count_id)
    by_sku = {counted.sku_id: counted for counted in found}
    if len(by_sku) < len(found):
        raise Invalid("A product is counted once in a message.")
    await _lines(conn, count_id, by_sku, "open")
    held = await stock.lock(conn, store_id, by_sku)
    now = await database_now(conn)
    times = {sku_id: counted.counted_at or now for sku_id, counted in by_sku.items()}
    if any(not opened_at <= at <= now for at in times.values()):
        raise Invalid("counted_at lies between the opening of the count and now.")
    # To the microsecond: a pick of the same millisecond is before or after.
    wanted = [{"sku_id": sku_id, "at": at.isoformat()} for sku_id, at in times.items()]
    expected = {
        row.sku_id: row.on_hand
        for row in await _ON_HAND_AT.all(conn, store_id, json_parameter(wanted))
    }
    booked: dict[str, int] = {}
    for sku_id in sorted(by_sku):
        counted, was = by_sku[sku_id], expected[sku_id]
        small = settings.is_small(counted.units - was, was)
        await _set(
            conn, count_id, sku_id, status="pending", counted=counted.units, expected=was,
            counted_by=actor, counted_at=times[sku_id], reason=counted.reason,
        )  # fmt: skip
        if small:
            booked[sku_id] = counted.units - was
    await _book(conn, store_id, count_id, booked, held, actor)


async def decide(
    conn: AsyncConnection,
    store_id: str,
    count_id: str,
    sku_ids: Collection[str],
    decision: Decision,
    actor: str,
) -> None:
    """Approve, reject or have recounted what differs much; no ``sku_ids``: all of it.

    Raises ``CountNotFound``, ``CountClosed``, and ``OwnCount`` for who counted it.
    """
    await _lock_count(conn, store_id, count_id)
    pending = await _lines(conn, count_id, sku_ids, "pending")
    if any(line.counted_by == actor for line in pending.values()):
        raise OwnCount("Ask somebody who did not count to look at the difference.")
    match decision:
        case "approve":
            held = await stock.lock(conn, store_id, pending)
            booked = {sku_id: line.counted - line.expected for sku_id, line in pending.items()}
            await _book(conn, store_id, count_id, booked, held, actor)
        case "reject":
            for sku_id in pending:
                await _set(
                    conn, count_id, sku_id, status="rejected", decided_by=actor,
                    decided_at=func.darkstore_now(),
                )  # fmt: skip
            await _settle(conn, count_id)
        case "recount":
            for sku_id in pending:
                await _set(
                    conn, count_id, sku_id, status="open", counted=None, expected=None,
                    counted_by=None, counted_at=None, reason=None,
                )  # fmt: skip
            await _settle(conn, count_id)


async def close(conn: AsyncConnection, store_id: str, count_id: str) -> None:
    """Leave out what nobody has counted.  Raises ``CountNotFound``."""
    await _lock_count(conn, store_id, count_id)
    await conn.execute(
        update(lines_table)
        .where(lines_table.c.count_id == count_id, lines_table.c.status == "open")
        .values(status="skipped")
    )
    await _settle(conn, count_id)


async def read(conn: AsyncConnection, store_id: str, count_id: str, *, blind: bool) -> Count:
    """A count; ``blind`` for those who count: without what the books say.

    Raises ``CountNotFound``.
    """
    row = (
        await conn.execute(
            select(stock_counts).where(
                stock_counts.c.id == count_id, stock_counts.c.store_id == store_id
            )
        )
    ).first()
    if row is None:
        raise CountNotFound("This store has no count with this id.")
    hidden = ("expected", "variance", "applied", "short") if blind else ()
    lines = [
        {key: value for key, value in _shape(line).items() if key not in hidden}
        for line in await _LINES.dicts(conn, count_id)
    ]
    return _shape(row._mapping) | {"lines": lines}


async def list_counts(
    conn: AsyncConnection, store_id: str, cursor: str | None, limit: int
) -> list[Count]:
    """A store's counts without their lines, the latest first, before ``cursor`` (a count id)."""
    query = select(stock_counts).where(stock_counts.c.store_id == store_id)
    if cursor is not None:
        query = query.where(stock_counts.c.id < cursor)
    rows = await conn.execute(query.order_by(stock_counts.c.id.desc()).limit(limit))
    return [_shape(row._mapping) for row in rows]


def _shape(row: Mapping[Any, Any]) -> Count:
    """A row as a JSON value; its column names are a subclass of str that JSON does not know."""
    return {
        str(key): rfc3339(value) if isinstance(value, datetime) else value
        for key, value in row.items()
    }


async def _lock_count(conn: AsyncConnection, store_id: str, count_id: str) -> datetime:
    """When the count was opened; it stays locked.  Raises ``CountNotFound``."""
    opened_at: datetime | None = None
    if is_id(count_id, "cnt"):
        opened_at = await conn.scalar(
            select(stock_counts.c.opened_at)
            .where(stock_counts.c.id == count_id, stock_counts.c.store_id == store_id)
            .with_for_update()
        )
    if opened_at is None:
        raise CountNotFound("This store has no count with this id.")
    return opened_at


async def _lines(
    conn: AsyncConnection, count_id: str, sku_ids: Collection[str], status: str
) -> dict[str, Any]:
    """The lines of a count in a state, all or some.  Raises ``CountClosed``."""
    rows = await conn.execute(
        select(lines_table).where(
            lines_table.c.count_id == count_id, lines_table.c.status == status
        )
    )
    found = {row.sku_id: row for row in rows}
    missing = set(sku_ids) - set(found)
    if missing or not found:
        raise CountClosed(
            f"Not {status} in this count: {', '.join(sorted(missing)) or 'anything'}."
        )
    return {sku_id: found[sku_id] for sku_id in sku_ids} if sku_ids else found


async def _set(conn: AsyncConnection, count_id: str, sku_id: str, **values: object) -> None:
    await conn.execute(
        update(lines_table)
        .where(lines_table.c.count_id == count_id, lines_table.c.sku_id == sku_id)
        .values(**values)
    )


async def _book(
    conn: AsyncConnection,
    store_id: str,
    count_id: str,
    variances: Mapping[str, int],
    held: Mapping[str, StockCount],
    actor: str,
) -> None:
    """Bring the books to what was found, as far as promises allow; tell the store."""
    short: dict[str, int] = {}
    for sku_id in sorted(variances):
        variance = variances[sku_id]
        applied = max(variance, -held[sku_id].free)
        if applied:
            reason = await conn.scalar(
                select(lines_table.c.reason).where(
                    lines_table.c.count_id == count_id, lines_table.c.sku_id == sku_id
                )
            )
            grounds = Grounds(actor, reason or _DEFAULT_REASON, count_id)
            await stock.correct(conn, store_id, sku_id, applied, MovementKind.COUNT, grounds)
        if applied > variance:
            short[sku_id] = applied - variance
        await _set(
            conn, count_id, sku_id, status="applied", applied=applied,
            short=short.get(sku_id, 0), decided_by=actor, decided_at=func.darkstore_now(),
        )  # fmt: skip
    await _settle(conn, count_id)
    changed = [sku_id for sku_id, variance in variances.items() if variance]
    if changed:
        await stock.announce(conn, store_id, changed)
    for sku_id, units in short.items():
        await _announce_short(conn, store_id, sku_id, units)


async def _announce_short(conn: AsyncConnection, store_id: str, sku_id: str, units: int) -> None:
    order_ids: list[str] = []
    left = units
    for row in await _AT_RISK.all(conn, store_id, sku_id):
        if left <= 0:
            break
        order_ids.append(row.order_id)
        left -= row.units
    await outbox.append(
        conn,
        f"store:{store_id}",
        "stock.short",
        {"sku_id": sku_id, "short": units, "order_ids": order_ids},
    )


async def _settle(conn: AsyncConnection, count_id: str) -> None:
    """Bring the count's own state up to its lines'."""
    left = set(
        await conn.scalars(
            select(lines_table.c.status).distinct().where(lines_table.c.count_id == count_id)
        )
    )
    status = "open" if "open" in left else "pending" if "pending" in left else "closed"
    await conn.execute(
        update(stock_counts)
        .where(stock_counts.c.id == count_id)
        .values(status=status, closed_at=func.darkstore_now() if status == "closed" else None)
    )
