"""The stream over picows, as a process of its own: the transport for many sockets.

The session is the one that FastAPI serves; here a frame's WebSocket header is made once for all
sockets, and a tick's frames leave in one write.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from realtime.frames import Frame
from realtime.service import StreamService
from realtime.session import Session
from realtime.writer import CloseCode

_log = structlog.get_logger(__name__)

PATH = b"/v1/stream"
# What may wait in the transport before a socket counts as slow; then the writer's own queue fills.
WRITE_BUFFER_BYTES = 64 * 1024


class _Connection(WSListener):
    """One socket: picows calls it, and the session writes through it."""

    def __init__(self, service: StreamService, tasks: set[asyncio.Task[None]]) -> None:
        self._service = service
        self._tasks = tasks
        self._transport: WSTransport | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._fragments = bytearray()
        self._fragmented = False

    @property
    def writable(self) -> bool:
        return not self._paused

    def write(self, frames: Sequence[Frame]) -> None:
        transport = self._transport
        if transport is not None and not (
            transport.is_close_frame_sent or transport.is_disconnected
        ):
            transport.underlying_transport.write(b"".join([frame.wire for frame in frames]))

    def close(self, code: CloseCode, reason: str) -> None:
        transport = self._transport
        if transport is None or transport.is_close_frame_sent or transport.is_disconnected:
            return
        # picows names only the registered codes, and sends whichever number it is given.
        transport.send_close(cast(WSCloseCode, int(code)), reason)
        loop = asyncio.get_running_loop()
        loop.call_later(self._service.limits.close_grace_s, self._abort)

    def _abort(self) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._session = self._service.open(self)
        self._task = asyncio.get_running_loop().create_task(self._session.run())
        self._tasks.add(self._task)
        self._task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("session_failed", exc_info=error)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        session = self._session
        assert session is not None, "picows connects before it delivers frames"
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.CONTINUATION:
                self._on_text(session, frame)
            case WSMsgType.CLOSE:
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
            case WSMsgType.BINARY:
                session.close(CloseCode.UNSUPPORTED, "text frames only")
            case _:
                pass

    def _on_text(self, session: Session, frame: WSFrame) -> None:
        """Whole messages go straight on; fragments gather up to the limit of a frame."""
        if frame.fin and not self._fragmented:
            session.receive(frame.get_payload_as_bytes())
            return
        self._fragmented = not frame.fin
        self._fragments += frame.get_payload_as_bytes()
        if frame.fin or len(self._fragments) > self._service.limits.max_frame_bytes:
            message = bytes(self._fragments)
            self._fragments.clear()
            session.receive(message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._session is not None and self._task is not None:
            self._session.end()
            self._task.cancel()
            self._service.discard(self._session)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._session is not None:
            self._session.on_writable()


def _refusal(status: int, reason: bytes) -> WSUpgradeResponseWithListener:
    response: WSUpgradeResponse = WSUpgradeResponse.create_error_response(status, reason)
    return WSUpgradeResponseWithListener(response, None)


async def serve_gateway(
    service: StreamService,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_listening: Callable[[int], None] | None = None,
    listening_socket: sockets.socket | None = None,
    spread_s: float = 0.0,
) -> None:
    """Serve ``/v1/stream`` (and ``/healthz``) until ``stop``, then drain: every socket gets 1012.

    The caller runs ``service.run()`` beside it.  ``on_listening`` is told the port; a
    ``listening_socket`` of the caller's replaces ``host`` and ``port``.  Raises OSError when the
    address cannot be had.
    """
    tasks: set[asyncio.Task[None]] = set()

    def route(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        path = request.path.partition(b"?")[0]
        if path == b"/healthz":
            ok: WSUpgradeResponse = WSUpgradeResponse.create_ok_response(b"ok")
            return WSUpgradeResponseWithListener(ok, None)
        if path != PATH:
            return None
        if not service.origin_allowed(request.headers.get("Origin")):
            return _refusal(403, b"origin not allowed")
        if service.draining:
            return _refusal(503, b"restarting")
        return _Connection(service, tasks)

    limits = service.limits
    address = {"sock": listening_socket} if listening_socket else {"host": host, "port": port}
    server = await ws_create_server(
        route,
        **address,
        max_frame_size=limits.max_frame_bytes,
        enable_auto_ping=True,
        auto_ping_idle_timeout=limits.heartbeat_s,
        auto_ping_reply_timeout=limits.heartbeat_s,
    )
    try:
        if on_listening is not None:
            on_listening(server.sockets[0].getsockname()[1])
        await stop.wait()
    finally:
        server.close()
        await service.drain(spread_s=spread_s)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
