"""Quotes, orders, their lines, their one history, and the edges of the three state machines."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata


def _totals() -> list[Column[int]]:
    names = (
        "items_total", "tax", "delivery_fee", "small_order_fee", "discount", "tip", "total",
    )  # fmt: skip
    return [Column(f"{name}_minor", BigInteger, nullable=False) for name in names]


_TOTAL_ADDS_UP = (
    "total_minor = items_total_minor + tax_minor + delivery_fee_minor + small_order_fee_minor"
    " - discount_minor + tip_minor AND total_minor > 0"
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("user_id", id_type(), ForeignKey("users.id"), nullable=False),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("lines", JSONB, nullable=False),
    *_totals(),
    Column("currency", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("address", Text, nullable=False),
    # Store to door, as ridden; the pick queue subtracts it from the promise.
    Column("travel_s", Integer, nullable=False),
    Column("promise_low_s", Integer, nullable=False),
    Column("promise_high_s", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("order_id", id_type()),
    CheckConstraint(_TOTAL_ADDS_UP, name="total"),
    Index("ix_quotes_expires_at", "expires_at"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("number", BigInteger, Identity(start=1001), nullable=False, unique=True),
    Column("user_id", id_type(), ForeignKey("users.id"), nullable=False),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("city_id", id_type(), nullable=False),
    Column("quote_id", id_type(), nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("delivery_status", Text, nullable=False),
    Column("payment_status", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("history_seq", Integer, nullable=False, server_default=text("0")),
    *_totals(),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("currency", id_type(), nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("substitution", Text, nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("address", Text, nullable=False),
    Column("travel_s", Integer, nullable=False),
    Column("delivery_code", id_type(), nullable=False),
    Column("tracking_token", id_type(), nullable=False, unique=True),
    Column("rider_id", id_type()),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("promised_low_at", DateTime(timezone=True), nullable=False),
    Column("promised_high_at", DateTime(timezone=True), nullable=False),
    Column("packed_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    CheckConstraint(_TOTAL_ADDS_UP, name="total"),
    CheckConstraint("refunded_minor BETWEEN 0 AND total_minor", name="refunded"),
    Index("ix_orders_user_id_id", "user_id", "id"),
    Index("ix_orders_store_id_id", "store_id", "id"),
    Index(
        "ix_orders_undelivered",
        "city_id",
        "delivery_status",
        postgresql_where=text("delivery_status NOT IN ('done', 'failed', 'cancelled')"),
    ),
    Index(
        "ix_orders_carried",
        "rider_id",
        postgresql_where=text("delivery_status IN ('collected', 'at_door')"),
    ),
    postgresql_with={"fillfactor": "80"},
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("line_id", id_type(), primary_key=True),
    Column("n", SmallInteger, nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_minor", BigInteger, nullable=False),
    Column("line_total_minor", BigInteger, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("weight_g", Integer, nullable=False),
    Column("picked_quantity", Integer, nullable=False, server_default=text("0")),
    Column("missing_quantity", Integer, nullable=False, server_default=text("0")),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("line_total_minor = quantity * unit_price_minor", name="line_total"),
    CheckConstraint("refunded_minor BETWEEN 0 AND line_total_minor + tax_minor", name="refunded"),
)

order_history = Table(
    "order_history",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", id_type(), nullable=False),
    Column("reason", Text),
)

state_edges = Table(
    "state_edges",
    metadata,
    Column("machine", id_type(), primary_key=True),
    Column("from_state", id_type(), primary_key=True),
    Column("to_state", id_type(), primary_key=True),
)

order_adjustments = Table(
    "order_adjustments",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False, index=True),
    Column("line_id", id_type()),
    Column("kind", Text, nullable=False),
    Column("items_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

ratings = Table(
    "ratings",
    metadata,
    Column("order_id", id_type(), ForeignKey("orders.id"), primary_key=True),
    Column("stars", SmallInteger, nullable=False),
    Column("comment", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
)

order_issues = Table(
    "order_issues",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), ForeignKey("orders.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("line_id", id_type()),
    Column("comment", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("order_id", "kind", "line_id"),
)

coupons = Table(
    "coupons",
    metadata,
    Column("code", id_type(), primary_key=True),
    Column("percent_bp", Integer, nullable=False),
    Column("max_discount_minor", BigInteger, nullable=False),
    Column("min_items_minor", BigInteger, nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("percent_bp BETWEEN 1 AND 9000", name="percent"),
)
