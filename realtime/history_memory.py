"""A history in memory, for tests: the outbox, its heads and its epoch as plain values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from realtime.channels import Channel
from realtime.errors import StreamUnavailable
from realtime.events import StreamEvent, check_event
from realtime.history import Cursor, Heads, contiguous


class MemoryHistory:
    """Append events in order; ``trim`` forgets old ones; ``available`` set to False fails."""

    def __init__(self, epoch: str = "epoch-1") -> None:
        self.epoch = epoch
        self.available = True
        self._events: defaultdict[str, list[StreamEvent]] = defaultdict(list)
        self._heads: dict[str, int] = {}

    def append(self, events: Sequence[StreamEvent]) -> None:
        """Keep events that follow what is there; repeats are ignored."""
        for event in events:
            check_event(event)
            name = str(event.channel)
            if event.seq > self._heads.get(name, 0):
                self._events[name].append(event)
                self._heads[name] = event.seq

    def trim(self, channel: Channel, keep: int) -> None:
        """Forget all but the last ``keep`` events of a channel."""
        kept = self._events[str(channel)]
        del kept[: max(0, len(kept) - keep)]

    def events(self, channel: Channel) -> list[StreamEvent]:
        return list(self._events[str(channel)])

    async def head(self, channel: Channel) -> Cursor:
        self._check()
        return Cursor(self.epoch, self._heads.get(str(channel), 0))

    async def heads(self, channels: Collection[str]) -> Heads:
        self._check()
        return Heads(self.epoch, {c: self._heads[c] for c in channels if c in self._heads})

    async def since(
        self, channel: Channel, after: Cursor, limit: int, *, reach: int = 0
    ) -> list[StreamEvent] | None:
        self._check()
        head = self._heads.get(str(channel), 0)
        if after.epoch != self.epoch or after.seq > head:
            return None
        events = [e for e in self._events[str(channel)] if e.seq > after.seq][:limit]
        return contiguous(events, after.seq, limit, max(head, reach))

    def _check(self) -> None:
        if not self.available:
            raise StreamUnavailable("The history is switched off.")
