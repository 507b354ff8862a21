"""The parts of the system, put together once for each process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import crash_points
from kit.clock import Clock, load_clock
from kit.db import Database
from kit.outbox import stream_epoch
from kit.redis import connect
from orders.committer import Committer
from orders.confirming import Confirmer
from orders.payment_flow import Gateways
from orders.webhook_intake import WebhookIntake
from payments.routing import Breakers
from riders.locations_redis import RedisLocations
from server import database_role
from server.gateways import gateways_of
from server.metrics import CHECKOUT_BATCHES, show_circuit
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
    committer: Committer
    confirmer: Confirmer
    webhook_intake: WebhookIntake


@asynccontextmanager
async def open_services(
    settings: Settings, *, process: str, pool_size: int | None = None
) -> AsyncIterator[Services]:
    """Connect to Postgres, Redis and the gateways; everything is closed at the end."""
    assert settings.database_url, "the caller has started the engines"
    assert settings.redis_url, "the caller has started the engines"
    crash_points.configure(settings.crash_points)
    role = settings.database_role
    database = await Database.open(
        settings.database_url,
        size=pool_size or settings.database_pool_size,
        application_name=f"darkstore {process} {os.getpid()}",
        role=await database_role.usable(settings.database_url, role) if role else None,
    )
    redis = connect(settings.redis_url, size=settings.redis_pool_size)
    gateways = open_gateways(settings)
    try:
        async with database.begin() as conn:
            clock = await load_clock(conn)
        locations, territory = RedisLocations(redis), TerritoryCache(database)
        tracking = Tracking(database, locations, clock, territory)
        batches = Committer(
            database.pool, settings.orders.committer, lambda size: CHECKOUT_BATCHES.observe(size)
        )
        async with (
            WebhookIntake(database.pool) as webhook_intake,
            Confirmer(database.pool) as confirmer,
            batches as committer,
        ):
            yield Services(
                settings, database, redis, clock, gateways, locations, territory, tracking,
                committer, confirmer, webhook_intake,
            )  # fmt: skip
    finally:
        await gateways.close()
        await redis.aclose()
        await database.close()


def open_gateways(settings: Settings) -> Gateways:
    payments = settings.payments
    return Gateways(
        gateways_of(payments),
        payments,
        Breakers(payments.breaker, show_circuit),
    )


async def read_epoch(conn: AsyncConnection) -> str:
    """The epoch of all streams of this database."""
    return str(await conn.scalar(select(stream_epoch.c.epoch)))
