"""Supply and demand of a city: what is read, what quotes are told, what ops and riders see.

One round reads the city's stores, orders, riders and trips (`read`), has `orders.supply_model`
make a report of them, and writes what has changed (`tell`).  A report that somebody else has
overtaken is thrown away, so two processes that do this at once do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.pressure import Told
from kit import outbox
from kit.errors import NotFound
from kit.sql import json_parameter, load
from orders.settings import SupplySettings
from riders import proposals

_CITIES = load("orders", "supply_cities")
_ORDERS = load("orders", "supply_orders")
_WAITING = load("orders", "supply_waiting")
_RIDERS = load("orders", "supply_riders")
_WORK = load("orders", "supply_work")
_CLOSED = load("orders", "supply_closed")
_TOLD = load("orders", "supply_told")
_STAFFED = load("orders", "supply_staffed")
_TELL = load("orders", "tell_store")
_REPORT = load("orders", "report_supply")
_RECORD = load("orders", "record_demand")
_EARLIER = load("orders", "earlier_demand")
_FORGET = load("orders", "forget_demand")
_CITY_REPORT = load("orders", "supply_of_city")

QUARTER = timedelta(minutes=15)
# Riders who went home in the last hour show that the city has riders at all.
STAFFED_S = 3600.0
# How long a move that was proposed counts against the next one.
MOVES_S = 2 * 3600.0
# What a forecast needs of earlier weeks: the window before now and the time ahead.
AHEAD = timedelta(hours=2)

# As in supply_orders.sql.
MOST_ORDERS = 20_000

Rows = Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one transaction read of a city.

    since: from when on orders (by store) and trips were read, newest first; later when there were
    too many.  closed: stores that take no orders.  staffed: whether the city has, or lately had,
    riders on shift.  told: what quotes of its stores were told last, where that has not lapsed.
    earlier: orders of earlier weeks by store and quarter of an hour of this week.
    """

    city_id: str
    now: datetime
    since: datetime
    orders: Mapping[str, Rows]
    waiting: Mapping[str, int]
    closed: frozenset[str]
    riders: Rows
    work: Rows
    staffed: bool
    told: Mapping[str, Told]
    reported_at: datetime | None
    standing: Rows
    earlier: Mapping[str, Mapping[datetime, float]]


@dataclass(frozen=True, slots=True)
class Move:
    """A rider had better wait at this store."""

    rider_id: str
    store_id: str
    way_s: float
    chance: float
    gain_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows: what to tell the quotes of each store, the report, and whom to propose what.

    ended: proposals that stand no longer, by id, and how they ended.
    """

    told: Mapping[str, Told]
    report: Mapping[str, Any]
    moves: Sequence[Move]
    ended: Mapping[str, proposals.ProposalStatus]


async def cities(conn: AsyncConnection) -> list[str]:
    """Cities in which there is anything to balance."""
    return [row.id for row in await _CITIES.all(conn)]


async def read(
    conn: AsyncConnection,
    city_id: str,
    store_ids: Sequence[str],
    now: datetime,
    settings: SupplySettings,
) -> Facts:
    """Everything that a round needs of a city, in short statements."""
    ids, since = list(store_ids), now - timedelta(seconds=settings.window_s)
    told = await _TOLD.all(conn, ids)
    found = await _ORDERS.all(conn, ids, since)
    orders: dict[str, list[Row[Any]]] = {store_id: [] for store_id in ids}
    for row in found:
        orders[row.store_id].append(row)
    earlier: dict[str, dict[datetime, float]] = {}
    if settings.earlier_weeks:
        for row in await _EARLIER.all(conn, ids, since, now + AHEAD, settings.earlier_weeks):
            earlier.setdefault(row.store_id, {})[row.at] = row.orders
    return Facts(
        city_id=city_id,
        now=now,
        since=found[-1].placed_at if len(found) >= MOST_ORDERS else since,
        orders=orders,
        waiting={row.store_id: row.waiting for row in await _WAITING.all(conn, city_id)},
        closed=frozenset(row.id for row in await _CLOSED.all(conn, city_id)),
        riders=await _RIDERS.all(conn, city_id, now - timedelta(seconds=MOVES_S)),
        work=await _WORK.all(conn, city_id, since),
        staffed=(await _STAFFED.one(conn, city_id, now - timedelta(seconds=STAFFED_S))).staffed,
        told={row.store_id: _as_told(row) for row in told if row.valid_until >= now},
        reported_at=await _reported_at(conn, city_id),
        standing=await proposals.standing(conn, city_id),
        earlier=earlier,
    )


def _as_told(row: Any) -> Told:
    return Told(
        at_s=row.at.timestamp(), level_s=row.level_s, growth_s=row.growth_s, full=row.riders_short
    )


async def _reported_at(conn: AsyncConnection, city_id: str) -> datetime | None:
    row = await _CITY_REPORT.first(conn, city_id)
    return None if row is None else row.at


async def tell(
    conn: AsyncConnection, facts: Facts, outcome: Outcome, valid_until: datetime
) -> bool:
    """Write what quotes are told and the report; False when somebody else was faster.

    Stores whose promise grows otherwise than before are announced to their city.
    """
    written = await _REPORT.first(
        conn, facts.city_id, facts.now, json_parameter(outcome.report), facts.reported_at
    )
    if written is None:
        return False
    for store_id in sorted(outcome.told):
        told = outcome.told[store_id]
        await _TELL.run(
            conn, store_id, round(told.growth_s), told.level_s, told.full, facts.now, valid_until
        )
    stores = {store["store_id"]: store for store in outcome.report["stores"]}
    for store_id in sorted(outcome.told):
        if _differs(facts.told.get(store_id), outcome.told[store_id]):
            await outbox.append(
                conn, f"city:{facts.city_id}", "supply.changed", supply_event(stores[store_id])
            )
    return True


def _differs(before: Told | None, now: Told) -> bool:
    known = (0.0, False) if before is None else (before.growth_s, before.full)
    return known != (now.growth_s, now.full)


def supply_event(store: Mapping[str, Any]) -> dict[str, Any]:
    """What a city's ops hear of one store of a report."""
    keys = ("store_id", "growth_s", "riders_short", "riders_missing")
    return {key: store[key] for key in keys}


async def report_of(conn: AsyncConnection, city_id: str) -> dict[str, Any]:
    """The city's last report, with when it was made.  Raises NotFound before the first one."""
    row = await _CITY_REPORT.first(conn, city_id)
    if row is None:
        raise NotFound("Nothing is known of this city's riders and orders yet; look again soon.")
    return {"at": row.at, **row.report}


async def grown(conn: AsyncConnection, city_id: str) -> list[dict[str, Any]]:
    """The stores of the last report whose promise has grown, as their events say it."""
    row = await _CITY_REPORT.first(conn, city_id)
    stores = [] if row is None else row.report["stores"]
    return [supply_event(store) for store in stores if store["growth_s"] or store["riders_short"]]


async def record_demand(conn: AsyncConnection, store_ids: Sequence[str], now: datetime) -> None:
    """Count the quarters of an hour that are over, for the same time of later weeks."""
    minutes = now.minute - now.minute % 15
    await _RECORD.run(conn, list(store_ids), now.replace(minute=minutes, second=0, microsecond=0))


async def forget_demand(conn: AsyncConnection) -> None:
    """Drop the counts that no forecast looks at any more."""
    await _FORGET.run(conn)
