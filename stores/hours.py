"""When a store delivers, and how many orders each quarter of an hour takes.

Hours are minutes after midnight on the clock of the store's city.  A weekday (0 is Monday) may
have hours of its own, and each of its hours a capacity of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from stores.tables import cities, slot_capacities, store_hours, stores


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``opens_minute`` to ``closes_minute``; a day off when they are equal."""

    opens_minute: int
    closes_minute: int


@dataclass(frozen=True, slots=True)
class SlotRules:
    """All that decides about a store's slots; ``by_hour`` is keyed by (weekday, hour)."""

    timezone: str
    hours: Hours
    capacity: int
    by_weekday: dict[int, Hours]
    by_hour: dict[tuple[int, int], int]


async def read(conn: AsyncConnection, store_id: str) -> SlotRules:
    """The rules of a store that exists."""
    store = (
        await conn.execute(
            select(
                stores.c.opens_minute, stores.c.closes_minute, stores.c.slot_capacity,
                cities.c.timezone,
            )
            .join(cities, cities.c.id == stores.c.city_id)
            .where(stores.c.id == store_id)
        )
    ).one()  # fmt: skip
    days = await conn.execute(
        select(store_hours).where(store_hours.c.store_id == store_id).order_by("weekday")
    )
    hours = await conn.execute(
        select(slot_capacities)
        .where(slot_capacities.c.store_id == store_id)
        .order_by("weekday", "hour")
    )
    return SlotRules(
        timezone=store.timezone,
        hours=Hours(store.opens_minute, store.closes_minute),
        capacity=store.slot_capacity,
        by_weekday={day.weekday: Hours(day.opens_minute, day.closes_minute) for day in days},
        by_hour={(hour.weekday, hour.hour): hour.capacity for hour in hours},
    )


async def set_hours(
    conn: AsyncConnection, store_id: str, weekday: int | None, hours: Hours | None
) -> None:
    """Set the hours of one weekday, or of all that have none of their own (None).

    None as the hours of a weekday: it is like the others again.
    """
    if weekday is None:
        assert hours is not None, "a store has opening hours"
        await conn.execute(
            update(stores)
            .where(stores.c.id == store_id)
            .values(opens_minute=hours.opens_minute, closes_minute=hours.closes_minute)
        )
        return
    await conn.execute(
        delete(store_hours).where(
            store_hours.c.store_id == store_id, store_hours.c.weekday == weekday
        )
    )
    if hours is not None:
        await conn.execute(
            store_hours.insert().values(
                store_id=store_id, weekday=weekday, opens_minute=hours.opens_minute,
                closes_minute=hours.closes_minute,
            )
        )  # fmt: skip


async def set_capacity(
    conn: AsyncConnection, store_id: str, when: tuple[int, int] | None, capacity: int
) -> None:
    """Set how many orders a slot takes: in one (weekday, hour), or in all others (None).

    Who has a place keeps it, also where there are now fewer.
    """
    if when is None:
        await conn.execute(
            update(stores).where(stores.c.id == store_id).values(slot_capacity=capacity)
        )
        return
    weekday, hour = when
    await conn.execute(
        text(
            "INSERT INTO slot_capacities (store_id, weekday, hour, capacity)"
            " VALUES (:store_id, :weekday, :hour, :capacity)"
            " ON CONFLICT (store_id, weekday, hour) DO UPDATE SET capacity = excluded.capacity"
        ),
        {"store_id": store_id, "weekday": weekday, "hour": hour, "capacity": capacity},
    )
