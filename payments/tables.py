"""Every operation that we ask of a gateway, persisted before it is asked, and its webhooks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

payment_operations = Table(
    "payment_operations",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("token", Text),
    Column("status", Text, nullable=False),
    Column("reference", id_type()),
    Column("code", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True)),
    CheckConstraint("amount_minor > 0", name="amount"),
    Index(
        "uq_payment_operations_capture",
        "order_id",
        unique=True,
        postgresql_where=text("kind = 'capture' AND status <> 'failed'"),
    ),
    Index(
        "uq_payment_operations_authorise",
        "order_id",
        unique=True,
        postgresql_where=text("kind = 'authorise'"),
    ),
    Index(
        "ix_payment_operations_open",
        "next_attempt_at",
        postgresql_where=text("status IN ('pending', 'unknown')"),
    ),
)

payment_webhooks = Table(
    "payment_webhooks",
    metadata,
    Column("gateway", id_type(), primary_key=True),
    Column("event_id", id_type(), primary_key=True),
    Column("type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
)
