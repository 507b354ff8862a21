"""Every operation that we ask of a gateway, persisted before it is asked, and what it tells us."""

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
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

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
    # The gateways that may be asked, this one first: [{gateway, token}].  Gone once it is settled.
    Column("route", JSONB),
    # The how-manieth authorisation of its order this is.
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("status", Text, nullable=False),
    Column("reference", id_type()),
    Column("code", Text),
    # How often somebody set about asking, and how many answers were written down.
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("answers", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True)),
    # The gateway's own id of it, and when its log showed it (reconciliation).
    Column("gateway_operation_id", id_type()),
    Column("reconciled_at", DateTime(timezone=True)),
    CheckConstraint("amount_minor > 0", name="amount"),
    Index(
        "uq_payment_operations_capture",
        "order_id",
        unique=True,
        postgresql_where=text("kind = 'capture' AND status <> 'failed'"),
    ),
    Index(
        "uq_payment_operations_live_authorise",
        "order_id",
        unique=True,
        # One that failed did certainly nothing, so another gateway may be asked.
        postgresql_where=text("kind = 'authorise' AND status <> 'failed'"),
    ),
    Index("ix_payment_operations_reference", "gateway", "reference"),
    Index(
        "ix_payment_operations_due",
        "gateway",
        "next_attempt_at",
        postgresql_where=text("status IN ('pending', 'unknown')"),
    ),
    Index(
        "ix_payment_operations_unreconciled",
        "gateway",
        "settled_at",
        postgresql_where=text("status = 'succeeded' AND reconciled_at IS NULL"),
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
    Column("reference", id_type()),
    Column("version", BigInteger),
    Column("operation_id", id_type()),
    Column("order_id", id_type()),
    # taken, stale or rejected; why it was rejected.
    Column("outcome", Text, nullable=False, server_default=text("'taken'")),
    Column("reason", Text),
    Index("ix_payment_webhooks_reference", "gateway", "reference", "version"),
)

city_gateways = Table(
    "city_gateways",
    metadata,
    Column("city_id", id_type(), primary_key=True),
    Column("method", id_type(), primary_key=True),
    # In the order in which they are asked.
    Column("gateways", ARRAY(Text), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("updated_by", id_type(), nullable=False),
    CheckConstraint("cardinality(gateways) > 0", name="gateways"),
)

payment_alerts = Table(
    "payment_alerts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("gateway", id_type(), nullable=False),
    # What it is about, by the gateway or by us; the same subject is not told twice while open.
    Column("subject", id_type(), nullable=False),
    Column("order_id", id_type()),
    Column("detail", Text, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("raised_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolved_by", id_type()),
    Column("resolution", Text),
    Index(
        "uq_payment_alerts_open",
        "gateway",
        "kind",
        "subject",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
)

disputes = Table(
    "disputes",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("gateway", id_type(), nullable=False),
    Column("reference", id_type(), nullable=False),
    Column("payment_reference", id_type(), nullable=False),
    Column("order_id", id_type(), nullable=False, index=True),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("fee_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("reason", Text),
    Column("status", Text, nullable=False),
    Column("due_by", DateTime(timezone=True)),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("closed_at", DateTime(timezone=True)),
    UniqueConstraint("gateway", "reference"),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("status IN ('opened', 'won', 'lost')", name="status"),
    Index(
        "ix_disputes_open",
        "order_id",
        postgresql_where=text("status = 'opened'"),
    ),
)

reconciliation_runs = Table(
    "reconciliation_runs",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("gateway", id_type(), nullable=False),
    Column("scope", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    # Real times, by the gateway's clock: what took effect in between was read.
    Column("since", DateTime(timezone=True)),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("compared", Integer, nullable=False),
    Column("differences", Integer, nullable=False),
    Index("ix_reconciliation_runs_gateway_id", "gateway", "id"),
)

reconciliation_differences = Table(
    "reconciliation_differences",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("gateway", id_type(), nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", id_type(), nullable=False),
    Column("operation_id", id_type()),
    Column("gateway_operation_id", id_type()),
    Column("order_id", id_type()),
    Column("ours", JSONB),
    Column("theirs", JSONB),
    Column("first_run_id", id_type(), nullable=False),
    Column("found_at", DateTime(timezone=True), nullable=False),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolved_by", id_type()),
    Column("resolution", Text),
    Index(
        "uq_reconciliation_differences_open",
        "gateway",
        "kind",
        "subject",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
)
