"""The parts of the system, put together once for each process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.clock import Clock, load_clock
from kit.db import Database
from kit.outbox import stream_epoch
from kit.redis import connect
from orders.payment_flow import CASH, Gateways
from payments.gateway_cash import CashGateway
from payments.gateway_sandbox import SandboxGateway, SandboxSettings
from riders.locations_redis import RedisLocations
from server.settings import Settings
from server.territory import TerritoryCache
from server.tracking import Tracking


@dataclass(frozen=True, slots=True)
class Services:
    """What every process needs; each use case takes what it uses."""

    settings: Settings
    database: Database
    redis: Redis
    clock: Clock
    gateways: Gateways
    locations: RedisLocations
    territory: TerritoryCache
    tracking: Tracking


@asynccontextmanager
async def open_services(
    settings: Settings, *, process: str, pool_size: int | None = None
) -> AsyncIterator[Services]:
    """Connect to Postgres, Redis and the gateways; everything is closed at the end."""
    assert settings.database_url, "the caller has started the engines"
    assert settings.redis_url, "the caller has started the engines"
    database = await Database.open(
        settings.database_url,
        size=pool_size or settings.database_pool_size,
        application_name=f"darkstore {process}",
    )
    redis = connect(settings.redis_url, size=settings.redis_pool_size)
    gateways = open_gateways(settings)
    try:
        async with database.begin() as conn:
            clock = await load_clock(conn)
        locations, territory = RedisLocations(redis), TerritoryCache(database)
        tracking = Tracking(database, locations, clock, territory)
        yield Services(settings, database, redis, clock, gateways, locations, territory, tracking)
    finally:
        await gateways.close()
        await redis.aclose()
        await database.close()


def open_gateways(settings: Settings) -> Gateways:
    payments = settings.payments
    sandbox = SandboxGateway(
        SandboxSettings(
            base_url=payments.sandbox_url, api_key=payments.sandbox_api_key.get_secret_value()
        )
    )
    return Gateways({CASH: CashGateway(), sandbox.name: sandbox}, payments)


async def read_epoch(conn: AsyncConnection) -> str:
    """The epoch of all streams of this database."""
    return str(await conn.scalar(select(stream_epoch.c.epoch)))
