"""The one way in which a route changes something: one transaction, replayable by its key.

The transaction looks up the ``Idempotency-Key``, runs the use case and stores the answer, so
after a crash there is either all of it or nothing.  Deadlocks and serialization failures run the
whole transaction again, with jitter: a use case must therefore touch nothing but its connection.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson
import structlog
from fastapi import Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from identity.model import Actor
from kit import crash_points, idempotency
from kit.errors import Busy, Invalid
from server.errors import sqlstate
from server.metrics import TRANSACTION_RETRIES
from server.wiring import Services

log = structlog.get_logger(__name__)

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
ATTEMPTS = 3
# Two transactions that collided must not meet again: up to 20, then 40 ms apart.
JITTER_S = 0.02
# Deadlock and serialization failure: Postgres undid everything, and a second try may pass.
_RETRIED_STATES = frozenset({"40P01", "40001"})
_LOCK_NOT_AVAILABLE = "55P03"
_KEY = re.compile(rf"[\x21-\x7e]{{1,{idempotency.KEY_MAX_CHARACTERS}}}")


class KeyInvalid(Invalid):
    code = "idempotency_key_invalid"
    title = "The Idempotency-Key cannot be used"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a use case answers: an HTTP status and a body that ``orjson`` can encode."""

    status: int
    body: Mapping[str, object] = field(default_factory=dict)


UseCase = Callable[[AsyncConnection], Awaitable[Reply]]


def idempotency_key(request: Request) -> str | None:
    """The request's key, or None.  Raises ``KeyInvalid``."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise KeyInvalid(
            f"An {KEY_HEADER} has 1 to {idempotency.KEY_MAX_CHARACTERS} visible ASCII characters."
        )
    return key


async def request_hash(request: Request) -> bytes:
    """What the key stands for: method, path with query, and body."""
    path, query = request.scope["path"], request.scope["query_string"]
    if query:
        path = f"{path}?{query.decode('latin-1')}"
    return idempotency.body_hash(request.method, path, await request.body())


async def write(request: Request, services: Services, actor: Actor, use_case: UseCase) -> Response:
    """Run ``use_case`` once for this key and answer with it, or with the stored answer.

    Raises what the use case raises (then nothing is kept, and the key may be used again),
    ``KeyReused``, ``InProgress``, ``KeyInvalid``, and ``Busy`` when the locks do not come free.
    """
    key = idempotency_key(request)
    wanted_hash = b"" if key is None else await request_hash(request)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer, replayed = await _once(services, actor, key, wanted_hash, use_case)
        except DBAPIError as error:
            state = sqlstate(error)
            if state == _LOCK_NOT_AVAILABLE:
                raise Busy("Others are changing the same things; try again in a moment.") from error
            if state not in _RETRIED_STATES:
                raise
            TRANSACTION_RETRIES.labels(state).inc()
            log.info("transaction_retried", sqlstate=state, attempt=attempt)
            if attempt == ATTEMPTS:
                raise Busy("Others are changing the same things; try again in a moment.") from error
            await asyncio.sleep(random.uniform(0, JITTER_S * 2**attempt))
        else:
            headers = {REPLAYED_HEADER: "true"} if replayed else None
            return Response(answer.body, answer.status, headers, "application/json")
    raise AssertionError("the last attempt either answers or raises")


async def _once(
    services: Services, actor: Actor, key: str | None, wanted_hash: bytes, use_case: UseCase
) -> tuple[idempotency.StoredAnswer, bool]:
    """One transaction; (answer, whether it is a stored one)."""
    async with services.database.begin() as conn:
        if key is not None:
            stored = await idempotency.find(conn, actor.user_id, key, wanted_hash)
            if stored is not None:
                return stored, True
        reply = await use_case(conn)
        answer = idempotency.StoredAnswer(reply.status, orjson.dumps(dict(reply.body)))
        if key is not None:
            await idempotency.store(conn, actor.user_id, key, wanted_hash, answer)
    crash_points.reached("between_commit_and_answer")
    return answer, False
