"""The outgoing side of one socket: a bounded queue of frames, and the newest positions.

The writer never waits.  Once a tick it hands over all that has gathered, in one batch, if the
socket has taken the batch before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

from realtime.channels import Channel, ChannelKind
from realtime.frames import Frame


class CloseCode(IntEnum):
    """Why the server ends a connection (RFC 6455, and the 4000s of our own)."""

    NORMAL = 1000
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    UNAUTHENTICATED = 4401
    SLOW = 4408


class Socket(Protocol):
    """What a transport gives; none of it blocks."""

    @property
    def writable(self) -> bool:
        """Whether the last batch is out of our hands."""
        ...

    def write(self, frames: Sequence[Frame]) -> None:
        """Send a batch; only called when ``writable``."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Send what was written, then close; the peer has the grace time to read it."""
        ...


class Writer:
    """``on_dirty`` is told when there is something to flush, at most once until it is."""

    def __init__(
        self, socket: Socket, max_queue_bytes: int, on_dirty: Callable[[Writer], None]
    ) -> None:
        self._socket = socket
        self._max_queue_bytes = max_queue_bytes
        self._on_dirty = on_dirty
        self._queue: list[Frame] = []
        self._queued_bytes = 0
        self._positions: dict[tuple[Channel, str], Frame] = {}
        self._dirty = False
        self._blocked = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False

    def push(self, frame: Frame, channel: Channel | None = None) -> None:
        """Queue a frame that must arrive; a socket that is too slow for it is closed with 4408.

        A frame that would not fit even into an empty queue is let in when the queue is empty.
        """
        if self.closed:
            return
        if self._queue and self._queued_bytes + len(frame) > self._max_queue_bytes:
            self.close(CloseCode.SLOW, "too slow: resume from your last event")
            return
        if channel is not None and channel.kind is ChannelKind.ORDER:
            # The event may end what the position shows; a newer one follows if it does not.
            self._positions.pop((channel, ""), None)
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._empty.clear()
        self._mark()

    def push_reply(self, frames: Sequence[Frame]) -> None:
        """Queue what the client asked for, whatever its size: await :meth:`drained` before."""
        if self.closed:
            return
        self._queue.extend(frames)
        self._queued_bytes += sum(map(len, frames))
        self._empty.clear()
        self._mark()

    def push_position(self, channel: Channel, key: str, frame: Frame) -> None:
        """Replace the position that waits for this channel and rider."""
        if not self.closed:
            self._positions[channel, key] = frame
            self._mark()

    def forget(self, channel: Channel) -> None:
        """Drop the positions of a channel that is no longer watched."""
        for key in [key for key in self._positions if key[0] == channel]:
            del self._positions[key]

    def flush(self) -> None:
        """Hand over the batch, or leave it until the socket is writable."""
        self._dirty = False
        if self.closed:
            return
        self._blocked = not self._socket.writable
        if self._blocked:
            return
        batch = self._queue
        if self._positions:
            batch = [*batch, *self._positions.values()]
            self._positions.clear()
        self._queue = []
        self._queued_bytes = 0
        self._empty.set()
        if batch:
            self._socket.write(batch)

    def on_writable(self) -> None:
        """The socket took its last batch: give it what a flush had to keep back."""
        if self._blocked:
            self.flush()

    async def drained(self) -> None:
        """Wait until the queue is empty or the writer closed."""
        await self._empty.wait()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the socket after what is queued; for a slow one the queue is dropped."""
        if self.closed:
            return
        if code is not CloseCode.SLOW:
            self.flush()
        self.closed = True
        self._queue.clear()
        self._positions.clear()
        self._empty.set()
        self._socket.close(code, reason)

    def _mark(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._on_dirty(self)
