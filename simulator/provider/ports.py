"""A port of its own for each wire, which an outage can close: a refused connection is the one
failure that proves that nothing was sent, and no answer over HTTP can stand in for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress

import structlog
import uvicorn

_log = structlog.get_logger(__name__)


class WirePorts:
    """The listening sockets beside the main one, by wire; all of them lead to all routes."""

    def __init__(self, listeners: Mapping[str, socket.socket]) -> None:
        self._listeners = dict(listeners)
        self._addresses = {name: one.getsockname() for name, one in listeners.items()}
        self._server: uvicorn.Server | None = None
        self._first = 0
        self._closed: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def sockets(self) -> list[socket.socket]:
        return list(self._listeners.values())

    def numbers(self) -> dict[str, int]:
        return {name: int(address[1]) for name, address in self._addresses.items()}

    def serve_with(self, server: uvicorn.Server, first: int) -> None:
        """``first`` is the place of our first socket among those that the server was given."""
        self._server, self._first = server, first

    def close_for(self, wire: str, seconds: float) -> None:
        """Refuse connections to a wire's port for so long; without a port nothing happens."""
        if wire not in self._listeners or self._server is None or wire in self._closed:
            return
        place = self._first + list(self._listeners).index(wire)
        self._server.servers[place].close()
        self._closed[wire] = asyncio.Event()
        task = asyncio.create_task(self._reopen(wire, place, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def open_again(self, wire: str) -> None:
        """End what :meth:`close_for` began, before its time."""
        if wire in self._closed:
            self._closed[wire].set()

    async def _reopen(self, wire: str, place: int, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed[wire].wait()
        server = self._server
        assert server is not None
        host, port = self._addresses[wire][:2]
        config = server.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself does
                config=config, server_state=server.server_state, app_state=server.lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        server.servers[place] = await loop.create_server(
            protocol, sock=socket.create_server((host, port), backlog=512)
        )
        del self._closed[wire]
        _log.info("port_open_again", wire=wire)
