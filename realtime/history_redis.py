"""Recent history from the logs that the publisher keeps in Redis.

A log may be missing, cut, or short of its last entries at any time; what is served is verified to
be contiguous, and everything else is None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from redis.asyncio import Redis

from kit.redis import RedisError
from realtime import keys
from realtime.channels import Channel
from realtime.errors import InvalidEvent, StreamUnavailable
from realtime.events import StreamEvent, decode_event
from realtime.history import Cursor, contiguous

_log = structlog.get_logger(__name__)

# Reading 500 entries takes about 2 ms; after this Postgres is the faster answer.
DEADLINE_S = 0.5


class RedisHistory:
    """``redis`` must not decode responses."""

    def __init__(self, redis: Redis, epoch: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._redis = redis
        self._epoch = epoch
        self._deadline_s = deadline_s

    async def head(self, channel: Channel) -> Cursor:
        """The last event that the log holds: a hint, which may lag behind the truth."""
        name = keys.log(self._epoch, str(channel))
        try:
            async with asyncio.timeout(self._deadline_s):
                entries = await self._redis.xrevrange(name, count=1)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return Cursor(self._epoch, _seq(entries[0][0]) if entries else 0)

    async def since(
        self, channel: Channel, after: Cursor, limit: int, *, reach: int = 0
    ) -> list[StreamEvent] | None:
        if after.epoch != self._epoch:
            return None
        name = keys.log(self._epoch, str(channel))
        try:
            async with asyncio.timeout(self._deadline_s):
                # From the cursor itself: its entry proves that the log reaches back to it.
                start = max(after.seq, 1)
                entries = await self._redis.xrange(name, min=f"{start}-0", count=limit + 1)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        if not entries:
            return None
        try:
            events = [decode_event(_frame(fields)) for _, fields in entries]
        except InvalidEvent as error:
            _log.error("poison_event_in_history", channel_kind=channel.kind, detail=error.detail)
            return None
        if events[0].seq == after.seq:
            events = events[1:]
        return contiguous(events[:limit], after.seq, limit, reach)


def _seq(entry_id: bytes | str | None) -> int:
    assert isinstance(entry_id, bytes), "the client must not decode responses"
    return int(entry_id.partition(b"-")[0])


def _frame(fields: Mapping[bytes | str, bytes | str] | None) -> bytes:
    frame = (fields or {}).get(b"f")
    assert isinstance(frame, bytes), "an entry of a log holds its frame"
    return frame


def _unavailable(error: Exception) -> StreamUnavailable:
    return StreamUnavailable(f"Redis did not answer for the history: {type(error).__name__}.")
