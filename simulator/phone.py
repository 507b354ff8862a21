"""A rider's phone: its actions, its fixes, and what it keeps while it has no network."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from simulator.api import Json, Reply, Session
from simulator.motion import Fix, with_noise
from simulator.stream import POINTS_A_FRAME, Stream
from simulator.world import World, rfc3339

# Virtual seconds between two fixes while riding, and while standing.
RIDING_INTERVAL_S: Final = 4.0
STANDING_INTERVAL_S: Final = 20.0
# Real seconds: the stream takes two frames of positions a second from a phone.
_FRAME_INTERVAL_S: Final = 0.6
_GPS_SIGMA_M: Final = 3.0
_ACCURACY_M: Final = 8.0
# What a phone keeps without a network: 500 fixes, half an hour of riding; the oldest go first.
_FIXES_KEPT: Final = 500


@dataclass(frozen=True, slots=True)
class _Action:
    path: str
    body: Json
    key: str


class Phone:
    """``stream`` carries positions while there is one; HTTP carries what had to wait."""

    def __init__(self, world: World, session: Session, stream: Stream, name: str) -> None:
        self._world = world
        self._session = session
        self._stream = stream
        self._rng = world.rng("phone", name)
        self._fixes: deque[dict[str, object]] = deque(maxlen=_FIXES_KEPT)
        self._actions: list[_Action] = []
        self._offline_until_s: float | None = None
        self._taken_s = 0.0
        self._sent_s = 0.0
        self.replayed = asyncio.Event()

    @property
    def offline(self) -> bool:
        return self._offline_until_s is not None

    def go_offline(self, duration_s: float) -> None:
        """Lose the network for so many virtual seconds."""
        self._offline_until_s = self._world.clock.now_s() + duration_s
        self._world.tally.offline_spells += 1
        self.replayed.clear()
        self._stream.suspend()

    async def act(self, path: str, body: Json | None = None) -> Reply | None:
        """Tell the server what the rider did; None when it waits for the network.

        Raises Unreachable.
        """
        key = f"sim-{self._world.run_id}-{secrets.token_hex(8)}"
        if not self.offline:
            return await self._session.call("POST", path, body, key=key)
        at = rfc3339(self._world.clock.now_s())
        self._actions.append(_Action(path, {**(body or {}), "at": at}, key))
        return None

    async def come_back_when_due(self) -> bool:
        """Send all that has waited, in its order, once the network is back; True if it was."""
        if self._offline_until_s is None or self._world.clock.now_s() < self._offline_until_s:
            return False
        await self._send_fixes()
        while self._actions:
            action = self._actions[0]
            await self._session.call("POST", action.path, action.body, key=action.key)
            self._actions.pop(0)
            self._world.tally.replayed_actions += 1
        self._offline_until_s = None
        self._stream.resume()
        self.replayed.set()
        return True

    def take_fix(self, t_s: float, fix: Fix) -> None:
        """The GPS has a fix of virtual time ``t_s``."""
        seen = with_noise(fix.point, self._rng, _GPS_SIGMA_M)
        self._taken_s = t_s
        point: dict[str, object] = {
            "t": rfc3339(t_s),
            "lat": round(seen.lat, 6),
            "lon": round(seen.lon, 6),
            "accuracy_m": _ACCURACY_M,
            "speed_mps": round(fix.speed_mps, 2),
        }
        if fix.heading_deg is not None:
            point["heading_deg"] = round(fix.heading_deg, 1)
        self._fixes.append(point)

    @property
    def last_fix_s(self) -> float:
        """Virtual time of the latest fix."""
        return self._taken_s

    @property
    def frame_interval_s(self) -> float:
        """Real seconds between two frames of positions."""
        return max(_FRAME_INTERVAL_S, self._world.clock.real_s(RIDING_INTERVAL_S))

    async def send_waiting(self) -> None:
        """Send what has been taken since the last frame, if there is a socket."""
        if self.offline or not self._fixes:
            return
        if len(self._fixes) > POINTS_A_FRAME:
            await self._send_fixes()
            return
        points = list(self._fixes)
        if await self._stream.send_points(points):
            for _ in points:
                self._fixes.popleft()

    async def _send_fixes(self) -> None:
        """The waiting fixes over HTTP, in batches well below the limit of a body."""
        while self._fixes:
            points = list(islice(self._fixes, POINTS_A_FRAME))
            reply = await self._session.call("POST", "/v1/riders/me/positions", {"points": points})
            reply.must()
            self._world.tally.positions_sent += len(points)
            for _ in range(min(len(points), len(self._fixes))):
                self._fixes.popleft()
