"""Drift: where Redis and Postgres disagree about what is available, and not only for a moment.

A figure in Redis may be older than the row for as long as its change is on its way.  It has drifted
when it says something else *of the same version*, is of a version that Postgres has not reached, or
stays behind the version that it was behind of for longer than the patience allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis

from kit.db import Database
from stores import availability_redis
from stores.availability_redis import Projected

# Real seconds that a change may be on its way to Redis.
PATIENCE_S = 2.0


class DriftKind(StrEnum):
    DIFFERENT = "different"  # another figure of the same version
    AHEAD = "ahead"  # a version that Postgres has not reached: of a lost or restored database
    STALE = "stale"  # an older version that stays


@dataclass(frozen=True, slots=True)
class Drift:
    """One product of one store; None in Redis when it is missing there."""

    store_id: str
    sku_id: str
    kind: DriftKind
    truth: Projected
    redis: Projected | None


# Figures in Redis that were not those of Postgres at some moment, by sku id: the row of then.
Suspects = Mapping[str, Projected]


async def look(
    database: Database, redis: Redis, store_id: str, sku_ids: Collection[str] | None = None
) -> Suspects:
    """What Redis shows otherwise than Postgres now, of some products of a store or of all.

    A store that Redis does not hold has no suspects: reads of it go to Postgres.  Raises
    ``RedisError``.
    """
    truth = await _truth(database, store_id, sku_ids)
    held = await availability_redis.held(redis, store_id, sorted(truth))
    if held is None:
        return {}
    return {sku_id: row for sku_id, row in truth.items() if held.get(sku_id) != row}


async def confirm(
    database: Database, redis: Redis, store_id: str, suspects: Suspects
) -> list[Drift]:
    """Which suspects of a while ago have drifted.  Raises ``RedisError``."""
    if not suspects:
        return []
    # Redis first: what it holds was committed before, so the rows read after it are no older.
    later = await availability_redis.held(redis, store_id, sorted(suspects))
    if later is None:
        return []
    now = await _truth(database, store_id, suspects)
    return [
        Drift(store_id, sku_id, kind, now[sku_id], later.get(sku_id))
        for sku_id, before in suspects.items()
        if sku_id in now and (kind := judge(before, now[sku_id], later.get(sku_id))) is not None
    ]


async def find(
    database: Database, redis: Redis, store_id: str, patience_s: float = PATIENCE_S
) -> list[Drift]:
    """Look, wait, and confirm.  Raises ``RedisError``."""
    suspects = await look(database, redis, store_id)
    if not suspects:
        return []
    await asyncio.sleep(patience_s)
    return await confirm(database, redis, store_id, suspects)


def judge(before: Projected, now: Projected, redis: Projected | None) -> DriftKind | None:
    """What is wrong in Redis; it was read after ``before`` had its time, and before ``now``."""
    if redis is None or redis.version < before.version:
        return DriftKind.STALE
    if redis.version > now.version:
        return DriftKind.AHEAD
    same = [row for row in (before, now) if row.version == redis.version]
    if any(row.available != redis.available for row in same):
        return DriftKind.DIFFERENT
    return None


async def repair(database: Database, redis: Redis, drifts: Sequence[Drift]) -> int:
    """Write what Postgres says over what has drifted; returns how many.  Raises ``RedisError``."""
    by_store: dict[str, list[str]] = {}
    for drift in drifts:
        by_store.setdefault(drift.store_id, []).append(drift.sku_id)
    for store_id, sku_ids in by_store.items():
        # Out first: "only if newer" would keep what is ahead.
        await availability_redis.forget(redis, store_id, sku_ids)
        async with database.begin() as conn:
            await availability_redis.refresh(conn, redis, store_id, sku_ids)
    return len(drifts)


async def _truth(
    database: Database, store_id: str, sku_ids: Collection[str] | None
) -> Mapping[str, Projected]:
    async with database.begin() as conn:
        return await availability_redis.truth(conn, store_id, sku_ids)
