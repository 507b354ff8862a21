"""A bus in one process, for tests: it can lose and repeat packets, and be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from realtime.bus import (
    Packet,
    PositionUpdate,
    newest,
    pack_event,
    pack_position,
    unpack,
)
from realtime.channels import Channel
from realtime.errors import StreamUnavailable
from realtime.events import Position, StreamEvent, check_event


class MemoryBus:
    """Publisher and listener in one.  ``available`` set to False fails as a lost server does."""

    def __init__(self, epoch: str = "epoch-1") -> None:
        self.epoch = epoch
        self.available = True
        self.lose_next = 0
        self._last: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._on_packet: Callable[[str, Packet], None] | None = None
        self._on_interruption: Callable[[], None] | None = None

    async def publish(self, events: Sequence[StreamEvent]) -> int:
        self._check()
        for event in events:
            check_event(event)
        new = 0
        for event in events:
            name = str(event.channel)
            if event.seq > self._last.get(name, 0):
                self._last[name] = event.seq
                new += 1
                self.tell(event)
        return new

    def tell(self, event: StreamEvent) -> None:
        """Deliver an event's packet as it is: a repeat, or out of order, if the caller likes."""
        self._deliver(str(event.channel), pack_event(self.epoch, event))

    async def publish_positions(self, updates: Sequence[PositionUpdate]) -> None:
        self._check()
        for channel, position in newest(updates):
            self._deliver(str(channel), pack_position(channel, position))

    async def publish_position(self, channel: Channel, position: Position) -> None:
        await self.publish_positions([(channel, position)])

    def interrupt(self) -> None:
        """As after a reconnect."""
        if self._on_interruption is not None:
            self._on_interruption()

    def subscribe(self, channel: str) -> None:
        self._wanted.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self._wanted.discard(channel)

    async def listening(self, channel: str) -> bool:
        return self.available and channel in self._wanted

    async def run(
        self, on_packet: Callable[[str, Packet], None], on_interruption: Callable[[], None]
    ) -> None:
        self._on_packet, self._on_interruption = on_packet, on_interruption
        on_interruption()
        await asyncio.Event().wait()

    def _deliver(self, name: str, packet: bytes) -> None:
        if self.lose_next > 0:
            self.lose_next -= 1
        elif self.available and name in self._wanted and self._on_packet is not None:
            self._on_packet(name, unpack(packet))

    def _check(self) -> None:
        if not self.available:
            raise StreamUnavailable("The bus is switched off.")
