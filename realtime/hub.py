"""Fan-out in one process: from the bus to the sockets that watch a channel, without a gap.

Every subscription knows the last ``seq`` that its socket was given, and takes only the next one.
Whatever does not fit (a hole, an interruption of the bus, a head in Postgres that nobody told us
about) makes the hub fetch what is missing from the history.  A reconciler compares the heads of
all watched channels with Postgres every two seconds, so that even the loss of a *last* message, or
of all of Redis, only delays.  When the history itself has a hole, the subscription is lost and its
session takes a new snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from realtime.bus import EventPacket, Listener, Packet, PositionPacket
from realtime.cancellation import checkpoint
from realtime.channels import Channel
from realtime.errors import StreamUnavailable
from realtime.events import StreamEvent, encode_event
from realtime.frames import Frame
from realtime.history import Cursor, HeadSource, History
from realtime.limits import StreamLimits
from realtime.writer import Writer

_log = structlog.get_logger(__name__)

# Events that one repair reads at a time.
REPAIR_PAGE = 500


@dataclass(slots=True, eq=False)
class Subscription:
    """One socket's place in one channel.

    ``seq`` is the last event that was queued for the socket; None while the session reads its
    snapshot, when events gather in ``buffer``.  ``on_lost`` asks the session for a new snapshot.
    """

    channel: Channel
    writer: Writer
    on_lost: Callable[[Subscription], None]
    seq: int | None = None
    buffer: dict[int, Frame] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Feed:
    """A watched channel; ``known`` is the highest ``seq`` that anybody told us of."""

    channel: Channel
    known: int = 0
    subscriptions: list[Subscription] = field(default_factory=list)
    newest_ms: dict[str, int] = field(default_factory=dict)
    repairing: bool = False

    def behind(self) -> list[Subscription]:
        return [s for s in self.subscriptions if s.seq is not None and s.seq < self.known]


class Hub:
    """All subscriptions of a process.  Run :meth:`run` beside the transports."""

    def __init__(
        self, listener: Listener, history: History, heads: HeadSource, limits: StreamLimits
    ) -> None:
        self._listener = listener
        self._history = history
        self._heads = heads
        self._limits = limits
        self._feeds: dict[str, _Feed] = {}
        self._epoch: str | None = None
        self._reconcile_now = asyncio.Event()
        self._to_repair: asyncio.Queue[_Feed] = asyncio.Queue()
        self._dirty: list[Writer] = []

    @property
    def epoch(self) -> str | None:
        """The database's epoch as last seen; None before the first answer."""
        return self._epoch

    @property
    def channels(self) -> int:
        """How many channels somebody here watches."""
        return len(self._feeds)

    async def run(self) -> None:
        """Listen, reconcile and repair until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run(self.on_packet, self._reconcile_now.set))
            tasks.create_task(self._reconcile_forever())
            # Two, so that one slow channel does not hold up all the others.
            tasks.create_task(self._repair_forever())
            tasks.create_task(self._repair_forever())

    def mark_dirty(self, writer: Writer) -> None:
        """Flush ``writer`` at the end of this tick, together with the others."""
        if not self._dirty:
            asyncio.get_running_loop().call_later(self._limits.tick_s, self._flush)
        self._dirty.append(writer)

    def attach(
        self, channel: Channel, writer: Writer, on_lost: Callable[[Subscription], None]
    ) -> Subscription:
        """Begin to buffer a channel's events for a socket.

        Follow with :meth:`listening`, a snapshot or :meth:`replay`, and :meth:`go_live`.
        """
        name = str(channel)
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = _Feed(channel)
            self._listener.subscribe(name)
        subscription = Subscription(channel, writer, on_lost)
        feed.subscriptions.append(subscription)
        return subscription

    async def listening(self, subscription: Subscription) -> None:
        """Wait until the bus tells us this channel's events; without a bus, not for long."""
        if not await self._listener.listening(str(subscription.channel)):
            _log.warning("bus_not_listening", channel_kind=subscription.channel.kind)

    def detach(self, subscription: Subscription) -> None:
        """Forget a subscription; the last one of a channel lets the bus forget it too."""
        name = str(subscription.channel)
        feed = self._feeds.get(name)
        if feed is None or subscription not in feed.subscriptions:
            return
        feed.subscriptions.remove(subscription)
        subscription.writer.forget(subscription.channel)
        if not feed.subscriptions:
            del self._feeds[name]
            self._listener.unsubscribe(name)

    async def replay(self, subscription: Subscription, after: Cursor) -> list[StreamEvent] | None:
        """What a resuming client missed, or None when only a snapshot will do.

        Raises ``StreamUnavailable``.
        """
        if self._epoch is None:
            await self.reconcile()
        if after.epoch != self._epoch:
            return None
        feed = self._feeds.get(str(subscription.channel))
        reach = feed.known if feed is not None else 0
        limit = self._limits.max_replay + 1
        events = await self._history.since(subscription.channel, after, limit, reach=reach)
        return None if events is None or len(events) == limit else events

    def go_live(self, subscription: Subscription, at: Cursor) -> None:
        """The socket has everything up to ``at``: give it what was buffered, then what comes."""
        if at.epoch != self._epoch:
            self._change_epoch(at.epoch)
        subscription.seq = at.seq
        buffered, subscription.buffer = subscription.buffer, {}
        for number in sorted(buffered):
            self._offer(subscription, number, buffered[number])
        feed = self._feeds.get(str(subscription.channel))
        if feed is not None:
            self._repair_if_behind(feed)

    def on_packet(self, name: str, packet: Packet) -> None:
        """A packet from the bus: new, repeated, or after a hole."""
        feed = self._feeds.get(name)
        if feed is None:
            return
        if isinstance(packet, PositionPacket):
            self._on_position(feed, packet)
        elif packet.epoch == self._epoch:
            self._on_event(feed, packet)
        else:
            self._reconcile_now.set()

    def _on_event(self, feed: _Feed, packet: EventPacket) -> None:
        feed.known = max(feed.known, packet.seq)
        frame = Frame(packet.frame)
        for subscription in feed.subscriptions:
            self._offer(subscription, packet.seq, frame)
        self._repair_if_behind(feed)

    def _offer(self, subscription: Subscription, seq: int, frame: Frame) -> None:
        """Queue the event if it is the next one; a repeat or one after a hole is not."""
        if subscription.seq is None:
            if len(subscription.buffer) < self._limits.max_buffered:
                subscription.buffer[seq] = frame
        elif seq == subscription.seq + 1:
            subscription.seq = seq
            subscription.writer.push(frame, subscription.channel)

    def _on_position(self, feed: _Feed, packet: PositionPacket) -> None:
        if packet.at_ms < feed.newest_ms.get(packet.key, 0):
            return
        feed.newest_ms[packet.key] = packet.at_ms
        frame = Frame(packet.frame)
        for subscription in feed.subscriptions:
            if subscription.seq is not None:
                subscription.writer.push_position(feed.channel, packet.key, frame)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for writer in dirty:
            writer.flush()

    async def reconcile(self) -> None:
        """Compare all heads with the truth; raises ``StreamUnavailable``."""
        names = list(self._feeds)
        heads = await self._heads.heads(names)
        if heads.epoch != self._epoch:
            self._change_epoch(heads.epoch)
        for name in names:
            feed = self._feeds.get(name)
            if feed is not None:
                feed.known = max(feed.known, heads.seqs.get(name, 0))
                self._repair_if_behind(feed)

    def _change_epoch(self, epoch: str) -> None:
        """Another history began (a restored database): no old ``seq`` means anything in it."""
        previous, self._epoch = self._epoch, epoch
        if previous is None:
            return
        _log.warning("stream_epoch_changed")
        for feed in self._feeds.values():
            feed.known = 0
            for subscription in feed.subscriptions:
                subscription.buffer.clear()
                self._lose(subscription)

    async def _reconcile_forever(self) -> None:
        while True:
            checkpoint()
            self._reconcile_now.clear()
            try:
                await self.reconcile()
            except StreamUnavailable as error:
                _log.warning("reconcile_failed", detail=error.detail)
            try:
                async with asyncio.timeout(self._limits.reconcile_s):
                    await self._reconcile_now.wait()
            except TimeoutError:
                continue

    def _repair_if_behind(self, feed: _Feed) -> None:
        if not feed.repairing and feed.behind():
            feed.repairing = True
            self._to_repair.put_nowait(feed)

    async def _repair_forever(self) -> None:
        while True:
            checkpoint()
            feed = await self._to_repair.get()
            try:
                await self._repair(feed)
            except StreamUnavailable as error:
                # The reconciler finds it behind again.
                _log.warning("repair_failed", detail=error.detail)
            finally:
                feed.repairing = False

    async def _repair(self, feed: _Feed) -> None:
        """Fetch what some subscriptions miss; each round serves or gives up the hindmost."""
        while behind := feed.behind():
            epoch = self._epoch
            assert epoch is not None, "subscriptions go live after the first reconcile"
            after = min(s.seq for s in behind if s.seq is not None)
            events = await self._history.since(
                feed.channel, Cursor(epoch, after), REPAIR_PAGE, reach=feed.known
            )
            if epoch != self._epoch:
                continue
            if not events:
                for subscription in behind:
                    if subscription.seq == after:
                        self._lose(subscription)
                continue
            for event in events:
                frame = Frame(encode_event(event))
                feed.known = max(feed.known, event.seq)
                for subscription in feed.subscriptions:
                    if subscription.seq is not None:
                        self._offer(subscription, event.seq, frame)

    def _lose(self, subscription: Subscription) -> None:
        """History has a hole here: the session must take a snapshot."""
        if subscription.seq is not None:
            subscription.seq = None
            subscription.on_lost(subscription)
