"""The solver of what-ifs: a process of the server that was asked, gone when that server is."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
import psutil
import pytest
from fastapi import FastAPI

from kit.db import Database
from kit.errors import Busy
from kit.ports import free_port
from server import serve
from server.settings import Settings
from server.what_if import WhatIf
from server.wiring import Services
from tests.addresses import Addresses
from tests.cities import make_place
from tests.http_support import identity_settings
from tests.waiting import eventually, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.embedded_only]


def solvers() -> set[int]:
    """Processes of Python that this one has spawned to compute in."""
    found = set()
    for child in psutil.Process().children():
        try:
            if any("spawn_main" in word for word in child.cmdline()):
                found.add(child.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


async def test_the_solver_ends_with_the_server(
    database: Database, engines: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SIGTERM, while the pools are still open, and even if it has not quite started yet."""
    place = await make_place(database, 0, 0)
    apps: list[FastAPI] = []
    ended_with_pools_open: list[bool] = []
    create, end = serve.create_app, WhatIf.aclose

    def create_app(services: Services) -> FastAPI:
        apps.append(create(services))
        return apps[0]

    async def aclose(what_if: WhatIf) -> None:
        await end(what_if)
        async with apps[0].state.services.database.begin():
            ended_with_pools_open.append(True)

    monkeypatch.setattr(serve, "create_app", create_app)
    monkeypatch.setattr(WhatIf, "aclose", aclose)
    # A server freezes what it has imported; this process has more to do.
    monkeypatch.setattr(serve.collector, "settle", lambda: None)
    url = database.engine.url.set(drivername="postgresql")
    settings = Settings(
        identity=identity_settings(),
        database_url=url.render_as_string(hide_password=False),
        redis_url=engines.redis_url,
    )
    before, port = solvers(), free_port()
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient() as http:
        tasks.create_task(serve.serve(settings, "127.0.0.1", port))

        async def alive() -> bool:
            try:
                return (await http.get(f"http://127.0.0.1:{port}/healthz")).is_success
            except httpx.TransportError:
                return False

        await eventually(alive, "the server to answer")
        with pytest.raises(Busy):
            await apps[0].state.what_if.ask(place.city.id, None, {})
        await until(lambda: solvers() - before, within_s=30)
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended_with_pools_open == [True]
    await until(lambda: not solvers() - before)
