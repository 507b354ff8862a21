"""Cities, dark stores, the zones that they serve, their stock and their pick tasks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kit.db import id_type, metadata

cities = Table(
    "cities",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
)

stores = Table(
    "stores",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("city_id", id_type(), ForeignKey("cities.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("lat", Double, nullable=False),
    Column("lon", Double, nullable=False),
    Column("open", Boolean, nullable=False, server_default=text("true")),
    Column("paused_reason", Text),
)

zones = Table(
    "zones",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False, index=True),
    Column("polygon", JSONB, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
)

bins = Table(
    "bins",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("code", id_type(), primary_key=True),
    Column("temperature", Text, nullable=False),
    Column("walk_order", Integer, nullable=False),
)

stock = Table(
    "stock",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("sku_id", id_type(), ForeignKey("products.sku_id"), primary_key=True),
    Column("on_hand", Integer, nullable=False, server_default=text("0")),
    Column("reserved", Integer, nullable=False, server_default=text("0")),
    Column("bin", id_type(), nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    CheckConstraint("0 <= reserved AND reserved <= on_hand", name="no_oversell"),
    ForeignKeyConstraint(["store_id", "bin"], ["bins.store_id", "bins.code"]),
    # Updates touch no indexed column, so with room on the page they stay heap-only.
    postgresql_with={"fillfactor": "70"},
)

lots = Table(
    "lots",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("on_hand", Integer, nullable=False),
    Column("expires_on", Date),
    Column("received_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("on_hand >= 0", name="on_hand"),
    ForeignKeyConstraint(["store_id", "sku_id"], ["stock.store_id", "stock.sku_id"]),
    Index("ix_lots_store_id_sku_id", "store_id", "sku_id", "expires_on"),
)

stock_movements = Table(
    "stock_movements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("kind", Text, nullable=False),
    Column("on_hand_delta", Integer, nullable=False),
    Column("reserved_delta", Integer, nullable=False),
    Column("order_id", id_type()),
    Column("actor", id_type(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Index("ix_stock_movements_store_id_sku_id", "store_id", "sku_id"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", id_type(), primary_key=True),
    Column("store_id", id_type(), nullable=False),
    Column("status", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Index("ix_reservations_expires_at", "expires_at", postgresql_where=text("status = 'held'")),
)

reservation_lines = Table(
    "reservation_lines",
    metadata,
    Column("order_id", id_type(), ForeignKey("reservations.order_id"), primary_key=True),
    Column("sku_id", id_type(), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("open_quantity", Integer, nullable=False),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("open_quantity BETWEEN 0 AND quantity", name="open_quantity"),
)

pick_tasks = Table(
    "pick_tasks",
    metadata,
    Column("id", id_type(), primary_key=True),
    Column("order_id", id_type(), nullable=False, unique=True),
    Column("store_id", id_type(), ForeignKey("stores.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("picker_id", id_type()),
    Column("claimed_at", DateTime(timezone=True)),
    Column("packed_at", DateTime(timezone=True)),
    Column("bags", SmallInteger),
    Column("shelf", Text),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Index("ix_pick_tasks_store_id_status_due_at", "store_id", "status", "due_at"),
)

pick_task_lines = Table(
    "pick_task_lines",
    metadata,
    Column("pick_task_id", id_type(), ForeignKey("pick_tasks.id"), primary_key=True),
    Column("line_id", id_type(), primary_key=True),
    Column("n", SmallInteger, nullable=False),
    Column("sku_id", id_type(), nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("picked", Integer, nullable=False, server_default=text("0")),
    Column("missing", Integer, nullable=False, server_default=text("0")),
    Column("bin", id_type(), nullable=False),
    Column("temperature", Text, nullable=False),
    Column("barcode", id_type(), nullable=False),
    CheckConstraint("picked >= 0 AND missing >= 0 AND picked + missing <= quantity", name="picked"),
)
