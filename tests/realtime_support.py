"""What the tests of the stream share: a small world in memory, both transports, a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kit import outbox
from kit.db import metadata
from kit.engines import EmbeddedValkey
from realtime.bus import Listener, Publisher
from realtime.bus_memory import MemoryBus
from realtime.channels import Channel, ChannelKind
from realtime.event_types import OrderStatus
from realtime.events import Position, StreamEvent, encode_event
from realtime.frames import Frame
from realtime.history import HeadSource, History
from realtime.history_memory import MemoryHistory
from realtime.hub import Hub
from realtime.limits import StreamLimits
from realtime.ports import Point, Ports, PositionReply, Principal, Snapshot
from realtime.service import StreamService
from realtime.writer import CloseCode
from server.api.stream import router, uvicorn_options
from server.gateway import serve_gateway
from tests.waiting import until

EPOCH = "epoch-1"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDER = Channel(ChannelKind.ORDER, "ord_1")
CUSTOMER = Principal("usr_1", "customer", "ses_1")
RIDER = Principal("usr_2", "rider", "ses_2", rider_id="rdr_1")
ORIGIN = "https://app.example"
QUICK = StreamLimits(tick_s=0.005, reconcile_s=0.2, revocation_s=0.1, close_grace_s=3)


def status(seq: int, channel: Channel = ORDER, *, reason: str | None = None) -> StreamEvent:
    """Event ``seq`` of an order, told apart by its version."""
    data = OrderStatus(
        machine="order",
        from_="placed",
        to="confirmed",
        status="confirmed",
        delivery_status="unassigned",
        payment_status="authorised",
        version=seq,
        reason=reason,
    )
    return StreamEvent(channel, seq, "order.status", START + timedelta(seconds=seq), data)


def position(second: int, rider_id: str | None = None) -> Position:
    return Position(1.0, 2.0, START + timedelta(seconds=second), eta_s=second, rider_id=rider_id)


@dataclass(eq=False)
class World:
    """A history, a bus and the ports of a service, all open to the test."""

    history: MemoryHistory = field(default_factory=MemoryHistory)
    bus: MemoryBus = field(default_factory=MemoryBus)
    tickets: dict[str, Principal] = field(default_factory=dict)
    foreign: set[Channel] = field(default_factory=set)
    ended_logins: set[str] = field(default_factory=set)
    points: list[Point] = field(default_factory=list)
    snapshots_taken: int = 0

    async def redeem(self, ticket: str) -> Principal | None:
        return self.tickets.pop(ticket, None)

    async def authorise(self, principal: Principal, channel: Channel) -> bool:
        return channel not in self.foreign

    async def snapshot(self, principal: Principal, channel: Channel) -> Snapshot:
        self.snapshots_taken += 1
        seq = (await self.history.head(channel)).seq
        return Snapshot(self.history.epoch, seq, {"version": seq})

    def positions(self, principal: Principal, points: Sequence[Point]) -> PositionReply:
        self.points.extend(points)
        return PositionReply(len(points))

    async def revoked(self, logins: Collection[str]) -> Collection[str]:
        return self.ended_logins & set(logins)

    def ticket(self, principal: Principal = CUSTOMER) -> str:
        ticket = f"ticket-{len(self.tickets)}-{id(principal)}"
        self.tickets[ticket] = principal
        return ticket

    async def happen(
        self, *seqs: int, channel: Channel = ORDER, publisher: Publisher | None = None
    ) -> None:
        """Commit events and let the relay publish them."""
        events = [status(seq, channel) for seq in seqs]
        self.history.append(events)
        await (publisher or self.bus).publish(events)

    def service(
        self,
        limits: StreamLimits = QUICK,
        *,
        listener: Listener | None = None,
        history: History | None = None,
        heads: HeadSource | None = None,
    ) -> StreamService:
        hub = Hub(listener or self.bus, history or self.history, heads or self.history, limits)
        ports = Ports(self, self.authorise, self.snapshot, self.positions, self.revoked)
        return StreamService(hub, ports, limits, allowed_origins=[ORIGIN])


class FakeSocket:
    """Keeps what was written; ``open_gate`` False plays a peer that does not read."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.batches = 0
        self.closed: tuple[CloseCode, str] | None = None
        self.open_gate = True

    @property
    def writable(self) -> bool:
        return self.open_gate

    def write(self, frames: Sequence[Frame]) -> None:
        self.batches += 1
        self.frames.extend(json.loads(frame.payload) for frame in frames)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = (code, reason)

    def of(self, op: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["op"] == op]


@asynccontextmanager
async def running(service: StreamService) -> AsyncIterator[StreamService]:
    """``service.run()`` in the background, from its first look at the heads on."""
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def listening_socket(send_buffer_bytes: int | None = None) -> socket.socket:
    listener = socket.socket()
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@dataclass(frozen=True)
class Served:
    """A service behind a transport; ``shutdown`` is what SIGTERM does to the process."""

    service: StreamService
    port: int
    shutdown: Callable[[], None]


class _QuietServer(uvicorn.Server):
    """A server inside a test leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serve_uvicorn(service: StreamService, listener: socket.socket) -> AsyncIterator[Served]:
    app = FastAPI()
    app.state.stream = service
    app.include_router(router)
    config = uvicorn.Config(app, log_config=None, lifespan="off", **uvicorn_options(service.limits))
    server = _QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))

    def shutdown() -> None:
        server.should_exit = True

    await until(lambda: server.started)
    try:
        yield Served(service, listener.getsockname()[1], shutdown)
    finally:
        shutdown()
        await task


@asynccontextmanager
async def _serve_gateway(service: StreamService, listener: socket.socket) -> AsyncIterator[Served]:
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve_gateway(
            service,
            "127.0.0.1",
            0,
            stop=stop,
            on_listening=port.set_result,
            listening_socket=listener,
        )
    )
    try:
        yield Served(service, await port, stop.set)
    finally:
        stop.set()
        await task


TRANSPORTS = {"uvicorn": _serve_uvicorn, "gateway": _serve_gateway}


@asynccontextmanager
async def serving(
    transport: str, service: StreamService, *, send_buffer_bytes: int | None = None
) -> AsyncIterator[Served]:
    """A running service on a port of loopback."""
    listener = listening_socket(send_buffer_bytes)
    try:
        async with running(service), TRANSPORTS[transport](service, listener) as served:
            yield served
    finally:
        listener.close()


@dataclass
class Client:
    """A real WebSocket client that speaks the protocol."""

    connection: ClientConnection

    async def send(self, **op: object) -> None:
        await self.connection.send(json.dumps(op))

    async def next(self, op: str | None = None, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame, or the next one of a kind."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame: dict[str, Any] = json.loads(await self.connection.recv())
                if op is None or frame["op"] == op:
                    return frame

    async def rest(self, op: str, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """The frames of a kind up to the end of the connection."""
        frames: list[dict[str, Any]] = []
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    frames.append(await self.next(op))
        return frames

    async def auth(self, ticket: str) -> dict[str, Any]:
        await self.send(op="auth", ticket=ticket)
        return await self.next()

    async def subscribe(
        self, channel: Channel = ORDER, since: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        await self.send(op="subscribe", id=1, channel=str(channel), since=since)
        return await self.next()

    async def close_code(self, timeout_s: float = 5.0) -> int | None:
        """The code with which the server closes the connection."""
        async with asyncio.timeout(timeout_s):
            await self.connection.wait_closed()
        return self.connection.close_code


@asynccontextmanager
async def client(served: Served, **options: Any) -> AsyncIterator[Client]:
    async with connect(
        f"ws://127.0.0.1:{served.port}/v1/stream", compression=None, **options
    ) as connection:
        yield Client(connection)


@asynccontextmanager
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    """A server of the test's own, on a free port."""
    with tempfile.TemporaryDirectory(prefix="darkstore-stream-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedValkey(Path(folder) / "valkey")
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def postgres_pool(url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """A pool on an empty database, which gets the outbox and its epoch."""
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as conn:
        tables = [outbox.outbox, outbox.stream_heads, outbox.stream_epoch]
        await conn.run_sync(lambda sync: metadata.create_all(sync, tables=tables))
        await conn.execute(outbox.stream_epoch.insert().values(one=1, epoch=EPOCH))
    await engine.dispose()
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        yield pool


async def append_rows(pool: asyncpg.Pool[asyncpg.Record], events: Sequence[StreamEvent]) -> None:
    """What a business transaction leaves in the outbox."""
    async with pool.acquire() as conn, conn.transaction():
        for event in events:
            data = json.loads(encode_event(event))["data"]
            await conn.execute(
                "INSERT INTO outbox (stream, seq, partition, type, data, at)"
                " VALUES ($1, $2, 0, $3, $4::text::jsonb, $5)",
                str(event.channel),
                event.seq,
                event.type,
                json.dumps(data),
                event.at,
            )
            await conn.execute(
                "INSERT INTO stream_heads (stream, seq) VALUES ($1, $2)"
                " ON CONFLICT (stream) DO UPDATE SET seq = EXCLUDED.seq",
                str(event.channel),
                event.seq,
            )


def limits(**changes: Any) -> StreamLimits:
    return replace(QUICK, **changes)
