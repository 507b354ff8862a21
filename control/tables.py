"""The audit log: who of the staff did what, to what, and why.  Rows are added and nothing else."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object_id", id_type(), nullable=False),
    # Whose ops may read it; null for what concerns no single city.
    Column("city_id", id_type()),
    Column("store_id", id_type()),
    Column("reason", Text),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("request_id", Text),
    Index("ix_audit_log_city_id_id", "city_id", "id"),
    Index("ix_audit_log_object_id_id", "object_id", "id"),
    Index("ix_audit_log_actor_id", "actor", "id"),
)
