"""Is it alive, is it ready, what does it count, what does it offer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import asyncpg
import structlog
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from kit.errors import Busy
from server.api.access import PROBE, ServicesDep
from server.migrate import MIGRATIONS
from server.wiring import Services

log = structlog.get_logger(__name__)

router = APIRouter(tags=["operations"], dependencies=[PROBE])

CHECK_TIMEOUT_S = 1.0


@lru_cache(maxsize=1)
def expected_revision() -> str | None:
    """The newest migration that this code knows."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


async def _postgres(services: Services) -> str:
    async with services.database.begin() as conn:
        revision = await conn.scalar(text("SELECT version_num FROM alembic_version"))
    return "ok" if revision == expected_revision() else "migrations_missing"


async def _redis(services: Services) -> str:
    await services.redis.get("readyz")
    return "ok"


async def _checked(check: Callable[[Services], Awaitable[str]], services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check(services)
    except (
        SQLAlchemyError,
        asyncpg.PostgresError,
        RedisError,
        Busy,
        OSError,
        TimeoutError,
    ) as error:
        log.warning("readiness_check_failed", check=check.__name__, error=type(error).__name__)
        return "unavailable"


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers; says nothing of what it needs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, services: ServicesDep) -> JSONResponse:
    """200 ``ready``, 200 ``degraded`` without Redis (the truth is in Postgres), else 503."""
    postgres, redis = await asyncio.gather(
        _checked(_postgres, services), _checked(_redis, services)
    )
    checks = {"postgres": postgres, "redis": redis}
    if request.app.state.drain.draining:
        status = "draining"
    elif postgres != "ok":
        status = "unavailable"
    else:
        status = "ready" if redis == "ok" else "degraded"
    ready = status in {"ready", "degraded"}
    return JSONResponse(
        {"status": status, "checks": checks, "instance": services.settings.instance},
        200 if ready else 503,
        None if ready else {"Retry-After": "1"},
    )


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Prometheus text format.  To be shut off from the outside by the proxy."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The contract of the HTTP side."""
    document: dict[str, Any] = request.app.openapi()
    return document
