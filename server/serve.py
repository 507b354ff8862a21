"""One server process: HTTP, the stream and the position ingest over the same services."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
import uvicorn
from fastapi import FastAPI

from identity.service import Identity
from kit.signals import stop_event
from orders.spool import CheckoutSpool
from realtime.history import LayeredHistory
from realtime.history_postgres import PostgresHistory
from realtime.history_redis import RedisHistory
from realtime.hub import Hub
from realtime.limits import StreamLimits
from realtime.listener_redis import RedisListener
from realtime.publisher_redis import RedisPublisher
from realtime.service import StreamService
from riders.locations import PositionIngest
from server import collector
from server.api import auth
from server.api.stream import uvicorn_options
from server.app import create_app
from server.availability_metrics import watch_availability
from server.checkouts import QueuedCheckouts
from server.database_watch import DatabaseWatch
from server.dispatch_gauges import watch_dispatch
from server.gateway import serve_gateway
from server.gauges import watch_system
from server.settings import Settings
from server.stream_ports import make_ports
from server.tracking import PositionFanOut
from server.wiring import Services, open_services, read_epoch

log = structlog.get_logger(__name__)


# A flash sale opens thousands of connections at once; the kernel holds them until we accept.
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class LiveLayer:
    """The stream and the ingest of one process; run both for as long as it serves."""

    stream: StreamService
    ingest: PositionIngest

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.stream.run())
            tasks.create_task(self.ingest.run())


async def open_live_layer(services: Services, identity: Identity) -> LiveLayer:
    """Put the stream and the ingest together."""
    async with services.database.begin() as conn:
        epoch = await read_epoch(conn)
    limits = StreamLimits()
    truth = PostgresHistory(services.database.pool)
    history = LayeredHistory([RedisHistory(services.redis, epoch), truth])
    publisher = RedisPublisher(services.redis, epoch)
    fan_out = PositionFanOut(services.database, services.territory, publisher)
    ingest = PositionIngest([services.locations.write, fan_out.write])
    stream = StreamService(
        hub=Hub(RedisListener(services.redis), history, truth, limits),
        ports=make_ports(services, identity, ingest),
        limits=limits,
        allowed_origins=services.settings.http.allowed_origins,
    )
    return LiveLayer(stream, ingest)


class _Server(uvicorn.Server):
    """Uvicorn that drains: new requests are refused while the running ones end.

    Its own way with signals raises them again at the end, which would kill the process before the
    pools are closed.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def leave(self) -> None:
        """Refuse what is new, finish what is running, then end."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.drain.start()
        self.should_exit = True


async def serve(settings: Settings, host: str, port: int) -> None:
    """Serve HTTP and the stream until SIGTERM or SIGINT, then drain.

    Raises OSError when the address cannot be had.
    """
    listener = socket.create_server((host, port), backlog=BACKLOG)
    async with open_services(settings, process="server") as services:
        app = create_app(services)
        live = await open_live_layer(services, app.state.identity)
        app.state.stream, app.state.ingest = live.stream, live.ingest
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.http.drain_timeout_s),
            **uvicorn_options(live.stream.limits),
        )
        server = _Server(config)
        collector.settle()
        background = [
            live.run(),
            watch_system(services.database),
            watch_dispatch(services.database, services.territory),
            watch_availability(services.redis),
        ]
        # The solver of what-ifs, if anybody asked, ends after the requests and before the pools.
        async with aclosing(app.state.what_if), queued_checkouts(services) as queue:
            if queue is not None:
                app.state.checkouts = queue
                background.append(queue.run())
            await _beside(server.serve(sockets=[listener]), server.leave, *background)


@asynccontextmanager
async def queued_checkouts(services: Services) -> AsyncIterator[QueuedCheckouts | None]:
    """Checkouts with this machine's disk behind them; None where there is no directory for it.

    Raises OSError when the directory cannot be used.
    """
    settings = services.settings.spool
    if settings.directory is None:
        yield None
        return
    assert services.settings.database_url, "the caller has started the engines"
    spool = await CheckoutSpool.open(settings.directory, settings)
    try:
        yield QueuedCheckouts(
            services, spool, DatabaseWatch(services.settings.database_url, services.database)
        )
    finally:
        await spool.close()


async def serve_stream_gateway(settings: Settings, host: str, port: int) -> None:
    """Serve the stream alone, over picows, until SIGTERM or SIGINT."""
    async with open_services(settings, process="gateway") as services:
        identity = Identity(
            settings.identity, services.database, services.redis, services.clock, auth.rider_of
        )
        live = await open_live_layer(services, identity)
        stopping = stop_event()
        collector.settle()
        serving = serve_gateway(live.stream, host, port, stop=stopping)
        await _beside(serving, stopping.set, live.run())


async def _beside(
    serving: Coroutine[None, None, None],
    leave: Callable[[], None],
    *background: Coroutine[None, None, None],
) -> None:
    """Serve for as long as the background tasks run.

    When one of those ends, the server is told to leave and drains as always; then its error is
    raised, the process ends and its supervisor starts it anew.  Cancelling the server instead
    would cut every request in the middle.
    """
    server = asyncio.create_task(serving)
    tasks = [asyncio.create_task(work) for work in background]
    try:
        await asyncio.wait([server, *tasks], return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
        for task in ended:
            log.error("background_task_ended", exc_info=task.exception())
        leave()
        await server
        for task in ended:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
