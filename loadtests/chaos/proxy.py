"""A TCP proxy that can be slow, deaf, gone, or come and go: the wires of a fault run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections import Counter, deque
from enum import StrEnum
from typing import Final, cast

from kit.ports import free_port

# Bytes held for one connection before its sender is told to wait.
_HIGH_WATER: Final = 256 * 1024


class Mode(StrEnum):
    """``half_open``: accepts, takes bytes and never says a word again, nor hangs up."""

    PASS = "pass"  # noqa: S105 - no password
    SLOW = "slow"
    HALF_OPEN = "half_open"
    REFUSE = "refuse"


class Link:
    """One wire: a loopback port that leads to another.

    ``struck`` counts what a fault did: ``delayed`` and ``swallowed`` chunks, ``cut`` connections,
    ``refused`` times at which the port was shut.
    """

    def __init__(self, name: str, target_port: int, rng: random.Random) -> None:
        self.name = name
        self.target_port = target_port
        self.port = free_port()
        self.struck: Counter[str] = Counter()
        self.latency_s = (0.0, 0.0)
        self.rng = rng
        self.mode = Mode.PASS
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen.  Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Pair(self).client, "127.0.0.1", self.port, backlog=1024
        )

    async def close(self) -> None:
        """Stop listening and cut everything."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    async def become(self, mode: Mode, latency_s: tuple[float, float] = (0.0, 0.0)) -> None:
        """Change how the wire behaves; connections that fell silent stay silent for good."""
        if mode is self.mode:
            return
        was, self.mode, self.latency_s = self.mode, mode, latency_s
        if was is Mode.REFUSE:
            await self.open()
        if mode is Mode.REFUSE:
            await self.close()
            self.struck["refused"] += 1
        if mode is Mode.HALF_OPEN:
            for pair in self._pairs:
                pair.deaf = True

    def cut(self) -> int:
        """Reset every connection, as a router that lost its table does; returns how many."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        self.struck["cut"] += len(pairs)
        return len(pairs)

    def joined(self, pair: _Pair) -> None:
        pair.deaf = self.mode is Mode.HALF_OPEN
        self._pairs.add(pair)

    def left(self, pair: _Pair) -> None:
        self._pairs.discard(pair)

    @property
    def connections(self) -> int:
        return len(self._pairs)


class _Pair:
    """A client's connection and the one that was made for it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.deaf = False
        self.client = _End(self)
        self.server = _End(self)
        self.client.other, self.server.other = self.server, self.client
        self._connecting: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.link.joined(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, "127.0.0.1", self.link.target_port)
        except OSError:
            self.reset()

    def lost(self) -> None:
        """One end hung up: what is on its way still arrives, then the other end is closed."""
        self.link.left(self)
        for end in (self.client, self.server):
            end.finish()

    def reset(self) -> None:
        self.link.left(self)
        for end in (self.client, self.server):
            end.reset()


class _End(asyncio.Protocol):
    """Carries what comes in here out at ``other``."""

    other: _End

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._held = 0
        self._on_way: deque[bytes] = deque()
        self._due_s = 0.0
        self._finishing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self is self._pair.client:
            self._pair.accepted()
        for data in self._early:
            self._transport.write(data)
        self._early.clear()
        if self._finishing:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        pair, link = self._pair, self._pair.link
        if pair.deaf:
            link.struck["swallowed"] += 1
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        wait_s = 0.0
        if link.mode is Mode.SLOW:
            wait_s = link.rng.uniform(*link.latency_s)
            link.struck["delayed"] += 1
        # Never before what was sent earlier.
        self._due_s = max(self._due_s, now_s + wait_s)
        if self._due_s <= now_s and self._held == 0:
            self.other.write(data)
            return
        self._hold(data)
        loop.call_at(self._due_s, self._deliver)

    def _hold(self, data: bytes) -> None:
        self._on_way.append(data)
        self._held += len(data)
        if self._held > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()

    def _deliver(self) -> None:
        # The oldest, whichever call this is: a loop keeps no order among calls of the same moment.
        data = self._on_way.popleft()
        self._held -= len(data)
        if self._held <= _HIGH_WATER and self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()
        self.other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other._transport is not None and self.other._held <= _HIGH_WATER:
            with contextlib.suppress(RuntimeError):
                self.other._transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.lost()

    def finish(self) -> None:
        """Close after what is still to be written here."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._finishing = True
        elif self.other._held:
            loop.call_at(self.other._due_s + 0.001, self._transport.close)
        else:
            self._transport.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        if self._transport is None:
            self._finishing = True
            return
        found = self._transport.get_extra_info("socket")
        if found is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                with socket.socket(fileno=os.dup(found.fileno())) as twin:
                    linger = struct.pack("ii", 1, 0)
                    twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()
