"""Whatever happens between commit and socket, a client's sequence is the history's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.session import Session
from tests.realtime_support import EPOCH, ORDER, FakeSocket, World, limits, status

# Quick, so that a run of many steps takes milliseconds.
_LIMITS = limits(tick_s=0.0005, reconcile_s=0.004, max_buffered=3, max_replay=4)

_steps = st.lists(
    st.sampled_from(
        [
            "publish",
            "publish",
            "publish",
            "burst",
            "commit_only",
            "lose",
            "repeat_first",
            "repeat_last",
            "interrupt",
            "bus_down",
            "bus_up",
            "history_down",
            "history_up",
            "trim",
            "drop",
            "drop",
            "settle",
        ]
    ),
    max_size=40,
)


class _Watcher:
    """A client over many sockets: it resumes, and a snapshot replaces what it knows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.service = world.service(_LIMITS)
        self.seqs: list[int] = []
        self.socket = FakeSocket()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.socket = FakeSocket()
        self._session = self.service.open(self.socket)
        self._task = asyncio.create_task(self._session.run())
        auth = {"op": "auth", "ticket": self.world.ticket()}
        subscribe: dict[str, Any] = {"op": "subscribe", "channel": str(ORDER), "id": 1}
        if self.seqs:
            subscribe["since"] = {"epoch": EPOCH, "seq": self.seqs[-1]}
        self._session.receive(json.dumps(auth))
        self._session.receive(json.dumps(subscribe))
        await asyncio.sleep(0)

    async def close(self) -> None:
        assert self._session is not None
        assert self._task is not None
        self._session.end()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.service.discard(self._session)
        self.take()

    async def again_if_refused(self) -> None:
        """As a client does with a retryable error."""
        if self.socket.of("error"):
            await self.close()
            await self.open()

    def take(self) -> None:
        """Fold what has arrived, asserting that nothing is missing or repeated."""
        frames, self.socket.frames = self.socket.frames, []
        for frame in frames:
            if frame["op"] == "snapshot":
                known = self.seqs[-1] if self.seqs else 0
                assert frame["seq"] >= known, "a snapshot never leads back"
                assert frame["data"] == {"version": frame["seq"]}
                self.seqs = list(range(1, frame["seq"] + 1))
            elif frame["op"] == "event":
                assert frame["seq"] == (self.seqs[-1] if self.seqs else 0) + 1
                assert frame["data"]["version"] == frame["seq"]
                self.seqs.append(frame["seq"])
            elif frame["op"] == "error":
                self.socket.frames.append(frame)


async def _act(step: str, watcher: _Watcher, seq: int) -> int:
    """One step; returns the last committed ``seq`` after it."""
    world = watcher.world
    if step in ("publish", "commit_only", "lose", "burst"):
        events = [status(seq + n) for n in range(1, 7 if step == "burst" else 2)]
        seq += len(events)
        world.history.append(events)
        if step == "lose":
            world.bus.lose_next = 1
        if step != "commit_only" and world.bus.available:
            await world.bus.publish(events)
    elif step == "repeat_first" and seq:
        world.bus.tell(status(1))
    elif step == "repeat_last" and seq:
        world.bus.tell(status(seq))
    elif step == "interrupt":
        world.bus.interrupt()
    elif step in ("bus_down", "bus_up"):
        world.bus.available = step == "bus_up"
    elif step in ("history_down", "history_up"):
        world.history.available = step == "history_up"
    elif step == "trim":
        world.history.trim(ORDER, 2)
    elif step == "drop":
        await watcher.close()
        await watcher.open()
    elif step == "settle":
        await asyncio.sleep(0.003)
    await asyncio.sleep(0)
    return seq


async def _play(steps: list[str]) -> tuple[list[int], int]:
    """What the client has in the end, and how much was published."""
    world = World()
    watcher = _Watcher(world)
    service = asyncio.create_task(watcher.service.run())
    seq = 0
    try:
        await watcher.open()
        for step in steps:
            seq = await _act(step, watcher, seq)
        world.history.available = world.bus.available = True

        def caught_up() -> bool:
            watcher.take()
            return (watcher.seqs[-1] if watcher.seqs else 0) == seq

        async with asyncio.timeout(5):
            while not caught_up():
                await watcher.again_if_refused()
                await asyncio.sleep(0.001)
        await watcher.close()
        assert watcher.service.hub.channels == 0, "nothing is watched after the last socket"
        return watcher.seqs, seq
    finally:
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service


@settings(max_examples=120, deadline=None)
@given(_steps)
def test_client_converges(steps: list[str]) -> None:
    """Published, repeated, lost, interrupted, trimmed, dropped: contiguous, equal at the end."""
    seen, published = asyncio.run(_play(steps))
    assert seen == list(range(1, published + 1))
