"""The stream of one process: its hub, its open sessions, and how they end."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from realtime.cancellation import checkpoint
from realtime.hub import Hub
from realtime.limits import StreamLimits
from realtime.ports import Ports
from realtime.session import Session
from realtime.writer import CloseCode, Socket

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class StreamService:
    """What both transports need.  Run :meth:`run` for as long as either serves.

    ``allowed_origins`` are exact (``https://app.example``); a client without an Origin header is
    no browser and is let in, because its ticket is what counts.
    """

    hub: Hub
    ports: Ports
    limits: StreamLimits = field(default_factory=StreamLimits)
    allowed_origins: Collection[str] = ()
    draining: bool = False
    _sessions: set[Session] = field(default_factory=set)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return len(self._sessions)

    def origin_allowed(self, origin: str | None) -> bool:
        return origin is None or origin in self.allowed_origins

    def open(self, socket: Socket) -> Session:
        """A session for an accepted socket; give it back with :meth:`discard`."""
        session = Session(socket, self.hub, self.ports, self.limits)
        self._sessions.add(session)
        return session

    def discard(self, session: Session) -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()

    async def run(self) -> None:
        """Run the hub and the watch for revoked log-ins until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run())
            tasks.create_task(self._watch_logins())

    async def drain(self, grace_s: float | None = None, *, spread_s: float = 0.0) -> None:
        """Take no more sockets, close the open ones with 1012, wait until they are gone.

        ``spread_s`` closes them over that time, so that clients do not come back all at once.
        Waits at most ``grace_s`` after the last close.
        """
        self.draining = True
        sessions = list(self._sessions)
        random.shuffle(sessions)
        for session in sessions:
            session.close(CloseCode.RESTART, "restarting: reconnect and resume")
            if spread_s:
                await asyncio.sleep(spread_s / len(sessions))
        if not self._sessions:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(self.limits.close_grace_s if grace_s is None else grace_s):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("drain_incomplete", sockets=len(self._sessions))

    async def close_revoked(self) -> int:
        """Close the sockets of ended log-ins with 4401; returns how many."""
        by_login: defaultdict[str, list[Session]] = defaultdict(list)
        for session in self._sessions:
            if session.principal is not None:
                by_login[session.principal.session_id].append(session)
        if not by_login:
            return 0
        async with asyncio.timeout(self.limits.revocation_s):
            ended = await self.ports.revoked(list(by_login))
        closed = 0
        for login in ended:
            for session in by_login.get(login, ()):
                session.close(CloseCode.UNAUTHENTICATED, "the login has ended")
                closed += 1
        return closed

    async def _watch_logins(self) -> None:
        while True:
            checkpoint()
            await asyncio.sleep(self.limits.revocation_s)
            try:
                await self.close_revoked()
            except Exception:  # noqa: BLE001 - a failing check must not end everybody's stream
                _log.exception("revocation_check_failed")
