"""Proposals to idle riders where to wait (riders/proposals.py)."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from kit.db import id_type, metadata

rider_proposals = Table(
    "rider_proposals",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("rider_id", id_type(), ForeignKey("riders.id"), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("way_s", Integer, nullable=False),
    # Of being needed there, and the seconds that customers are expected to be spared.
    Column("chance", Double, nullable=False),
    Column("gain_s", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint(
        "status IN ('open', 'accepted', 'dismissed', 'arrived', 'withdrawn', 'expired')",
        name="status",
    ),
    CheckConstraint("(ended_at IS NULL) = (status IN ('open', 'accepted'))", name="ended"),
    Index(
        "uq_rider_proposals_open",
        "rider_id",
        unique=True,
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_rider_proposals_rider_id_made_at", "rider_id", "made_at"),
    Index("ix_rider_proposals_city_open", "city_id", postgresql_where=text("ended_at IS NULL")),
)
