"""The HTTP application for tests: over real services, or over none at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis

from identity.settings import IdentitySettings
from kit.clock import Clock
from kit.db import Database
from kit.redis import connect
from payments.settings import PaymentSettings
from server.app import ROUTERS, create_app
from server.settings import HttpSettings, RateLimitSettings, Settings
from server.wiring import Services
from tests.cities import CHEAP_ARGON2

SECRET = "a secret for tests, as long as the longest HMAC could possibly want it"


def identity_settings(**changes: Any) -> IdentitySettings:
    return IdentitySettings(**{"jwt_secret": SECRET, "argon2": CHEAP_ARGON2, **changes})


def make_services(
    database: Database | None = None,
    redis: Redis | None = None,
    *,
    http: HttpSettings | None = None,
    identity: IdentitySettings | None = None,
    clock: Clock | None = None,
) -> Services:
    """Services with what a test has; touching what it has not is an error of the test."""
    http = http or HttpSettings(rate_limits=RateLimitSettings(enabled=False))
    settings = Settings(
        http=http,
        identity=identity or identity_settings(),
        payments=PaymentSettings(deadline_s=http.request_deadline_s / 3),
    )
    # Port 1 refuses at once: Redis that is down.
    client = redis or connect("redis://127.0.0.1:1/0")
    parts: dict[str, Any] = dict.fromkeys(field.name for field in fields(Services))
    parts |= {"settings": settings, "database": database, "redis": client}
    return Services(**{**parts, "clock": clock or Clock()})


def app_with(router: APIRouter, services: Services | None = None) -> FastAPI:
    """The real application and one more router."""
    return create_app(services or make_services(), routers=(*ROUTERS, router))


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    """A client that calls the application in this process."""
    transport = httpx.ASGITransport(app=app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    client: httpx.AsyncClient


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[Served]:
    """The application behind a real socket, with the options of production."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            try:
                yield Served(port, client)
            finally:
                server.should_exit = True
