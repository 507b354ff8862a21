"""The live layer between the relay and the hubs: roles, and the packet that travels there.

The bus is a hint.  A hub that misses a packet finds the event in the history, so an
implementation may lose, repeat or delay packets, and a test's does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol

from realtime.channels import Channel
from realtime.events import Position, StreamEvent, encode_event, encode_position

PositionUpdate = tuple[Channel, Position]


@dataclass(frozen=True, slots=True)
class EventPacket:
    """An event frame that the hub can place without decoding it."""

    epoch: str
    seq: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class PositionPacket:
    """A position frame; of two with one ``key`` the later ``at_ms`` (POSIX) wins."""

    key: str
    at_ms: int
    frame: bytes


Packet = EventPacket | PositionPacket


class Publisher(Protocol):
    """What the outbox relay and the location ingest call."""

    async def publish(self, events: Sequence[StreamEvent]) -> int:
        """Publish in order, at least once; repeats are recognised by ``seq`` and dropped.

        Returns how many events were new.  Raises ``InvalidEvent`` (poison; nothing of the batch
        was published) and ``StreamUnavailable`` (retryable).
        """
        ...

    async def publish_positions(self, updates: Sequence[PositionUpdate]) -> None:
        """Tell whoever listens now; nothing is kept.  Raises ``StreamUnavailable``."""
        ...


class Listener(Protocol):
    """What a hub hears the bus through."""

    def subscribe(self, channel: str) -> None:
        """Want the packets of ``channel`` from now on."""
        ...

    def unsubscribe(self, channel: str) -> None: ...

    async def listening(self, channel: str) -> bool:
        """Wait until the subscription stands; False when the bus did not confirm in time."""
        ...

    async def run(
        self, on_packet: Callable[[str, Packet], None], on_interruption: Callable[[], None]
    ) -> None:
        """Deliver packets until cancelled; ``on_interruption`` when some may have been missed."""
        ...


def event_header(epoch: str, seq: int) -> bytes:
    return b"e %d %s\n" % (seq, epoch.encode())


def pack_event(epoch: str, event: StreamEvent) -> bytes:
    """``e <seq> <epoch>\\n`` and the frame."""
    return event_header(epoch, event.seq) + encode_event(event)


def pack_position(channel: Channel, position: Position) -> bytes:
    """``p <POSIX ms> <rider or nothing>\\n`` and the frame."""
    at_ms = int(position.at.astimezone(UTC).timestamp() * 1000)
    key = (position.rider_id or "").encode()
    return b"p %d %s\n" % (at_ms, key) + encode_position(channel, position)


def unpack(packet: bytes) -> Packet:
    """The inverse of the two above; raises ValueError on anything else."""
    header, separator, frame = packet.partition(b"\n")
    kind, _, rest = header.partition(b" ")
    number, _, word = rest.partition(b" ")
    if not separator or kind not in (b"e", b"p"):
        raise ValueError("not a packet of the stream")
    if kind == b"e":
        return EventPacket(word.decode(), int(number), frame)
    return PositionPacket(word.decode(), int(number), frame)


def newest(updates: Sequence[PositionUpdate]) -> list[PositionUpdate]:
    """Of several positions of one rider on one channel, only the latest."""
    latest: dict[tuple[Channel, str | None], PositionUpdate] = {}
    for update in updates:
        key = (update[0], update[1].rider_id)
        held = latest.get(key)
        if held is None or update[1].at >= held[1].at:
            latest[key] = update
    return list(latest.values())
