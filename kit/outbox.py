"""The outbox: events written in the business transaction, gap-free per stream.

A *stream* is also a realtime channel (``order:ord_…``, ``store:sto_…``).  Its sequence is given
under a row lock on ``stream_heads``, so the order of ``seq`` is the order of commits and a
rollback takes its number back.  Append to streams that many transactions share (a store, a city)
last, so that their lock is held only until the commit.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.db import id_type, metadata
from kit.sql import Query, json_parameter

# A relay claims whole partitions, and a stream lives in one: two relays never share a stream.
PARTITIONS = 16

stream_heads = Table(
    "stream_heads",
    metadata,
    Column("stream", id_type(), primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

stream_epoch = Table(
    "stream_epoch",
    metadata,
    Column("one", SmallInteger, primary_key=True, server_default=text("1")),
    Column("epoch", id_type(), nullable=False),
    CheckConstraint("one = 1", name="one_row"),
)

outbox = Table(
    "outbox",
    metadata,
    # The order of relaying; found by it only while it waits, so no index holds all of them.
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("stream", id_type(), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("partition", SmallInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    # When the event bus took it; set together with published_at where there is no bus.
    Column("bus_at", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True)),
    Column("last_error", Text),
    # In the order in which they are relayed: however much waits, a batch is read from its front.
    Index("ix_outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),
    Index(
        "ix_outbox_backing_off",
        "stream",
        "seq",
        postgresql_where=text("published_at IS NULL AND next_attempt_at IS NOT NULL"),
    ),
    Index(
        "ix_outbox_for_bus",
        "id",
        postgresql_where=text("published_at IS NOT NULL AND bus_at IS NULL"),
    ),
)

outbox_partitions = Table(
    "outbox_partitions", metadata, Column("partition", SmallInteger, primary_key=True)
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("outbox_id", BigInteger, primary_key=True),
    Column("stream", id_type(), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("died_at", DateTime(timezone=True), nullable=False),
    Column("replayed_at", DateTime(timezone=True)),
)

_APPEND = Query("kit.outbox_append", "SELECT outbox_append($1::text, $2::text, $3::text::jsonb)")


async def append(
    conn: AsyncConnection, stream: str, event_type: str, data: Mapping[str, object]
) -> int:
    """Append an event in the caller's transaction; returns its ``seq`` in the stream."""
    row = await _APPEND.one(conn, stream, event_type, json_parameter(data))
    return int(row[0])
