"""Running one worker.  Apart from ``server.commands``, because a worker needs no web framework and
six processes start at once on a small machine.
"""

from __future__ import annotations

import importlib
from typing import Final

from kit import log
from kit.signals import stop_event
from server.settings import SettingsError, load_settings
from server.wiring import open_services

WORKERS: Final = (
    "outbox_relay",
    "settlement",
    "reservation_expiry",
    "dispatcher",
    "housekeeping",
    "webhook_sender",
    "bus_publisher",
)
# A worker does few things at once; Postgres counts every connection of every process.
POOL_SIZE: Final = 6


async def work(name: str) -> int:
    """Run one worker until SIGINT or SIGTERM.  Raises ``SettingsError``."""
    if name not in WORKERS:
        raise SettingsError(f"There is no worker {name!r}; choose from {', '.join(WORKERS)}.")
    settings = load_settings()
    log.configure(settings.log_level, process=name)
    module = importlib.import_module(f"server.workers.{name}")
    stopping = stop_event()
    async with open_services(settings, process=name, pool_size=POOL_SIZE) as services:
        await module.run(services, stopping)
    return 0
