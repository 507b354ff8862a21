"""A simulated app's socket against a server of a few lines: resume, drop, tunnel, evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from simulator.api import Reply
from simulator.stream import Stream, Watch
from simulator.tally import Tally

CHANNEL = "order:ord_1"


class Log:
    """A channel's history, and a server that replays it as API.md says."""

    def __init__(self) -> None:
        self.head = 0
        self.subscribes: list[dict[str, Any]] = []
        self.points = 0
        self.sockets: set[ServerConnection] = set()
        self.lose: set[int] = set()

    async def publish(self, count: int = 1) -> None:
        """Append events and send them to whoever is connected."""
        for _ in range(count):
            self.head += 1
            for socket in list(self.sockets):
                with suppress(Exception):
                    await self._event(socket, self.head)

    async def _event(self, socket: ServerConnection, seq: int) -> None:
        if seq in self.lose:
            return
        event = {"op": "event", "channel": CHANNEL, "seq": seq, "type": "t", "data": {"n": seq}}
        await socket.send(json.dumps(event))

    async def handle(self, socket: ServerConnection) -> None:
        """One connection."""
        auth = json.loads(await socket.recv())
        assert auth == {"op": "auth", "ticket": "tic"}
        await socket.send(json.dumps({"op": "ready"}))
        try:
            async for raw in socket:
                op = json.loads(raw)
                if op["op"] == "positions":
                    self.points += len(op["points"])
                    continue
                await self._subscribed(socket, op)
        finally:
            self.sockets.discard(socket)

    async def _subscribed(self, socket: ServerConnection, op: dict[str, Any]) -> None:
        self.subscribes.append(op)
        since = op.get("since")
        answer = {"op": "subscribed", "id": op["id"], "channel": CHANNEL, "epoch": "e"}
        await socket.send(json.dumps({**answer, "seq": self.head, "recovered": since is not None}))
        if since is None:
            frame = {"op": "snapshot", "channel": CHANNEL, "epoch": "e", "seq": self.head}
            await socket.send(json.dumps({**frame, "data": {}}))
        else:
            for seq in range(since["seq"] + 1, self.head + 1):
                await self._event(socket, seq)
        self.sockets.add(socket)


class TicketSession:
    """As much of a session as a stream needs."""

    async def call(self, method: str, path: str) -> Reply:
        assert (method, path) == ("POST", "/v1/realtime/tickets")
        return Reply(201, {"ticket": "tic"}, None)


class App:
    """A stream with one watch, and what it saw."""

    def __init__(self, server: Server) -> None:
        self.seen: list[int] = []
        self.snapshots = 0
        self.tally = Tally()
        self.changed = asyncio.Event()
        self.watch = Watch(CHANNEL, self._on_snapshot, self._on_event)
        port = next(iter(server.sockets)).getsockname()[1]
        session: Any = TicketSession()
        self.stream = Stream(session, f"ws://127.0.0.1:{port}/", self.tally, self.watch)

    def _on_snapshot(self, _data: dict[str, Any]) -> None:
        self.snapshots += 1
        self.changed.set()

    def _on_event(self, _type: str, data: dict[str, Any]) -> None:
        self.seen.append(data["n"])
        self.changed.set()

    async def until(self, condition: Any) -> None:
        """Wait for a condition on what was seen."""
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.02)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Log, App]]:
    """A server and an app that is connected to it."""
    log = Log()
    async with serve(log.handle, "127.0.0.1", 0) as server:
        app = App(server)
        task = asyncio.create_task(app.stream.run())
        try:
            await app.until(lambda: app.snapshots == 1 and bool(log.sockets))
            yield log, app
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_dropped_sockets_resume_where_they_were() -> None:
    """Ten drops in the middle of events: together every event once, and no violation."""
    async with running() as (log, app):
        for _ in range(10):
            await log.publish(2)
            app.stream.drop()
            await log.publish(1)
            await app.until(lambda: app.seen[-1:] == [log.head])
    assert app.seen == list(range(1, 31))
    assert app.tally.gap_count == 0
    assert app.snapshots == 1
    assert app.tally.reconnects == 10
    assert all(op["since"]["epoch"] == "e" for op in log.subscribes[1:])


async def test_an_event_that_the_server_loses_is_evidence() -> None:
    """The server skips number 2: one gap in the tally when the app is closed."""
    async with running() as (log, app):
        log.lose = {2}
        await log.publish(3)
        await app.until(lambda: app.watch.log.seq == 3)
    assert app.tally.gap_count == 1
    assert app.tally.gaps == [f"{CHANNEL}: event 3 instead of 2"]


async def test_a_phone_in_a_tunnel_stays_off_the_air() -> None:
    """Suspended it does not reconnect; resumed it brings what it missed."""
    async with running() as (log, app):
        app.stream.suspend()
        await app.until(lambda: not app.stream.connected)
        await log.publish(4)
        assert not await app.stream.send_points([{"t": "now"}])
        assert len(log.subscribes) == 1
        app.stream.resume()
        await app.until(lambda: app.seen == [1, 2, 3, 4])
        assert await app.stream.send_points([{"t": "now"}, {"t": "then"}])
        await app.until(lambda: log.points == 2)
    assert app.tally.positions_sent == 2
