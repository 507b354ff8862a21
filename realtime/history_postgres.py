"""The whole history from the outbox in Postgres: the truth, and the slower answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC

import asyncpg
import structlog

from kit.sql import load
from realtime.channels import Channel
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import StreamEvent, event_from_row
from realtime.history import Cursor, Heads, contiguous

_log = structlog.get_logger(__name__)

_SINCE = load("realtime", "history_since")
_HEADS = load("realtime", "heads")

# Reading 500 rows by the unique index takes about 3 ms.
DEADLINE_S = 2.0


class PostgresHistory:
    """Reads committed rows only, through a pool of its own or a shared one."""

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def head(self, channel: Channel) -> Cursor:
        heads = await self.heads([str(channel)])
        return Cursor(heads.epoch, heads.seqs.get(str(channel), 0))

    async def heads(self, channels: Collection[str]) -> Heads:
        rows = await self._fetch(_HEADS.text, list(channels))
        return Heads(rows[0]["epoch"], {r["stream"]: r["seq"] for r in rows if r["stream"]})

    async def since(
        self, channel: Channel, after: Cursor, limit: int, *, reach: int = 0
    ) -> list[StreamEvent] | None:
        rows = await self._fetch(_SINCE.text, str(channel), after.seq, limit)
        head: int = rows[0]["head"]
        if rows[0]["epoch"] != after.epoch or after.seq > head:
            return None
        try:
            events = [
                event_from_row(
                    str(channel), r["seq"], r["type"], r["at"].astimezone(UTC), r["data"]
                )
                for r in rows
                if r["seq"] is not None
            ]
        except InvalidEvent as error:
            # A snapshot at the head passes over it; the dead letter is the relay's to report.
            _log.error("poison_event_in_history", channel_kind=channel.kind, detail=error.detail)
            return None
        return contiguous(events, after.seq, limit, max(head, reach))

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(query, *arguments)
        except (
            asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError,
        ) as error:  # fmt: skip
            raise StreamUnavailable(
                f"Postgres did not answer for the history: {type(error).__name__}."
            ) from error
        if not rows:
            raise StreamUnavailable("The database has no stream epoch yet: migrate it.")
        return rows
