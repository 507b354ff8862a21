"""Idempotency keys: a write that is sent again gets the answer that it got the first time.

Most writes are one transaction: the key, the effect and the stored answer commit together, so a
crash leaves either all or nothing.  Checkout spans a call to the payment gateway; its key row
(``answer`` still null) is written with the order and completed afterwards (``orders.checkout``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Column, DateTime, Index, LargeBinary, SmallInteger, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import id_type, metadata
from kit.errors import Conflict, Invalid
from kit.sql import Query

KEY_MAX_CHARACTERS = 255
# API.md promises 24 hours; the rest is slack for a client that retries at the last moment.
KEPT_FOR_S = 26 * 3600

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("actor", id_type(), primary_key=True),
    Column("key", id_type(), primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("order_id", id_type()),
    Column("status", SmallInteger),
    Column("answer", LargeBinary),
    Index("ix_idempotency_keys_created_at", "created_at"),
)


class KeyReused(Invalid):
    code = "idempotency_key_reused"
    title = "This Idempotency-Key belongs to another request"


class InProgress(Conflict):
    code = "idempotency_in_progress"
    title = "The first request with this key is still running"
    retryable = True


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An HTTP status and the exact bytes of its JSON body."""

    status: int
    body: bytes


def body_hash(method: str, path: str, body: bytes) -> bytes:
    """SHA-256 over what was asked: the same key on another path is another request."""
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).digest()


_TRY_LOCK = Query(
    "kit.idempotency_lock",
    "SELECT pg_try_advisory_xact_lock(hashtextextended($1::text || chr(31) || $2::text, 7))",
)
_FIND = Query(
    "kit.idempotency_find",
    "SELECT body_hash, status, answer FROM idempotency_keys"
    " WHERE actor = $1::text AND key = $2::text",
)
_STORE = Query(
    "kit.idempotency_store",
    "INSERT INTO idempotency_keys (actor, key, body_hash, created_at, status, answer)"
    " VALUES ($1::text, $2::text, $3::bytea, darkstore_now(), $4::smallint, $5::bytea)",
)
_SWEEP = Query(
    "kit.idempotency_sweep",
    "DELETE FROM idempotency_keys"
    " WHERE created_at < darkstore_now() - make_interval(secs => $1::float8)",
)


async def find(
    conn: AsyncConnection, actor: str, key: str, wanted_hash: bytes
) -> StoredAnswer | None:
    """The stored answer, or None when this transaction is the first to hold the key.

    Raises ``InProgress`` while another transaction holds it, ``KeyReused`` for another body.
    """
    if not (await _TRY_LOCK.one(conn, actor, key))[0]:
        raise InProgress("The first request with this key is still running; ask again shortly.")
    row = await _FIND.first(conn, actor, key)
    if row is None:
        return None
    check_same_body(row.body_hash, wanted_hash)
    if row.answer is None:
        raise InProgress("The first request with this key is still running; ask again shortly.")
    return StoredAnswer(row.status, bytes(row.answer))


def check_same_body(stored_hash: bytes, wanted_hash: bytes) -> None:
    """Raises ``KeyReused`` unless both requests asked the same thing."""
    if bytes(stored_hash) != wanted_hash:
        raise KeyReused("This Idempotency-Key was used for another request; make a new key.")


async def store(
    conn: AsyncConnection, actor: str, key: str, wanted_hash: bytes, answer: StoredAnswer
) -> None:
    """Keep an answer, in the transaction that did the work."""
    await _STORE.run(conn, actor, key, wanted_hash, answer.status, answer.body)


async def sweep(conn: AsyncConnection) -> int:
    """Forget keys older than ``KEPT_FOR_S``; returns how many."""
    return (await _SWEEP.run(conn, float(KEPT_FOR_S))).rowcount
