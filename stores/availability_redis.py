"""What each store can still promise, in the live layer: fast to read, and never the truth.

One hash a store, ``stock:{sto_…}`` (the braces keep a store's keys in one slot of a cluster): sku
id to ``version:available``, and ``epoch``, the stream epoch of the database that filled it.  The
version is that of the stock row, and only a newer one is written, so updates may arrive in any
order.  A hash without an epoch was never filled, or Redis was wiped: reads answer None, updates
rebuild it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.outbox import stream_epoch
from kit.redis import RedisError, load_script
from kit.sql import load

DEADLINE_S = 0.2

_EPOCH = "epoch"
# A script blocks Redis: 500 products take about 1 ms.
_CHUNK = 500
_AVAILABILITY = load("stores", "availability")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Projected:
    """Units available, as of a version of the stock row."""

    version: int
    available: int


def key_of(store_id: str) -> str:
    """The hash of a store."""
    return f"stock:{{{store_id}}}"


async def rebuild(conn: AsyncConnection, redis: Redis, store_id: str) -> int:
    """Fill the hash of a store from Postgres; returns how many products it holds.

    What is newer in Redis stays, unless another database had filled it.  Raises ``RedisError``.
    """
    epoch = (await conn.execute(select(stream_epoch.c.epoch))).scalar_one()
    rows = await _AVAILABILITY.all(conn, store_id, None)
    # At least one chunk: a store without stock has an epoch too.
    for start in range(0, max(1, len(rows)), _CHUNK):
        await _write(redis, store_id, epoch, rows[start : start + _CHUNK])
    return len(rows)


async def refresh(
    conn: AsyncConnection, redis: Redis, store_id: str, sku_ids: Iterable[str]
) -> None:
    """Bring some products up to date after a commit; fills the whole hash if it is not there.

    Raises ``RedisError``, which is safe to retry.
    """
    rows = await _AVAILABILITY.all(conn, store_id, sorted(set(sku_ids)))
    for start in range(0, len(rows), _CHUNK):
        if await _write(redis, store_id, "", rows[start : start + _CHUNK]) < 0:
            await rebuild(conn, redis, store_id)
            return


async def read(
    redis: Redis, store_id: str, sku_ids: Sequence[str], deadline_s: float = DEADLINE_S
) -> dict[str, int] | None:
    """Units available of each product; 0 for one that the store has never stocked.

    None when Redis is down, slower than ``deadline_s``, or does not hold the store: then Postgres
    has to be asked.
    """
    try:
        async with asyncio.timeout(deadline_s):
            values = await _values(redis, store_id, sku_ids)
    except (RedisError, TimeoutError, OSError) as error:
        _log.warning("availability_unreadable", store_id=store_id, error=type(error).__name__)
        return None
    if values[0] is None:
        return None
    return {
        sku_id: 0 if value is None else int(value.rpartition(b":")[2])
        for sku_id, value in zip(sku_ids, values[1:], strict=True)
    }


async def is_held(redis: Redis, store_id: str) -> bool:
    """Whether the hash of a store has been filled.  Raises ``RedisError``."""
    return (await _values(redis, store_id, []))[0] is not None


async def from_database(
    conn: AsyncConnection, store_id: str, sku_ids: Sequence[str]
) -> dict[str, int]:
    """The same answer as ``read``, from the truth."""
    units = dict.fromkeys(sku_ids, 0)
    rows = await _AVAILABILITY.all(conn, store_id, list(sku_ids))
    return units | {row.sku_id: row.available for row in rows}


async def truth(
    conn: AsyncConnection, store_id: str, sku_ids: Iterable[str] | None
) -> dict[str, Projected]:
    """What Redis should hold of some products, or of all (None)."""
    rows = await _AVAILABILITY.all(conn, store_id, None if sku_ids is None else sorted(sku_ids))
    return {row.sku_id: Projected(row.version, row.available) for row in rows}


async def held(redis: Redis, store_id: str, sku_ids: Sequence[str]) -> dict[str, Projected] | None:
    """What Redis does hold of them, without those that it does not; None if not even the store.

    Raises ``RedisError``.
    """
    found: dict[str, Projected] = {}
    for start in range(0, max(1, len(sku_ids)), _CHUNK):
        chunk = sku_ids[start : start + _CHUNK]
        values = await _values(redis, store_id, chunk)
        if values[0] is None:
            return None
        for sku_id, value in zip(chunk, values[1:], strict=True):
            if value is not None:
                version, _, available = value.partition(b":")
                found[sku_id] = Projected(int(version), int(available))
    return found


async def forget(redis: Redis, store_id: str, sku_ids: Sequence[str]) -> None:
    """Take products out, so that the next refresh writes them whatever stood there.

    Until then a reader takes them for sold out.  Raises ``RedisError``.
    """
    await redis.hdel(key_of(store_id), *sku_ids)


async def _values(redis: Redis, store_id: str, sku_ids: Sequence[str]) -> list[bytes | None]:
    values = await redis.hmget(key_of(store_id), [_EPOCH, *sku_ids])
    # Which of the two it is depends on how the client was opened.
    return [value.encode() if isinstance(value, str) else value for value in values]


async def _write(
    redis: Redis, store_id: str, epoch: str, rows: Sequence[Row[*tuple[object, ...]]]
) -> int:
    triples = [part for row in rows for part in (row.sku_id, row.version, row.available)]
    return int(await _script(redis)(keys=[key_of(store_id)], args=[epoch, *triples]))


@lru_cache(maxsize=8)
def _script(redis: Redis) -> AsyncScript:
    return load_script(redis, "stores", "write_availability")
