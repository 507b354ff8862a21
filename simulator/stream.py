"""An app's socket to ``/v1/stream``: log on, subscribe, resume after drops, check every seq.

One socket an actor.  It reconnects with back-off and jitter until it is cancelled, resumes each
channel from its last event, and can be taken off the air (``suspend``) like a phone in a tunnel.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from simulator.api import Refused, Session, Unreachable
from simulator.gaps import ChannelLog
from simulator.tally import Tally

_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 2.0
_CONNECT_TIMEOUT_S: Final = 10.0
# A frame has at most 16 KiB, a point about 150 bytes.
POINTS_A_FRAME: Final = 80
# A store's snapshot holds 200 pick tasks with their lines.
_FRAME_MAX_BYTES: Final = 8 * 2**20

Snapshot = Callable[[dict[str, Any]], None]
Event = Callable[[str, dict[str, Any]], None]
Position = Callable[[dict[str, Any]], None]


def _ignore(_frame: dict[str, Any]) -> None:
    """Nobody watches."""


class Watch:
    """A channel to watch: what to do with its snapshot, its events and its positions."""

    def __init__(
        self, channel: str, on_snapshot: Snapshot, on_event: Event, on_position: Position = _ignore
    ) -> None:
        self.log = ChannelLog(channel)
        self.on_snapshot = on_snapshot
        self.on_event = on_event
        self.on_position = on_position
        # The server refused the channel: it is not there, or no longer ours.
        self.refused: str | None = None


class Stream:
    """``run`` keeps it alive; the watches are fixed."""

    def __init__(self, session: Session, url: str, tally: Tally, *watches: Watch) -> None:
        self._session = session
        self._url = url
        self._tally = tally
        self._watches = {watch.log.channel: watch for watch in watches}
        self._socket: ClientConnection | None = None
        self._on_air = asyncio.Event()
        self._on_air.set()
        self._connected_before = False
        self._attempt = 0
        self._asked: dict[str, bool] = {}

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def run(self) -> None:
        """Until cancelled.  Raises LoggedOut, when there is nobody to log on for."""
        try:
            while True:
                await self._on_air.wait()
                self._attempt += 1
                with suppress(OSError, TimeoutError, WebSocketException, Unreachable, Refused):
                    await self._connection()
                backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._attempt, 6))
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
        finally:
            self._judge()

    def drop(self) -> None:
        """Lose the connection as a phone does: without a word."""
        if self._socket is not None:
            self._socket.transport.abort()

    def suspend(self) -> None:
        """Go off the air until ``resume``."""
        self._on_air.clear()
        self.drop()

    def resume(self) -> None:
        self._on_air.set()

    async def send_points(self, points: list[dict[str, object]]) -> bool:
        """Send a rider's fixes; False when there is no socket to send them through."""
        socket = self._socket
        if socket is None:
            return False
        try:
            await socket.send(orjson.dumps({"op": "positions", "points": points}).decode())
        except (OSError, WebSocketException):
            return False
        self._tally.positions_sent += len(points)
        return True

    async def _connection(self) -> None:
        """One connection from ticket to close."""
        reply = await self._session.call("POST", "/v1/realtime/tickets")
        ticket = reply.must()["ticket"]
        async with connect(
            self._url, compression=None, proxy=None, open_timeout=_CONNECT_TIMEOUT_S,
            close_timeout=0.5, max_size=_FRAME_MAX_BYTES, ping_interval=20, ping_timeout=20,
        ) as socket:  # fmt: skip
            await socket.send(orjson.dumps({"op": "auth", "ticket": ticket}).decode())
            ready = orjson.loads(await asyncio.wait_for(socket.recv(), _CONNECT_TIMEOUT_S))
            if ready.get("op") != "ready":
                raise InvalidHandshake(f"answered {ready.get('op')} to auth")
            self._tally.socket_opened(again=self._connected_before)
            self._connected_before = True
            self._attempt = 0
            for watch in self._watches.values():
                await self._subscribe(socket, watch)
            self._socket = socket
            try:
                async for frame in socket:
                    self._take(orjson.loads(frame))
            finally:
                self._socket = None
                self._tally.sockets_open -= 1

    async def _subscribe(self, socket: ClientConnection, watch: Watch) -> None:
        op: dict[str, object] = {"op": "subscribe", "id": 1, "channel": watch.log.channel}
        since = watch.log.since
        self._asked[watch.log.channel] = since is not None
        if since is not None:
            op["since"] = since
        await socket.send(orjson.dumps(op).decode())

    def _take(self, frame: dict[str, Any]) -> None:
        watch = self._watches.get(frame.get("channel", ""))
        op = frame["op"]
        if op == "error":
            self._tally.stream_errors[str(frame["code"])] += 1
            if watch is None and len(self._watches) == 1 and frame.get("id") == 1:
                (watch,) = self._watches.values()
            if watch is not None and frame["code"] == "not_found":
                watch.refused = str(frame["code"])
            elif frame.get("id") == 1:
                # Busy: the whole log-on is tried again.
                self.drop()
            return
        if watch is None:
            return
        if op == "event":
            self._tally.events += 1
            if watch.log.on_event(frame["seq"]):
                watch.on_event(frame["type"], frame["data"])
        elif op == "position":
            self._tally.positions_seen += 1
            watch.on_position(frame)
        elif op == "snapshot":
            watch.log.on_snapshot(frame["epoch"], frame["seq"])
            watch.on_snapshot(frame["data"])
        elif op == "subscribed":
            asked = self._asked.get(watch.log.channel, False)
            watch.log.on_subscribed(frame["epoch"], frame["seq"], frame["recovered"], asked)
            self._asked[watch.log.channel] = True

    def _judge(self) -> None:
        """Hand what went wrong to the tally, when nobody watches any more."""
        for watch in self._watches.values():
            self._tally.judged(watch.log)
