"""What city ops do by hand about dispatch, and what they are called for."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

# Orders that need a person: one open row an order and kind (orders/dispatch_alerts.py).
dispatch_alerts = Table(
    "dispatch_alerts",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), nullable=False),
    Column("store_id", id_type(), nullable=False),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("trip_id", id_type()),
    Column("rider_id", id_type()),
    Column("detail", Text, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("raised_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolved_by", id_type()),
    Column("resolution", Text),
    CheckConstraint("kind IN ('needs_rider', 'rider_silent', 'handed_back')", name="kind"),
    CheckConstraint(
        "(resolved_at IS NULL) = (resolved_by IS NULL)"
        " AND (resolved_at IS NULL) = (resolution IS NULL)",
        name="resolution",
    ),
    Index(
        "uq_dispatch_alerts_open",
        "order_id",
        "kind",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
    Index("ix_dispatch_alerts_city_id_id", "city_id", "id"),
)

# The hand on the wheel (orders/dispatch_controls.py).  None is without an owner and an end.
dispatch_controls = Table(
    "dispatch_controls",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("order_id", id_type()),
    Column("rider_id", id_type()),
    Column("store_id", id_type()),
    Column("zone_id", id_type()),
    Column("hold_dispatch", Boolean, nullable=False, server_default=text("false")),
    Column("stop_orders", Boolean, nullable=False, server_default=text("false")),
    Column("reason", Text, nullable=False),
    Column("set_by", id_type(), nullable=False),
    Column("set_at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("released_at", DateTime(timezone=True)),
    Column("released_by", id_type()),
    Column("release_reason", Text),
    CheckConstraint(
        "CASE kind"
        " WHEN 'pin' THEN order_id IS NOT NULL AND rider_id IS NOT NULL"
        " AND store_id IS NULL AND zone_id IS NULL"
        " WHEN 'exclude' THEN rider_id IS NOT NULL AND zone_id IS NULL"
        " AND (order_id IS NULL OR store_id IS NULL)"
        " WHEN 'pause' THEN order_id IS NULL AND rider_id IS NULL"
        " AND (store_id IS NULL OR zone_id IS NULL)"
        " ELSE false END",
        name="target",
    ),
    CheckConstraint("(kind = 'pause') = (hold_dispatch OR stop_orders)", name="flags"),
    CheckConstraint("until > set_at", name="ends"),
    CheckConstraint("(released_at IS NULL) = (released_by IS NULL)", name="released"),
    Index("ix_dispatch_controls_city_id_id", "city_id", "id"),
    Index(
        "ix_dispatch_controls_unreleased",
        "city_id",
        postgresql_where=text("released_at IS NULL"),
    ),
)
