"""Users (customers and staff), their log-in sessions and rotating refresh tokens."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Index, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from kit.db import id_type, metadata

users = Table(
    "users",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("email", Text),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),
    Column("role", Text, nullable=False),
    Column("store_ids", ARRAY(id_type()), nullable=False, server_default=text("'{}'")),
    Column("city_ids", ARRAY(id_type()), nullable=False, server_default=text("'{}'")),
    Column("one_time_password", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("disabled_at", DateTime(timezone=True)),
    Index("uq_users_email", text("lower(email)"), unique=True),
    # Every quote counts a store's pickers, and nearly all users are customers.
    Index("ix_users_pickers", "role", postgresql_where=text("role = 'picker'")),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session_id", id_type(), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
)
