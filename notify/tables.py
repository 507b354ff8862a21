"""Who is told of events over HTTP, what they were sent, and how each attempt went."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kit.db import id_type, metadata

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", id_type(), primary_key=True),
    # None: events of every city.
    Column("city_id", id_type(), ForeignKey("cities.id")),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    # 'order.delivered', 'order.*' or '*'.
    Column("events", ARRAY(Text), nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),
    Column("secret_version", Integer, nullable=False, server_default=text("1")),
    Column("previous_secret_until", DateTime(timezone=True)),
    # Since when every attempt has failed; None after one that went well.
    Column("failing_since", DateTime(timezone=True)),
    Column("created_by", id_type(), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column(
        "endpoint_id",
        id_type(),
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # The same for every endpoint and every repeat: receivers dedupe by it.
    Column("event_id", id_type(), nullable=False),
    Column("type", Text, nullable=False),
    # The very bytes that are sent, and signed anew at each attempt.
    Column("body", LargeBinary, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    # Real time, as all waiting for somebody else's server.
    Column("next_attempt_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("status IN ('waiting', 'delivered', 'dead')", name="status"),
    UniqueConstraint("endpoint_id", "event_id"),
    Index(
        "ix_webhook_deliveries_due",
        "next_attempt_at",
        postgresql_where=text("status = 'waiting'"),
    ),
    Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column(
        "delivery_id",
        id_type(),
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("n", SmallInteger, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("duration_ms", Integer, nullable=False),
    # What the receiver answered, or why there was no answer.
    Column("status_code", SmallInteger),
    Column("error", Text),
    Column("answer", Text),
)
