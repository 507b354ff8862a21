"""The stream over FastAPI: a thin coat around :class:`realtime.session.Session`.

The wiring puts a running :class:`StreamService` on ``app.state.stream`` and starts uvicorn with
:func:`uvicorn_options`, without which the server would accept 16 MB frames and compress each one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, TypedDict

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.responses import PlainTextResponse

from realtime.frames import Frame
from realtime.limits import StreamLimits
from realtime.service import StreamService
from realtime.session import Session
from realtime.writer import CloseCode
from server.api.access import PROBE

PATH: Final = "/v1/stream"

router = APIRouter()


class UvicornOptions(TypedDict):
    """Keyword arguments of ``uvicorn.Config`` on which the stream relies."""

    ws: str
    ws_max_size: int
    ws_ping_interval: float
    ws_ping_timeout: float
    ws_per_message_deflate: bool


def uvicorn_options(limits: StreamLimits) -> UvicornOptions:
    """Frame limit (1009), heartbeat that drops dead peers, and no compression."""
    return {
        "ws": "websockets-sansio",
        "ws_max_size": limits.max_frame_bytes,
        "ws_ping_interval": limits.heartbeat_s,
        "ws_ping_timeout": limits.heartbeat_s,
        "ws_per_message_deflate": False,
    }


class _AsgiSocket:
    """Batches wait in one slot for the sender task, because ASGI sends by awaiting."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._batch: Sequence[Frame] = ()
        self._closing: tuple[CloseCode, str] | None = None
        self._closed = asyncio.Event()
        self._wake = asyncio.Event()

    @property
    def writable(self) -> bool:
        return not self._batch

    def write(self, frames: Sequence[Frame]) -> None:
        self._batch = frames
        self._wake.set()

    def close(self, code: CloseCode, reason: str) -> None:
        self._closing = (code, reason)
        self._closed.set()
        self._wake.set()

    async def send(self, session: Session) -> None:
        """Send batches until the session closes the socket, then close it."""
        try:
            while self._closing is None:
                await self._wake.wait()
                self._wake.clear()
                await self._send_batches(session)
            code, reason = self._closing
            await self._send_batches(session)
            await self._websocket.close(code, reason)
        except WebSocketDisconnect:
            # The peer went first; the reader knows too.
            return

    async def grace(self, seconds: float) -> None:
        """Return when a closing socket has had its time, for a peer that does not read at all."""
        await self._closed.wait()
        await asyncio.sleep(seconds)

    async def _send_batches(self, session: Session) -> None:
        while self._batch:
            for frame in self._batch:
                await self._websocket.send_text(frame.text)
            self._batch = ()
            session.on_writable()


class _Gone(Exception):
    """The socket is closed: ends the tasks of its connection."""


# The session asks for a ticket as the first frame; until then nothing is readable.
@router.websocket(PATH, dependencies=[PROBE])
async def stream(websocket: WebSocket) -> None:
    """One connection: reader, session and sender live and end together."""
    service: StreamService = websocket.app.state.stream
    if not service.origin_allowed(websocket.headers.get("origin")):
        await websocket.send_denial_response(PlainTextResponse("origin not allowed", 403))
        return
    if service.draining:
        await websocket.send_denial_response(PlainTextResponse("restarting", 503))
        return
    await websocket.accept()
    close_grace_s = service.limits.close_grace_s
    socket = _AsgiSocket(websocket)
    session = service.open(socket)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(session.run())
            tasks.create_task(_until_gone(_read(websocket, session), session))
            tasks.create_task(_until_gone(socket.send(session), session))
            tasks.create_task(_until_gone(socket.grace(close_grace_s), session))
    except* _Gone:
        pass
    finally:
        service.discard(session)


async def _until_gone(work: Awaitable[None], session: Session) -> None:
    """Whichever of the two directions ends first ends the connection."""
    try:
        await work
    finally:
        session.end()
    raise _Gone


async def _read(websocket: WebSocket, session: Session) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is None:
            session.close(CloseCode.UNSUPPORTED, "text frames only")
        else:
            session.receive(text)
