"""The publisher on Redis: one script call a batch, each frame encoded once.

redis-py costs 27-51 µs a command and 1-3 µs an argument of a packed one, which is why a batch is
one call.  On a Redis Cluster a batch would be split by slot before it comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from kit.redis import RedisError, load_script
from realtime import keys
from realtime.bus import PositionUpdate, newest, pack_event, pack_position
from realtime.channels import Channel
from realtime.errors import StreamUnavailable
from realtime.events import Position, StreamEvent, check_event

# A client that missed more than this takes a snapshot, which is the smaller answer by then.
LOG_ENTRIES = 500
# Two working days; afterwards an ended order's log is gone and Postgres answers.
LOG_LIFE_S = 2 * 86_400
# A batch of 200 takes 2-4 ms; a second is a server that is not well.
DEADLINE_S = 1.0


class RedisPublisher:
    """``epoch`` is the database's; a relay that finds another one makes a new publisher."""

    def __init__(
        self,
        redis: Redis,
        epoch: str,
        *,
        log_entries: int = LOG_ENTRIES,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._epoch = epoch
        self._log_entries = log_entries
        self._deadline_s = deadline_s
        self._publish = load_script(redis, "realtime", "publish")
        self._publish_positions = load_script(redis, "realtime", "publish_positions")

    async def publish(self, events: Sequence[StreamEvent]) -> int:
        """Publish in order; returns how many were new.

        Raises ``InvalidEvent`` before anything is published, and ``StreamUnavailable``: some of
        the batch may be out then, and publishing it again is harmless.
        """
        names: list[str] = []
        arguments: list[int | bytes] = [self._log_entries, LOG_LIFE_S]
        for event in events:
            check_event(event)
            channel = str(event.channel)
            names += (keys.log(self._epoch, channel), keys.topic(channel))
            arguments += (event.seq, pack_event(self._epoch, event))
        if not names:
            return 0
        try:
            async with asyncio.timeout(self._deadline_s):
                return int(await self._publish(keys=names, args=arguments))
        except (RedisError, OSError) as error:
            raise _unavailable("publish events", error) from error

    async def publish_positions(self, updates: Sequence[PositionUpdate]) -> None:
        """Tell the newest position of each rider; raises ``StreamUnavailable``."""
        latest = newest(updates)
        if not latest:
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._publish_positions(
                    keys=[keys.topic(str(channel)) for channel, _ in latest],
                    args=[pack_position(channel, position) for channel, position in latest],
                )
        except (RedisError, OSError) as error:
            raise _unavailable("publish positions", error) from error

    async def publish_position(self, channel: Channel, position: Position) -> None:
        """One position; many at once are cheaper through :meth:`publish_positions`."""
        await self.publish_positions([(channel, position)])


def _unavailable(act: str, error: Exception) -> StreamUnavailable:
    return StreamUnavailable(f"Redis did not {act}: {type(error).__name__}.")
