"""Running workers: one in a process of its own, or several beside each other on one event loop.

Apart from ``server.commands``, because a worker needs no web framework, and what a small machine
starts should not import one.

Beside each other they share a process's connections and nothing else: one that fails is started
again alone, with back-off, while the others go on.  A process of its own is for what computes
(the dispatcher) and for machines where each is watched and killed by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Sequence
from typing import Final, Protocol, cast

import structlog

from kit import log
from kit.engines.backoff import Backoff
from kit.signals import stop_event
from server import collector
from server.settings import SettingsError, load_settings
from server.wiring import Services, open_services

_log = structlog.get_logger(__name__)

WORKERS: Final = (
    "outbox_relay",
    "settlement",
    "reservation_expiry",
    "dispatcher",
    "housekeeping",
    "webhook_sender",
    "bus_publisher",
)
# Those that keep a core busy; the others wait for most of their time.
HEAVY: Final = frozenset({"dispatcher"})
# A worker does few things at once; Postgres counts every connection of every process.
POOL_SIZE: Final = 6
POOL_SIZE_EACH: Final = 3


class Worker(Protocol):
    """A module of ``server.workers``."""

    async def run(self, services: Services, stopping: asyncio.Event) -> None:
        """Work until ``stopping``."""


async def work(names: Sequence[str]) -> int:
    """Run workers until SIGINT or SIGTERM.  Raises ``SettingsError``."""
    for name in names:
        if name not in WORKERS:
            raise SettingsError(f"There is no worker {name!r}; choose from {', '.join(WORKERS)}.")
    if not names or len(set(names)) < len(names):
        raise SettingsError("Name one worker or several different ones.")
    alone = len(names) == 1
    process = names[0] if alone else "workers"
    settings = load_settings()
    log.configure(settings.log_level, process=process)
    workers = {name: _load(name) for name in names}
    stopping = stop_event()
    pool_size = POOL_SIZE if alone else POOL_SIZE_EACH * len(names)
    async with open_services(settings, process=process, pool_size=pool_size) as services:
        collector.settle()
        if alone:
            await workers[names[0]].run(services, stopping)
        else:
            async with asyncio.TaskGroup() as tasks:
                for name, worker in workers.items():
                    tasks.create_task(keep_running(name, worker, services, stopping))
    return 0


def _load(name: str) -> Worker:
    return cast(Worker, importlib.import_module(f"server.workers.{name}"))


async def keep_running(
    name: str,
    worker: Worker,
    services: Services,
    stopping: asyncio.Event,
    backoff: Backoff | None = None,
) -> None:
    """Run a worker until ``stopping``, and again whenever it fails; its failures are its own."""
    structlog.contextvars.bind_contextvars(process=name)
    backoff = backoff or Backoff()
    failures = 0
    while not stopping.is_set():
        started_s = time.monotonic()
        try:
            await worker.run(services, stopping)
            if stopping.is_set():
                return
            _log.error("worker_ended")
        except Exception as error:  # noqa: BLE001  # what a process of its own would die of
            _log.error("worker_failed", error=type(error).__name__, exc_info=error)
        failures = backoff.failures_after(failures, time.monotonic() - started_s)
        try:
            async with asyncio.timeout(backoff.delay_s(failures)):
                await stopping.wait()
        except TimeoutError:
            continue
